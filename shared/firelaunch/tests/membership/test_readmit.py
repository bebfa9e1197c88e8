"""The operator's way to lift a removal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from firelaunch.membership.removals import Removals
from firelaunch.services.build import build_store
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import write_app
from firelaunch_cli.commands.readmit import command


def test_readmit_lifts_a_removal_and_says_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = build_store(Settings.load(write_app(tmp_path), {}))
    removals = Removals(store, "demo", lambda: datetime.now(UTC))
    removals.add("google|123", "root", None)
    done = [CliRunner().invoke(command, [".", "google|123"]) for _ in range(2)]
    assert [each.exit_code for each in done] == [0, 1], [each.output for each in done]
    assert "may join demo" in done[0].output
    assert "was not removed" in done[1].output
    assert not removals.hold("google|123")
    assert CliRunner().invoke(command, [".", "a/b"]).exit_code == 2
    store.close()
