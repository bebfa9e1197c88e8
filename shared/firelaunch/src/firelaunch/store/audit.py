"""Write the audit log, ``apps/{app}/audit/{entry}``: who changed what for whom, and what an admin took out of the app.

An entry is made by the commit of the change itself, so there is none without the other. Nothing changes or removes an
entry: :class:`.scoped.ScopedStore` refuses it, and no rule opens the log to clients. Firestore removes it after
``AUDIT_DAYS``.

Entries outlive an erasure, so they name people by a hash. ``apps/{app}/audit_names/{hash}`` says whose it is, and an
erasure removes that.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any, Final

from ..scope import Scope
from ..telemetry import REQUEST_ID
from .base import Create, Set, Write

__all__ = ["AUDIT_DAYS", "OPERATOR", "STRIPE", "Machine", "audit_writes"]

AUDIT_DAYS: Final = 400
"""Days that an entry is kept: a year, and some more to look back at it."""


class Machine(str):
    """The name of whatever acted that is no user of the app."""

    __slots__ = ()


OPERATOR: Final = Machine("operator")
"""A command with the owner's own credentials."""

STRIPE: Final = Machine("stripe")
"""Stripe."""


def audit_writes(
    app: Scope,
    what: str,
    by: str,
    now: datetime,
    *,
    whom: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> list[Write]:
    """Return the writes that make an entry. Put them into the commit of the change.

    Args:
        app: the app, or a user of it.
        what: a noun and a participle, such as "plan.granted".
        by: the user id of who did it, or ``OPERATOR`` or ``STRIPE``.
        whom: the user id of whom it concerns.
        before, after: what changed. No contents, no secrets, and nobody's id.
    """
    is_user = type(by) is not Machine
    delete_at = now + timedelta(days=AUDIT_DAYS)
    users = {uid: app.of(uid).audit_name() for uid in ([by] if is_user else []) + ([] if whom is None else [whom])}
    data = {
        "at": now,
        "by": _pseudonym(users[by]) if is_user else str(by),
        "what": what,
        "whom": None if whom is None else _pseudonym(users[whom]),
        "before": None if before is None else dict(before),
        "after": None if after is None else dict(after),
        "request_id": REQUEST_ID.get(),
        "delete_at": delete_at,
    }
    names = [Set(path, {"uid": uid, "delete_at": delete_at}) for uid, path in users.items()]
    return [Create(app.audit_entry(f"a{now:%Y%m%d%H%M%S}{token_hex(10)}"), data), *names]


def _pseudonym(name: str) -> str:
    return name.rpartition("/")[2]
