"""Limit uploads before a byte of them is read: by slots in this process, and by the user's uploads per minute."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ..errors import NoUploadRoom, TooManyUploads
from ..metering.reservations import Day
from ..scope import Scope
from ..slots import Slots
from .bundle import Services

__all__ = ["Uploads"]

_PER_USER = 4
"""The most files that one user may be sending to one process at a time."""

_RETRY_SECONDS = 5
"""Seconds after which a client that found no slot may try again."""


class Uploads:
    """Admits uploads to this process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # Each upload takes a thread and about 3 MB. The rest of both is for other requests.
        most = max(1, services.settings.cloud.concurrency // 4)
        self._slots = Slots(
            most,
            _PER_USER,
            lambda: TooManyUploads(retry_after=_RETRY_SECONDS),
            lambda: NoUploadRoom(retry_after=_RETRY_SECONDS),
        )

    def place(self, user: Scope) -> AbstractContextManager[None]:
        """Hold a slot for one file of a user while the block runs.

        Raises:
            TooManyUploads: the user holds as many slots as one user may.
            NoUploadRoom: all slots are taken.
        """
        return self._slots.held(user.root)

    def count(self, user: Scope) -> None:
        """Count a document that a user uploads toward the uploads of the minute.

        Raises:
            RateLimited: the plan allows no more uploads this minute.
            Contention: other requests of the user kept changing the user's day for too long.
        """
        store, metering = self._services.store, self._services.metering

        def attempt() -> None:
            day = metering.today()
            account, usage, erasure = store.get_many([user.root, user.usage(day), user.erasure()])
            used = Day.of(usage, erasure, day)
            store.commit([metering.count_upload(user, day, used, metering.plan_of(account))])

        self._services.admission.run(user.root, attempt)
