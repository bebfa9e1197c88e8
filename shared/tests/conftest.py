"""What the tests of firelaunch share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firelaunch.llm.base import Chunk
from firelaunch.settings import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.models import ModelServer
from firelaunch.turn import Turn
from firelaunch.web import App, init_app
from firelaunch.wiring import build


def workflow(turn: Turn) -> Iterator[Chunk]:
    system = turn.prompt("chat", app_name=turn.app.name)
    messages: list[Any] = [{"role": "system", "content": system}, *turn.history, {"role": "user", "content": turn.text}]
    yield from turn.llm.stream(messages)


MakeApp = Callable[..., App]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Makes an app in a folder of the test; ``app.services`` is what it works with."""
    made: list[App] = []

    def make(settings: str = SETTINGS, *, answer: Any = workflow, **environ: str) -> App:
        path = write_app(tmp_path / "app", settings)
        services = build(Settings.load(path, environ))
        app = App("test")
        app.services = services  # type: ignore[attr-defined]
        init_app(app, services, answer)
        made.append(app)
        return app

    yield make
    for app in made:
        app.services.store.close()  # type: ignore[attr-defined]


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A model server on a real socket."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def model_app(make_app: MakeApp, model: ModelServer) -> App:
    """An app whose model is the model server."""
    return make_app(OPENAI_API_KEY="test-key", OPENAI_BASE_URL=model.base_url)
