"""Names that version 0.1 documented are found where they are now, with a warning that names the mend."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import firelaunch
import pytest

NAMES = [
    ("firelaunch.web", "App", "firelaunch.server.app", "App"),
    ("firelaunch.web", "init_app", "firelaunch.server.app", "init_app"),
    ("firelaunch.wiring", "build", "firelaunch.services.build", "build"),
    ("firelaunch.turn", "Turn", "firelaunch.turns.turn", "Turn"),
    ("firelaunch.llm.base", "Chunk", "firelaunch.llm.types", "Chunk"),
    ("firelaunch.guardrails", "checked", "firelaunch.turns.guardrails", "checked"),
    ("firelaunch.notify", "Notify", "firelaunch.worker.tasks.notify", "Notify"),
    ("firelaunch.settings", "Settings", "firelaunch.settings.app", "Settings"),
    ("firelaunch.worker", "Done", "firelaunch.worker", "JobDone"),
    ("firelaunch.worker", "Run", "firelaunch.worker", "JobRun"),
    ("firelaunch.rag.parse", "Limits", "firelaunch.rag.parse", "ParseLimits"),
]


@pytest.mark.parametrize(("module", "name", "home", "now"), NAMES, ids=[f"{old[0]}.{old[1]}" for old in NAMES])
def test_a_former_name_leads_to_what_it_is_now_and_warns(module: str, name: str, home: str, now: str) -> None:
    sys.modules.pop(module, None) if module in firelaunch._MOVED else None
    with pytest.warns(FutureWarning, match="firelaunch upgrade"):
        former = getattr(importlib.import_module(module), name)
    assert former is getattr(importlib.import_module(home), now)


def test_a_deprecated_name_warns_for_a_whole_version_before_the_one_in_which_it_goes() -> None:
    sys.modules.pop("firelaunch.web", None)
    with pytest.warns(FutureWarning, match=r"goes with version (\d+\.\d+)") as told:
        importlib.import_module("firelaunch.web")
    gone = re.search(r"goes with version (\d+)\.(\d+)", str(told[0].message))
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    now = tuple(int(part) for part in project["version"].split(".")[:2])
    assert gone is not None
    assert now < (int(gone[1]), int(gone[2])), "its version has come: take the former names out"


def test_gunicorn_takes_its_settings_under_their_former_name() -> None:
    code = "import firelaunch.serving as settings; print(settings.worker_class, settings.threads)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["firelaunch.server.gunicorn_worker.Worker", "84"]
    assert "firelaunch.server.gunicorn_config now" in done.stderr


def test_importing_firelaunch_alone_imports_nothing_of_the_app() -> None:
    code = "import sys, firelaunch; print(*sorted(name for name in sys.modules if name.startswith('firelaunch.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    for module in ("firelaunch", "firelaunch.settings", "firelaunch.worker"):
        with pytest.raises(AttributeError, match="nothing_like_it"):
            getattr(importlib.import_module(module), "nothing_like_it")  # noqa: B009 - it is what is tried
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("firelaunch.nothing_like_it")
