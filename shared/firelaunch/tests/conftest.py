"""What the tests of firelaunch share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from firelaunch.llm.types import Chunk
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.documented import Documented, watch
from firelaunch.testing.models import ModelServer
from firelaunch.turns.turn import Turn


def workflow(turn: Turn) -> Iterator[Chunk]:
    system = turn.prompt("chat", app_name=turn.app.name)
    messages: list[Any] = [{"role": "system", "content": system}, *turn.history, {"role": "user", "content": turn.text}]
    yield from turn.llm.stream(messages)


MakeApp = Callable[..., App]
Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Documented:
    """The OpenAPI document of an app in embedded mode that has all that an app may have."""
    app = App("documented")
    services = build(Settings.load(write_app(tmp_path_factory.mktemp("documented"), SETTINGS + "groups = 1\n"), {}))
    init_app(app, services, workflow)
    return Documented(app.test_client().get("/openapi.json?admins=true").get_json())


@pytest.fixture
def make_app(tmp_path: Path, documented: Documented) -> Iterator[MakeApp]:
    """Makes an app in a folder of the test; ``app.services`` is what it works with.

    Whatever a test asks the app, an answer that is not as the OpenAPI document says fails the test.
    """
    made: list[App] = []
    problems: list[list[str]] = []

    def make(
        settings: str = SETTINGS, *, answer: Any = workflow, clock: Clock = _now, collections: Any = (), **environ: str
    ) -> App:
        path = write_app(tmp_path / "app", settings)
        services = build(Settings.load(path, environ), clock)
        app = App("test", collections=collections)
        app.services = services  # type: ignore[attr-defined]
        init_app(app, services, answer)
        problems.append(watch(app, documented))
        made.append(app)
        return app

    yield make
    for app in made:
        app.services.store.close()  # type: ignore[attr-defined]
    assert [problem for found in problems for problem in found] == []


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A model server on a real socket."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def model_app(make_app: MakeApp, model: ModelServer) -> App:
    """An app whose model is the model server."""
    return make_app(OPENAI_API_KEY="test-key", OPENAI_BASE_URL=model.base_url)
