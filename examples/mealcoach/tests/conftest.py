"""The app under test: a folder of its own for its data, and no network."""

from pathlib import Path

import pytest
from firelaunch import App
from firelaunch.testing.apps import User, sign_in

from app import create_app

LUNCH = {"name": "Soup", "kcal": 300, "kind": "lunch", "day": "2026-03-02"}


@pytest.fixture
def app(tmp_path: Path) -> App:
    """The app as on a laptop without a key: the offline model answers."""
    return create_app({"FIRELAUNCH_DATA": str(tmp_path)})


@pytest.fixture
def ada(app: App) -> User:
    """A signed-in user."""
    return sign_in(app, "ada")
