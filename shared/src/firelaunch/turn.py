"""One turn, top to bottom: a user's message comes in, is admitted and stored, answered, and settled.

1. ``begin``: read what admission and the prompt need (side by side), then store the user's message, the reservation and
   the request's record in ONE commit. From here on nothing that the user sent is lost.
2. ``events`` (in :mod:`.answering`): call the app's workflow, pass on its text, and settle in ONE commit: the answer,
   its exact cost, the record, the chat's title and time. A crash in between leaves a reservation that expires.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from .answering import Replay, Running, Send, Turn, Workflow, chat_update, sent_view
from .chats import message_view
from .checkpoints import Checkpointer, Checkpoints
from .errors import IdempotencyMismatch, NotFound, RequestInProgress
from .identity import Caller
from .lifecycle import Shutdown
from .llm.base import Message, token_bound
from .llm.client import Client
from .scope import Scope
from .services import Services
from .store.base import Create, Document, Increment, Order, Query, Set, Update, Write
from .usage import Day, Quote, Reservation

__all__ = ["Running", "Turn", "Turns", "Workflow"]

_RECORD_DAYS = 30
"""How long a request's record, and with it its Idempotency-Key, is kept (Firestore's TTL policy on ``delete_at``)."""


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
        self._checkpointer = Checkpointer(services.store, services.settings.limits.checkpoint_seconds)

    def begin(
        self,
        caller: Caller,
        chat_id: str,
        text: str,
        key: str | None,
        *,
        streamed: bool,
        client: Client | None = None,
    ) -> Running | Replay:
        """Admit and store a message; the answer then comes from the result's ``events()``.

        Args:
            key: the client's Idempotency-Key. A key that was answered before gives that answer again.
            client: whose leaving ends the answer, where the server knows them.

        Raises:
            NotFound: the chat is not the caller's.
            RateLimited, BudgetExceeded: the caller's plan does not admit it.
            RequestInProgress, IdempotencyMismatch: the key is in use.
            Contention: the same user's other requests were in the way for too long.
        """
        scope = caller.scope
        body_hash = hashlib.sha256(f"{chat_id}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
        send = Send(caller, scope, chat_id, text, _request_id(scope, key), body_hash, self._services.clock())
        return self._services.admission.run(scope.root, lambda: self._admit(send, streamed, client))

    def _admit(self, send: Send, streamed: bool, client: Client | None) -> Running | Replay:
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
        recent = _steady(
            found[0][::-1] if found else [], int(chat.data.get("message_count", 0)), limits.history_messages
        )
        history = [_prompt_message(d) for d in recent if d.path not in own]
        asked = token_bound([*history, {"role": "user", "content": send.text}]) + limits.prompt_tokens
        choice = services.settings.choice
        quotes = [Quote(model, gateway.worst_case(model, asked)) for model in (choice.chat, choice.cheap)]
        plan = metering.plan_of(user)
        reservation, reserve = metering.reserve(scope, day, Day.of(usage), plan, send.request_id, quotes[0], quotes[1])
        expires_at = send.at + timedelta(seconds=metering.reservation_seconds)
        at = services.store.commit([reserve, *self._store_message(send, record, reservation, expires_at)])
        seconds = limits.request_seconds
        llm = gateway.answering(reservation, reservation.model, seconds, streamed=streamed, owner=scope, client=client)
        prompts = services.prompts.of(send.caller.uid, own_models=not reservation.cheaper)
        turn = Turn(services.settings.app, send.text, history, llm, prompts)
        sent = sent_view(send, send.at if record is None else record.data["created_at"])
        title = str(chat.data.get("title", ""))
        checkpoints = Checkpoints(self._checkpointer, send.record, at, expires_at)
        running = Running(
            services, send, reservation, turn, self._workflow, self._shutdown, sent, title, checkpoints, answer is None
        )
        running.client = client
        llm.check = running.pulse
        return running

    def _store_message(
        self, send: Send, record: Document | None, reservation: Reservation, expires_at: datetime
    ) -> list[Write]:
        data = {
            "uid": send.scope.uid,
            "chat_id": send.chat_id,
            "state": "reserved",
            "body_hash": send.body_hash,
            "day": reservation.day,
            "plan": reservation.plan,
            "reserved_micro_usd": reservation.reserved,
            "expires_at": expires_at,
            "delete_at": send.at + timedelta(days=_RECORD_DAYS),
        }
        message = {"role": "user", "text": send.text, "request_id": send.request_id, "created_at": send.at}
        chat: dict[str, Any] = {"updated_at": send.at}
        if record is None:
            chat["message_count"] = Increment(1)
            return [
                Create(send.record, {**data, "created_at": send.at}),
                Create(send.user_message, message),
                chat_update(send, chat),
            ]
        # The same send once more, after one that failed or was cut off: its message is there and keeps its place.
        again = Update(send.record, data, if_updated_at=record.update_time)
        return [again, Set(send.user_message, {"text": send.text}, merge=True), chat_update(send, chat)]


def _steady(recent: Sequence[Document], count: int, most: int) -> Sequence[Document]:
    """The latest messages of a chat of ``count``, from a beginning that moves on in steps of half of ``most``.

    Models' providers charge less for the beginning of a prompt that they saw before. Were the oldest message dropped
    with each new one, no prompt would begin like the one before it.
    """
    if len(recent) < most or most < 2:
        return recent
    return recent[-max(0, count - most) % (most // 2) :]


def _request_id(scope: Scope, key: str | None) -> str:
    if key is None:
        return "r" + secrets.token_hex(16)
    # The key is the client's own word, so the id is made with the caller's scope: equal keys of two users never meet.
    return "r" + hashlib.sha256(f"{scope.root}\n{key}".encode()).hexdigest()[:32]


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
