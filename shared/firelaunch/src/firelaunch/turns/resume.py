"""An answer on its way, told to a client that was not there from its beginning; and its end, asked for from outside.

Both go through the record of its request, so it does not matter which instance is giving the answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..chats.events import Done, Event, Failed, Heartbeat, Start
from ..chats.store import message_view
from ..chats.transcript import Replayer
from ..errors import FirelaunchError, Interrupted, NotFound, TooManyStreams, error_of
from ..llm.client_connection import ClientConnection
from ..llm.deadline import HEARTBEAT_SECONDS, ClientLeft, Deadline
from ..scope import Scope
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..slots import Slots
from ..store.base import Document, Update

__all__ = ["Answers", "follower_slots"]

log = logging.getLogger(__name__)


_OF_A_USER = 8
"""Clients of one user that may follow answers at one process: more than a person has open."""

_AGAIN_SECONDS = 5


def follower_slots(most: int) -> Slots:
    """Places for followers. Each holds a thread of its server, as it looks into the database again and again."""

    def full() -> TooManyStreams:
        return TooManyStreams(retry_after=_AGAIN_SECONDS)

    return Slots(most, _OF_A_USER, full, full)


@dataclass(frozen=True, slots=True)
class Answers:
    """Those that are on their way, in this process or in another.

    Args:
        places: how many may be followed at a time.
    """

    services: Services
    shutdown: Shutdown
    places: Slots

    def follow(self, scope: Scope, chat_id: str, client: ClientConnection | None = None) -> Iterator[Event] | None:
        """The chat's latest answer from its beginning, and then as it comes; None when none is on its way.

        Args:
            client: whoever asks, where the server knows them.

        Raises:
            InvalidId: ``chat_id`` is none.
            TooManyStreams: too many are followed already.
        """
        record = self._running(scope, chat_id)
        if record is None:
            return None
        followed = _Followed(self, scope, chat_id, record, client)
        return followed.events(self.places.take(scope.root, followed))

    def stop(self, scope: Scope, chat_id: str) -> str | None:
        """Have the chat's latest answer end at its next checkpoint, kept and paid as far as it is.

        Returns:
            its request's id, or None when no answer is on its way.

        Raises:
            InvalidId: ``chat_id`` is none.
        """
        record = self._running(scope, chat_id)
        if record is None:
            return None
        try:
            self.services.store.commit([Update(record.path, {"stop": True})])
        except NotFound:
            return None
        return record.id

    def _running(self, scope: Scope, chat_id: str) -> Document | None:
        chat = self.services.store.get(scope.chat(chat_id))
        latest = None if chat is None else chat.data.get("latest_request")
        record = None if latest is None else self.services.store.get(scope.request(str(latest)))
        if record is None or record.data.get("uid") != scope.uid or record.data.get("state") != "reserved":
            return None
        return record if record.data["expires_at"] > self.services.clock() else None


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Followed:
    """One answer, told to one client."""

    answers: Answers
    scope: Scope
    chat_id: str
    record: Document
    client: ClientConnection | None

    def events(self, leave: Callable[[], object]) -> Iterator[Event]:
        """Tell it, and then give the place back: the connection may be used for long after."""
        request_id = self.record.id
        try:
            yield from self._told()
        except ClientLeft:
            pass
        except FirelaunchError as error:
            log.warning("request %s is no longer followed: %s", request_id, error)
            yield Failed(error, request_id)
        finally:
            leave()

    def _told(self) -> Iterator[Event]:
        turn_id = self.record.data["turn_id"]
        question = self._message(f"{turn_id}-u")
        yield Start(self.record.id, self.chat_id, question, f"{turn_id}-a")
        retold, heard = Replayer(), time.monotonic()
        while self.record.data["state"] == "reserved":
            for event in retold.more(self.record.data.get("partial", {})):
                heard = time.monotonic()
                yield event
            if time.monotonic() - heard >= HEARTBEAT_SECONDS:
                heard = time.monotonic()
                yield Heartbeat()
            self._wait()
        yield from self._end(retold)

    def _wait(self) -> None:
        """Look again, a little later.

        Raises:
            Interrupted: this process ends, or the one that gave the answer has.
            ClientLeft.
        """
        services, record = self.answers.services, self.record
        seconds = services.settings.limits.checkpoint_seconds / 2
        Deadline(time.monotonic() + seconds + 1, seconds, seconds, self.client, self._check).pause(seconds)
        found = services.store.get(record.path)
        data: Mapping[str, Any] = {} if found is None else found.data
        same = data.get("expires_at") == record.data["expires_at"]
        if found is None or not same or (data["state"] == "reserved" and data["expires_at"] <= services.clock()):
            raise Interrupted(reason="the answer was given up by its process", retry_after=1)
        self.record = found

    def _check(self) -> None:
        if self.answers.shutdown.due:
            raise Interrupted(retry_after=1)

    def _end(self, retold: Replayer) -> Iterator[Event]:
        data = self.record.data
        answer = self._message(f"{data['turn_id']}-a")
        if answer.get("request_id") != self.record.id:  # nothing was said, and the answer of an earlier request stays
            made = {"role": "assistant", "status": "incomplete", "created_at": data["settled_at"]}
            own = {"model": data["usage"]["model"], "request_id": self.record.id}
            answer = message_view(answer["id"], {**made, **own})
        yield from retold.rest(answer)
        if data["error"] is None:
            yield Done(answer, dict(data["usage"]))
        else:
            yield Failed(error_of(data["error"]), self.record.id)

    def _message(self, message_id: str) -> dict[str, Any]:
        found = self.answers.services.store.get(self.scope.message(self.chat_id, message_id))
        return message_view(message_id, {} if found is None else found.data)
