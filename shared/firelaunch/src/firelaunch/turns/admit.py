"""Admit a message: read, decide, reserve, store, and hand back the run that answers it.

1. Read the chat, the user's day and what the prompt needs, side by side.
2. Find out whether this send was answered before, or is to be answered anew.
3. Bound the prompt, and reserve what the answer may cost at most.
4. Store the user's message, the reservation and the request's record in ONE commit. From here on nothing that the user
   sent is lost.
5. Hand back a :class:`~firelaunch.turns.answer.TurnRun`, which calls the workflow and settles in one more commit. A
   crash in between leaves a reservation that expires.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ..chats.checkpoints import Checkpointer, Checkpoints
from ..chats.store import message_view, new_chat
from ..errors import IdempotencyMismatch, NotFound, RequestInProgress
from ..identity import Caller
from ..llm.client_connection import ClientConnection
from ..llm.types import Message, token_bound
from ..metering.reservations import Day, Quote, Reservation
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..store.base import DELETE_FIELD, Create, Document, Increment, Order, Query, Set, Update, Write
from .answer import Replay, TurnRun, plain_title
from .follow_ups import AnsweredChat, FollowUps, notes_of
from .grounding import Grounding
from .send import ClientMessage, Send, chat_update, new_request_id, request_id_of, sent_view
from .turn import Turn, Workflow

if TYPE_CHECKING:
    from ..rag.versions import State

__all__ = ["Turns"]

_RECORD_DAYS = 30
"""How long a request's record, and with it its Idempotency-Key, is kept (Firestore's TTL policy on ``delete_at``)."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a client asks for. ``message`` is set where the client names its messages itself."""

    send: Send
    grounding: Grounding
    message: ClientMessage | None
    streamed: bool
    client: ClientConnection | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the database had; None for a document that is not there, or was not asked for.

    Attributes:
        record: of the request that first brought this send.
        question: the user's message, as stored by that request.
        newest_first: the chat's latest messages.
    """

    chat: Document | None
    user: Document | None
    usage: Document | None
    record: Document | None
    answer: Document | None
    index_state: Document | None
    newest_first: Sequence[Document]
    question: Document | None = None
    memory: Document | None = None

    @property
    def about(self) -> Mapping[str, Any]:
        """The chat's fields; those of a new one where there is none yet."""
        return self.chat.data if self.chat is not None else {"title": "", "message_count": 0}

    @property
    def message_count(self) -> int:
        return int(self.about.get("message_count", 0))


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What the model is told besides its instructions and the passages."""

    history: list[Message]
    summary: str
    notes: tuple[str, ...]

    def token_bound(self, text: str) -> int:
        """The most tokens that all of it can take, with ``text`` as the user's message."""
        told = "\n".join(filter(None, (text, self.summary, *self.notes)))
        return token_bound([*self.history, {"role": "user", "content": told}])


class Turns:
    """Begins turns. One per process.

    Args:
        services: what the app works with.
        workflow: the app's own function: from a :class:`Turn` to the pieces of its answer.
        shutdown: when it is due, running answers end and are settled with what was said.
    """

    def __init__(self, services: Services, workflow: Workflow, shutdown: Shutdown) -> None:
        self._services = services
        self._workflow = workflow
        self._shutdown = shutdown
        self._after = FollowUps(services)
        self._checkpointer = Checkpointer(services.store, services.settings.limits.checkpoint_seconds)

    def begin(
        self,
        caller: Caller,
        chat_id: str,
        text: str,
        key: str | None,
        *,
        streamed: bool,
        client: ClientConnection | None = None,
    ) -> TurnRun | Replay:
        """Admit and store a message; the answer then comes from the result's ``events()``.

        Args:
            key: the client's Idempotency-Key. A key that was answered before gives that answer again.
            client: whoever asks, where the server knows them.

        Raises:
            NotFound: the chat is not the caller's.
            RateLimited, BudgetExceeded: the caller's plan does not admit it.
            RequestInProgress, IdempotencyMismatch: the key is in use.
            Contention: the same user's other requests were in the way for too long.
        """
        request_id = new_request_id() if key is None else request_id_of(caller.scope, key)
        return self._admitted(self._send(caller, chat_id, text, request_id), streamed, client)

    def begin_named(self, caller: Caller, message: ClientMessage, client: ClientConnection | None) -> TurnRun | Replay:
        """The same, to be streamed, for a message that its client has named; a chat that is not there is made.

        A message that was answered gives that answer again, unless a new one is asked for.

        Raises:
            NotFound: the message has an id of ours, and is not the caller's.
            Conflict: an answer is to be made anew, and is not the chat's latest.
            IdempotencyMismatch: there is a message of this id with another text.
            InvalidId, and what ``begin`` raises.
        """
        send = self._send(caller, message.chat_id, message.text, message.request_id(caller.scope))
        return self._admitted(send, True, client, message)

    def _send(self, caller: Caller, chat_id: str, text: str, request_id: str) -> Send:
        body_hash = hashlib.sha256(f"{chat_id}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
        return Send(caller, caller.scope, chat_id, text, request_id, request_id, body_hash, self._services.clock())

    def _admitted(
        self, send: Send, streamed: bool, client: ClientConnection | None, message: ClientMessage | None = None
    ) -> TurnRun | Replay:
        grounding = Grounding(self._services.documents, send.scope, send.text)
        asked = _Asked(send, grounding, message, streamed, client)
        return self._services.admission.run(send.scope.root, partial(self._admit, asked))

    def _admit(self, asked: _Asked) -> TurnRun | Replay:
        day = self._services.metering.today()
        seen = self._read(asked, day)
        current = self._current(asked, seen)
        if isinstance(current, Replay):
            return current
        send, seen = current
        prompt = self._prompt(send, seen)
        asked.grounding.expect(self._index_version(seen))
        reservation, reserve = self._reserve(send, day, seen, prompt, asked.grounding)
        asked.grounding.begin()  # the search runs beside the commit
        expires_at = send.at + timedelta(seconds=self._services.metering.reservation_seconds)
        stored_at = self._services.store.commit([reserve, *_stored(send, seen, reservation, expires_at)])
        checkpoints = Checkpoints(self._checkpointer, send.record, stored_at, expires_at)
        return self._run(asked, send, seen, prompt, reservation, checkpoints)

    def _read(self, asked: _Asked, day: str) -> _Seen:
        """Read all that admission and the prompt need, in one round trip."""
        send, scope = asked.send, asked.send.scope
        wanted = {
            "chat": scope.chat(send.chat_id),
            "user": scope.root,
            "usage": scope.usage(day),
            "record": send.record,
            "answer": send.answer,
            "index_state": scope.index_state(),
        }
        if asked.message is not None:
            wanted["question"] = send.user_message
        if self._after.memory:
            wanted["memory"] = scope.memory()
        order = (Order("created_at", descending=True),)
        latest = Query(scope.messages(send.chat_id), order=order, limit=self._history_messages)
        documents, lists = self._services.store.read(list(wanted.values()), [latest] if latest.limit else [])
        return _Seen(**dict(zip(wanted, documents, strict=True)), newest_first=lists[0] if lists else [])

    @property
    def _history_messages(self) -> int:
        return self._services.settings.limits.history_messages

    def _current(self, asked: _Asked, seen: _Seen) -> tuple[Send, _Seen] | Replay:
        """Return the send to answer, or the answer that it was given before.

        Raises:
            NotFound: there is no such chat, and the client does not name chats itself.
            RequestInProgress, IdempotencyMismatch, Conflict: as ``begin`` and ``begin_named`` say.
        """
        send, message, now = asked.send, asked.message, self._services.clock()
        anew = message and message.anew(send, seen.record, seen.question, seen.newest_first, now)
        if anew:
            send, seen = anew, replace(seen, record=None)
        elif seen.record is not None:
            replay = _replay(send, seen.record, seen.answer, now)
            if replay is not None:
                return replay
        if seen.chat is None and message is None:
            raise NotFound
        return send, seen

    def _prompt(self, send: Send, seen: _Seen) -> _Prompt:
        """Gather what the model is told besides its instructions: the chat's history, its summary and the notes."""
        own = {send.user_message, send.answer}  # they are there when a send that failed is repeated
        recent = _steady(seen.newest_first[::-1], seen.message_count, self._history_messages)
        history = [_prompt_message(d) for d in recent if d.path not in own and str(d.data.get("text", "")).strip()]
        return _Prompt(history, str(seen.about.get("summary", "")), notes_of(seen.memory))

    def _index_version(self, seen: _Seen) -> State | None:
        if not self._services.settings.search.in_chats:
            return None
        return self._services.documents.versions.in_use(seen.index_state)

    def _reserve(
        self, send: Send, day: str, seen: _Seen, prompt: _Prompt, grounding: Grounding
    ) -> tuple[Reservation, Write]:
        """Reserve the most that the answer, and the search for it, can cost.

        Raises:
            RateLimited, BudgetExceeded: the caller's plan does not admit it.
        """
        services = self._services
        tokens = prompt.token_bound(send.text) + services.settings.limits.prompt_tokens + grounding.token_bound
        choice, beside = services.settings.choice, grounding.cost_bound
        quotes = [
            Quote(model, services.gateway.worst_case(model, tokens) + beside) for model in (choice.chat, choice.cheap)
        ]
        plan = services.metering.plan_of(seen.user)
        reservation, reserve = services.metering.reserve(
            send.scope, day, Day.of(seen.usage), plan, send.request_id, *quotes
        )
        reservation.held = beside
        return reservation, reserve

    def _run(
        self,
        asked: _Asked,
        send: Send,
        seen: _Seen,
        prompt: _Prompt,
        reservation: Reservation,
        checkpoints: Checkpoints,
    ) -> TurnRun:
        services, limits = self._services, self._services.settings.limits
        llm = services.gateway.answering(
            reservation,
            reservation.model,
            limits.request_seconds,
            streamed=asked.streamed,
            owner=send.scope,
            client=asked.client,
        )
        turn = Turn(
            services.settings.app,
            send.text,
            prompt.history,
            llm,
            services.prompts.of(send.caller.uid, own_models=not reservation.cheaper),
            asked.grounding,
            features=frozenset(reservation.limit.features),
            summary=prompt.summary,
            memory=prompt.notes,
        )
        first = seen.question or seen.record
        messages = seen.message_count + (seen.record is None) + (seen.answer is None)
        return TurnRun(
            services,
            send,
            reservation,
            turn,
            self._workflow,
            self._shutdown,
            sent_view(send, send.at if first is None else first.data["created_at"]),
            str(seen.about.get("title", "")),
            checkpoints,
            answer_is_new=seen.answer is None,
            following=self._after.following(send.scope, _followed(send), seen.about, messages),
            goes_on=limits.on_disconnect == "continue",
            client=asked.client,
        )


def _stored(send: Send, seen: _Seen, reservation: Reservation, expires_at: datetime) -> list[Write]:
    """Return the writes of the request's record, the user's message, and the chat's latest request, to be resumed."""
    data = {
        "uid": send.scope.uid,
        "chat_id": send.chat_id,
        "turn_id": send.turn_id,
        "state": "reserved",
        "body_hash": send.body_hash,
        "day": reservation.day,
        "plan": reservation.plan,
        "reserved_micro_usd": reservation.reserved,
        "expires_at": expires_at,
        "delete_at": send.at + timedelta(days=_RECORD_DAYS),
    }
    message = {"role": "user", "text": send.text, "request_id": send.request_id, "created_at": send.at}
    change: dict[str, Any] = {"updated_at": send.at, "latest_request": send.request_id}
    writes: list[Write] = []
    if seen.chat is None:
        writes.append(Create(send.scope.chat(send.chat_id), {**new_chat("", send.at), **change, "message_count": 1}))
        writes.append(Set(send.user_message, message))
    elif seen.record is None and seen.question is None:
        writes.append(chat_update(send, {**change, "message_count": Increment(1)}))
        writes.append(Create(send.user_message, message))
    else:
        # The same send once more: its message is there, unless its chat was deleted meanwhile, and keeps its place.
        writes.append(chat_update(send, change))
        writes.append(Set(send.user_message, {"text": send.text}, merge=True))
    if seen.record is None:
        return [*writes, Create(send.record, {**data, "created_at": send.at})]
    left = {"partial": DELETE_FIELD, "stop": DELETE_FIELD}
    return [*writes, Update(send.record, {**data, **left}, if_updated_at=seen.record.update_time)]


def _followed(send: Send) -> AnsweredChat:
    title = plain_title(send.text)
    return AnsweredChat(chat_id=send.chat_id, question=send.user_message_id, answer=send.answer_id, title=title)


def _steady(recent: Sequence[Document], count: int, most: int) -> Sequence[Document]:
    """The latest messages of a chat of ``count``, from a beginning that moves on in steps of half of ``most``.

    Models' providers charge less for the beginning of a prompt that they saw before. Were the oldest message dropped
    with each new one, no prompt would begin like the one before it.
    """
    if len(recent) < most or most < 2:
        return recent
    return recent[-max(0, count - most) % (most // 2) :]


def _replay(send: Send, record: Document, answer: Document | None, now: Any) -> Replay | None:
    data = record.data
    if data.get("uid") != send.scope.uid or data.get("body_hash") != send.body_hash:
        raise IdempotencyMismatch
    if data["state"] == "reserved":
        left = (data["expires_at"] - now).total_seconds()
        if left > 0:
            raise RequestInProgress(retry_after=min(left, 5))
        return None
    if data.get("outcome") != "answered" or answer is None:
        return None
    return Replay(
        send, sent_view(send, data["created_at"]), message_view(answer.id, answer.data), dict(data.get("usage", {}))
    )


def _prompt_message(document: Document) -> Message:
    role = document.data.get("role")
    return {"role": "assistant" if role == "assistant" else "user", "content": str(document.data.get("text", ""))}
