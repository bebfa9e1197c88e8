"""The one table of what clients may do. Whatever it does not name must be denied; what it names must be allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from firelaunch.store.reserved_paths import SAMPLE, SAMPLE_GROUP, built

__all__ = ["ALLOWED", "GROUPS", "MODEL", "OWN", "UNNAMED", "Right", "allows", "role_in"]

Right = Literal["get", "list", "group", "create", "rename", "change", "delete"]
"""What an operation asks for. ``rename`` sets a valid ``title`` or ``archived``, ``change`` is every other update."""

Who = Literal["member", "self"]
"""``member`` has a role in the app of the path; ``self`` is moreover the user of the path, or the group's member."""

GROUPS: Mapping[str, str | None] = {
    "of-{uid}": "editor",
    "read-by-{uid}": "viewer",
    "run-by-{uid}": "owner",
    "seen-by-{uid}": "guest",
    "left-by-{uid}": None,
}
"""Groups of each user, with the role of the user, who is the one member: one role is none, and one group has no member
any more."""


def _opened(group: str) -> tuple[str, ...]:
    """Return what clients read of groups, beside the members. All of it is in the groups of an editor and a viewer."""
    deeper = ("/chats/c1/messages/m1", "/documents/d1", "/documents/d1/chunks/k1")
    return ("", "/chats/c1", *(deeper if GROUPS[group] in {"editor", "viewer"} else ()))


_KNOWN = (
    "apps/{app}",
    "apps/{app}/members/{uid}",
    "apps/{app}/invites/i1",
    "apps/{app}/users/{uid}",
    "apps/{app}/users/{uid}/chats/c1",
    "apps/{app}/users/{uid}/chats/c1/messages/m1",
    "apps/{app}/users/{uid}/documents/d1",
    "apps/{app}/users/{uid}/documents/d1/chunks/k1",
    "apps/{app}/users/{uid}/usage/2026-01-31",
    "apps/{app}/users/{uid}/batches/j1/items/i1",
    "apps/{app}/users/{uid}/gates/documents",
    "apps/{app}/users/{uid}/devices/d1",
    "apps/{app}/users/{uid}/memory/notes",
    *(f"apps/{{app}}/groups/{group}{below}" for group in GROUPS for below in _opened(group)),
    *(f"apps/{{app}}/groups/{group}/members/{{uid}}" for group, role in GROUPS.items() if role),
    "apps/{app}/users/{uid}/memberships/left-by-{uid}",
    "apps/{app}/rollups/2026-01-31",
    "apps/{app}/device_owners/d1",
    "apps/{app}/library/d1",
    "apps/{app}/library/d1/chunks/k1",
    "apps/{app}/index/state",
    "apps/{app}/sources/s1",
    "apps/{app}/gates/documents",
    "apps/{app}/jobs/j1",
    "apps/{app}/requests/r1",
    "apps/{app}/calls/c1",
    "apps/{app}/billing_events/e1",
    "apps/{app}/budget/2026-01",
    "apps/{app}/budget/2026-01/draws/r1",
)
"""Documents that there are, by names that the table below uses."""


def _model() -> tuple[str, ...]:
    """What is known by name, and whatever else the server can address, so that nothing is left untried."""
    shapes = {_shape(template) for template in _KNOWN}
    others: dict[tuple[str, ...], str] = {}
    for _, path in built():
        segments = [_SAMPLES.get(segment, segment) for segment in path.split("/")]
        document = "/".join(segments if len(segments) % 2 == 0 else [*segments, "x1"])
        if _shape(document) not in shapes:
            others.setdefault(_shape(document), document)
    return (*_KNOWN, *others.values())


def _shape(document: str) -> tuple[str, ...]:
    return tuple(document.split("/")[::2])


_SAMPLES = {SAMPLE.app_id: "{app}", SAMPLE.uid: "{uid}", SAMPLE_GROUP: "of-{uid}"}

MODEL = _model()
"""The documents that there are."""

UNNAMED = (
    "apps/{app}/secrets/s1",
    "apps/{app}/users/{uid}/secrets/s1",
    "apps/{app}/users/{uid}/chats/c1/messages/m1/parts/p1",
    "apps/{app}/users/{uid}/documents/d1/chunks/k1/parts/p1",
    "apps/{app}/library/d1/chunks/k1/parts/p1",
    "apps/{app}/members/{uid}/notes/n1",
    "apps/{app}/groups/of-{uid}/secrets/s1",
    "apps/{app}/groups/of-{uid}/members/{uid}/notes/n1",
    "membership_locks/{uid}",
    "users/{uid}",
    "users/{uid}/chats/c1",
    "secrets/{app}",
)
"""Documents of no meaning, in places where a rule that is too wide would reach."""

_READ: frozenset[Right] = frozenset({"get", "list"})


def _in_groups() -> Iterator[tuple[str, tuple[Who, frozenset[Right]]]]:
    """Yield what members may do with what the base rules open of groups."""
    for group, role in GROUPS.items():
        place = f"apps/{{app}}/groups/{group}"
        if role not in {"viewer", "editor", "owner"}:
            continue
        yield place, ("self", frozenset({"get"}))
        for below in ("/members/{uid}", *filter(None, _opened(group))):
            yield f"{place}{below}", ("self", _READ)
        if role != "viewer":
            yield f"{place}/chats/c1", ("self", _READ | {"rename"})


ALLOWED: Mapping[str, tuple[Who, frozenset[Right]]] = {
    "apps/{app}": ("member", frozenset({"get"})),
    "apps/{app}/members/{uid}": ("self", frozenset({"get"})),
    "apps/{app}/users/{uid}": ("self", frozenset({"get"})),
    "apps/{app}/users/{uid}/chats/c1": ("self", _READ | {"rename"}),
    "apps/{app}/users/{uid}/chats/c1/messages/m1": ("self", _READ),
    "apps/{app}/users/{uid}/documents/d1": ("self", _READ),
    "apps/{app}/users/{uid}/documents/d1/chunks/k1": ("self", _READ),
    "apps/{app}/users/{uid}/usage/2026-01-31": ("self", _READ),
    "apps/{app}/library/d1": ("member", _READ),
    "apps/{app}/library/d1/chunks/k1": ("member", _READ),
    **dict(_in_groups()),
}

_EVERYTHING: frozenset[Right] = _READ | {"create", "rename", "change", "delete"}

OWN: Mapping[str, tuple[Who, frozenset[Right]]] = {
    "apps/{app}/notes/n1": ("member", _EVERYTHING),
    "apps/{app}/boards/b1": ("member", _EVERYTHING),
    "apps/{app}/boards/b1/parts/p1": ("member", _EVERYTHING),
    "apps/{app}/users/{uid}/notes/n1": ("self", _EVERYTHING),
    "apps/{app}/users/{uid}/boards/b1/parts/p1": ("self", _EVERYTHING),
    "apps/{app}/groups/of-{uid}/notes/n1": ("self", _EVERYTHING),
    "apps/{app}/groups/run-by-{uid}/notes/n1": ("self", _EVERYTHING),
    "apps/{app}/groups/read-by-{uid}/notes/n1": ("self", _READ),
    "apps/{app}/groups/seen-by-{uid}/notes/n1": ("self", frozenset()),
    "apps/{app}/groups/left-by-{uid}/notes/n1": ("self", frozenset()),
    "apps/{app}/groups/of-{uid}/boards/b1/parts/p1": ("self", _EVERYTHING),
}
"""Documents of apps' own collections, and what the widest rules of an app's own open there: everything, and to nobody
but the app's members, the user, or the group's editors; the group's viewers read."""


@dataclass(frozen=True, slots=True)
class Place:
    """A document of the data model, in one app and with one user."""

    template: str
    app: str
    uid: str

    @property
    def path(self) -> str:
        """As Firestore has it."""
        return self.template.format(app=self.app, uid=self.uid)

    @property
    def role(self) -> str:
        """The role in the document: the member's in the group, if the document is a membership."""
        parts = self.template.split("/")
        role = GROUPS.get(parts[3]) if parts[2:3] == ["groups"] else None
        return role or "editor"


def role_in(claims: Mapping[str, Any] | None, app: str) -> str | None:
    """The role that a token's claims give in ``app``; None where they give none, or something that is no role."""
    apps = (claims or {}).get("apps")
    role = apps.get(app) if isinstance(apps, dict) else None
    return role if isinstance(role, str) and re.fullmatch(r"[a-z0-9_-]{1,32}", role) else None


def allows(claims: Mapping[str, Any] | None, place: Place, right: Right) -> bool:
    """Whether the tables let the bearer of ``claims`` (None: no token) use ``right`` at ``place``."""
    who, rights = {**ALLOWED, **OWN}.get(place.template, ("self", frozenset()))
    if claims is None or right not in rights or role_in(claims, place.app) is None:
        return False
    return who == "member" or claims.get("sub") == place.uid
