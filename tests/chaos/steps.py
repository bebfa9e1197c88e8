"""kill -9 before and after each step of one user's work, which its client asks for again until it is done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from .world import Outcome, Provider, World, app_in

__all__ = ["killed_in"]

_MOST_STEPS = 40
_PATIENCE = 60.0
_SECRET = "kraken"


class _Client:
    """A user who asks again until an answer comes."""

    def __init__(self, world: World, uid: str) -> None:
        self.uid = uid
        self._http = httpx.Client(base_url=world.url, timeout=30, trust_env=False)
        self._headers: dict[str, str] = {}
        self.waited = 0.0

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, ends: Callable[[httpx.Response], bool], **more: Any) -> httpx.Response:
        """Ask until ``ends`` is true of the answer."""
        give_up, failed = time.monotonic() + _PATIENCE, 0.0
        headers = more.pop("headers", {})
        while True:
            answer: httpx.Response | None = None
            with suppress(httpx.TransportError):
                if not self._headers and path != "/dev/token":
                    token = self._http.post("/dev/token", json={"uid": self.uid}).json()["token"]
                    self._headers = {"Authorization": f"Bearer {token}"}
                answer = self._http.request(method, path, headers={**self._headers, **headers}, **more)
            if answer is not None and ends(answer):
                self.waited = max(self.waited, time.monotonic() - failed if failed else 0.0)
                return answer
            failed = failed or time.monotonic()
            if time.monotonic() > give_up:
                raise TimeoutError(f"{method} {path}: {'no answer' if answer is None else answer.text[:300]}")
            time.sleep(0.05)


def killed_in(kind: str, folder: Path, provider: Provider) -> Outcome:
    """Kill the worker at every step of ``kind``: a turn, an upload with its ingestion, a job, or an erasure."""
    outcome = Outcome(f"kill -9 in each step of {'an' if kind[0] in 'aeiou' else 'a'} {kind}", recovered_s=0.0)
    step = folder / "step"
    world = World(app_in(folder / "app"), provider, CHAOS_STEP=str(step))
    world.start()
    try:
        for number in range(1, _MOST_STEPS):
            killed = [_once(kind, number, when, world, step, outcome) for when in ("before", "after")]
            if not any(killed):
                break
        else:
            outcome.examples.append(f"there were more than {_MOST_STEPS} steps")
            outcome.lost += 1
        _compare(world, outcome)
    finally:
        world.stop()
    return outcome


def _once(kind: str, number: int, when: str, world: World, step: Path, outcome: Outcome) -> bool:
    prepare, work, check = _KINDS[kind]
    with _Client(world, f"{kind}-{number}-{when}") as client:
        prepared = prepare(client)
        told = step.with_suffix(".next")
        told.write_text(f"{number} {when}")
        told.rename(step)
        try:
            done = work(client, prepared)
            killed = not step.exists()
            step.unlink(missing_ok=True)
            for problem in check(client, prepared, done, world):
                outcome.lost += 1
                outcome.examples.append(f"{number} {when}: {problem}")
        except TimeoutError as error:
            step.unlink(missing_ok=True)
            outcome.recovered_s = None
            outcome.examples.append(f"{number} {when}: {error}")
            return False
    outcome.restarts += killed
    outcome.longest_s = max(outcome.longest_s, round(client.waited, 1))
    if outcome.recovered_s is not None:
        outcome.recovered_s = max(outcome.recovered_s, round(client.waited, 1))
    return killed


def _compare(world: World, outcome: Outcome) -> None:
    give_up = time.monotonic() + 40
    days, calls, count, reserved = world.books()
    while reserved and time.monotonic() < give_up:
        time.sleep(0.5)
        days, calls, count, reserved = world.books()
    outcome.wrong_books += reserved + max(0, count - world.provider.calls)
    outcome.wrong_books += sum(abs(days.get(uid, 0) - calls.get(uid, 0)) for uid in {*days, *calls})


def _status(*wanted: int) -> Callable[[httpx.Response], bool]:
    return lambda answer: answer.status_code in wanted


def _with_chat(client: _Client) -> str:
    chat: str = client.ask("POST", "/v1/chats", _status(201), json={}).json()["id"]
    return chat


def _turn(client: _Client, chat: str) -> Any:
    path, key = f"/v1/chats/{chat}/messages", {"Idempotency-Key": f"key-{client.uid}"}
    return client.ask("POST", path, _status(200), json={"text": "hello"}, headers=key).json()


def _turn_is_there_once(client: _Client, chat: str, done: Any, _: World) -> list[str]:
    texts = [m["text"] for m in client.ask("GET", f"/v1/chats/{chat}", _status(200)).json()["messages"]]
    answer = done.get("message", done)["text"]
    return [] if texts == ["hello", answer] else [f"the chat has {texts}"]


def _nothing(_: _Client) -> str:
    return ""


def _put(client: _Client, _: str) -> Any:
    files = {"file": ("note.md", f"# Note\n\n{_SECRET} of {client.uid}.\n".encode())}
    document = client.ask("POST", "/v1/uploads", lambda a: a.status_code < 300, files=files).json()["id"]
    ready = client.ask("GET", f"/v1/documents/{document}", lambda a: a.json().get("status") in {"ready", "failed"})
    return ready.json()


def _document_is_found_once(client: _Client, _: str, done: Any, __: World) -> list[str]:
    problems = [] if done["status"] == "ready" else [f"the document is {done}"]
    listed = client.ask("GET", "/v1/documents", _status(200)).json()["items"]
    if len(listed) != 1:
        problems.append(f"{len(listed)} documents are listed")
    found = client.ask("POST", "/v1/search", _status(200), json={"query": _SECRET}).json()
    passages = found.get("passages", found.get("items", []))
    if len(passages) != 1:
        problems.append(f"{len(passages)} passages are found")
    return problems


def _with_messages(client: _Client) -> str:
    chat = _with_chat(client)
    _turn(client, chat)
    return chat


def _export(client: _Client, _: str) -> Any:
    job = client.ask("POST", "/v1/me/exports", lambda a: a.status_code < 300).json()["id"]
    path = f"/v1/me/exports/{job}"
    return client.ask("GET", path, lambda a: a.json().get("state") in {"succeeded", "failed", "cancelled"}).json()


def _export_has_all(client: _Client, _: str, done: Any, __: World) -> list[str]:
    if done["state"] != "succeeded":
        return [f"the export is {done}"]
    return []


def _with_everything(client: _Client) -> str:
    _put(client, "")
    return _with_messages(client)


def _erased(client: _Client, _: str) -> Any:
    client.ask("DELETE", "/v1/me", lambda a: a.status_code < 300 or a.status_code in {401, 404})
    return None


def _nothing_is_left(client: _Client, chat: str, _: Any, world: World) -> list[str]:
    data = world.app / ".firelaunch"
    give_up = time.monotonic() + _PATIENCE
    needle = f"{_SECRET} of {client.uid}.".encode()
    while time.monotonic() < give_up:
        left = _holding(data, needle)
        if not left:
            return []
        time.sleep(0.2)
    return [f"{client.uid}'s words are still in {[path.name for path in left]} (chat {chat})"]


def _holding(folder: Path, needle: bytes) -> list[Path]:
    """Return the files that hold ``needle``. Files and folders may go while it looks."""
    found = []
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            with suppress(FileNotFoundError):
                if path.is_file() and needle in path.read_bytes():
                    found.append(path)
    return found


_KINDS: dict[str, tuple[Callable[[_Client], str], Callable[[_Client, str], Any], Callable[..., list[str]]]] = {
    "turn": (_with_chat, _turn, _turn_is_there_once),
    "upload": (_nothing, _put, _document_is_found_once),
    "job": (_with_messages, _export, _export_has_all),
    "erasure": (_with_everything, _erased, _nothing_is_left),
}
