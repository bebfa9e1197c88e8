"""One turn, top to bottom: a user's message comes in, is admitted and stored, answered, and settled.

1. ``begin``: read what admission and the prompt need (side by side), then store the user's message, the reservation and
   the request's record in ONE commit. From here on nothing that the user sent is lost.
2. ``events`` (in :mod:`firelaunch.turns.answer`): call the app's workflow, pass on its text, and settle in ONE commit:
the answer,
   its exact cost, the record, the chat's title and time. A crash in between leaves a reservation that expires.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

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

__all__ = ["Turns"]

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
        self, send: Send, streamed: bool, client: ClientConnection | None, named: ClientMessage | None = None
    ) -> TurnRun | Replay:
        grounding = Grounding(self._services.documents, send.scope, send.text)
        attempt = partial(self._admit, send, grounding, streamed, client, named)
        return self._services.admission.run(send.scope.root, attempt)

    def _admit(
        self,
        send: Send,
        grounding: Grounding,
        streamed: bool,
        client: ClientConnection | None,
        named: ClientMessage | None,
    ) -> TurnRun | Replay:
        services, scope = self._services, send.scope
        metering, gateway, limits = services.metering, services.gateway, services.settings.limits
        day = metering.today()
        latest = Query(
            scope.messages(send.chat_id),
            order=(Order("created_at", descending=True),),
            limit=limits.history_messages,
        )
        paths = [scope.chat(send.chat_id), scope.root, scope.usage(day), send.record, send.answer, scope.index_state()]
        paths += [send.user_message] if named else []
        paths += [scope.memory()] if self._after.memory else []
        (chat, user, usage, record, answer, state, *more), found = services.store.read(
            paths, [latest] if latest.limit else []
        )
        newest_first = found[0] if found else []
        question = more.pop(0) if named else None
        again = named and named.anew(send, record, question, newest_first, services.clock())
        if again:
            send, record = again, None
        elif record is not None:
            replay = _replay(send, record, answer, services.clock())
            if replay is not None:
                return replay
        if chat is None and not named:
            raise NotFound
        own = {send.user_message, send.answer}  # there when a send that failed is repeated
        about: Mapping[str, Any] = new_chat("", send.at) if chat is None else chat.data
        recent = _steady(newest_first[::-1], int(about.get("message_count", 0)), limits.history_messages)
        history = [_prompt_message(d) for d in recent if d.path not in own and str(d.data.get("text", "")).strip()]
        grounding.expect(services.documents.versions.in_use(state) if services.settings.search.in_chats else None)
        summary, notes = str(about.get("summary", "")), notes_of(more[0] if more else None)
        told = token_bound(
            [*history, {"role": "user", "content": "\n".join(filter(None, (send.text, summary, *notes)))}]
        )
        asked = told + limits.prompt_tokens + grounding.token_bound
        choice = services.settings.choice
        beside = grounding.cost_bound
        quotes = [Quote(model, gateway.worst_case(model, asked) + beside) for model in (choice.chat, choice.cheap)]
        plan = metering.plan_of(user)
        reservation, reserve = metering.reserve(scope, day, Day.of(usage), plan, send.request_id, quotes[0], quotes[1])
        reservation.held = beside
        grounding.begin()  # beside the commit
        expires_at = send.at + timedelta(seconds=metering.reservation_seconds)
        at = services.store.commit([reserve, *_stored(send, chat, record, question, reservation, expires_at)])
        seconds = limits.request_seconds
        llm = gateway.answering(reservation, reservation.model, seconds, streamed=streamed, owner=scope, client=client)
        prompts = services.prompts.of(send.caller.uid, own_models=not reservation.cheaper)
        features = frozenset(reservation.limit.features)
        turn = Turn(services.settings.app, send.text, history, llm, prompts, grounding, features=features)
        turn.summary, turn.memory = summary, notes
        first = question or record
        sent = sent_view(send, send.at if first is None else first.data["created_at"])
        title = str(about.get("title", ""))
        checkpoints = Checkpoints(self._checkpointer, send.record, at, expires_at)
        running = TurnRun(
            services, send, reservation, turn, self._workflow, self._shutdown, sent, title, checkpoints, answer is None
        )
        count = int(about.get("message_count", 0)) + (record is None) + (answer is None)
        running.following = self._after.following(scope, _followed(send), about, count)
        running.client = client
        running.goes_on = limits.on_disconnect == "continue"
        if client is not None:
            client.goes_on = running.goes_on
        llm.check = running.pulse
        return running


def _stored(
    send: Send,
    chat: Document | None,
    record: Document | None,
    stored: Document | None,
    reservation: Reservation,
    expires_at: datetime,
) -> list[Write]:
    """The request's record, the user's message, and in the chat which request is its latest, to be resumed."""
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
    if chat is None:
        writes.append(Create(send.scope.chat(send.chat_id), {**new_chat("", send.at), **change, "message_count": 1}))
        writes.append(Set(send.user_message, message))
    elif record is None and stored is None:
        writes.append(chat_update(send, {**change, "message_count": Increment(1)}))
        writes.append(Create(send.user_message, message))
    else:
        # The same send once more: its message is there, unless its chat was deleted meanwhile, and keeps its place.
        writes.append(chat_update(send, change))
        writes.append(Set(send.user_message, {"text": send.text}, merge=True))
    if record is None:
        return [*writes, Create(send.record, {**data, "created_at": send.at})]
    left = {"partial": DELETE_FIELD, "stop": DELETE_FIELD}
    return [*writes, Update(send.record, {**data, **left}, if_updated_at=record.update_time)]


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
