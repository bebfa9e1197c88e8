"""One send of a message, and messages that bring an id of their client's, as ``useChat`` sends them.

Sending a message with the same id twice sends it once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..chats.store import message_view
from ..errors import (
    Conflict,
    IdempotencyMismatch,
    NotFound,
    RequestInProgress,
)
from ..identity import Caller
from ..scope import Scope
from ..store.base import Document, Update

__all__ = ["ClientMessage", "Send", "chat_update", "new_request_id", "request_id_of", "sent_view"]

_OUR_MESSAGE = re.compile(r"(r[0-9a-f]{32})-u")


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """A message of a client that names chats and messages itself.

    Args:
        id: the client's, of any form, or ours where the client has the message from this service.
        again: make its answer anew. The text is then the one that is stored, and ``text`` counts where none is.
    """

    chat_id: str
    id: str
    text: str
    again: bool = False

    def request_id(self, scope: Scope) -> str:
        """The request that first brought the message."""
        ours = _OUR_MESSAGE.fullmatch(self.id)
        # A header's key has no line feed, so the two never meet.
        return ours[1] if ours else request_id_of(scope, f"message\n{self.chat_id}\n{self.id}")

    def anew(
        self,
        send: Send,
        record: Document | None,
        stored: Document | None,
        newest_first: Sequence[Document],
        now: datetime,
    ) -> Send | None:
        """The send by a request of its own, where it is not by the one that first brought the message.

        Args:
            record, stored: of that first request, and of the message; None where they are not there.
            newest_first: the chat's latest messages.

        Raises:
            NotFound, Conflict, IdempotencyMismatch: as ``Turns.begin_named`` says.
            RequestInProgress: the answer is still on its way.
        """
        if stored is None:
            if _OUR_MESSAGE.fullmatch(self.id):
                raise NotFound
            return None
        if not self.again:
            if stored.data.get("text") != self.text:
                raise IdempotencyMismatch("A message that was sent cannot be changed: send a new one.")
            if record is not None:
                return None
        elif record is not None and record.data.get("state") == "reserved" and record.data["expires_at"] > now:
            raise RequestInProgress("The answer is still on its way.", retry_after=1)
        pair = {stored.id, f"{stored.id[:-1]}a"}
        if newest_first and newest_first[0].id not in pair:
            raise Conflict("Only the latest answer of a chat can be made anew.")
        return replace(send, request_id=new_request_id(), text=str(stored.data.get("text", "")))


def new_request_id() -> str:
    """An id that nobody can guess."""
    return "r" + secrets.token_hex(16)


def request_id_of(scope: Scope, key: str) -> str:
    """The id of the request that a user's client has given ``key``."""
    # The key is the client's own word, so the id is made with the caller's scope: equal keys of two users never meet.
    return "r" + hashlib.sha256(f"{scope.root}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Send:
    """One send of a message, as the client made it.

    ``turn_id`` names the message and its answer. It is the id of the request that first brought the message; an answer
    that is made anew has a request, and a bill, of its own.
    """

    caller: Caller
    scope: Scope
    chat_id: str
    text: str
    request_id: str
    turn_id: str
    body_hash: str
    at: datetime

    @property
    def user_message_id(self) -> str:
        """Id of the user's message."""
        return f"{self.turn_id}-u"

    @property
    def answer_id(self) -> str:
        """Id of the answer to it."""
        return f"{self.turn_id}-a"

    @property
    def user_message(self) -> str:
        """Path of the user's message."""
        return self.scope.message(self.chat_id, self.user_message_id)

    @property
    def answer(self) -> str:
        """Path of the answer to it."""
        return self.scope.message(self.chat_id, self.answer_id)

    @property
    def record(self) -> str:
        """Path of the request's record."""
        return self.scope.request(self.request_id)


def chat_update(send: Send, changes: dict[str, Any]) -> Update:
    """A change of the message's chat."""
    return Update(send.scope.chat(send.chat_id), changes)


def sent_view(send: Send, at: datetime) -> dict[str, Any]:
    """The user's message as clients see it; ``at`` is when it was first sent."""
    return message_view(send.user_message_id, {"role": "user", "text": send.text, "created_at": at})
