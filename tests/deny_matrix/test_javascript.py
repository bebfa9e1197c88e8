"""A part of the JavaScript SDK's slice, and proof that it would see a leak and tells when it cannot be had."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from firelaunch.testing.emulator import Emulator
from support import ROOT

from deny_matrix.attempts import for_javascript
from deny_matrix.javascript import _SOURCE, NoJavaScript, install, run_javascript
from deny_matrix.tokens import TOKENS

RULES = (ROOT / "firestore.rules").read_text()
NAMES = {attempt.operation.name for attempt in for_javascript()}


@pytest.fixture(scope="module")
def sdk() -> Path:
    try:
        return install()
    except NoJavaScript as error:
        pytest.skip(f"no JavaScript SDK: {error}")


def test_the_rules_answer_the_javascript_sdk_as_the_table_says(firestore_emulator: Emulator, sdk: Path) -> None:
    sample = for_javascript()[::5]

    report = run_javascript(firestore_emulator, RULES, sample, sdk)

    assert report.holds, report.as_json()["examples"]
    assert report.allowed > 10
    assert report.allowed + report.denied == len(sample)


def test_rules_that_are_open_show_as_leaks_by_every_operation_of_the_sdk(
    firestore_emulator: Emulator, sdk: Path
) -> None:
    """So that no operation is one that fails whatever the rules say."""
    stranger = [a for a in for_javascript() if a.token == "nobody" and not a.allowed]
    one_each = list({a.operation.name: a for a in stranger}.values())
    opened = RULES.replace("if isMember(app)", "if true").replace(
        "match /apps/{app} {", f"{OPEN} match /apps/{{app}} {{"
    )

    report = run_javascript(firestore_emulator, opened, one_each, sdk)

    assert len(report.leaks) == len(one_each) == len(NAMES), (report.refused, report.unclear)


OPEN = "match /{anything=**} { allow read, write: if true; }"


def test_a_weakened_rule_shows_to_a_listener_of_the_sdk(firestore_emulator: Emulator, sdk: Path) -> None:
    weak = RULES.replace("&& request.auth.uid == uid", "")
    aimed = [a for a in for_javascript() if a.token.startswith("bob, an admin of alpha") and "listen" in str(a)]

    leaks = run_javascript(firestore_emulator, weak, aimed, sdk).leaks

    assert any("listen to a document" in leak for leak in leaks)
    assert any("listen to a query" in leak for leak in leaks)


def test_the_slice_has_every_token_and_listeners_queries_groups_counts_batches_and_transactions() -> None:
    assert {attempt.token for attempt in for_javascript()} == set(TOKENS)
    assert len(set(for_javascript())) == len(for_javascript()) >= 1000
    assert {
        "listen to a document",
        "listen to a query",
        "listen to a group",
        "list",
        "query",
        "query the group",
        "count",
        "count the group",
        "rename in a batch",
        "rename in a transaction",
        "get in a transaction",
    } <= NAMES


def test_the_lock_names_no_host_of_a_registry_and_a_checksum_for_each_package() -> None:
    lock = json.loads((_SOURCE / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")


def test_where_node_is_not_there_the_slice_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoJavaScript, match="no Node: install Node 20 or newer"):
        install(cache=tmp_path / "cache")


def programs(folder: Path, **scripts: str) -> str:
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_an_npm_that_fails_is_told_with_what_it_said_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path, node="echo v20.0.0", npm="echo ENOTFOUND no network >&2; exit 1"))
    for _ in range(2):
        with pytest.raises(NoJavaScript, match=r"npm ci failed.*network.*\n.*ENOTFOUND"):
            install(cache=tmp_path / "cache")


def test_what_is_installed_is_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", programs(tmp_path, node="echo v20.0.0", npm=f"echo x >> {calls}"))
    announced: list[int] = []
    folders = {install(lambda: announced.append(1), cache=tmp_path / "cache") for _ in range(3)}
    assert len(folders) == 1
    assert calls.read_text() == "x\n"
    assert announced == [1]


def test_a_node_that_is_too_old_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path, node="echo v18.1.0", npm="exit 0"))
    with pytest.raises(NoJavaScript, match=r"Node v18\.1\.0: install Node 20"):
        install(cache=tmp_path / "cache")
