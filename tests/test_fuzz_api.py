"""The short form of ``make fuzz-api``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from fuzz_api import CONFIG, PLANS, apps, fuzz


@pytest.mark.parametrize("budget", PLANS)
def test_a_served_app_answers_schemathesis_with_nothing_but_what_its_document_tells_of(
    budget: str, tmp_path: Path
) -> None:
    held, said = fuzz(apps(tmp_path)[budget], 6, "--seed", "1")
    assert held, said
    selected, tested = re.search(r"Selected: (\d+)/\d+\s+Tested: (\d+)", said).groups()  # type: ignore[union-attr]
    assert int(selected) == int(tested) > 10, said


def test_every_route_that_says_how_it_may_answer_may_say_that_there_were_too_many_requests() -> None:
    """Each route has a rate, and as many examples as ``make fuzz-api`` is asked for may be more than it allows."""
    operations = tomllib.loads(CONFIG.read_text())["operations"]
    statuses = [each["checks"]["positive_data_acceptance"]["expected-statuses"] for each in operations]
    assert statuses
    assert not [each for each in statuses if 429 not in each]


def test_no_route_is_given_up_for_a_header_that_cannot_be_sent() -> None:
    from fuzz_codes import before_call

    lines = ": still here\n\nevent: message"
    case = SimpleNamespace(headers={"Mcp-Name": lines, "Origin": " x", "Mcp-Method": "tools/call", "Empty": ""})
    before_call(None, case, None)
    assert case.headers == {"Mcp-Method": "tools/call", "Empty": ""}


def test_a_form_is_not_sent_with_what_it_would_carry_as_text() -> None:
    from fuzz_codes import filter_body

    form = SimpleNamespace(operation=SimpleNamespace(body=[SimpleNamespace(media_type="multipart/form-data")]))
    bodies = [{"name": False}, {"name": 1}, {"name": "false"}, {"name": {}}, "no form"]
    assert [filter_body(form, body) for body in bodies] == [False, False, True, True, True]
    json = SimpleNamespace(operation=SimpleNamespace(body=[SimpleNamespace(media_type="application/json")]))
    assert all(filter_body(json, body) for body in bodies)
