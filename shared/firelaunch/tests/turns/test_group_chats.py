"""Chats of groups: members read them, editors and owners write, each message names its writer, and one setting says who
pays."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from firelaunch import Collection, Record, Tool, UserId
from firelaunch.errors import SettingsError
from firelaunch.llm.types import Chunk
from firelaunch.scope import Scope
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, User, events, run_jobs, sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks.erase import erasure_of
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

MakeApp = Callable[..., App]

FAST = SETTINGS.replace("[limits]", "[limits]\ncheckpoint_seconds = 0.2")
WITH_GROUPS = FAST + "groups = 5\n"
WORDS = ["word "] * 2000


def settings(paid_by: str, on_erase: str = "anonymize") -> str:
    return WITH_GROUPS + f'\n[groups]\nchats_paid_by = "{paid_by}"\nchats_on_erase = "{on_erase}"\n'


@pytest.fixture(params=["writer", "group"])
def paid_by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(make_app: MakeApp, model: ModelServer, paid_by: str) -> App:
    return make_app(settings(paid_by), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)


def new_group(owner: User, **members: User) -> str:
    """Make a group whose members have the roles, and the names, that they are given by."""
    group: str = owner.post("/v1/groups", {"name": "Family", "member_name": "Ada"}).get_json()["id"]
    for role, user in members.items():
        code = owner.post(f"/v1/groups/{group}/invites", {"role": role}).get_json()["invite"]
        joined = user.post(f"/v1/groups/{group}/join", {"invite": code, "name": role.title()})
        assert joined.status_code == 200
    return group


def new_chat(user: User, group: str) -> str:
    answer = user.post("/v1/chats", {"group": group})
    assert answer.status_code == 201, answer.get_json()
    chat: str = answer.get_json()["id"]
    return chat


def send(user: User, group: str, chat: str, text: str = "Hello", **body: Any) -> Any:
    return user.post(f"/v1/chats/{chat}/messages", {"text": text, "group": group, **body})


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def spent(user: User, group: str = "") -> int:
    usage = user.get(f"/v1/usage?group={group}").get_json()
    assert usage["reserved_micro_usd"] == 0
    return int(usage["cost_micro_usd"])


class Stream:
    """A streamed answer in a group's chat, read in a thread as a client would."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._text_came = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(begin,))
        self._thread.start()
        assert self._text_came.wait(20)

    def _read(self, begin: Callable[[], Any]) -> None:
        for event in events(begin()):
            self.seen.append(event)
            if event[0] == "delta":
                self._text_came.set()

    def end(self) -> tuple[str, dict[str, Any]]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.seen[-1]

    @property
    def text(self) -> str:
        return "".join(data["text"] for name, data in self.seen if name == "delta")


def stream(user: User, group: str, chat: str) -> Stream:
    body = {"text": "Talk", "group": group}
    return Stream(lambda: user.post(f"/v1/chats/{chat}/messages", body, Accept="text/event-stream"))


def routes(chat: str, group: str, answer: str, file: str) -> Iterator[tuple[str, str, Any, bool]]:
    """Yield each route of chats, with its body, and whether it writes."""
    of_group = f"?group={group}"
    ui = {"id": chat, "message": {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}}
    yield "get", f"/v1/chats{of_group}", None, False
    yield "get", f"/v1/chats/{chat}{of_group}", None, False
    yield "get", f"/v1/chat/{chat}{of_group}", None, False
    yield "get", f"/v1/chats/{chat}/stream{of_group}", None, False
    yield "get", f"/v1/chat/{chat}/stream{of_group}", None, False
    yield "get", f"/v1/chats/{chat}/files/{file}{of_group}", None, False
    yield "get", f"/v1/usage{of_group}", None, False
    yield "post", "/v1/chats", {"group": group}, True
    yield "post", f"/v1/chats/{chat}/messages", {"text": "Hi", "group": group}, True
    yield "post", f"/v1/chats/{chat}/messages", {"continues": answer, "group": group}, True
    yield "post", f"/v1/chats/{chat}/messages", {"replaces": answer[:-1] + "u", "group": group}, True
    yield "post", "/v1/chat", {**ui, "group": group}, True
    yield "post", f"/v1/chats/{chat}/stop{of_group}", None, True
    yield "post", f"/v1/chat/{chat}/stop{of_group}", None, True
    yield "patch", f"/v1/chats/{chat}", {"title": "Mine", "group": group}, True
    yield "put", f"/v1/chats/{chat}/messages/{answer}/rating", {"value": "up", "group": group}, True
    yield "delete", f"/v1/chats/{chat}/messages/{answer}/rating{of_group}", None, True
    yield "delete", f"/v1/chats/{chat}{of_group}", None, True


def ask(user: User, method: str, path: str, body: Any) -> Any:
    call = getattr(user, method)
    return call(path) if method in {"get", "delete"} else call(path, body)


def with_file(user: User, group: str, chat: str) -> tuple[str, str]:
    """Send a message with a file; return the ids of its answer and of the file."""
    answer = send(user, group, chat, files=[{"url": "data:text/plain;base64,SGVsbG8=", "filename": "a.txt"}])
    assert answer.status_code == 200, answer.get_json()
    question = user.get(f"/v1/chats/{chat}?group={group}").get_json()["messages"][-2]
    return answer.get_json()["message"]["id"], question["files"][0]["id"]


def test_who_is_no_member_gets_nothing_of_a_groups_chats_by_any_route(app: App) -> None:
    ada, bob, eve, gus = (sign_in(app, uid) for uid in ("ada", "bob", "eve", "gus"))
    group, other = new_group(ada, viewer=bob), new_group(eve, editor=gus)
    chat = new_chat(ada, group)
    answer, file = with_file(ada, group, chat)
    before = ada.get(f"/v1/chats/{chat}?group={group}").get_json()
    for outsider in (eve, gus):
        for method, path, body, _ in routes(chat, group, answer, file):
            assert code_of(ask(outsider, method, path, body)) == (404, "not_found"), (method, path)
        # Nor by a group of their own, or as their own chat.
        for place in (other, ""):
            assert outsider.get(f"/v1/chats/{chat}?group={place}").status_code == 404
            assert outsider.get(f"/v1/chats/{chat}/stream?group={place}").status_code == 204
            assert send(outsider, place, chat).status_code == 404
    assert ada.get(f"/v1/chats/{chat}?group={group}").get_json() == before
    assert bob.get(f"/v1/chats/{chat}?group={group}").get_json() == before
    assert spent(eve) == spent(eve, other) == 0


def test_a_viewer_reads_and_writes_nothing(app: App, model: ModelServer) -> None:
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, viewer=bob)
    chat = new_chat(ada, group)
    answer, file = with_file(ada, group, chat)
    before, asked = ada.get(f"/v1/chats/{chat}?group={group}").get_json(), len(model.requests)
    for method, path, body, writes in routes(chat, group, answer, file):
        status = ask(bob, method, path, body).status_code
        assert status == 403 if writes else status in {200, 204}, (method, path, status)
    assert ada.get(f"/v1/chats/{chat}?group={group}").get_json() == before
    assert len(model.requests) == asked
    assert spent(bob) == 0


def test_an_editor_may_do_all_that_there_is_to_do_in_a_chat(app: App) -> None:
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    answer, file = with_file(ada, group, chat)
    for method, path, body, _ in routes(chat, group, answer, file):
        assert ask(bob, method, path, body).status_code in {200, 201, 204, 409}, (method, path)
    assert ada.get(f"/v1/chats/{chat}?group={group}").status_code == 404
    assert ada.get(f"/v1/chats?group={group}").get_json()["items"][0]["id"] != chat


def test_each_message_names_its_writer_and_the_model_tells_writers_apart(app: App, model: ModelServer) -> None:
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    assert send(ada, group, chat, "I like figs.").status_code == 200
    assert model.requests[-1]["messages"][-1]["content"] == "I like figs."
    assert send(bob, group, chat, "Who likes figs?").status_code == 200
    said = [message["content"] for message in model.requests[-1]["messages"] if message["role"] == "user"]
    assert said == ["Ada: I like figs.", "Editor: Who likes figs?"]
    messages = bob.get(f"/v1/chats/{chat}?group={group}").get_json()["messages"]
    asked = [message for message in messages if message["role"] == "user"]
    assert [(m["written_by"], m["author"], m["text"]) for m in asked] == [
        ("ada", "Ada", "I like figs."),
        ("bob", "Editor", "Who likes figs?"),
    ]
    ui = bob.get(f"/v1/chat/{chat}?group={group}").get_json()["messages"]
    assert [m["metadata"]["author"] for m in ui if m["role"] == "user"] == ["Ada", "Editor"]


def test_no_member_edits_what_another_wrote_and_any_editor_has_it_answered_again(app: App, model: ModelServer) -> None:
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    question = send(ada, group, chat, "One").get_json()["message"]["id"][:-1] + "u"
    assert code_of(send(bob, group, chat, "Two", replaces=question)) == (403, "forbidden")
    body = {"replaces": question, "group": group}
    assert bob.post(f"/v1/chats/{chat}/messages", body).status_code == 200
    messages = ada.get(f"/v1/chats/{chat}?group={group}").get_json()["messages"]
    assert (messages[0]["text"], messages[0]["written_by"]) == ("One", "ada")
    assert send(ada, group, chat, "Two", replaces=question).status_code == 200
    assert ada.get(f"/v1/chats/{chat}?group={group}").get_json()["messages"][0]["text"] == "Two"


def test_the_setting_says_whose_day_pays_and_records_name_group_and_writer(app: App, paid_by: str) -> None:
    ada, bob, boss = sign_in(app, "ada"), sign_in(app, "bob"), sign_in(app, "boss", role="admin")
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    usage = send(bob, group, chat).get_json()["usage"]
    cost = usage["cost_micro_usd"]
    assert cost > 0
    assert spent(ada) == 0
    assert (spent(bob), spent(bob, group)) == ((cost, 0) if paid_by == "writer" else (0, cost))
    store, scope = app.services.store, Scope("demo")  # type: ignore[attr-defined]
    payer = "bob" if paid_by == "writer" else f"group~{group}"
    for collection in (scope.requests(), scope.calls()):
        (record,) = [store.get(f"{collection}/{each}").data for each in store.ids(collection)]
        assert (record["uid"], record["group"], record["writer"]) == (payer, group, "bob")
    (row,) = boss.get("/v1/ops/requests").get_json()["items"]
    assert (row["uid"], row["group"], row["writer"]) == (payer, group, "bob")


def test_a_key_is_its_writers_own_in_each_group_and_replays_to_nobody_else(app: App, model: ModelServer) -> None:
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group, other = new_group(ada, editor=bob), new_group(ada)
    chat, elsewhere, own = new_chat(ada, group), new_chat(ada, other), ada.new_chat()
    texts = []
    for user, place, where in ((ada, group, chat), (bob, group, chat), (ada, other, elsewhere), (ada, "", own)):
        model.default = Reply(words=[f"Answer {len(texts)}."])
        for _ in range(2):
            body = {"text": "Hello", "group": place}
            reply = user.post(f"/v1/chats/{where}/messages", body, **{"Idempotency-Key": "k"}).get_json()
            texts.append(reply["message"]["text"])
    assert texts == ["Answer 0."] * 2 + ["Answer 2."] * 2 + ["Answer 4."] * 2 + ["Answer 6."] * 2
    ada.delete(f"/v1/groups/{group}/members/bob")
    body = {"text": "Hello", "group": group}
    assert code_of(bob.post(f"/v1/chats/{chat}/messages", body, **{"Idempotency-Key": "k"})) == (404, "not_found")


def test_a_removed_writers_stream_ends_and_what_was_said_is_kept_and_paid(
    app: App, model: ModelServer, paid_by: str
) -> None:
    model.default = Reply(words=WORDS, pace=0.02, usage=None)
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    answer = stream(bob, group, chat)
    assert ada.delete(f"/v1/groups/{group}/members/bob").status_code == 204
    name, data = answer.end()
    assert (name, data["error"]["code"]) == ("error", "not_found")
    assert len(answer.text) < len("".join(WORDS))
    _, kept = ada.get(f"/v1/chats/{chat}?group={group}").get_json()["messages"]
    assert (kept["status"], kept["finish"]) == ("incomplete", None)
    assert kept["text"].startswith(answer.text[:20])
    cost = kept["usage"]["cost_micro_usd"]
    assert cost > 0
    assert (spent(bob), spent(ada, group)) == ((cost, 0) if paid_by == "writer" else (0, cost))


def test_a_removed_follower_is_told_no_more_and_the_answer_goes_on(app: App, model: ModelServer) -> None:
    model.default = Reply(words=["word "] * 100, pace=0.02)
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, viewer=bob)
    chat = new_chat(ada, group)
    answer = stream(ada, group, chat)
    follower = Stream(lambda: bob.get(f"/v1/chats/{chat}/stream?group={group}"))
    ada.delete(f"/v1/groups/{group}/members/bob")
    name, data = follower.end()
    assert (name, data["error"]["code"]) == ("error", "not_found")
    assert bob.get(f"/v1/chats/{chat}/stream?group={group}").status_code == 404
    assert answer.end()[0] == "done"
    assert answer.text == "word " * 100
    assert len(follower.text) < len(answer.text)


def test_a_writer_who_becomes_a_viewer_gets_the_rest_of_the_answer(app: App, model: ModelServer) -> None:
    model.default = Reply(words=["word "] * 50, pace=0.02)
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    answer = stream(bob, group, chat)
    assert ada.patch(f"/v1/groups/{group}/members/bob", {"role": "viewer"}).status_code == 200
    name, done = answer.end()
    assert (name, done["message"]["text"]) == ("done", "word " * 50)
    assert send(bob, group, chat).status_code == 403


def test_groups_have_no_chats_before_a_setting_says_who_pays(make_app: MakeApp) -> None:
    ada = sign_in(make_app(WITH_GROUPS), "ada")
    group = new_group(ada)
    assert code_of(ada.post("/v1/chats", {"group": group})) == (403, "no_group_chats")
    assert code_of(ada.get(f"/v1/chats?group={group}")) == (403, "no_group_chats")
    assert ada.get(f"/v1/usage?group={group}").status_code == 200


def test_an_app_whose_groups_have_chats_says_what_an_erasure_does_with_them(make_app: MakeApp) -> None:
    with pytest.raises(SettingsError, match=r"groups\.chats_on_erase is missing"):
        make_app(WITH_GROUPS + '\n[groups]\nchats_paid_by = "group"\n')
    with pytest.raises(SettingsError, match="no plan has groups"):
        make_app(FAST + '\n[groups]\nchats_paid_by = "group"\nchats_on_erase = "delete"\n')


def test_an_agent_asks_in_a_groups_chat_as_its_user_may(app: App, model: ModelServer) -> None:
    model.default = Reply(words=["Hello."])
    ada, bob, eve = (sign_in(app, uid) for uid in ("ada", "bob", "eve"))
    group = new_group(ada, viewer=bob)
    called = call(ada, "ask", text="Hi", group=group)
    chat = json.loads(called["content"][0]["text"])["chat_id"] if "structuredContent" not in called else None
    chat = chat or called["structuredContent"]["chat_id"]
    assert ada.get(f"/v1/chats/{chat}?group={group}").status_code == 200
    assert call(bob, "list_chats", group=group)["structuredContent"]["items"][0]["id"] == chat
    for user, code in ((bob, "forbidden"), (eve, "not_found")):
        refused = call(user, "ask", text="Hi", group=group, chat_id=chat)
        assert (refused["isError"], json.loads(refused["content"][0]["text"])["error"]["code"]) == (True, code)
    assert call(eve, "list_chats", group=group)["isError"]


def call(user: User, tool: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer: dict[str, Any] = user.post("/mcp", body, Accept="application/json").get_json()["result"]
    return answer


@pytest.fixture(params=["delete", "anonymize", "hand_over"])
def on_erase(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_erasure_does_what_the_setting_says_with_what_the_user_wrote(
    make_app: MakeApp, model: ModelServer, paid_by: str, on_erase: str
) -> None:
    app = make_app(settings(paid_by, on_erase), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(bob, group)
    rated = send(ada, group, chat, "By ada").get_json()["message"]["id"]
    with_file(bob, group, chat)
    send(bob, group, chat, "By bob")
    rating = {"value": "down", "text": "Bob dislikes it", "group": group}
    assert bob.put(f"/v1/chats/{chat}/messages/{rated}/rating", rating).status_code == 200
    before = ada.get(f"/v1/chats/{chat}?group={group}").get_json()
    assert before["message_count"] == 6
    spent_before = spent(ada, group)

    erasure_of(app.services).run("bob")  # type: ignore[attr-defined]

    after = ada.get(f"/v1/chats/{chat}?group={group}").get_json()
    assert after["message_count"] == len(after["messages"]) == (2 if on_erase == "delete" else 6)
    writers = [m.get("written_by") for m in after["messages"] if m["role"] == "user"]
    assert writers == {"delete": ["ada"], "anonymize": ["ada", None, None], "hand_over": ["ada"] * 3}[on_erase]
    assert spent(ada, group) == spent_before
    store = app.services.store  # type: ignore[attr-defined]
    kept = {path: store.get(path) for path in store.tree("apps/demo/groups")}
    told = json.dumps({path: each.data for path, each in kept.items() if each is not None}, default=str)
    assert '"bob"' not in told
    assert "Editor" not in told
    assert "dislikes" not in told
    assert ("By bob" in told) == (on_erase != "delete")
    files = [path for path in kept if "/kept_files/" in path]
    assert bool(files) == (on_erase != "delete")
    for collection in ("requests", "calls"):
        records = [store.get(f"apps/demo/{collection}/{each}").data for each in store.ids(f"apps/demo/{collection}")]
        assert "bob" not in {record.get(name) for record in records for name in ("uid", "writer")}
    assert erasure_of(app.services).report("bob").found == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("stop", ["removal", "erasure alone"])
def test_a_group_pays_for_what_an_erased_writers_running_answer_has_cost(
    make_app: MakeApp, model: ModelServer, on_erase: str, stop: str
) -> None:
    model.default = Reply(words=WORDS[:100], pace=0.02, usage=None)
    here, there = (
        make_app(settings("group", on_erase), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url) for _ in range(2)
    )
    ada, bob = (sign_in(here, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    answer = stream(sign_in(there, "bob"), group, chat)
    if stop == "removal":  # which ends the answer, while the erasure is under way
        ada.delete(f"/v1/groups/{group}/members/bob")
    assert erasure_of(here.services).run("bob").found["requests"] == 1  # type: ignore[attr-defined]
    answer.end()
    store = here.services.store  # type: ignore[attr-defined]
    calls = [store.get(f"apps/demo/calls/{each}").data for each in store.ids("apps/demo/calls")]
    assert [(each["uid"], each.get("writer")) for each in calls] == [(f"group~{group}", None)]
    assert spent(ada, group) == calls[0]["cost_micro_usd"] > 0
    erasure_of(here.services).run("bob")  # type: ignore[attr-defined]
    told = {path: found.data for path in store.tree("apps/demo") if (found := store.get(path)) is not None}
    assert not [path for path, data in told.items() if "'bob'" in repr(data) and "/audit" not in path]
    assert send(ada, group, chat).status_code == 200  # the chat waits for no answer any more


def test_an_export_has_what_its_user_wrote_in_groups_also_after_they_left(app: App) -> None:
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    answer = send(ada, group, chat, "By ada").get_json()["message"]["id"]
    send(bob, group, chat, "By bob")
    rating = {"value": "down", "text": "Meh", "group": group}
    assert bob.put(f"/v1/chats/{chat}/messages/{answer}/rating", rating).status_code == 200
    bob.delete(f"/v1/groups/{group}/members/bob")
    files = exported(app, bob)
    (message,) = json.loads(files[f"of_groups/{group}/chats/{chat}/messages.written_by.json"])
    assert message["data"]["text"] == "By bob"
    (rated,) = json.loads(files[f"of_groups/{group}/chats/{chat}/messages.rating.by.json"])
    assert list(rated["data"]) == ["rating"]
    assert rated["data"]["rating"]["text"] == "Meh"
    assert not any("By ada" in text for text in files.values())


def test_a_deleted_group_takes_its_chats_along(app: App, model: ModelServer, paid_by: str) -> None:
    model.default = Reply(words=WORDS, pace=0.02, usage=None)
    ada, bob = (sign_in(app, uid) for uid in ("ada", "bob"))
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    answer = stream(bob, group, chat)
    assert ada.delete(f"/v1/groups/{group}").status_code == 202
    assert send(bob, group, chat).status_code == 404
    name, data = answer.end()
    assert (name, data["error"]["code"]) == ("error", "not_found"), "before the job that removes the group's data"
    run_jobs(app)
    store = app.services.store  # type: ignore[attr-defined]
    assert list(store.tree(f"apps/demo/groups/{group}")) == []
    if paid_by == "writer":
        assert spent(bob) > 0


def exported(app: App, user: User) -> dict[str, str]:
    export = user.post("/v1/me/exports").get_json()
    run_jobs(app)
    with zipfile.ZipFile(io.BytesIO(user.get(f"/v1/me/exports/{export['id']}/file").data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture(params=["sqlite", "firestore"])
def stored(request: pytest.FixtureRequest, model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of an app on either database."""
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    if request.param == "sqlite":
        return environ
    host, project = (request.getfixturevalue(name) for name in ("firestore_emulator", "firestore_project"))
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host.host)  # Google's client reads it itself
    of_emulator = {"FIRESTORE_EMULATOR_HOST": host.host, "GOOGLE_CLOUD_PROJECT": project}
    return {**environ, **of_emulator, "FIRELAUNCH_MODE": "emulators"}


def test_a_removal_ends_streams_on_another_instance_and_on_either_database(
    make_app: MakeApp, model: ModelServer, stored: dict[str, str]
) -> None:
    model.default = Reply(words=WORDS, pace=0.02, usage=None)
    here, there = (make_app(settings("group"), **stored) for _ in range(2))
    ada, bob, cat = (sign_in(here, uid) for uid in ("ada", "bob", "cat"))
    group = new_group(ada, editor=bob, viewer=cat)
    chat = new_chat(ada, group)
    answer = stream(sign_in(there, "bob"), group, chat)
    follower = Stream(lambda: cat.get(f"/v1/chats/{chat}/stream?group={group}"))
    for uid, listener in (("cat", follower), ("bob", answer)):
        assert ada.delete(f"/v1/groups/{group}/members/{uid}").status_code == 204
        name, data = listener.end()
        assert (name, data["error"]["code"]) == ("error", "not_found")
    _, kept = ada.get(f"/v1/chats/{chat}?group={group}").get_json()["messages"]
    assert kept["status"] == "incomplete"
    assert spent(ada, group) == kept["usage"]["cost_micro_usd"] > 0
    assert spent(bob) == spent(ada) == 0


def test_a_groups_budget_is_exact_when_sixty_four_write_at_once(
    make_app: MakeApp, model: ModelServer, stored: dict[str, str]
) -> None:
    model.default = Reply(usage=(5, 0, 100), pace=0.002)
    poor = settings("group").replace('"0.50"', '"0.01"\ncheaper_model_at_percent = 100')
    app = make_app(poor, **stored)
    owner = sign_in(app, "owner")
    group = owner.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    invite = owner.post(f"/v1/groups/{group}/invites", {"role": "editor", "uses": 8}).get_json()["invite"]
    members = [sign_in(app, f"member-{at}") for at in range(8)]
    for member in members:
        assert member.post(f"/v1/groups/{group}/join", {"invite": invite}).status_code == 200
    chat = new_chat(owner, group)

    def write(at: int) -> Any:
        user = User(app.test_client(), members[at % 8].token)
        return send(user, group, chat, f"Message {at}")

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(write, range(64)))
    paid = [each.get_json()["usage"]["cost_micro_usd"] for each in answers if each.status_code == 200]
    assert {each.status_code for each in answers} <= {200, 409, 429, 503}
    assert 0 < len(paid) < 64
    assert len(model.requests) == len(paid)
    assert spent(owner, group) == sum(paid)
    assert sum(paid) <= 10_000
    assert [spent(member) for member in members] == [0] * 8


Step = tuple[str, int, int, str]
STEPS = st.tuples(
    st.sampled_from(["write", "read", "list", "role", "remove", "resume", "stop", "rate", "replay"]),
    st.integers(0, 2),
    st.integers(0, 1),
    st.sampled_from(["viewer", "editor"]),
)


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=4, max_size=14))
def test_whoever_has_whichever_role_in_whichever_group_reaches_what_that_role_allows(
    make_app: MakeApp, steps: list[Step]
) -> None:
    app = make_app(settings("group").replace("groups = 5", "groups = 500"))
    boss, users = sign_in(app, "boss"), [sign_in(app, uid) for uid in ("ada", "bob", "cat")]
    groups = [boss.post("/v1/groups", {"name": "One"}).get_json()["id"] for _ in range(2)]
    chats, answers = [], []
    for group in groups:
        chats.append(new_chat(boss, group))
        answers.append(send(boss, group, chats[-1], f"Of {group}").get_json()["message"]["id"])
    roles: dict[tuple[int, int], str] = {}
    for step, at, of, role in steps:
        user, group, chat = users[at], groups[of], chats[of]
        held, uid = roles.get((at, of)), ("ada", "bob", "cat")[at]
        if step == "role":
            code = boss.post(f"/v1/groups/{group}/invites", {"role": role}).get_json()["invite"]
            boss.delete(f"/v1/groups/{group}/removals/{uid}")
            assert user.post(f"/v1/groups/{group}/join", {"invite": code}).status_code == 200
            boss.patch(f"/v1/groups/{group}/members/{uid}", {"role": role})
            roles[at, of] = role
        elif step == "remove":
            boss.delete(f"/v1/groups/{group}/members/{uid}")
            roles.pop((at, of), None)
        else:
            answer = one_of(step, user, group, chat, answers[of])
            writes = step in {"write", "stop", "rate", "replay"}
            refused = 404 if held is None else 403 if held == "viewer" and writes else None
            assert (answer.status_code if answer.status_code >= 400 else None) == refused, (step, held)
            other = groups[1 - of]
            assert other not in answer.get_data(as_text=True)


def one_of(step: str, user: User, group: str, chat: str, answer: str) -> Any:
    body = {"text": "Hi", "group": group}
    calls: dict[str, Callable[[], Any]] = {
        "write": lambda: user.post(f"/v1/chats/{chat}/messages", body),
        "replay": lambda: user.post(f"/v1/chats/{chat}/messages", body, **{"Idempotency-Key": "same"}),
        "read": lambda: user.get(f"/v1/chats/{chat}?group={group}"),
        "list": lambda: user.get(f"/v1/chats?group={group}"),
        "resume": lambda: user.get(f"/v1/chats/{chat}/stream?group={group}"),
        "stop": lambda: user.post(f"/v1/chats/{chat}/stop?group={group}"),
        "rate": lambda: user.put(f"/v1/chats/{chat}/messages/{answer}/rating", {"value": "up", "group": group}),
    }
    return calls[step]()


class Fig(Record):
    """A record that members of a group share."""

    name: str
    added_by: UserId | None = None


FIGS = Collection("figs", Fig, owner="group", written_by="added_by", on_erase="anonymize")


def test_a_workflow_in_a_groups_chat_reaches_what_is_the_groups_and_not_the_writers_own(
    make_app: MakeApp, paid_by: str
) -> None:
    seen: list[str] = []

    def answer(turn: Turn) -> Iterator[Chunk]:
        turn.data(FIGS).add(Fig(name="Smyrna"))
        seen.extend((turn.scope.root, turn.passages))
        assert turn.store.scope == turn.scope
        assert turn.memory == ()
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])

    offline = settings(paid_by).replace("[models]", "[search]\nin_chats = true\n[models]")
    app = make_app(offline, answer=answer, collections=[FIGS])
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group, other = new_group(ada, editor=bob), new_group(bob)
    for name, form in (("own", {}), ("shared", {"group": group}), ("elsewhere", {"group": other})):
        text = f"The xylophone is in the {name} attic.".encode()
        assert bob.upload(f"{name}.txt", text, **form).status_code == 202
    run_jobs(app)
    chat = new_chat(bob, group)
    assert send(bob, group, chat, "Where is the xylophone?").status_code == 200
    assert seen[0] == f"apps/demo/groups/{group}"
    assert "shared attic" in seen[1]
    assert "own attic" not in seen[1]
    assert "elsewhere attic" not in seen[1]
    store = app.services.store  # type: ignore[attr-defined]
    (fig,) = [store.get(path).data for path in store.tree(f"apps/demo/groups/{group}/figs")]
    assert (fig["name"], fig["added_by"]) == ("Smyrna", "bob")


def test_a_tools_call_is_approved_by_an_editor_and_does_not_run_for_whoever_was_removed(
    make_app: MakeApp, model: ModelServer, paid_by: str
) -> None:
    ran: list[int] = []

    def pay(amount: int) -> str:
        """Pay an amount."""
        ran.append(amount)
        return f"paid {amount}"

    def answer(turn: Turn) -> Iterator[Chunk]:
        asked: list[Any] = [*turn.history, {"role": "user", "content": turn.text}]
        yield from turn.llm.stream(asked, tools=[Tool(pay, approve=True)])

    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    app = make_app(settings(paid_by), answer=answer, **environ)
    ada, bob, cat, dan = (sign_in(app, uid) for uid in ("ada", "bob", "cat", "dan"))
    group = new_group(ada, editor=bob, viewer=cat)
    code = ada.post(f"/v1/groups/{group}/invites", {"role": "editor"}).get_json()["invite"]
    dan.post(f"/v1/groups/{group}/join", {"invite": code})
    chat = new_chat(ada, group)
    model.script = [Reply((), calls=[("pay", '{"amount": 3}')], finish="tool_calls")]
    waiting = send(ada, group, chat, "Pay").get_json()["message"]
    ada.delete(f"/v1/groups/{group}/members/dan")
    decision = [{"id": waiting["tools"][0]["id"], "approved": True}]
    body = {"continues": waiting["id"], "approvals": decision, "group": group}
    path = f"/v1/chats/{chat}/messages"
    assert [user.post(path, body).status_code for user in (cat, dan)] == [403, 404]
    assert ran == []
    assert bob.post(path, body).status_code == 200
    assert ran == [3]


def test_a_title_and_a_summary_are_paid_as_the_answer_is_and_show_their_payer_nothing(
    make_app: MakeApp, model: ModelServer, paid_by: str
) -> None:
    with_titles = settings(paid_by) + "\n[after_turn]\ntitles = true\nmemory = true\n"
    app = make_app(with_titles, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group = new_group(ada, editor=bob)
    chat = new_chat(ada, group)
    before = send(bob, group, chat, "Hello").get_json()["usage"]["cost_micro_usd"]
    ada.delete(f"/v1/groups/{group}/members/bob")
    model.default = Reply(words=["Secret title"])
    (job,) = run_jobs(app)
    assert ada.get(f"/v1/chats/{chat}?group={group}").get_json()["title"] == "Secret title"
    costs = {"writer": spent(bob), "group": spent(ada, group)}
    assert costs.pop(paid_by) > before
    assert list(costs.values()) == [0]
    assert "Secret" not in bob.get(f"/v1/jobs/{job.id}").get_data(as_text=True)
