"""One turn, top to bottom: a user's message comes in, is admitted and stored, answered, and settled.

1. ``begin``: read what admission and the prompt need (side by side), then store the user's message, the reservation and
   the request's record in ONE commit. From here on nothing that the user sent is lost.
2. ``events``: call the app's workflow, pass on its text, and settle in ONE commit: the answer, its exact cost, the
   record, the chat's title and time. A crash in between leaves a reservation that expires by itself.
"""

from __future__ import annotations

import hashlib
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .chats import message_view
from .errors import (
    AlreadyExists,
    Contention,
    FirelaunchError,
    IdempotencyMismatch,
    Interrupted,
    NotFound,
    PreconditionFailed,
    RequestInProgress,
    StoreError,
)
from .identity import Caller
from .lifecycle import Shutdown
from .llm.base import Chunk, Message, token_bound
from .llm.gateway import Answering
from .prompts import Prompts
from .scope import Scope
from .services import Services
from .settings import App
from .store.base import SERVER_TIME, Create, Document, Increment, Order, Query, Set, Update, Write
from .stream import Delta, Done, Event, Failed, Start
from .usage import Day, Quote, Reservation

__all__ = ["Running", "Turn", "Turns", "Workflow"]

log = logging.getLogger(__name__)

_ADMIT_SECONDS = 10.0
"""How long admission keeps trying while other requests of the same user change the same day."""

_IN_THE_WAY = (AlreadyExists, PreconditionFailed, Contention)
"""What a commit fails with when another request came first; the next try reads what that one left."""

_SETTLE_TRIES = 4
_TITLE_CHARACTERS = 60
_RECORD_DAYS = 30
"""How long a request's record, and with it its Idempotency-Key, is kept (Firestore's TTL policy on ``delete_at``)."""


@dataclass(slots=True)
class Turn:
    """What the app's workflow is handed: the message, what was said before, and a model that is metered."""

    app: App
    text: str
    history: list[Message]
    llm: Answering
    _prompts: Prompts
    prompt_id: str | None = None

    def prompt(self, name: str, **values: str) -> str:
        """The version of prompt ``name`` that is in use, filled in; the request's record will name it."""
        prompt = self._prompts.get(name)
        self.prompt_id = prompt.id
        return prompt.render(**values)


Workflow = Callable[[Turn], Iterable[Chunk]]


@dataclass(frozen=True, slots=True)
class _Send:
    """One send of a message, as the client made it."""

    caller: Caller
    scope: Scope
    chat_id: str
    text: str
    request_id: str
    body_hash: str
    at: datetime

    @property
    def user_message(self) -> str:
        return self.scope.message(self.chat_id, f"{self.request_id}-u")

    @property
    def answer(self) -> str:
        return self.scope.message(self.chat_id, f"{self.request_id}-a")

    @property
    def record(self) -> str:
        return self.scope.request(self.request_id)


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
        # Requests of one user meet on one document. Those of this process that met once queue here before the next try.
        self._queues = [threading.Lock() for _ in range(64)]

    def begin(self, caller: Caller, chat_id: str, text: str, key: str | None, *, streamed: bool) -> Running | Replay:
        """Admit and store a message; the answer then comes from the result's ``events()``.

        Args:
            key: the client's Idempotency-Key. A key that was answered before gives that answer again.

        Raises:
            NotFound: the chat is not the caller's.
            RateLimited, BudgetExceeded: the caller's plan does not admit it.
            RequestInProgress, IdempotencyMismatch: the key is in use.
            Contention: the same user's other requests were in the way for too long.
        """
        scope = caller.scope
        body_hash = hashlib.sha256(f"{chat_id}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
        send = _Send(caller, scope, chat_id, text, _request_id(scope, key), body_hash, self._services.clock())
        try:
            return self._admit(send, streamed)
        except _IN_THE_WAY:
            with self._queues[hash(scope.root) % len(self._queues)]:
                return self._admit_again(send, streamed)

    def _admit_again(self, send: _Send, streamed: bool) -> Running | Replay:
        give_up = time.monotonic() + _ADMIT_SECONDS
        while time.monotonic() < give_up:
            try:
                return self._admit(send, streamed)
            except _IN_THE_WAY:
                time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - spreads retries, keeps no secret
        raise Contention(retry_after=1)

    def _admit(self, send: _Send, streamed: bool) -> Running | Replay:
        services, scope = self._services, send.scope
        metering, gateway, limits = services.metering, services.gateway, services.settings.limits
        day = metering.today()
        latest = Query(
            scope.messages(send.chat_id),
            order=(Order("created_at", descending=True),),
            limit=limits.history_messages,
        )
        paths = [scope.chat(send.chat_id), scope.root, scope.usage(day), send.record, send.answer]
        (chat, user, usage, record, answer), found = services.store.read(paths, [latest] if latest.limit else [])
        if record is not None:
            replay = _replay(send, record, answer, services.clock())
            if replay is not None:
                return replay
        if chat is None:
            raise NotFound
        own = {send.user_message, send.answer}  # there when a send that failed is repeated
        history = [_prompt_message(d) for d in reversed(found[0] if found else []) if d.path not in own]
        asked = token_bound([*history, {"role": "user", "content": send.text}]) + limits.prompt_tokens
        choice = services.settings.choice
        quotes = [Quote(model, gateway.worst_case(model, asked)) for model in (choice.chat, choice.cheap)]
        plan = metering.plan_of(user)
        reservation, reserve = metering.reserve(scope, day, Day.of(usage), plan, send.request_id, quotes[0], quotes[1])
        at = services.store.commit([reserve, *self._store_message(send, record, reservation)])
        llm = gateway.answering(reservation, reservation.model, limits.request_seconds, streamed=streamed)
        turn = Turn(services.settings.app, send.text, history, llm, services.prompts)
        sent = _sent(send, send.at if record is None else record.data["created_at"])
        title = str(chat.data.get("title", ""))
        return Running(
            services, send, reservation, turn, self._workflow, self._shutdown, sent, title, at, answer is None
        )

    def _store_message(self, send: _Send, record: Document | None, reservation: Reservation) -> list[Write]:
        data = {
            "uid": send.scope.uid,
            "chat_id": send.chat_id,
            "state": "reserved",
            "body_hash": send.body_hash,
            "day": reservation.day,
            "plan": reservation.plan,
            "reserved_micro_usd": reservation.reserved,
            "expires_at": send.at + timedelta(seconds=reservation.metering.reservation_seconds),
            "delete_at": send.at + timedelta(days=_RECORD_DAYS),
        }
        message = {"role": "user", "text": send.text, "request_id": send.request_id, "created_at": send.at}
        chat: dict[str, Any] = {"updated_at": send.at}
        if record is None:
            chat["message_count"] = Increment(1)
            return [
                Create(send.record, {**data, "created_at": send.at}),
                Create(send.user_message, message),
                _chat(send, chat),
            ]
        # The same send once more, after one that failed or was cut off: its message is there and keeps its place.
        again = Update(send.record, data, if_updated_at=record.update_time)
        return [again, Set(send.user_message, {"text": send.text}, merge=True), _chat(send, chat)]


def _chat(send: _Send, changes: dict[str, Any]) -> Update:
    return Update(send.scope.chat(send.chat_id), changes)


def _request_id(scope: Scope, key: str | None) -> str:
    if key is None:
        return "r" + secrets.token_hex(16)
    # The key is the client's own word, so the id is made with the caller's scope: equal keys of two users never meet.
    return "r" + hashlib.sha256(f"{scope.root}\n{key}".encode()).hexdigest()[:32]


def _replay(send: _Send, record: Document, answer: Document | None, now: Any) -> Replay | None:
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
        send, _sent(send, data["created_at"]), message_view(answer.id, answer.data), dict(data.get("usage", {}))
    )


def _sent(send: _Send, at: datetime) -> dict[str, Any]:
    return message_view(f"{send.request_id}-u", {"role": "user", "text": send.text, "created_at": at})


def _prompt_message(document: Document) -> Message:
    role = document.data.get("role")
    return {"role": "assistant" if role == "assistant" else "user", "content": str(document.data.get("text", ""))}


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer that was given before, told again; nothing is called and nothing is billed."""

    send: _Send
    sent: dict[str, Any]
    message: dict[str, Any]
    usage: dict[str, Any]

    def events(self) -> Iterator[Event]:
        """The same events as the first time, with the text in one piece."""
        yield Start(self.send.request_id, self.send.chat_id, self.sent)
        yield Delta(self.message["text"])
        yield Done(self.message, self.usage)


@dataclass(slots=True)
class Running:
    """A message that was admitted and stored. ``events()`` answers it; to be called once."""

    services: Services
    send: _Send
    reservation: Reservation
    turn: Turn
    workflow: Workflow
    shutdown: Shutdown
    sent: dict[str, Any]
    title: str
    record_updated_at: Any
    answer_is_new: bool
    _said: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _first_token: float | None = None

    def events(self) -> Iterator[Event]:
        """Start, the pieces of the answer, then Done (or Failed, after which nothing follows).

        Closing it early ends the model's call, and keeps and bills what was said until then.
        """
        outcome = "stopped"
        error: FirelaunchError | None = None
        done: Done | None = None
        try:
            yield Start(self.send.request_id, self.send.chat_id, self.sent)
            yield from self._deltas()
            outcome = "answered"
        except FirelaunchError as failure:
            outcome, error = "failed", failure
        except Exception:
            outcome, error = "failed", FirelaunchError()
            log.exception("the app's workflow failed in request %s", self.send.request_id)
        finally:
            try:
                done = self._settle(outcome, error)
            except FirelaunchError as failure:
                log.exception("request %s could not be settled: %s", self.send.request_id, self._usage())
                error = failure
        if done is None or error is not None:
            yield Failed(error or FirelaunchError(), self.send.request_id)
        else:
            yield done

    def _deltas(self) -> Iterator[Event]:
        chunks = iter(self.workflow(self.turn))
        try:
            for chunk in chunks:
                if self.shutdown.due:
                    raise Interrupted(retry_after=1)
                if not chunk.text:
                    continue
                if self._first_token is None:
                    self._first_token = time.monotonic()
                self._said.append(chunk.text)
                yield Delta(chunk.text)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _usage(self) -> dict[str, Any]:
        tokens, reservation = self.reservation.tokens, self.reservation
        return {
            "model": reservation.model,
            "input_tokens": tokens.input,
            "cached_input_tokens": tokens.cached_input,
            "output_tokens": tokens.output,
            "estimated": tokens.estimated,
            "cost_micro_usd": reservation.spent,
            "cheaper_model": reservation.cheaper,
        }

    def _settle(self, outcome: str, error: FirelaunchError | None) -> Done:
        text = "".join(self._said)
        usage = self._usage()
        answer = {
            "role": "assistant",
            "text": text,
            "status": "complete" if outcome == "answered" else "incomplete",
            "model": usage["model"],
            "request_id": self.send.request_id,
            "created_at": self.services.clock(),
        }
        kept = bool(text) or outcome == "answered"
        record = Update(self.send.record, self._record(outcome, error, usage), if_updated_at=self.record_updated_at)
        self._commit([self.reservation.settlement(), record], self._chat_writes(answer) if kept else [])
        return Done(message_view(f"{self.send.request_id}-a", answer), usage)

    def _record(self, outcome: str, error: FirelaunchError | None, usage: dict[str, Any]) -> dict[str, Any]:
        now = time.monotonic()
        first = None if self._first_token is None else round((self._first_token - self._started) * 1000)
        return {
            "state": "settled",
            "outcome": outcome,
            "error": None if error is None else error.code,
            "prompt": self.turn.prompt_id,
            "usage": usage,
            "first_token_ms": first,
            "total_ms": round((now - self._started) * 1000),
            "settled_at": SERVER_TIME,
        }

    def _chat_writes(self, answer: dict[str, Any]) -> list[Write]:
        changes: dict[str, Any] = {"updated_at": answer["created_at"]}
        if self.answer_is_new:
            changes["message_count"] = Increment(1)
        if not self.title:
            changes["title"] = _title(self.send.text)
        return [Set(self.send.answer, answer), _chat(self.send, changes)]

    def _commit(self, settlement: list[Write], chat: list[Write]) -> None:
        for attempt in range(_SETTLE_TRIES):
            try:
                self.services.store.commit([*settlement, *chat])
                return
            except NotFound:
                # The chat was deleted while its answer was on the way. What the answer cost is owed all the same.
                if not chat:
                    raise
                chat = []
            except PreconditionFailed:
                self._check_settled()
                return
            except StoreError:
                if attempt + 1 == _SETTLE_TRIES:
                    raise
                time.sleep(0.1 * 2**attempt)

    def _check_settled(self) -> None:
        """A commit whose acknowledgement was lost shows as a record that is settled; anything else is a fault."""
        record = self.services.store.get(self.send.record)
        if record is None or record.data.get("state") != "settled":
            raise PreconditionFailed(reason="the request's record changed under its turn")


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1].rstrip() + "…"
