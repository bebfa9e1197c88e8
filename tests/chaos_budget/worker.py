"""The app of the processes that are killed. Where its settings are is in the environment variable CHAOS."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from firelaunch.llm.types import Chunk
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.turns.turn import Turn

__all__ = ["create_app"]


def create_app() -> App:
    """The app of one gunicorn worker. Some messages take a step more than was reserved for their turn."""
    known = json.loads(os.environ["CHAOS"])
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": known["models"]}
    app = App("chaos")
    init_app(app, build(Settings.load(Path(known["settings"]), environ)), _workflow)
    return app


def _workflow(turn: Turn) -> Iterator[Chunk]:
    if turn.text.endswith("twice"):
        turn.llm.complete([{"role": "user", "content": turn.text}], purpose="first")
    yield from turn.llm.stream([{"role": "user", "content": turn.text}])
