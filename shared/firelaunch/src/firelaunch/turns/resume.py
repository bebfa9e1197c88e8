"""Resume an answer that is under way, which means to follow it from its beginning, or stop it.

Both go through the record of the answer's request, so they work on any instance, whichever one gives the answer.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..chats.events import Done, Event, Failed, Heartbeat, Start
from ..chats.place import ChatPlace, is_of, owner_of_chat
from ..chats.store import message_view
from ..chats.transcript import Replayer
from ..errors import FirelaunchError, Interrupted, NotFound, PreconditionFailed, TooManyStreams, error_of
from ..identity import Caller
from ..llm.client_connection import ClientConnection
from ..llm.deadline import HEARTBEAT_SECONDS, ClientLeft, Deadline
from ..scope import Scope
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..slots import Slots
from ..store.base import DELETE_FIELD, Document, Filter, Query, Update

__all__ = ["Answers", "follower_slots"]

log = logging.getLogger(__name__)


_FOLLOWERS_PER_USER = 8
"""The most clients of one user that may follow answers at one process: more than a person has open."""

_RETRY_SECONDS = 5

_CALLS_OF_ONE_KEY = 20
"""The most requests that are looked at for one key of an agent's call."""


def follower_slots(most: int) -> Slots:
    """Return the slots for followers. Each follower holds a thread of its server, since it polls the database."""

    def full() -> TooManyStreams:
        return TooManyStreams(retry_after=_RETRY_SECONDS)

    return Slots(most, _FOLLOWERS_PER_USER, full, full)


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that are under way, in this process or in another.

    Args:
        places: the slots for followers, which limit how many follow at a time.
    """

    services: Services
    shutdown: Shutdown
    places: Slots

    def follow(self, place: ChatPlace, chat_id: str, client: ClientConnection | None = None) -> Iterator[Event] | None:
        """Return the events of the chat's latest answer from its beginning, or None if no answer is under way.

        A member who is removed from the chat's group meanwhile gets Failed within a second.

        Args:
            client: the client's connection, if the server knows it.

        Raises:
            InvalidId: ``chat_id`` is no valid id.
            NotFound: the chat is a group's, and the caller is no member.
            TooManyStreams: too many clients follow answers already.
        """
        record = self._running(place, chat_id)
        return None if record is None else self._followed(place, record, client)

    def join(self, place: ChatPlace, request_id: str, client: ClientConnection | None = None) -> Iterator[Event] | None:
        """Return the events of one request's answer for a client that sent the request again.

        An answer that was about to be stopped, since its first client had left, then goes on.

        Raises:
            TooManyStreams: too many clients follow answers already.
        """
        store = place.guarded(self.services.store)
        record = self._live(place.scope, store.get(place.scope.request(request_id)))
        if record is None:
            return None
        events = self._followed(place, record, client)
        if record.data.get("stop") is not True:
            with contextlib.suppress(NotFound):
                # Written even without a mark: its process may be about to write one, which then fails.
                store.commit([Update(record.path, {"stop": DELETE_FIELD})])
        return events

    def _followed(self, place: ChatPlace, record: Document, client: ClientConnection | None) -> Iterator[Event]:
        follower = _Follower(self, place, str(record.data["chat_id"]), record, client)
        return follower.events(self.places.take(place.caller.scope.root, follower))

    def stop(self, place: ChatPlace, chat_id: str) -> str | None:
        """Ask the chat's latest answer to end at its next checkpoint. Its text so far is stored and billed.

        Returns:
            the id of the answer's request, or None if no answer is under way.

        Raises:
            InvalidId: ``chat_id`` is no valid id.
            NotFound, Forbidden: the chat is a group's, and the caller is no member, or may not write.
        """
        record = self._running(place, chat_id)
        return None if record is None else self._mark(place, record)

    def cancel(self, caller: Caller, call: str, after: float | None = None) -> str | None:
        """Ask the answer whose message the caller sent with ``call`` to end at its next checkpoint.

        Args:
            after: seconds for which it goes on, and for good if the message is sent again meanwhile.

        Returns:
            the id of the answer's request. None if no answer is under way, or several are: which one is then unknown.
        """
        where = (Filter("call", "==", call), Filter("state", "==", "reserved"))
        # Those that a killed process left behind are among them until their reservations expire.
        found = self.services.store.query(Query(caller.scope.requests(), where=where, limit=_CALLS_OF_ONE_KEY))
        own = [each for each in found if each.data.get("writer", each.data.get("uid")) == caller.uid]
        places = [ChatPlace(caller, owner_of_chat(caller.library, each.data), caller.scope) for each in own]
        live = [(place, each) for place, each in zip(places, own, strict=True) if self._live(place.scope, each)]
        return self._mark(*live[0], after, cancelled=True) if len(live) == 1 else None

    def _mark(
        self, place: ChatPlace, record: Document, after: float | None = None, *, cancelled: bool = False
    ) -> str | None:
        """Write the request to stop, unless there is one. Repeated ones must not keep the answer from settling."""
        store = place.guarded(self.services.store)
        current: Document | None = record
        while current is not None and current.data.get("stop") is not True:
            if after is not None and "stop" in current.data:
                break
            marks: dict[str, Any] = (
                {"stop": self.services.clock() + timedelta(seconds=after)} if after else {"stop": True}
            )
            if cancelled and after is None:
                marks["cancelled"] = True
            try:
                store.commit([Update(record.path, marks, if_updated_at=current.update_time)])
                break
            except NotFound:
                return None
            except PreconditionFailed:  # a checkpoint came first
                current = self._live(place.scope, store.get(record.path))
        return None if current is None else record.id

    def _running(self, place: ChatPlace, chat_id: str) -> Document | None:
        scope, store = place.scope, place.guarded(self.services.store)
        chat = store.get(scope.chat(chat_id))
        latest = None if chat is None else chat.data.get("latest_request")
        return None if latest is None else self._live(scope, store.get(scope.request(str(latest))))

    def _live(self, scope: Scope, record: Document | None) -> Document | None:
        """Return ``record`` if it is of an answer in a chat of ``scope`` that is under way."""
        if record is None or not is_of(record.data, scope) or record.data.get("state") != "reserved":
            return None
        return record if record.data["expires_at"] > self.services.clock() else None


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Follower:
    """One client that follows one answer."""

    answers: Answers
    place: ChatPlace
    chat_id: str
    record: Document
    client: ClientConnection | None

    def events(self, leave: Callable[[], object]) -> Iterator[Event]:
        """Yield the answer's events, then call ``leave``: the connection may stay in use long after the answer."""
        request_id = self.record.id
        try:
            yield from self._answer()
        except ClientLeft:
            pass
        except FirelaunchError as error:
            log.warning("request %s is no longer followed: %s", request_id, error)
            yield Failed(error, request_id)
        finally:
            leave()

    def _answer(self) -> Iterator[Event]:
        turn_id = self.record.data["turn_id"]
        question = self._message(f"{turn_id}-u")
        yield Start(self.record.id, self.chat_id, question, f"{turn_id}-a")
        replayer, last_sent = Replayer(), time.monotonic()
        # Each checkpoint of the answer updates the record's partial text, until the settlement ends the loop.
        while self.record.data["state"] == "reserved":
            for event in replayer.new_events(self.record.data.get("partial", {})):
                last_sent = time.monotonic()
                yield event
            if time.monotonic() - last_sent >= HEARTBEAT_SECONDS:
                last_sent = time.monotonic()
                yield Heartbeat()
            self._wait()
        yield from self._end(replayer)

    def _wait(self) -> None:
        """Wait a little, and read the record again.

        Raises:
            Interrupted: this process is shutting down, or the process that gave the answer died.
            ClientLeft: the client closed its connection.
            NotFound: the follower is no member of the chat's group any more.
        """
        services, record = self.answers.services, self.record
        seconds = services.settings.limits.checkpoint_seconds / 2
        Deadline(time.monotonic() + seconds + 1, seconds, seconds, self.client, self._check).pause(seconds)
        guard = self.place.guard
        document, *found = services.store.get_many([record.path, *([] if guard is None else guard.paths)])
        if guard is not None and guard.member_of(found) is None:
            raise NotFound
        data: Mapping[str, Any] = {} if document is None else document.data
        # If the answer's process died and the message was sent again, the new try has another time of expiry.
        same = data.get("expires_at") == record.data["expires_at"]
        if document is None or not same or (data["state"] == "reserved" and data["expires_at"] <= services.clock()):
            raise Interrupted(reason="the answer was given up by its process", retry_after=1)
        self.record = document

    def _check(self) -> None:
        if self.answers.shutdown.due:
            raise Interrupted(retry_after=1)

    def _end(self, replayer: Replayer) -> Iterator[Event]:
        data = self.record.data
        answer = self._message(f"{data['turn_id']}-a")
        if answer.get("request_id") != self.record.id:
            # This request ended before its first word, so the stored answer is that of an earlier request.
            fields = {"role": "assistant", "status": "incomplete", "created_at": data["settled_at"]}
            fields["finish"] = None if data["error"] is None else "error"
            fields |= {"model": data["usage"]["model"], "request_id": self.record.id}
            answer = message_view(answer["id"], fields)
        yield from replayer.rest(answer)
        if data["error"] is None:
            yield Done(answer, dict(data["usage"]))
        else:
            yield Failed(error_of(data["error"]), self.record.id)

    def _message(self, message_id: str) -> dict[str, Any]:
        document = self.answers.services.store.get(self.place.scope.message(self.chat_id, message_id))
        return message_view(message_id, {} if document is None else document.data)
