"""The emulators' ports: those of firebase.json, the usual ones without, and the next free one where it is taken."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from firelaunch_cli.commands.emulators import emulator_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which something listens, with free ones above it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def app_with(repo: Path, settings: Any) -> Path:
    """An app's folder in a repo with this firebase.json."""
    (repo / "firebase.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    folder = repo / "apps" / "demo"
    folder.mkdir(parents=True)
    return folder


def port_after(taken: int) -> int:
    """The first port above ``taken`` on which nothing listens."""
    for port in range(taken + 1, taken + 20):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("all ports are taken")


def test_it_is_that_of_firebase_json_each_time(tmp_path: Path, taken: int) -> None:
    free = port_after(20_000 + os.getpid() % 10_000)  # other tests get their ports of the system, from above these
    folder = app_with(tmp_path, {"emulators": {"auth": {"port": free}}})
    assert [emulator_port("auth", folder) for _ in range(3)] == [free] * 3


def test_the_next_free_one_is_taken_where_something_listens_or_will(tmp_path: Path, taken: int) -> None:
    folder = app_with(tmp_path, {"emulators": {"auth": {"port": taken}}})
    found = emulator_port("auth", folder)
    assert found > taken
    assert emulator_port("auth", folder, without=frozenset({found})) > found


def test_where_all_are_taken_the_setting_that_mends_it_is_named(tmp_path: Path, taken: int) -> None:
    folder = app_with(tmp_path, {"emulators": {"auth": {"port": taken}}})
    with pytest.raises(click.ClickException, match=r'firebase\.json: "emulators": \{"auth": \{"port"'):
        emulator_port("auth", folder, without=frozenset(range(taken, taken + 100)))


@pytest.mark.parametrize(
    "settings",
    ["", "{", "[]", {}, {"emulators": {}}, {"emulators": {"auth": {}}}, {"emulators": {"auth": {"port": "9099"}}}],
)
def test_a_firebase_json_that_names_none_leaves_the_usual_one(tmp_path: Path, settings: Any) -> None:
    folder = app_with(tmp_path, settings)
    assert 9099 <= emulator_port("auth", folder) < 9119
