"""Invitations: codes that let their bearer join one app, with a role. The database holds a hash of each code alone."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..errors import Forbidden
from ..scope import Scope
from ..store.base import DELETE_FIELD, Create, Document, DocumentStore, Transaction, Update

__all__ = ["Invitation", "InviteInvalid", "Invites"]

_RETRY = timedelta(minutes=10)
"""How long one who used a code, and whose joining then failed, may use it again without its counting twice."""


class InviteInvalid(Forbidden):
    """A code that is unknown, used up, past its time, or another app's; which of them is not told."""

    code = "invite_invalid"
    message = "This invitation does not hold (any more); ask for a new one."


@dataclass(frozen=True, slots=True)
class Invitation:
    """A code, for its bearer alone, and what it grants."""

    code: str
    role: str
    uses: int
    expires_at: datetime


class Invites:
    """The invitations of one app, kept in the app's own database."""

    def __init__(self, store: DocumentStore, app_id: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._scope = Scope(app_id)
        self._clock = clock

    def create(self, role: str, *, uses: int, valid_for: timedelta, by: str) -> Invitation:
        """A new invitation; ``by`` is the uid of the admin, or "operator"."""
        made = Invitation(secrets.token_urlsafe(18), role, uses, self._clock() + valid_for)
        fields = {"role": role, "uses_left": uses, "delete_at": made.expires_at, "created_by": by, "pending": {}}
        self._store.commit([Create(self._path(made.code), fields)])
        return made

    def role(self, code: str) -> str:
        """The role that the invitation grants.

        Raises:
            InviteInvalid: it is unknown, or past its time.
        """
        return str(self._valid(self._store.get(self._path(code))).data["role"])

    def take(self, code: str, uid: str) -> None:
        """Use the invitation once, for ``uid``.

        Raises:
            InviteInvalid: it does not hold, or is used up.
        """
        path, key, now = self._path(code), _digest(uid), self._clock()

        def use(transaction: Transaction) -> None:
            found = self._valid(transaction.get(path))
            tried = found.data["pending"].get(key)
            if tried is None or tried + _RETRY <= now:
                if found.data["uses_left"] < 1:
                    raise InviteInvalid
                changed: dict[str, Any] = {"uses_left": found.data["uses_left"] - 1, f"pending.{key}": now}
                transaction.write(Update(path, changed))

        self._store.transaction(use)

    def done(self, code: str, uid: str) -> None:
        """``uid`` has joined: from now on the code counts anew for them."""
        self._store.commit([Update(self._path(code), {f"pending.{_digest(uid)}": DELETE_FIELD})])

    def _valid(self, found: Document | None) -> Document:
        if found is None or found.data["delete_at"] <= self._clock():
            raise InviteInvalid
        return found

    def _path(self, code: str) -> str:
        return self._scope.invite(_digest(code))


def _digest(text: str) -> str:
    # A letter first: the digest is also a part of a field path.
    return "h" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
