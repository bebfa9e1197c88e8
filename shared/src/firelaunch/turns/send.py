"""Messages that their client has named, as ``useChat`` does, so that to send one twice is to send it once."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ..errors import Conflict, IdempotencyMismatch, NotFound, RequestInProgress
from ..scope import Scope
from ..store.base import Document
from .answer import Send

__all__ = ["Named", "new_request_id", "request_id_of"]

_OUR_MESSAGE = re.compile(r"(r[0-9a-f]{32})-u")


@dataclass(frozen=True, slots=True)
class Named:
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
