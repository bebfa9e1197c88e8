"""Invitations: codes that let their bearer join an app or a group with a role. The database only stores hashes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..errors import Forbidden
from ..scope import Scope
from ..store.audit import audit_writes
from ..store.base import DELETE_FIELD, Create, Document, DocumentStore, Transaction, Update, Write

__all__ = ["Invitation", "InviteInvalid", "Invites", "checked_invite", "invite_path", "new_invitation", "use_of"]

_RETRY = timedelta(minutes=10)
"""The time in which a user whose join failed may use the same code again without its counting twice."""


class InviteInvalid(Forbidden):
    """The code is unknown, used up, withdrawn, expired, or another app's. The client does not learn which."""

    code = "invite_invalid"
    message = "This invitation does not hold (any more); ask for a new one."


@dataclass(frozen=True, slots=True)
class Invitation:
    """A code, to be shown to its bearer only, and the role that it grants."""

    code: str
    role: str
    uses: int
    expires_at: datetime


def new_invitation(
    place: Scope, role: str, uses: int, valid_for: timedelta, by: str, now: datetime, **more: Any
) -> tuple[Invitation, list[Write]]:
    """Return a new invitation, and the writes that store it.

    Args:
        place: the app, or the group.
        by: the uid of whoever makes it, or "operator".
        more: further fields of its document.
    """
    invitation = Invitation(secrets.token_urlsafe(18), role, uses, now + valid_for)
    facts = {"role": role, "uses": uses, "expires_at": invitation.expires_at}
    facts |= {} if place.group is None else {"group": place.group}
    told = audit_writes(place, "invitation.made", by, now, after=facts)
    fields = {"role": role, "uses_left": uses, "delete_at": invitation.expires_at, "pending": {}, **more}
    return invitation, [Create(invite_path(place, invitation.code), fields), *told]


def checked_invite(document: Document | None, now: datetime) -> Document:
    """Return an invitation's document, if it still holds.

    Raises:
        InviteInvalid: there is none, or it has expired.
    """
    if document is None or document.data["delete_at"] <= now:
        raise InviteInvalid
    return document


def use_of(invite: Document) -> dict[str, Any]:
    """Return the fields of an invitation's document that change with a use.

    Raises:
        InviteInvalid: it is used up.
    """
    if invite.data["uses_left"] < 1:
        raise InviteInvalid
    return {"uses_left": invite.data["uses_left"] - 1}


def invite_path(place: Scope, code: str) -> str:
    """Return the path of an invitation's document, by its code."""
    return place.invite(_digest(code))


class Invites:
    """The invitations of one app, kept in the app's own database."""

    def __init__(self, store: DocumentStore, app_id: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._scope = Scope(app_id)
        self._clock = clock

    def create(self, role: str, *, uses: int, valid_for: timedelta, by: str) -> Invitation:
        """Create an invitation. ``by`` is the uid of the admin, or "operator"."""
        invitation, writes = new_invitation(self._scope, role, uses, valid_for, by, self._clock(), created_by=by)
        self._store.commit(writes)
        return invitation

    def role(self, code: str) -> str:
        """Return the role that the invitation grants.

        Raises:
            InviteInvalid: the invitation is unknown or expired.
        """
        return str(self._valid(self._store.get(self._path(code))).data["role"])

    def take(self, code: str, uid: str) -> None:
        """Use the invitation once, for ``uid``.

        Raises:
            InviteInvalid: the invitation is invalid or used up.
        """
        path, key, now = self._path(code), _digest(uid), self._clock()

        def use(transaction: Transaction) -> None:
            document = self._valid(transaction.get(path))
            pending_since = document.data["pending"].get(key)
            # A user who used the code a moment ago, and whose join then failed, does not use it up twice.
            if pending_since is None or pending_since + _RETRY <= now:
                transaction.write(Update(path, {**use_of(document), f"pending.{key}": now}))

        self._store.transaction(use)

    def done(self, code: str, uid: str) -> None:
        """Note that ``uid`` has joined. If they use the code once more, that counts as another use."""
        self._store.commit([Update(self._path(code), {f"pending.{_digest(uid)}": DELETE_FIELD})])

    def _valid(self, document: Document | None) -> Document:
        return checked_invite(document, self._clock())

    def _path(self, code: str) -> str:
        return invite_path(self._scope, code)


def _digest(text: str) -> str:
    # The digest is also a part of a field path, so it begins with a letter.
    return "h" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
