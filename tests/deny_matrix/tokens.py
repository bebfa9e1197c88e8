"""Who tries: tokens of users with roles, and tokens that should be worth nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["APPS", "PRINCIPAL", "TOKENS", "USERS", "Claims"]

Claims = Mapping[str, Any] | None

APPS = ("alpha", "beta")
USERS = ("ada", "bob")
"""Users who have data in both apps."""


def _tenant(name: str) -> dict[str, Any]:
    return {"firebase": {"sign_in_provider": "password", "identities": {}, "tenant": name}}


_ROLES = {
    "a member of alpha": {"alpha": "member"},
    "an admin of alpha": {"alpha": "admin"},
    "a member of beta": {"beta": "member"},
    "an admin of beta": {"beta": "admin"},
    "an admin of alpha, a member of beta": {"alpha": "admin", "beta": "member"},
    "a member of a third app": {"gamma": "admin"},
    "without the role that was theirs": {},
}

_WORTHLESS: dict[str, dict[str, Any]] = {
    "no apps claim": {},
    "apps is null": {"apps": None},
    "apps is a list": {"apps": ["alpha", "beta"]},
    "apps is a list of pairs": {"apps": [["alpha", "admin"]]},
    "apps is text": {"apps": "alpha"},
    "apps is JSON text": {"apps": '{"alpha": "admin"}'},
    "apps is true": {"apps": True},
    "apps is a number": {"apps": 1},
    "a role is null": {"apps": {"alpha": None, "beta": None}},
    "a role is empty": {"apps": {"alpha": "", "beta": ""}},
    "a role is a number": {"apps": {"alpha": 1, "beta": 0}},
    "a role is true": {"apps": {"alpha": True, "beta": True}},
    "a role is a list": {"apps": {"alpha": ["admin"], "beta": ["member"]}},
    "a role is a map": {"apps": {"alpha": {"role": "admin"}, "beta": {}}},
    "a role is no name": {"apps": {"alpha": "Admin!", "beta": "a member"}},
    "a role is too long": {"apps": {"alpha": "x" * 33, "beta": "x" * 33}},
    "roles of nine hundred characters": {"apps": {"alpha": "a" * 450, "beta": "admin " * 75}},
    "as many other apps as a claim holds": {"apps": {f"app-{number:02}": "admin" for number in range(45)}},
    "apps inside apps": {"apps": {"apps": {"alpha": "admin", "beta": "admin"}}},
    "apps of over-long names": {"apps": {"alpha" * 90: "admin", "beta" + " " * 450: "admin"}},
    "apps of other spelling": {"apps": {"Alpha": "admin", "alpha ": "admin", "apps/beta": "admin", "*": "admin"}},
    "the claim under other names": {"app": "alpha", "role": "admin", "admin": True, "claims": {"apps": {"alpha": "x"}}},
    "the claim inside firebase": {"firebase": {"sign_in_provider": "custom", "apps": {"alpha": "admin"}}},
    "anonymous": {"provider_id": "anonymous", "firebase": {"sign_in_provider": "anonymous", "identities": {}}},
    "of another tenant, with no role": _tenant("other-1"),
    "of another tenant, with a role in a third app": {**_tenant("other-1"), "apps": {"gamma": "admin"}},
}


def _tokens() -> dict[str, Claims]:
    found: dict[str, Claims] = {"nobody": None}
    for uid in (*USERS, "mallory"):
        for name, apps in _ROLES.items():
            found[f"{uid}, {name}"] = {"sub": uid, "apps": apps}
    for name, claims in _WORTHLESS.items():
        found[f"ada, {name}"] = {"sub": "ada", **claims}
    for uid in ("Ada", "ada ", "ada/chats", "apps/alpha/users/ada", "*", "\u0430da", "ada" * 50):
        found[f"the uid {uid[:24]!a}, a member of both"] = {"sub": uid, "apps": {"alpha": "member", "beta": "member"}}
    # Rules do not look at the tenant: a role that was given to a tenant's user is that user's.
    found["ada, of a tenant, a member of alpha"] = {"sub": "ada", "apps": {"alpha": "member"}, **_tenant("own-1")}
    return found


TOKENS: Mapping[str, Claims] = _tokens()
"""By what they are. The emulator takes a token past its ``exp``, so that one is Firestore's own to refuse."""

PRINCIPAL = (
    "nobody",
    "ada, a member of alpha",
    "ada, a member of beta",
    "ada, without the role that was theirs",
    "bob, an admin of alpha",
    "mallory, an admin of alpha, a member of beta",
)
"""Those that try everything: no token, another app, another user, another role, no role any more."""
