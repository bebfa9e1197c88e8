"""``useChat``'s own code (versions 5, 6 and 7 of the npm package ``ai``) against a served app, over real sockets."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firelaunch.testing.models import Fault, ModelServer, Reply
from javascript import NoJavaScript, install
from support import ROOT, Server, copy_template, served

HERE = Path(__file__).parent / "js"
SCRIPT = "chat.mjs"
SDKS = ["ai5", "ai6", "ai7"]
HELLO = "Hello from the model."
LONG = [f"word{number} " for number in range(60)]

WORKFLOW = '''
from firelaunch import Tool
from firelaunch.llm.types import Chunk, Source


def add(first: int, second: int) -> int:
    """The sum of two numbers."""
    return first + second


def book(room: str) -> str:
    """Book a room."""
    return f"booked {room}"


def answer(turn):
    if "sources" in turn.text:
        yield Chunk(source=Source("s1", "Rivers of Europe", url="https://example.com/rivers"))
        yield Chunk(source=Source("s2", "Atlas", media_type="application/pdf", filename="atlas.pdf"))
    messages = [*turn.history, {"role": "user", "content": turn.text}]
    tools = [add] if "tool" in turn.text else [Tool(book, approve=True)] if "book" in turn.text else []
    yield from turn.llm.stream(messages, tools=tools)
'''


@pytest.fixture(scope="module")
def sdk() -> Path:
    try:
        return install(HERE, SCRIPT, ROOT / "build" / "ui_stream_js")
    except NoJavaScript as error:
        pytest.skip(f"no JavaScript SDK: {error}")


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = copy_template(tmp_path_factory.mktemp("ui") / "my-app")
    (made / "app" / "workflow.py").write_text(WORKFLOW)
    settings = made / "firelaunch.toml"
    text = settings.read_text().replace("requests_per_minute = 20\n", "requests_per_minute = 1000\n")
    text = text.replace("[models.openai]\n", "[models.openai]\nshow_thinking = true\n")
    settings.write_text(text.replace("[limits]\n", "[limits]\ncheckpoint_seconds = 0.2\n"))
    return made


@pytest.fixture(scope="module")
def instances(folder: Path, model: ModelServer) -> Iterator[list[Server]]:
    """The app twice, on one database."""
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with served(folder, **environ) as here, served(folder, **environ) as there:
        yield [here, there]


class Page:
    """A page in a browser, as far as ``useChat`` is concerned."""

    def __init__(self, folder: Path, server: Server, sdk: str, uid: str, chat: str) -> None:
        self.folder, self.server, self.sdk, self.chat = folder, server, sdk, chat
        self.user = server.sign_in(uid)
        self.requests: list[dict[str, Any]] = []

    def plays(self, *steps: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        """What is to be seen after each step."""
        process = self.begins(*steps, **more)
        return self.ends(process)

    def begins(self, *steps: dict[str, Any], **more: Any) -> subprocess.Popen[str]:
        token = self.user.headers["Authorization"].removeprefix("Bearer ")
        asked = {"sdk": self.sdk, "api": f"{self.server.url}/v1/chat", "token": token, "chat": self.chat, **more}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(["node", SCRIPT], cwd=self.folder, text=True, **pipes)
        assert process.stdin is not None
        process.stdin.write(json.dumps({**asked, "steps": steps}))
        process.stdin.close()
        process.stdin = None
        return process

    def ends(self, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
        said, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        last = json.loads(said.splitlines()[-1])
        self.requests = last["requests"]
        seen: list[dict[str, Any]] = last["seen"]
        return seen


@pytest.fixture(params=SDKS)
def page(request: pytest.FixtureRequest, sdk: Path, instances: list[Server], model: ModelServer) -> Callable[..., Page]:
    model.default, model.script = Reply(), []
    name = request.node.name.partition("[")[0][-50:]

    def made(instance: int = 0) -> Page:
        return Page(sdk, instances[instance], request.param, f"ada-{request.param}", name)

    return made


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def shown(seen: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], text_of(message)) for message in seen["messages"]]


def stored(page: Page) -> list[tuple[str, str]]:
    found = page.user.call("GET", f"/v1/chats/{page.chat}").json()["messages"]
    return [(message["role"], message["text"]) for message in found]


def send(text: str, **more: Any) -> dict[str, Any]:
    return {"do": "send", "text": text, **more}


@pytest.mark.parametrize("last_alone", [False, True])
def test_two_messages_are_answered_in_either_form(page: Callable[..., Page], last_alone: bool) -> None:
    here = page()
    here.chat += str(last_alone)
    first, second = here.plays(send("One"), send("Two"), lastAlone=last_alone)
    assert (first["status"], second["status"], second["error"]) == ("ready", "ready", None)
    assert (
        shown(second) == stored(here) == [("user", "One"), ("assistant", HELLO), ("user", "Two"), ("assistant", HELLO)]
    )
    answer = second["messages"][-1]
    assert answer["metadata"]["usage"]["cost_micro_usd"] > 0
    assert answer["metadata"]["status"] == "complete"
    kept = here.user.call("GET", f"/v1/chats/{here.chat}").json()["messages"][-1]
    assert answer["id"] == kept["id"]
    assert {request["protocol"] for request in here.requests} == {"v1"}


@pytest.mark.parametrize(
    ("reason", "finish"), [("length", "length"), ("content_filter", "content-filter"), ("eos", "stop"), ("hm", "other")]
)
def test_the_page_learns_how_the_answer_ended(
    page: Callable[..., Page], model: ModelServer, reason: str, finish: str
) -> None:
    here = page()
    here.chat += reason
    model.script = [Reply(finish=reason)]
    (seen,) = here.plays(send("Hello"))
    answer = seen["messages"][-1]
    assert (seen["status"], seen["error"], text_of(answer)) == ("ready", None, HELLO)
    assert answer["metadata"]["finish"].replace("_", "-") == finish
    assert answer["metadata"]["status"] == ("complete" if finish == "stop" else "incomplete")
    if here.sdk != "ai5":  # version 5 hands the reason on to nobody
        assert seen["finishReason"] == finish


def test_a_cut_answer_goes_on_in_the_same_message(page: Callable[..., Page], model: ModelServer) -> None:
    here = page()
    model.script = [Reply(words=["Hello", " from"], finish="length"), Reply(words=[" the", " model."])]
    cut, whole = here.plays(send("Hello"), {"do": "goOn"})
    assert (cut["status"], whole["status"], whole["error"]) == ("ready", "ready", None)
    assert shown(whole) == stored(here) == [("user", "Hello"), ("assistant", HELLO)]
    assert cut["messages"][-1]["id"] == whole["messages"][-1]["id"]
    assert whole["messages"][-1]["metadata"]["status"] == "complete"


def test_an_earlier_message_is_edited_and_an_earlier_answer_is_made_anew(
    page: Callable[..., Page], model: ModelServer
) -> None:
    here = page()
    *_, before = here.plays(send("One"), send("Two"), send("Three"))
    first, second = before["messages"][0]["id"], before["messages"][3]["id"]
    edited, anew = here.plays(
        {"do": "regenerate", "messageId": second},
        {"do": "edit", "messageId": first, "text": "Eins"},
        messages=before["messages"],
    )
    assert (edited["status"], edited["error"]) == ("ready", None)
    assert shown(edited) == [("user", "One"), ("assistant", HELLO), ("user", "Two"), ("assistant", HELLO)]
    assert (anew["status"], anew["error"]) == ("ready", None)
    assert shown(anew) == stored(here) == [("user", "Eins"), ("assistant", HELLO)]


def test_a_message_with_an_image_is_answered_and_shown_after_a_reload(
    page: Callable[..., Page], model: ModelServer
) -> None:
    here = page()
    data = b"\x89PNG\r\n\x1a\n" + bytes(300_000)
    url = f"data:image/png;base64,{b64encode(data).decode()}"
    (seen,) = here.plays(send("What is this?", files=[{"type": "file", "mediaType": "image/png", "url": url}]))
    assert (seen["status"], seen["error"], shown(seen)[-1]) == ("ready", None, ("assistant", HELLO))
    assert [part["type"] for part in model.requests[-1]["messages"][-1]["content"]] == ["text", "image_url"]
    loaded = here.user.call("GET", f"/v1/chat/{here.chat}").json()["messages"][0]["parts"]
    assert [part["type"] for part in loaded] == ["file", "text"]
    assert here.user.call("GET", loaded[0]["url"]).content == data


def test_a_text_and_a_file_that_was_put_up_go_with_a_message_and_come_back_after_a_reload(
    page: Callable[..., Page], model: ModelServer
) -> None:
    here = page()
    data = b"\x89PNG\r\n\x1a\n" + bytes(1_000_000)
    put = here.user.client.post("/v1/files", files={"file": ("a.png", data, "image/png")}, headers=here.user.headers)
    url = f"data:text/csv;base64,{b64encode(b'city,rain').decode()}"
    files = [
        {"type": "file", "mediaType": "text/csv", "filename": "rain.csv", "url": url},
        {"type": "file", "mediaType": "image/png", "filename": "a.png", "url": put.json()["id"]},
    ]
    (seen,) = here.plays(send("How much?", files=files))
    assert (seen["status"], seen["error"], shown(seen)[-1]) == ("ready", None, ("assistant", HELLO))
    text, image = model.requests[-1]["messages"][-1]["content"]
    assert ("city,rain" in text["text"], image["type"]) == (True, "image_url")
    parts = here.user.call("GET", f"/v1/chat/{here.chat}").json()["messages"][0]["parts"]
    assert [(part["type"], part.get("filename")) for part in parts[:2]] == [("file", "rain.csv"), ("file", "a.png")]
    assert here.user.call("GET", parts[1]["url"]).content == data


def test_a_reloaded_page_goes_on_with_the_messages_of_the_service(page: Callable[..., Page]) -> None:
    here = page()
    here.plays(send("With sources"), send("Two"))
    loaded = here.user.call("GET", f"/v1/chat/{here.chat}").json()["messages"]
    kinds = [[part["type"] for part in message["parts"]] for message in loaded]
    assert kinds == [
        ["text"],
        ["step-start", "text", "source-url", "source-document"],
        ["text"],
        ["step-start", "text"],
    ]
    edited, after = here.plays(
        {"do": "edit", "messageId": loaded[2]["id"], "text": "Zwei"}, send("Three"), messages=loaded
    )
    assert (edited["status"], edited["error"], after["error"]) == ("ready", None, None)
    assert shown(after) == stored(here)
    assert [text for _, text in shown(after)] == ["With sources", HELLO, "Zwei", HELLO, "Three", HELLO]


@pytest.mark.parametrize("approved", [True, False])
def test_a_tool_waits_for_the_users_approval(page: Callable[..., Page], model: ModelServer, approved: bool) -> None:
    here = page()
    if here.sdk == "ai5":
        pytest.skip("approvals began with version 6")
    here.chat += str(approved)
    model.script = [Reply(words=["Sure. "], calls=[("book", '{"room": "B"}')], finish="tool_calls")]
    asked, answered = here.plays(send("Please book"), {"do": "decide", "approved": approved, "reason": "no"})
    tool = asked["messages"][-1]["parts"][-1]
    assert (asked["status"], tool["type"], tool["state"]) == ("ready", "tool-book", "approval-requested")
    assert (answered["status"], answered["error"]) == ("ready", None)
    (tool,) = [part for part in answered["messages"][-1]["parts"] if part["type"] == "tool-book"]
    assert tool["state"] == ("output-available" if approved else "output-denied")
    assert tool.get("output") == ("booked B" if approved else None)
    assert shown(answered) == stored(here)
    assert answered["messages"][-1]["metadata"]["status"] == "complete"


def test_sources_are_shown(page: Callable[..., Page]) -> None:
    (seen,) = page().plays(send("With sources"))
    parts = [part for part in seen["messages"][-1]["parts"] if part["type"].startswith("source-")]
    assert [(part["type"], part["sourceId"], part["title"]) for part in parts] == [
        ("source-url", "s1", "Rivers of Europe"),
        ("source-document", "s2", "Atlas"),
    ]
    assert (seen["status"], text_of(seen["messages"][-1])) == ("ready", HELLO)


def test_a_tool_call_is_shown_with_the_thinking_before_it_and_its_result(
    page: Callable[..., Page], model: ModelServer
) -> None:
    model.script = [
        Reply(["Let me see. "], calls=[("add", '{"first": 1, "second": 2}')], finish="tool_calls", thoughts="A sum."),
        Reply(words=["It", " is", " 3."]),
    ]
    here = page()
    (seen,) = here.plays(send("Use a tool"))
    assert (seen["status"], seen["error"]) == ("ready", None)
    kinds = [part["type"] for part in seen["messages"][-1]["parts"]]
    assert kinds == ["step-start", "reasoning", "text", "tool-add", "text"]
    stored = here.user.call("GET", f"/v1/chat/{here.chat}").json()["messages"][-1]["parts"]
    assert [part["type"] for part in stored] == ["step-start", "reasoning", "tool-add", "text"]
    thinking, tool = (seen["messages"][-1]["parts"][number] for number in (1, 3))
    assert (thinking["text"], thinking["state"]) == ("A sum.", "done")
    assert (tool["state"], tool["input"], tool["output"]) == ("output-available", {"first": 1, "second": 2}, 3)


def test_an_error_in_mid_answer_keeps_what_was_said_and_can_be_asked_again(
    page: Callable[..., Page], model: ModelServer
) -> None:
    here = page()
    model.script = [Reply(words=LONG, error_after=20)]
    broken, again = here.plays(send("Hello"), {"do": "regenerate"})
    assert (broken["status"], broken["error"]) == ("error", "The model is not available at the moment. Try again.")
    answer = broken["messages"][-1]
    assert text_of(answer) == "".join(LONG[:20])
    assert answer["metadata"]["error"]["code"] == "model_unavailable"
    assert again["status"] == "ready"
    assert shown(again) == stored(here) == [("user", "Hello"), ("assistant", HELLO)]


def test_an_error_before_the_answer_is_shown_with_its_code(page: Callable[..., Page]) -> None:
    here = page()
    (refused,) = here.plays(send("x" * 16_001))
    assert refused["status"] == "error"
    assert json.loads(refused["error"])["error"]["code"] == "too_large"
    here.chat = "not/allowed"
    (refused,) = here.plays(send("Hello"))
    assert json.loads(refused["error"])["error"]["code"] == "invalid_id"


def test_a_model_that_fails_at_once_is_an_error_of_the_stream(page: Callable[..., Page], model: ModelServer) -> None:
    model.script = [Fault(400)]
    (seen,) = page().plays(send("Hello"))
    assert (seen["status"], seen["error"]) == ("error", "The model's provider refused the request.")


def test_an_answer_is_stopped_at_the_service_by_another_instance(
    page: Callable[..., Page], model: ModelServer, instances: list[Server]
) -> None:
    here = page()
    model.default = Reply(words=["word "] * 2000, pace=0.02)
    process = here.begins({"do": "begin", "text": "Talk", "report": "begun"}, {"do": "end"})
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    there = instances[1].sign_in(f"ada-{here.sdk}")
    assert there.call("POST", f"/v1/chat/{here.chat}/stop").status_code == 202
    _, ended = here.ends(process)
    assert (ended["status"], ended["error"]) == ("ready", None)
    assert ended["messages"][-1]["metadata"]["status"] == "incomplete"
    assert shown(ended) == stored(here)
    assert there.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0


def test_an_answer_goes_on_without_its_page_and_is_resumed_from_another_instance(
    page: Callable[..., Page], model: ModelServer
) -> None:
    here, there = page(0), page(1)
    model.default = Reply(words=LONG, pace=0.1)
    *_, left = here.plays({"do": "begin", "text": "Talk"}, {"do": "leave"})
    assert left["status"] == "ready"
    assert 0 < len(text_of(left["messages"][-1])) < len("".join(LONG))
    question = [left["messages"][0]]
    resumed, nothing = there.plays({"do": "resume"}, {"do": "resume"}, messages=question)
    assert (resumed["status"], resumed["error"]) == ("ready", None)
    assert shown(resumed) == stored(there) == [("user", "Talk"), ("assistant", "".join(LONG))]
    assert resumed["messages"][-1]["id"] == left["messages"][-1]["id"]
    assert resumed["messages"][-1]["metadata"]["usage"]["cost_micro_usd"] > 0
    assert nothing["messages"] == resumed["messages"]
    assert [request["status"] for request in there.requests] == [200, 204]


def test_a_page_that_lost_its_network_goes_on_where_it_was(page: Callable[..., Page], model: ModelServer) -> None:
    here = page()
    if here.sdk == "ai5":
        pytest.skip("version 5 shows the beginning twice, as docs/streaming.md says")
    model.default = Reply(words=LONG, pace=0.03)
    _, lost, resumed = here.plays({"do": "begin", "text": "Talk"}, {"do": "loseTheNetwork"}, {"do": "resume"})
    assert (lost["status"], lost["error"]) == ("error", "network error")
    assert (resumed["status"], resumed["error"]) == ("ready", None)
    assert shown(resumed) == stored(here) == [("user", "Talk"), ("assistant", "".join(LONG))]


def test_a_page_that_resumes_a_chat_that_is_not_there_yet_is_ready(page: Callable[..., Page]) -> None:
    here = page()
    (seen,) = here.plays({"do": "resume"})
    assert (seen["status"], seen["error"], seen["messages"]) == ("ready", None, [])
    assert here.requests[0]["status"] == 204


def test_an_answer_is_resumed_and_stopped_by_the_page_that_resumed_it(
    page: Callable[..., Page], model: ModelServer
) -> None:
    here, there = page(0), page(1)
    model.default = Reply(words=["word "] * 2000, pace=0.02)
    here.plays({"do": "begin", "text": "Talk"}, {"do": "leave"})
    *_, stopped = there.plays({"do": "beginResuming"}, {"do": "stopAtTheService"})
    assert (stopped["status"], stopped["error"]) == ("ready", None)
    assert shown(stopped)[-1] == stored(there)[-1]


def test_the_lock_names_no_host_of_a_registry_and_a_checksum_for_each_package() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")
