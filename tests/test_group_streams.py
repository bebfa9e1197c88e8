"""Streams of groups' chats under gunicorn and its stream loop: whoever is removed is told no more."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firelaunch.testing.models import ModelServer, Reply
from support import Server, User

WORDS = ["word "] * 3000


class Stream:
    """The events of a streamed answer, read by a thread as they come."""

    def __init__(self, user: User, method: str, path: str, body: Any = None) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.ended = False
        self._text_came = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(user, method, path, body))
        self._thread.start()
        assert self._text_came.wait(30)

    def _read(self, user: User, method: str, path: str, body: Any) -> None:
        headers = {**user.headers, "Accept": "text/event-stream"}
        with user.client.stream(method, path, json=body, headers=headers) as answer:
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.seen.append((name, json.loads(line.removeprefix("data: "))))
                    if name == "delta":
                        self._text_came.set()
        self.ended = True

    def last(self) -> tuple[str, Any]:
        self._thread.join(60)
        assert self.ended
        name, data = self.seen[-1]
        return name, data.get("error", {}).get("code")

    @property
    def text(self) -> str:
        return "".join(data["text"] for name, data in self.seen if name == "delta")


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(app_folder: Path, serve: Callable[..., Server], model: ModelServer) -> Server:
    path = app_folder / "firelaunch.toml"
    text = path.read_text().replace("[limits]\n", "[limits]\ncheckpoint_seconds = 0.2\n", 1)
    text = text.replace("[plans.free]\n", "[plans.free]\ngroups = 3\n", 1)
    path.write_text(f'{text}\n[groups]\nchats_paid_by = "group"\nchats_on_erase = "anonymize"\n')
    return serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)


def new_chat(ada: User, **members: User) -> tuple[str, str]:
    """Make a group whose members have the roles that they are given by, and a chat of it."""
    group = ada.call("POST", "/v1/groups", {"name": "Family"}).json()["id"]
    for role, user in members.items():
        code = ada.call("POST", f"/v1/groups/{group}/invites", {"role": role}).json()["invite"]
        assert user.call("POST", f"/v1/groups/{group}/join", {"invite": code}).status_code == 200
    return group, ada.call("POST", "/v1/chats", {"group": group}).json()["id"]


@pytest.mark.parametrize("how", ["removed", "group deleted"])
def test_the_streams_of_a_writer_and_a_follower_who_lose_the_group_end_with_not_found(
    server: Server, model: ModelServer, how: str
) -> None:
    model.default = Reply(words=WORDS, pace=0.02)
    ada, bob, cat = (server.sign_in(uid) for uid in ("ada", "bob", "cat"))
    group, chat = new_chat(ada, editor=bob, viewer=cat)
    writer = Stream(bob, "POST", f"/v1/chats/{chat}/messages", {"text": "Talk", "group": group})
    follower = Stream(cat, "GET", f"/v1/chats/{chat}/stream?group={group}")
    if how == "removed":
        for uid in ("cat", "bob"):
            assert ada.call("DELETE", f"/v1/groups/{group}/members/{uid}").status_code == 204
    else:
        assert ada.call("DELETE", f"/v1/groups/{group}").status_code == 202
    assert writer.last() == follower.last() == ("error", "not_found")
    assert len(writer.text) < len("".join(WORDS))
    if how == "removed":
        _, kept = ada.call("GET", f"/v1/chats/{chat}?group={group}").json()["messages"]
        assert kept["status"] == "incomplete"
        assert kept["text"].startswith(writer.text[:20])
        usage = ada.call("GET", f"/v1/usage?group={group}").json()
        assert (usage["reserved_micro_usd"], usage["cost_micro_usd"]) == (0, kept["usage"]["cost_micro_usd"])


def test_a_removed_followers_stream_ends_and_the_writers_goes_on_to_its_end(server: Server, model: ModelServer) -> None:
    model.default = Reply(words=WORDS[:150], pace=0.02)
    ada, cat = (server.sign_in(uid) for uid in ("ada", "cat"))
    group, chat = new_chat(ada, viewer=cat)
    writer = Stream(ada, "POST", f"/v1/chats/{chat}/messages", {"text": "Talk", "group": group})
    follower = Stream(cat, "GET", f"/v1/chats/{chat}/stream?group={group}")
    assert ada.call("DELETE", f"/v1/groups/{group}/members/cat").status_code == 204
    assert follower.last() == ("error", "not_found")
    assert writer.last() == ("done", None)
    assert writer.text == "".join(WORDS[:150])
    assert len(follower.text) < len(writer.text)
