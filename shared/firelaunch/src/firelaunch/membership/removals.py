"""Removals of users from an app. A removal lasts until an admin lifts it, whatever a policy or an invitation says.

A removal's record names its user only by a hash. It is not erased with the user's data, because it keeps them out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ..errors import Forbidden
from ..scope import Scope
from ..store.base import Delete, DocumentStore, Set

__all__ = ["Removals", "Removed"]


class Removed(Forbidden):
    """An admin of the app removed this user."""

    code = "removed"
    message = "You were removed from this app. Ask one of its admins to readmit you."


class Removals:
    """The removals of one app, kept in the app's own database."""

    def __init__(self, store: DocumentStore, app_id: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._scope = Scope(app_id)
        self._clock = clock

    def add(self, uid: str) -> None:
        """Keep ``uid`` out from now on."""
        self._store.commit([Set(self._path(uid), {"removed_at": self._clock()})])

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

    def lift(self, uid: str) -> bool:
        """Let ``uid`` join again, and return whether there was a removal to lift."""
        held = self.hold(uid)
        if held:
            self._store.commit([Delete(self._path(uid))])
        return held

    def _path(self, uid: str) -> str:
        return self._scope.of(uid).removal()
