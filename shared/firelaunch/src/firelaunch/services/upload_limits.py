"""What an upload needs before a byte of it is read: a place in this process, and room in its user's minute."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ..errors import NoUploadRoom, TooManyUploads
from ..metering.reservations import Day
from ..scope import Scope
from ..slots import Slots
from .bundle import Services

__all__ = ["Uploads"]

_OF_A_USER = 4
"""Files that one user may be sending to one process at a time."""

_AGAIN_SECONDS = 5
"""After which a client that found no place may try again."""


class Uploads:
    """Admits uploads to this process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # A thread each, and about 3 MB. What is left of both is for requests that are answered meanwhile.
        most = max(1, services.settings.cloud.concurrency // 4)
        self._slots = Slots(
            most,
            _OF_A_USER,
            lambda: TooManyUploads(retry_after=_AGAIN_SECONDS),
            lambda: NoUploadRoom(retry_after=_AGAIN_SECONDS),
        )

    def place(self, user: Scope) -> AbstractContextManager[None]:
        """A place for one file of a user's, for as long as the block runs.

        Raises:
            TooManyUploads: the user has taken as many as one may.
            NoUploadRoom: all are taken.
        """
        return self._slots.held(user.root)

    def count(self, user: Scope) -> None:
        """Count a document that a user puts up.

        Raises:
            RateLimited: the plan allows no more of them this minute.
            Contention: other requests of the user were in the way for too long.
        """
        store, metering = self._services.store, self._services.metering

        def attempt() -> None:
            day = metering.today()
            account, usage = store.get_many([user.root, user.usage(day)])
            store.commit([metering.count_upload(user, day, Day.of(usage), metering.plan_of(account))])

        self._services.admission.run(user.root, attempt)
