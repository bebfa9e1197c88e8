"""The claim that holds a user's roles: what stays, what goes, and what does not fit."""

from __future__ import annotations

import re
from typing import Any

import pytest
from firelaunch.errors import BadRequest
from firelaunch.membership.claims import MAX_BYTES, TooManyApps, check_role, encode, roles, with_role
from hypothesis import given
from hypothesis import strategies as st

APPS = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ROLES = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True)
OTHERS = st.dictionaries(st.sampled_from(["beta", "stripe", "günther"]), st.text(max_size=20) | st.integers())


@given(held=st.dictionaries(APPS, ROLES, max_size=12), others=OTHERS, app=APPS, role=ROLES | st.none())
def test_a_change_in_one_app_changes_that_app_alone(
    held: dict[str, str], others: dict[str, Any], app: str, role: str | None
) -> None:
    changed = with_role({**others, "apps": held}, app, role)
    assert {key: value for key, value in changed.items() if key != "apps"} == others
    expected = {name: value for name, value in held.items() if name != app} | ({app: role} if role else {})
    assert roles(changed) == expected


@given(length=st.integers(1, 20), role=ROLES)
def test_joining_one_app_after_another_ends_in_a_clear_error_before_the_token_is_too_large(
    length: int, role: str
) -> None:
    claims: dict[str, Any] = {}
    refused = None
    for number in range(70):
        try:
            claims = with_role(claims, f"{'a' * length}{number}", f"{role}-longer-than-that"[:32])
        except TooManyApps as error:
            refused = error.message
            break
        assert len(encode(claims)) < MAX_BYTES
    assert re.search(r"belongs to \d+ apps.*less than 1000.*Leave an app", refused or "all of them fitted")
    assert len(roles(claims)) >= 10


def test_whoever_is_over_the_limit_already_may_still_leave_and_take_a_shorter_role() -> None:
    full = {"apps": {"demo": "administrator"}, "other": "x" * 2000}
    assert roles(with_role(full, "demo", None)) == {}
    assert roles(with_role(full, "demo", "member")) == {"demo": "member"}
    with pytest.raises(TooManyApps):
        with_role(full, "next", "member")


@pytest.mark.parametrize(
    "apps", [None, [], "demo", 7, {"demo": None}, {"demo": ["admin"]}, {"demo": "Admin"}, {"demo": ""}]
)
def test_a_claim_of_the_wrong_form_gives_no_role_and_is_mended_by_the_next_change(apps: Any) -> None:
    assert roles({"apps": apps}) == {}
    assert with_role({"apps": apps}, "next", "member") == {"apps": {"next": "member"}}


@pytest.mark.parametrize("role", ["", "Admin", "a b", "x" * 33, "admin\n", "rôle"])
def test_what_rules_would_not_take_for_a_role_is_none(role: str) -> None:
    with pytest.raises(BadRequest):
        check_role(role)
