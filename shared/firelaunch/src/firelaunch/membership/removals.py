"""Removals of users from an app or a group. A removal lasts until it is lifted, whatever policies or invitations say.

A removal's record names its user only by a hash. It is not erased with the user's data, because it keeps them out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ..errors import Forbidden
from ..scope import Scope
from ..store.audit import audit_writes
from ..store.base import Delete, DocumentStore, Set

__all__ = ["Removals", "Removed"]


class Removed(Forbidden):
    """An admin of the app removed this user."""

    code = "removed"
    message = "You were removed from this app. Ask one of its admins to readmit you."


class Removals:
    """The removals from one app, kept in the app's own database."""

    def __init__(self, store: DocumentStore, app_id: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._scope = Scope(app_id)
        self._clock = clock

    def add(self, uid: str, by: str, role: str | None) -> None:
        """Keep ``uid`` out from now on. ``by`` is the admin's uid, and ``role`` the role that ends."""
        told = audit_writes(self._scope, "member.removed", by, self._clock(), whom=uid, before={"role": role})
        self._store.commit([Set(self._path(uid), {"removed_at": self._clock()}), *told])

    def hold(self, uid: str) -> bool:
        """Return whether ``uid`` was removed and not readmitted."""
        return self._store.get(self._path(uid)) is not None

    def check(self, uid: str) -> None:
        """Raise an error if ``uid`` was removed.

        Raises:
            Removed: ``uid`` was removed, and nobody has readmitted them.
        """
        if self.hold(uid):
            raise Removed(reason=f"uid {uid} of {self._scope.app_id}")

    def lift(self, uid: str, by: str) -> bool:
        """Let ``uid`` join again, and return whether there was a removal to lift. ``by`` is the admin's uid."""
        held = self.hold(uid)
        if held:
            told = audit_writes(self._scope, "member.readmitted", by, self._clock(), whom=uid)
            self._store.commit([Delete(self._path(uid)), *told])
        return held

    def _path(self, uid: str) -> str:
        return self._scope.removal(uid)
