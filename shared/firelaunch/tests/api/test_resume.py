"""Answers gone on with, and stopped, by an instance that is not the one that gives them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from firelaunch.llm.types import Chunk, Source, ToolChunk, ToolUse
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, User, events, sign_in
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.models import Fault, ModelServer, Reply

FAST = SETTINGS.replace("[limits]", "[limits]\ncheckpoint_seconds = 0.2")
WORDS = [f"word{n} " for n in range(60)]
MakeApp = Callable[..., App]


@pytest.fixture
def instances(make_app: MakeApp, model: ModelServer) -> list[App]:
    """Two processes' worth of one app, on one database."""
    return [make_app(FAST, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url) for _ in range(2)]


class Telling:
    """A streamed answer, read in a thread as a client would."""

    def __init__(self, user: User, chat: str, text: str = "Talk") -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(user, chat, text))
        self._thread.start()
        assert self._begun.wait(20)

    def _read(self, user: User, chat: str, text: str) -> None:
        for event in events(user.stream(chat, text)):
            self.seen.append(event)
            self._begun.set()

    def end(self) -> list[tuple[str, dict[str, Any]]]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.seen


def text_of(seen: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(data["text"] for name, data in seen if name == "delta")


def follow(user: User, chat: str) -> list[tuple[str, dict[str, Any]]]:
    response = user.get(f"/v1/chats/{chat}/stream")
    assert response.status_code == 200, response.get_data(as_text=True)
    return list(events(response))


def test_an_answer_is_gone_on_with_on_another_instance_and_ends_in_the_same_event(
    instances: list[App], model: ModelServer
) -> None:
    model.default = Reply(words=WORDS, pace=0.02)
    here, there = (sign_in(app, "ada") for app in instances)
    chat = here.new_chat()
    telling = Telling(here, chat)
    again = follow(there, chat)
    first = telling.end()
    assert text_of(again) == text_of(first) == "".join(WORDS)
    assert [again[0], again[-1]] == [first[0], first[-1]]
    assert len([name for name, _ in again if name == "delta"]) > 1
    assert there.get(f"/v1/chats/{chat}/stream").status_code == 204
    assert len(model.requests) == 1


def test_nothing_is_told_of_chats_that_are_not_there_or_anothers(instances: list[App], model: ModelServer) -> None:
    model.default = Reply(words=WORDS, pace=0.02)
    ada, bob = sign_in(instances[0], "ada"), sign_in(instances[1], "bob")
    chat = ada.new_chat()
    telling = Telling(ada, chat)
    for name in ("chat", "chats"):
        for other in (chat, "nowhere"):
            assert bob.get(f"/v1/{name}/{other}/stream").status_code == 204
            assert bob.post(f"/v1/{name}/{other}/stop").status_code == 204
        assert bob.get(f"/v1/{name}/__a__/stream").status_code == 400
    assert telling.end()[-1][0] == "done"


def test_an_answer_is_stopped_from_another_instance_kept_and_paid(instances: list[App], model: ModelServer) -> None:
    model.default = Reply(words=["word "] * 2000, pace=0.02, usage=None)
    here, there = (sign_in(app, "ada") for app in instances)
    chat = here.new_chat()
    telling = Telling(here, chat)
    stopping = there.post(f"/v1/chat/{chat}/stop")
    assert stopping.status_code == 202
    first = telling.end()
    assert stopping.get_json() == {"request_id": first[0][1]["request_id"]}
    name, done = first[-1]
    assert (name, done["message"]["status"]) == ("done", "incomplete")
    assert here.get(f"/v1/chats/{chat}").get_json()["messages"][1]["text"] == text_of(first)
    spent = here.get("/v1/usage").get_json()
    assert (spent["reserved_micro_usd"], spent["cost_micro_usd"]) == (0, done["usage"]["cost_micro_usd"])
    assert spent["cost_micro_usd"] > 0
    assert there.post(f"/v1/chat/{chat}/stop").status_code == 204


def test_a_stop_reaches_an_answer_whose_model_has_not_said_anything_yet(
    instances: list[App], model: ModelServer
) -> None:
    model.default = Reply(pace=30)
    here, there = (sign_in(app, "ada") for app in instances)
    chat = here.new_chat()
    telling = Telling(here, chat)
    assert there.post(f"/v1/chats/{chat}/stop").status_code == 202
    assert telling.end()[-1][0] == "done"
    assert [m["role"] for m in here.get(f"/v1/chats/{chat}").get_json()["messages"]] == ["user"]
    give_up = time.monotonic() + 20
    while not model.hung_up and time.monotonic() < give_up:
        time.sleep(0.01)
    assert model.hung_up == 1


def test_a_follower_of_an_answer_that_is_stopped_before_its_first_word_is_told_its_end(
    instances: list[App], model: ModelServer
) -> None:
    model.default = Reply(pace=30)
    here, there = (sign_in(app, "ada") for app in instances)
    chat = here.new_chat()
    telling = Telling(here, chat)
    response = events(there.get(f"/v1/chats/{chat}/stream"))
    assert next(response)[0] == "start"
    there.post(f"/v1/chats/{chat}/stop")
    (name, done) = list(response)[-1]
    assert (name, done["message"]["status"], done["message"]["text"]) == ("done", "incomplete", "")
    assert done["usage"] == telling.end()[-1][1]["usage"]


def test_a_follower_of_an_answer_that_fails_is_told_the_same_error(instances: list[App], model: ModelServer) -> None:
    for reply in (Reply(words=WORDS, pace=0.02, error_after=30), Fault(400, wait=0.6)):
        model.script = [reply]
        here, there = (sign_in(app, "ada") for app in instances)
        chat = here.new_chat()
        telling = Telling(here, chat)
        again = follow(there, chat)
        first = telling.end()
        assert text_of(again) == text_of(first)
        assert again[-1] == first[-1]
        assert again[-1][0] == "error"


def test_an_answer_sent_again_after_a_stop_is_not_stopped_by_it(instances: list[App], model: ModelServer) -> None:
    model.script = [Reply(words=["word "] * 2000, pace=0.02)]
    here, there = (sign_in(app, "ada") for app in instances)
    chat = here.new_chat()
    body = {"id": chat, "message": {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Talk"}]}}
    done = threading.Thread(target=lambda: here.post("/v1/chat", body).get_data())
    done.start()
    while there.post(f"/v1/chat/{chat}/stop").status_code != 202:
        time.sleep(0.01)
    done.join(30)
    model.default = Reply(words=WORDS, pace=0.01)
    assert here.post("/v1/chat", body).get_data(as_text=True).count("text-delta") > 10
    assert there.get(f"/v1/chats/{chat}").get_json()["messages"][1]["text"] == "".join(WORDS)


def test_sources_and_tools_are_told_again_in_their_places(make_app: MakeApp) -> None:
    def answer(turn: Any) -> Iterator[Chunk]:
        yield Chunk("One ")
        yield Chunk(source=Source("s1", "Rivers"))
        yield ToolChunk(tool=ToolUse("t1", "add", {"values": [[1], [2]]}))
        for _ in range(20):
            time.sleep(0.02)
            yield Chunk("two ")
        yield ToolChunk(tool=ToolUse("t1", "add", {"values": [[1], [2]]}, 3, done=True))
        for _ in range(20):
            time.sleep(0.02)
            yield Chunk("three ")
        yield Chunk(source=Source("s2", "Atlas", url="https://example.com"))

    here, there = (sign_in(make_app(FAST, answer=answer), "ada") for _ in range(2))
    chat = here.new_chat()
    telling = Telling(here, chat)
    again, first = follow(there, chat), telling.end()

    def shape(seen: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        found: list[Any] = []
        for name, data in seen[1:-1]:
            if name == "delta" and found and found[-1][0] == "delta":
                found[-1] = ("delta", found[-1][1] + data["text"])
            else:
                found.append((name, data["text"] if name == "delta" else data))
        return found

    told_last = ("source", {"id": "s2", "title": "Atlas", "url": "https://example.com", "media_type": "text/plain"})
    assert shape(first)[-1] == told_last
    assert [item for item in shape(again) if item[0] != "delta"] == [i for i in shape(first) if i[0] != "delta"]
    assert shape(again)[:3] == shape(first)[:3]
    assert text_of(again) == text_of(first)
    assert again[-1] == first[-1]


def test_a_follower_ends_with_its_process_and_can_go_on_elsewhere(instances: list[App], model: ModelServer) -> None:
    model.default = Reply(words=WORDS[:4] * 30, pace=0.2)
    here, there = (sign_in(app, "ada") for app in instances)
    chat = here.new_chat()
    telling = Telling(here, chat)
    response = events(there.get(f"/v1/chats/{chat}/stream"))
    assert next(response)[0] == "start"
    instances[1].shutdown.begin()
    assert list(response)[-1][1]["error"]["code"] == "interrupted"
    elsewhere = events(here.get(f"/v1/chats/{chat}/stream"))
    assert next(elsewhere)[0] == "start"
    assert here.post(f"/v1/chats/{chat}/stop").status_code == 202
    assert list(elsewhere)[-1] == telling.end()[-1]


def test_it_is_the_same_on_firestore(
    make_app: MakeApp,
    model: ModelServer,
    firestore_emulator: Emulator,
    firestore_project: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)  # Google's client reads it itself
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url, "FIRELAUNCH_MODE": "emulators"}
    environ |= {"FIRESTORE_EMULATOR_HOST": firestore_emulator.host, "GOOGLE_CLOUD_PROJECT": firestore_project}
    here, there = (sign_in(make_app(FAST, **environ), "ada") for _ in range(2))
    model.default = Reply(words=WORDS, pace=0.03)
    chat = here.new_chat()
    telling = Telling(here, chat)
    again, first = follow(there, chat), telling.end()
    assert text_of(again) == text_of(first) == "".join(WORDS)
    assert [again[0], again[-1]] == [first[0], first[-1]]
    model.default = Reply(words=["word "] * 2000, pace=0.02)
    telling = Telling(here, chat)
    assert there.post(f"/v1/chats/{chat}/stop").status_code == 202
    name, done = telling.end()[-1]
    assert (name, done["message"]["status"]) == ("done", "incomplete")
    assert here.get("/v1/usage").get_json()["reserved_micro_usd"] == 0
