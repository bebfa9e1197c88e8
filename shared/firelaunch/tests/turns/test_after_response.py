"""Cloud Run takes the CPU away when a response ends: what follows is by then with Cloud Tasks, and nothing works on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.cloud_tasks import CloudTasksServer
from fakes.jobs import ACCOUNT, QUEUE
from firelaunch.jobs.cloud_tasks import CloudTasksBackend
from firelaunch.llm.types import Chunk, ModelCall, TokenCounts
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, User, events, sign_in, write_app
from firelaunch.testing.certificates import CertificateServer

IDLE = {"wait", "select", "get", "_worker"}
"""Functions in which a thread waits for work."""


class Model:
    """A provider that answers with a word."""

    name = "openai"

    def complete(self, call: ModelCall) -> Chunk:  # noqa: ARG002 - as providers have it
        return Chunk("Well.", TokenCounts(input=10, output=2), "stop")

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        yield self.complete(call)


@pytest.fixture
def google() -> Iterator[CloudTasksServer]:
    with CertificateServer() as certificates, CloudTasksServer(QUEUE, certificates=certificates) as server:
        yield server


@pytest.fixture
def ada(tmp_path: Path, google: CloudTasksServer) -> User:
    """A user of an app whose answers are followed by jobs, and whose way to Cloud Tasks is slow."""

    def channel() -> Any:
        time.sleep(0.3)
        return google.channel()

    text = SETTINGS + "\n[after_turn]\ntitles = true\nsummaries = true\nmemory = true\n"
    settings = Settings.load(write_app(tmp_path, text), {"OPENAI_API_KEY": "k"})
    backend = CloudTasksBackend("demo", QUEUE, "http://127.0.0.1:9", ACCOUNT, channel=channel)
    app = App("test")

    def answer(turn: Any) -> Iterator[Chunk]:
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])

    init_app(app, build(settings, provider=Model(), backend=backend), answer)
    return sign_in(app, "ada")


def at_work(before: set[threading.Thread]) -> dict[str, str]:
    """The threads that came since and do something, by their names: in which function."""
    frames = sys._current_frames()
    there = [thread for thread in threading.enumerate() if thread not in before and "cloud-tasks" not in thread.name]
    doing = {each.name: frames[each.ident].f_code.co_name for each in there if each.ident in frames}
    return {name: function for name, function in doing.items() if function not in IDLE}


def kinds(google: CloudTasksServer) -> list[str]:
    return sorted(task.http_request.url.rpartition("/")[2] for task in google.tasks.values())


def test_what_follows_an_answer_is_with_cloud_tasks_when_its_response_ends(ada: User, google: CloudTasksServer) -> None:
    before = set(threading.enumerate())
    assert ada.send(ada.new_chat(), "Hello").status_code == 200
    assert kinds(google) == ["memory", "title"]
    assert at_work(before) == {}


def test_a_streams_last_event_waits_for_nothing_and_its_end_for_cloud_tasks(
    ada: User, google: CloudTasksServer
) -> None:
    before = set(threading.enumerate())
    there = {}
    for name, _ in events(ada.stream(ada.new_chat(), "Hello")):
        there[name] = kinds(google)
    assert there["done"] == []
    assert kinds(google) == ["memory", "title"]
    assert at_work(before) == {}
