"""Sends of messages, and messages whose ids their clients choose, as ``useChat`` does.

A message that is sent twice with the same id, or the same Idempotency-Key, counts as sent once: both become the
request's id.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from ..chats.branches import MessageSpan, is_current
from ..chats.place import ChatPlace
from ..chats.store import message_view
from ..errors import Conflict, Forbidden, IdempotencyMismatch, NotFound
from ..identity import Caller
from ..scope import Scope
from ..store.base import DELETE_FIELD, Document, Update
from .approvals import Decision
from .attachments import NO_ATTACHMENTS, AttachmentReference, MessageAttachments, NewAttachment

__all__ = [
    "RUNNING",
    "ClientMessage",
    "Continuation",
    "Send",
    "begins",
    "chat_update",
    "ends",
    "is_answer_id",
    "is_message_id",
    "new_request_id",
    "others_running",
    "request_id_of",
    "sent_view",
]

_OUR_MESSAGE = re.compile(r"(r[0-9a-f]{32})-u")
_OUR_ANSWER = re.compile(r"(r[0-9a-f]{32})-a")


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """A message of a client that chooses the ids of chats and messages itself, or one to be answered anew.

    Args:
        id: the client's id, in any form, or ours if the client loaded the message from this service.
        regenerate: whether to answer it anew. The stored text is then used; ``text`` counts only if none is stored.
        edit: whether ``text`` takes the place of the stored text, and the answer that of all that followed.
        key: makes a repeated edit count as one, as an Idempotency-Key does; the text does if there is none.
    """

    chat_id: str
    id: str
    text: str
    regenerate: bool = False
    edit: bool = False
    attachments: MessageAttachments = NO_ATTACHMENTS
    key: str | None = None

    def turn_id(self, place: ChatPlace) -> str:
        """Return the id of the request that first brought the message."""
        ours = _OUR_MESSAGE.fullmatch(self.id)
        # An Idempotency-Key comes in a header and has no line feed, so it never equals the text below.
        return ours[1] if ours else request_id_of(place, f"message\n{self.chat_id}\n{self.id}")

    def request_id(self, place: ChatPlace) -> str:
        """Return the id of this request; a repeated one has the same."""
        turn_id = self.turn_id(place)
        if self.key is not None:
            return request_id_of(place, f"replace\n{self.chat_id}\n{turn_id}\n{self.key}")
        if not self.edit:
            return turn_id
        files = "\n".join(str(each["id"]) for each in self.attachments.references)
        return request_id_of(place, f"edit\n{self.chat_id}\n{turn_id}\n{self.text}\n{files}")

    def new_send(
        self,
        send: Send,
        record: Document | None,
        stored: Document | None,
        answer: Document | None,
        latest: Document | None,
        spans: Sequence[MessageSpan],
    ) -> Send | None:
        """Return ``send`` with what this message changes, or None if it belongs to the request that ``record`` is of.

        Args:
            record: the record of the request with the send's id; None if there is none.
            stored: the message's document; None if there is none.
            answer: the answer's.
            latest: the chat's latest message; None if it has none.
            spans: the chat's replaced spans.

        Raises:
            NotFound, Conflict, IdempotencyMismatch: as in ``Turns.begin_named``.
            Forbidden: another member of the group wrote the message that is to be edited.
        """
        if stored is None:
            if _OUR_MESSAGE.fullmatch(self.id):
                raise NotFound
            return None
        if not is_current(stored.data, spans):
            raise Conflict("This message was replaced by another one. Load the chat again.")
        if self.edit or self.regenerate:
            if self.edit and send.scope.group is not None and stored.data.get("written_by") != send.caller.uid:
                raise Forbidden("Only who wrote this message may edit it.")
            return self._replacement(send, record, stored, answer)
        if stored.data.get("text") != self.text:
            raise IdempotencyMismatch("A message that was sent cannot be changed: edit it, or send a new one.")
        if record is not None:
            return None
        if latest is not None and latest.id not in {send.user_message_id, send.answer_id}:
            raise Conflict("Only a chat's latest message can be sent again.")
        return replace(send, request_id=new_request_id())

    def _replacement(
        self, send: Send, record: Document | None, stored: Document, answer: Document | None
    ) -> Send | None:
        """Return the send that replaces the stored message's answer; None if it is the one that did."""
        if self.regenerate:
            text, files = str(stored.data.get("text", "")), tuple(stored.data.get("files", ()))
            send = replace(send, text=text, attachments=files, new_attachments=())
        repeats = self.edit or self.key is not None
        if repeats and record is None:
            return replace(send, replaces=True)
        if repeats and answer is not None and answer.data.get("request_id") == send.request_id:
            return None  # the same request, sent again
        if self.key is not None and record is not None and record.data.get("outcome") == "answered":
            raise Conflict("The answer to this request was replaced by a later one. Load the chat again.")
        # It failed before, or it regenerates, or the text was this before and then another.
        return replace(send, request_id=new_request_id(), replaces=True)


@dataclass(frozen=True, slots=True)
class Continuation:
    """A client's request to go on with an answer: one that was cut, or one whose tool calls wait for the user.

    Args:
        answer_id: the answer's id.
        decisions: on each of the calls that wait, by the call's id; empty for an answer that was cut.
        key: makes a repeated request count as one, as an Idempotency-Key does.
    """

    chat_id: str
    answer_id: str
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    key: str | None = None

    @property
    def turn_id(self) -> str:
        """The id of the turn that the answer belongs to.

        Raises:
            NotFound: the answer's id is none of ours.
        """
        ours = _OUR_ANSWER.fullmatch(self.answer_id)
        if ours is None:
            raise NotFound
        return ours[1]

    def request_id(self, place: ChatPlace) -> str:
        """Return the id of the request; decisions on the same calls have the same."""
        if self.decisions:
            calls = "\n".join(sorted(self.decisions))
            return request_id_of(place, f"approve\n{self.chat_id}\n{self.answer_id}\n{calls}")
        if self.key is None:
            return new_request_id()
        return request_id_of(place, f"continue\n{self.chat_id}\n{self.answer_id}\n{self.key}")

    @property
    def body(self) -> str:
        """What a repeated request must have in common with the first."""
        decisions = sorted((call, each.approved, each.reason) for call, each in self.decisions.items())
        return f"{self.answer_id}\n{decisions}"

    def check(self, answer: Document, latest: Document | None, now: datetime) -> None:
        """Check that the answer can go on in this way.

        Args:
            latest: the chat's latest message.

        Raises:
            Conflict: it is whole, is not the chat's latest, or other calls than those decided on wait.
        """
        if latest is None or latest.id != answer.id:
            raise Conflict("Only the latest answer of a chat can be continued.")
        waiting = {use["id"]: use["approve_until"] for use in answer.data.get("tools", ()) if use.get("approve_until")}
        if self.decisions or waiting:
            self._check_decisions(waiting, now)
        elif answer.data.get("finish", "stop") in {"stop", "content_filter"}:
            raise Conflict("The answer is not cut off, so there is nothing to continue.")

    def _check_decisions(self, waiting: Mapping[str, datetime], now: datetime) -> None:
        if not waiting:
            raise Conflict("No tool call of this answer waits for approval.")
        if set(self.decisions) != set(waiting):
            calls = ", ".join(sorted(waiting))
            raise Conflict(f"Approve or refuse each of the calls that wait, and no other: {calls}"[:500])
        if min(waiting.values()) <= now:
            raise Conflict("The time to approve this call is over. Send a new message.")


def is_answer_id(message_id: str) -> bool:
    """Return whether the id may be that of an answer of this service."""
    return _OUR_ANSWER.fullmatch(message_id) is not None


def is_message_id(message_id: str) -> bool:
    """Return whether the id may be that of a user's message of this service."""
    return _OUR_MESSAGE.fullmatch(message_id) is not None


def new_request_id() -> str:
    """Return a random id that nobody can guess."""
    return "r" + secrets.token_hex(16)


def request_id_of(place: ChatPlace, key: str) -> str:
    """Return the id of the request to which a user's client gave ``key``."""
    # The client chooses the key, so the caller's scope goes into the id: equal keys of two users stay apart, also in a
    # group's chat.
    whole = f"{place.caller.scope.root}\n{place.key_prefix}{key}"
    return "r" + hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Send:
    """One send of a message by a client.

    ``turn_id`` names the message and its answer. It is the id of the request that first brought the message. A
    regenerated answer has a request, and a bill, of its own.

    Attributes:
        attachments: the references to the message's files.
        new_attachments: those of them that are to be stored once the message is admitted.
        continues: whether it goes on with the answer of an earlier request.
        replaces: whether the message's earlier text, its answer, and what followed are replaced.
        decisions: what the user decided on the tool calls that this answer waits for.
        call: what an agent may cancel the request by.
    """

    place: ChatPlace
    chat_id: str
    text: str
    request_id: str
    turn_id: str
    body_hash: str
    at: datetime
    attachments: tuple[AttachmentReference, ...] = ()
    new_attachments: tuple[NewAttachment, ...] = ()
    continues: bool = False
    replaces: bool = False
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    call: str | None = None

    @property
    def caller(self) -> Caller:
        """The user who sends."""
        return self.place.caller

    @property
    def scope(self) -> Scope:
        """The owner of the chat: the user, or a group."""
        return self.place.scope

    @property
    def user_message_id(self) -> str:
        """The id of the user's message."""
        return f"{self.turn_id}-u"

    @property
    def answer_id(self) -> str:
        """The id of the answer."""
        return f"{self.turn_id}-a"

    @property
    def user_message(self) -> str:
        """The path of the user's message."""
        return self.scope.message(self.chat_id, self.user_message_id)

    @property
    def answer(self) -> str:
        """The path of the answer."""
        return self.scope.message(self.chat_id, self.answer_id)

    @property
    def record(self) -> str:
        """The path of the request's record."""
        return self.scope.request(self.request_id)


RUNNING: Final = "running"
"""The chat's field with the requests that are being answered, each with the time at which its reservation expires."""


def others_running(send: Send, chat: Mapping[str, Any], now: datetime) -> bool:
    """Return whether another request of the chat is being answered."""
    running = chat.get(RUNNING) or {}
    return any(request_id != send.request_id and expires_at > now for request_id, expires_at in running.items())


def begins(send: Send, chat: Mapping[str, Any], expires_at: datetime) -> dict[str, Any]:
    """Return the changes of the chat when the request begins. Requests that never ended are forgotten."""
    gone = [request_id for request_id, end in (chat.get(RUNNING) or {}).items() if end <= send.at]
    return {
        **{f"{RUNNING}.{request_id}": DELETE_FIELD for request_id in gone if request_id != send.request_id},
        f"{RUNNING}.{send.request_id}": expires_at,
    }


def ends(send: Send) -> dict[str, Any]:
    """Return the changes of the chat when the request ends."""
    return {f"{RUNNING}.{send.request_id}": DELETE_FIELD}


def chat_update(send: Send, changes: dict[str, Any], unchanged_since: datetime | None = None) -> Update:
    """Return the write that changes fields of the message's chat.

    Args:
        unchanged_since: the chat's update time as it was read, if nobody may have changed the chat since.
    """
    return Update(send.scope.chat(send.chat_id), changes, if_updated_at=unchanged_since)


def sent_view(send: Send, at: datetime, author: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's message as clients see it.

    Args:
        at: the time of its first send.
        author: names its writer in a group's chat.
    """
    data = {"role": "user", "text": send.text, "created_at": at, "files": send.attachments, **author}
    return message_view(send.user_message_id, data)
