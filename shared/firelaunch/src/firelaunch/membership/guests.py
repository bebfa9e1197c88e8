"""Guests: users without an account, who are no members and have a plan of their own.

A token says whether its user is a guest. Work that has no token, such as a job, knows it by the mark ``guest`` in the
user's document: True for a guest, and False for one who got an account since. The first request of a user on each
instance compares the two. Nobody goes from False back to True, so an old token makes no member a guest.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from ..errors import AlreadyExists, Contention, NotFound, PreconditionFailed, Unauthenticated
from ..identity.base import AnonymousAccount
from ..scope import Scope
from ..store.base import Create, Document, DocumentStore, Update
from ..store.fence import CLOSED
from .removals import Removed

__all__ = ["ENTERED_SECONDS", "Guests"]

ENTERED_SECONDS: Final = 60.0
"""Seconds for which a user who may enter is not looked up again."""

_REMEMBERED = 10_000
_TRIES = 8


class Guests:
    """Lets guests and members of one app in.

    Args:
        seconds: after which a user is looked up again.
    """

    def __init__(self, store: DocumentStore, seconds: float = ENTERED_SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self._entered: OrderedDict[tuple[str, bool], float] = OrderedDict()

    def enter(self, user: Scope, *, guest: bool) -> None:
        """Let a user in, and mark them as a guest, or as one no more.

        Args:
            guest: whether the request shows the user as a guest.

        Raises:
            Removed: an admin removed the guest.
            AnonymousAccount: the guest's data was moved to an account.
            Unauthenticated: the guest got an account since the token was issued.
            Contention: other requests of the same user came first each time.
        """
        key, now = (user.root, guest), time.monotonic()
        if self._entered.get(key, 0.0) > now:
            return
        for _ in range(_TRIES):
            root, removal, erasure = self._store.get_many([user.root, user.removal(str(user.uid)), user.erasure()])
            if guest:
                _check(user, root, removal, erasure)
            try:
                self._mark(user, root, guest=guest)
            except (AlreadyExists, NotFound, PreconditionFailed):
                continue
            self._remember(key, now + self._seconds)
            return
        raise Contention(retry_after=1)

    def forget(self, user: Scope) -> None:
        """Look a guest up again with their next request on this instance."""
        self._entered.pop((user.root, True), None)

    def _mark(self, user: Scope, root: Document | None, *, guest: bool) -> None:
        mark = None if root is None else root.data.get("guest")
        if mark is guest or (mark is None and not guest):
            return
        fields = {"guest": guest}
        self._store.commit(
            [Create(user.root, fields) if root is None else Update(user.root, fields, if_updated_at=root.update_time)]
        )

    def _remember(self, key: tuple[str, bool], until: float) -> None:
        self._entered[key] = until
        self._entered.move_to_end(key)
        while len(self._entered) > _REMEMBERED:
            self._entered.popitem(last=False)


def _check(user: Scope, root: Document | None, removal: Document | None, erasure: Document | None) -> None:
    if removal is not None:
        raise Removed(reason=f"guest {user.uid} of {user.app_id}")
    if erasure is not None and erasure.data.get(CLOSED):
        raise AnonymousAccount("This guest's data was moved to an account: sign in to it.", reason=f"uid {user.uid}")
    if root is not None and root.data.get("guest") is False:
        raise Unauthenticated(reason=f"guest {user.uid} has an account since: the token is from before")
