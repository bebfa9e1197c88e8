"""Answer what agents ask, so that a question that is sent again after a time-out is not paid for twice.

Clients send a call again under another JSON-RPC id, and often from another session: only its arguments are the same.
So a question has ids made of its user, its chat and its text, and of the time in steps of ten minutes. A question that
comes again while it is being answered, or after an answer that its client did not wait for, gets that answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ..chats.events import Event, Paused
from ..chats.place import ChatPlace
from ..errors import NotFound, RequestInProgress
from ..llm.client_connection import ClientConnection
from ..services.bundle import Services
from ..store.base import DELETE_FIELD, Document, Update
from .admit import Turns
from .answer import TurnRun
from .resume import Answers
from .send import ClientMessage, request_id_of

__all__ = ["AgentQuestion", "AgentQuestions"]

_WINDOW_SECONDS = 600.0
"""How long after its answer an abandoned question is still known."""

_IN_A_WINDOW = 3
"""How often the same question is told apart in one window. Further ones are asked under random ids."""

_SHORTEST_TIMEOUT = 4.5
_JUST_NOW_SECONDS = 10.0
"""Some clients with sessions give up without a word, the earliest after 5 seconds (the OpenAI Agents SDK). So an answer
that took longer and came within the last ten seconds is given again."""


@dataclass(frozen=True, slots=True)
class AgentQuestion:
    """A question of an agent.

    Attributes:
        place: the owner of the chat, and who pays.
        chat_id: the chat to go on with; None for a new one.
        call: what :meth:`.resume.Answers.cancel` finds it by.
        key: the client's idempotency key: a question with the key of an earlier one gets that one's answer.
        closes: whether the client closes its connection to cancel the call.
    """

    place: ChatPlace
    text: str
    chat_id: str | None
    call: str
    key: str | None
    closes: bool


@dataclass(frozen=True, slots=True)
class AgentQuestions:
    """Answers agents' questions."""

    services: Services
    turns: Turns
    answers: Answers

    def begin(self, question: AgentQuestion, client: ClientConnection | None) -> tuple[str, Iterator[Event | Paused]]:
        """Return the question's chat, and the events of its answer: a new one, or the one that it was given before.

        Raises:
            FirelaunchError: the question is refused, as in :meth:`.admit.Turns.begin_named`.
        """
        message = self._message(question)
        return message.chat_id, self._events(question, message, client)

    def was_cancelled(self, question: AgentQuestion, request_id: str) -> bool:
        """Return whether the client cancelled the call, so that it wants no answer."""
        record = self.services.store.get(question.place.scope.request(request_id))
        return record is not None and bool(record.data.get("cancelled")) and record.data.get("call") == question.call

    def _events(
        self, question: AgentQuestion, message: ClientMessage, client: ClientConnection | None
    ) -> Iterator[Event | Paused]:
        try:
            place = question.place
            run = self.turns.begin_named(place.caller, message, client, call=question.call, place=place)
        except RequestInProgress:
            followed = self.answers.join(question.place, message.request_id(question.place), client)
            if followed is None:
                raise
            return followed
        if isinstance(run, TurnRun):
            settings = self.services.settings
            to_the_end = not question.closes and settings.limits.on_disconnect == "continue"
            run.outlive_client(None if to_the_end else settings.mcp.wait_seconds)
        elif question.key is None:
            # Now the client has the answer. The next time, the same question is a new one.
            self.services.store.commit([Update(run.send.record, {"abandoned": DELETE_FIELD})])
        return run.events()

    def _message(self, question: AgentQuestion) -> ClientMessage:
        """Return the message to send, under the ids of its first time if it is sent again.

        Raises:
            InvalidId, NotFound: there is no such chat.
        """
        place, now, chat_id = question.place, self.services.clock(), question.chat_id
        messages = list(_candidates(place, question.text, chat_id, question.key, now))
        paths = [place.scope.request(message.request_id(place)) for message in messages]
        chats = [] if chat_id is None else [place.scope.chat(chat_id)]
        records = place.guarded(self.services.store).get_many([*paths, *chats])
        if chats and records.pop() is None:
            raise NotFound
        for message, record in zip(messages, records, strict=True):
            if record is not None and (question.key is not None or _is_repeat(record, now, closes=question.closes)):
                return message
        return _first_free(messages[:_IN_A_WINDOW], records, now)


def _candidates(
    place: ChatPlace, text: str, chat_id: str | None, key: str | None, now: datetime
) -> Iterator[ClientMessage]:
    """Yield the messages that a question may have been sent as, those of this window first."""
    if key is not None:
        name = request_id_of(place, f"mcp key\n{key}")
        yield ClientMessage(chat_id or name, name, text)
        return
    window = int(now.timestamp() // _WINDOW_SECONDS)
    for each in (window, window - 1):
        for number in range(_IN_A_WINDOW):
            name = request_id_of(place, f"mcp\n{chat_id or ''}\n{each}\n{number}\n{text}")
            yield ClientMessage(chat_id or name, name, text)


def _is_repeat(record: Document, now: datetime, *, closes: bool) -> bool:
    """Return whether a question that was sent before is sent again because its client did not get the answer."""
    data = record.data
    if data["state"] == "reserved":
        return bool(data["expires_at"] > now)
    if data.get("outcome") != "answered":
        return False
    seconds = (now - data["settled_at"]).total_seconds()
    if data.get("abandoned"):
        return bool(seconds < _WINDOW_SECONDS)
    return not closes and data["total_ms"] >= 1000 * _SHORTEST_TIMEOUT and seconds < _JUST_NOW_SECONDS


def _first_free(messages: Sequence[ClientMessage], records: Sequence[Document | None], now: datetime) -> ClientMessage:
    """Return the first message that has no answer: it was never sent, or its request failed or was stopped."""
    for message, record in zip(messages, records, strict=False):
        if record is None or (record.data["state"] != "reserved" and record.data.get("outcome") != "answered"):
            return message
        if record.data["state"] == "reserved" and record.data["expires_at"] <= now:
            return message  # its process died
    name = "r" + secrets.token_hex(16)
    first = messages[0]
    return replace(first, chat_id=name if first.chat_id == first.id else first.chat_id, id=name)
