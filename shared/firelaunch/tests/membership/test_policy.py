"""The policy on who may join says no where it is unclear, and takes no role away."""

from __future__ import annotations

from typing import Any

import pytest
from firelaunch.errors import Forbidden
from firelaunch.membership.policy import ROLES, Policy
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.none()
            | st.integers()
            | st.text(max_size=8)
            | st.lists(st.text(max_size=8) | st.integers() | st.none())
            for name in ("join", "domains", "tenant", "roles")
        },
    )
)
def test_whatever_an_apps_document_holds_gives_a_policy_that_stays_the_same_when_stored(data: Any) -> None:
    policy = Policy.of(data)
    assert policy.join == (data.get("join") if data.get("join") in ("open", "domain") else "invite")
    named = data.get("domains") if isinstance(data.get("domains"), list) else []
    assert policy.domains == tuple(each.lower() for each in named if isinstance(each, str) and each)
    tenant = data.get("tenant")
    assert policy.tenant == (tenant if isinstance(tenant, str) and tenant else None)
    roles = data.get("roles")
    valid = isinstance(roles, list) and all(isinstance(role, str) for role in roles)
    assert policy.roles == (tuple(roles) if valid else ROLES)
    assert Policy.of(policy.data()) == policy


@pytest.mark.parametrize(
    ("roles", "held", "offered", "has"),
    [
        (ROLES, None, "viewer", "viewer"),
        (ROLES, "viewer", "editor", "editor"),
        (ROLES, "editor", "viewer", "editor"),
        (ROLES, "member", "coach", "member"),
        (ROLES, "coach", "editor", "coach"),
        (ROLES, "coach", "admin", "admin"),
        (("a", "b"), "member", "a", "a"),
        (("a", "b"), "member", "coach", "coach"),
        (("a", "b"), "a", "member", "a"),
        (("a", "b"), "a", "coach", "a"),
        (("a", "b"), "admin", "b", "admin"),
        (("admin", "b"), "admin", "b", "admin"),
        (("admin", "b"), "b", "admin", "admin"),
    ],
)
def test_a_user_gets_what_is_offered_if_it_is_higher_and_keeps_theirs_if_the_two_cannot_be_compared(
    roles: tuple[str, ...], held: str | None, offered: str, has: str
) -> None:
    assert Policy(roles=roles).better(held, offered) == has


OF_DOMAINS = Policy("domain", ("example.com",))


@pytest.mark.parametrize("email", ["ada@example.com", "ada@Example.COM", '"a@b"@example.com'])
def test_a_verified_address_of_a_domain_joins(email: str) -> None:
    OF_DOMAINS.check(email, verified=True)
    with pytest.raises(Forbidden, match="verify yours first"):
        OF_DOMAINS.check(email, verified=False)


@pytest.mark.parametrize("email", ["ada@other.com", "ada@example.com@other.com", "ada@sub.example.com", ""])
def test_no_other_address_joins(email: str) -> None:
    with pytest.raises(Forbidden, match="domain"):
        OF_DOMAINS.check(email, verified=True)
    with pytest.raises(Forbidden):
        OF_DOMAINS.check(None, verified=True)


def test_an_open_app_takes_everybody_and_one_by_invitation_nobody_without() -> None:
    Policy("open").check(None, verified=False)
    with pytest.raises(Forbidden, match="by invitation"):
        Policy("invite", ("example.com",)).check("ada@example.com", verified=True)


@pytest.mark.parametrize("join", ["open", "domain", "invite"])
def test_a_policy_is_what_its_document_says(join: Any) -> None:
    policy = Policy(join, ("example.com",), "tenant-1", ("a", "b"))
    assert Policy.of(policy.data()) == policy
    assert Policy.of({"roles": ["a", 5]}).roles == ROLES
    assert Policy.of({"domains": ["Example.COM", 5, None, ""]}).domains == ("example.com",)
