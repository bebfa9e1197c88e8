"""The ways that users go most, through the web client in Chromium. ``make test-web`` goes all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser import BROWSER, NO_BROWSER
from javascript import NoJavaScript

from .__main__ import run
from .site import build_site
from .unit_tests import unit_tests

WAYS = ("sign in, ask", "little is loaded", "tools:", "buy a plan", "another user")


@pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)
def test_users_sign_in_chat_allow_tools_buy_a_plan_and_delete_their_accounts_on_pages_that_axe_finds_nothing_wrong_with(
    tmp_path: Path,
) -> None:
    report = tmp_path / "web.json"
    try:
        run(short=True, only="|".join(WAYS), report=report)
    except NoJavaScript as error:
        pytest.skip(f"no web client: {error}")
    found = json.loads(report.read_text())
    assert found["failures"] == []
    assert found["violations"] == []
    assert found["scenarios"] == len(WAYS), "each name stands for one scenario"


def test_figures_and_times_are_told_as_the_reader_would_tell_them() -> None:
    try:
        site = build_site().parent
    except NoJavaScript as error:
        pytest.skip(f"no web client: {error}")
    unit_tests(site)
