"""Admit a message: read, decide, reserve, store, and hand back the run that answers it.

1. Read the chat, the user's day and the documents that the prompt needs, in one round trip.
2. Decide whether to replay an earlier answer, to regenerate it, or to answer for the first time.
3. Bound the prompt's tokens, and reserve the most that the answer can cost.
4. Store the user's message, the reservation and the request's record in ONE commit. After this commit nothing that the
   user sent can be lost.
5. Return a :class:`~firelaunch.turns.answer.TurnRun`. It calls the workflow and settles in one more commit. After a
   crash in between, the reservation expires.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ..chats.branches import MessageSpan, is_current, latest_current, spans_of, with_span
from ..chats.checkpoints import Checkpointer, Checkpoints
from ..chats.place import ChatPlace
from ..chats.store import message_view, new_chat
from ..errors import Conflict, IdempotencyMismatch, NotFound, RequestInProgress
from ..identity import Caller
from ..llm.attachments import Attachment, Kind
from ..llm.client_connection import ClientConnection
from ..llm.types import HeldCalls, Message, audio_bound, token_bound
from ..metering.call_records import RECORD_DAYS
from ..metering.ceiling import Chance
from ..metering.reservations import Day, Quote, Reservation
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..store.base import DELETE_FIELD, Create, Delete, Document, Increment, Order, Query, Set, Update, Write
from ..store.scoped import ScopedStore
from ..telemetry import log_names
from ..telemetry.names import CONVERSATION
from ..telemetry.spans import SPAN, Span, current, span
from .answer import Replay, TurnRun, plain_title
from .approvals import RecordedApprovals, held_calls
from .attachments import NO_ATTACHMENTS, AttachmentRoom, MessageAttachments, load_attachments
from .follow_ups import AnsweredChat, FollowUps, notes_of
from .grounding import Grounding
from .send import (
    RUNNING,
    ClientMessage,
    Continuation,
    Send,
    begins,
    chat_update,
    new_request_id,
    others_running,
    request_id_of,
    sent_view,
)
from .speakers import Speakers
from .turn import Turn, Workflow

if TYPE_CHECKING:
    from ..rag.versions import State

__all__ = ["Turns"]


_LATEST = (Order("created_at", descending=True),)
_LATEST_MESSAGES = 4
"""Messages to read at least where it matters which is a chat's latest; some of them may have been replaced."""

_MOST_TRIES_KEPT = 50
"""Earlier tries of a send whose figures its record keeps."""

_GO_ON = (
    "Your answer was cut off. Go on exactly where it stopped, in the middle of a word if need be. Repeat nothing, and "
    "don't mention the cut."
)


@dataclass(frozen=True, slots=True)
class _Request:
    """A client's request to answer a message, or to go on with an answer.

    Attributes:
        message: set if the client chose the message's id.
        continuation: set if an answer is to go on.
        span: the span of the HTTP request, of which the answer is a part; the admission is another.
    """

    send: Send
    grounding: Grounding
    streamed: bool
    client: ClientConnection | None
    message: ClientMessage | None = None
    continuation: Continuation | None = None
    span: Span | None = field(default_factory=SPAN.get)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The documents that the database had. None stands for a document that does not exist or was not read.

    Attributes:
        record: the record of the request that first brought this send.
        question: the user's message, as that request stored it.
        owner: the document of the group whose chat it is, if another pays than the group.
        continued: the record of the request that ended with tool calls which wait.
        newest_first: the chat's latest messages.
    """

    chat: Document | None
    payer: Document | None
    usage: Document | None
    erasure: Document | None
    record: Document | None
    answer: Document | None
    index_state: Document | None
    newest_first: Sequence[Document]
    question: Document | None = None
    continued: Document | None = None
    memory: Document | None = None
    owner: Document | None = None

    @property
    def chat_fields(self) -> Mapping[str, Any]:
        """The chat's fields, or those of a new chat if it does not exist yet."""
        return self.chat.data if self.chat is not None else {"title": "", "message_count": 0}

    @property
    def spans(self) -> list[MessageSpan]:
        """The chat's replaced spans of messages."""
        return spans_of(self.chat_fields)

    @property
    def message_count(self) -> int:
        return int(self.chat_fields.get("message_count", 0))


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The parts of the prompt besides the instructions and the passages.

    Attributes:
        text: the message, with its writer where several have written.
    """

    text: str
    history: list[Message]
    summary: str
    notes: tuple[str, ...]
    so_far: tuple[Message, ...] = ()
    held: HeldCalls | None = None
    attachments: tuple[Attachment, ...] = ()

    @property
    def token_bound(self) -> int:
        """The most tokens that these parts can take."""
        user_text = "\n".join(filter(None, (self.text, self.summary, *self.notes)))
        held = () if self.held is None else self.held.messages
        asked: Message = {"role": "user", "content": user_text, "attachments": self.attachments}
        return token_bound([*self.history, asked, *self.so_far, *held])

    @property
    def audio_bound(self) -> int:
        """The most tokens of them that the recordings can take."""
        return audio_bound([*self.history, {"role": "user", "content": "", "attachments": self.attachments}])

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of the message's own files."""
        return frozenset(each.kind for each in self.attachments)


class Turns:
    """Starts turns. Each process shares one instance.

    Args:
        services: the app's services.
        workflow: the app's function that takes a :class:`Turn` and yields the chunks of its answer.
        shutdown: when it is due, running answers end and settle with the text that they have.
    """

    def __init__(self, services: Services, workflow: Workflow, shutdown: Shutdown) -> None:
        self._services = services
        self._workflow = workflow
        self._shutdown = shutdown
        self._follow_ups = FollowUps(services)
        self.attachment_room = AttachmentRoom()
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
        attachments: MessageAttachments = NO_ATTACHMENTS,
        place: ChatPlace | None = None,
    ) -> TurnRun | Replay:
        """Admit and store a message. The result's ``events()`` then yields the answer.

        Args:
            place: the owner of the chat, and who pays; None for the caller's own chats. Where it is a group, every
                method of these raises NotFound if the caller is no member, and Forbidden if the caller may not write.
            key: the client's Idempotency-Key. A key that was answered before replays that answer.
            client: the client's connection, if the server knows it.
            attachments: the message's files. The new ones are stored once the message is admitted.

        Raises:
            NotFound: the chat is not the caller's.
            RateLimited, BudgetExceeded: the plan of who pays does not admit the message.
            RequestInProgress, IdempotencyMismatch: the key is in use.
            Contention: other requests of the same user kept changing the user's day for too long.
        """
        place = place or ChatPlace.own(caller)
        request_id = new_request_id() if key is None else request_id_of(place, key)
        send = self._send(place, chat_id, text, request_id, attachments)
        return self._begin(send, streamed, client)

    def begin_named(
        self,
        caller: Caller,
        message: ClientMessage,
        client: ClientConnection | None,
        *,
        streamed: bool = True,
        call: str | None = None,
        place: ChatPlace | None = None,
    ) -> TurnRun | Replay:
        """Start a turn for a message whose id its client chose. Create the chat if it does not exist.

        A message that was answered before replays that answer, unless the client asks to regenerate or edit it. Then
        the new answer takes the place of the old one and of all messages after it, which stay stored.

        Args:
            call: the key by which ``Answers.cancel`` finds the request.

        Raises:
            NotFound: the message's id is one of ours, and the message is not the caller's.
            Conflict: the message was replaced, or is sent again and is no longer the chat's latest.
            Forbidden: the message is to be edited, and another member of the group wrote it.
            IdempotencyMismatch: a message with this id and another text exists.
            InvalidId: the chat's id is no valid id.
            RateLimited, BudgetExceeded, RequestInProgress, Contention: as in :meth:`begin`.
        """
        place = place or ChatPlace.own(caller)
        send = self._send(place, message.chat_id, message.text, message.request_id(place), message.attachments)
        send = replace(send, turn_id=message.turn_id(place), call=call)
        return self._begin(send, streamed, client, message=message)

    def go_on(
        self,
        caller: Caller,
        continuation: Continuation,
        *,
        streamed: bool,
        client: ClientConnection | None = None,
        place: ChatPlace | None = None,
    ) -> TurnRun | Replay:
        """Go on with an answer that was cut off, or that waits for the user to approve tool calls.

        Its first pieces follow what the client has already. The stored answer becomes the whole of it.

        Raises:
            NotFound: the answer is not the caller's.
            Conflict: the answer can't go on in this way; see :meth:`.send.Continuation.check`.
            RateLimited, BudgetExceeded, RequestInProgress, IdempotencyMismatch, Contention: as in :meth:`begin`.
        """
        place = place or ChatPlace.own(caller)
        request_id = continuation.request_id(place)
        send = self._send(place, continuation.chat_id, continuation.body, request_id)
        send = replace(send, turn_id=continuation.turn_id, continues=True)
        return self._begin(send, streamed, client, continuation=continuation)

    def _send(
        self,
        place: ChatPlace,
        chat_id: str,
        text: str,
        request_id: str,
        attachments: MessageAttachments = NO_ATTACHMENTS,
    ) -> Send:
        body = "\n".join([chat_id, text, *(str(each["id"]) for each in attachments.references)])
        body_hash = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
        now = self._services.clock()
        files = attachments.references, attachments.new
        return Send(place, chat_id, text, request_id, request_id, body_hash, now, *files)

    def _begin(
        self,
        send: Send,
        streamed: bool,
        client: ClientConnection | None,
        message: ClientMessage | None = None,
        continuation: Continuation | None = None,
    ) -> TurnRun | Replay:
        grounding = Grounding(self._services.documents, send.scope, send.text)
        request = _Request(send, grounding, streamed, client, message, continuation)
        if request.span is not None:
            request.span.set(CONVERSATION, send.chat_id)
        began = time.monotonic()
        with span("admission"):
            run = self._services.admission.run(send.place.payer.root, partial(self._admit, request))
        if isinstance(run, TurnRun):
            run.begin_at(began)
        return run

    def _admit(self, request: _Request) -> TurnRun | Replay:
        day = self._services.metering.today()
        with self._services.metering.chance(day) as chance:
            return self._admit_on(request, day, chance)

    def _admit_on(self, request: _Request, day: str, chance: Chance) -> TurnRun | Replay:
        began = time.monotonic()
        stored = self._read(request, day, chance)
        read_at = time.monotonic()
        decision = self._decide(request, stored)
        if isinstance(decision, Replay):
            return decision
        send, stored = decision
        prompt = self._prompt(send, stored)
        request.grounding.expect(self._index_version(stored), send.text, prompt.history)
        with current(request.span):
            reservation, reserve = self._reserve(send, day, stored, prompt, request.grounding, chance)
        expires_at = send.at + timedelta(seconds=self._services.metering.reservation_seconds)
        # The write that reserves carries the precondition that nobody changed the user's day since it was read. If
        # somebody did, all of this commit fails and `admission` runs this method again.
        ready_at = time.monotonic()
        with reservation.admission():
            with current(request.span):
                request.grounding.begin()  # the search runs while the commit is under way
            writes = [*reserve, *_writes(send, stored, reservation, expires_at)]
            stored_at = self._store(send).commit(writes)
        waited = read_at - began + time.monotonic() - ready_at
        checkpoints = Checkpoints(self._checkpointer, send.record, stored_at, expires_at, send.place.guard)
        with current(request.span):
            run = self._run(request, send, stored, prompt, reservation, checkpoints)
        run.store_seconds = waited
        return run

    def _store(self, send: Send) -> ScopedStore:
        """Return the app's store. In a group's chat each access depends on the writer's membership."""
        return send.place.guarded(self._services.store)

    def _read(self, request: _Request, day: str, chance: Chance) -> _Stored:
        """Read the documents that admission and the prompt need, in one round trip.

        Raises:
            NotFound, Forbidden: the chat is a group's, and the caller is no member, or may not write.
        """
        send, scope, payer = request.send, request.send.scope, request.send.place.payer
        paths = {
            "chat": scope.chat(send.chat_id),
            "payer": payer.root,
            "usage": payer.usage(day),
            "erasure": payer.erasure(),
            "record": send.record,
            "answer": send.answer,
            "index_state": scope.index_state(),
        }
        if request.message is not None or request.continuation is not None:
            paths["question"] = send.user_message
        if scope.group is not None and payer != scope:
            paths["owner"] = scope.root
        if self._follow_ups.memory and scope.group is None:  # notes on one user are not for others to read
            paths["memory"] = scope.memory()
        if chance.path is not None:
            paths["pool"] = chance.path
        looks_at_latest = request.continuation is not None or request.message is not None
        most = max(self._history_messages, _LATEST_MESSAGES if looks_at_latest else 0)
        latest = Query(scope.messages(send.chat_id), order=_LATEST, limit=most)
        documents, lists = self._store(send).read(list(paths.values()), [latest] if latest.limit else [])
        read = dict(zip(paths, documents, strict=True))
        if chance.path is not None:
            chance.found(read.pop("pool"))
        if scope.group is not None and read.get("owner", read["payer"]) is None:
            raise NotFound  # the group is being removed, and its memberships are not yet
        return _Stored(**read, newest_first=lists[0] if lists else [])

    @property
    def _history_messages(self) -> int:
        return self._services.settings.limits.history_messages

    def _decide(self, request: _Request, stored: _Stored) -> tuple[Send, _Stored] | Replay:
        """Return the send to answer with its documents, or the answer that the send was given before.

        Raises:
            NotFound: the chat does not exist, and the client does not choose chats' ids itself.
            RequestInProgress, IdempotencyMismatch, Conflict: as in ``begin`` and ``begin_named``.
        """
        send, message, now = request.send, request.message, self._services.clock()
        if request.continuation is not None:
            return self._decide_continuation(request.continuation, send, stored, now)
        retry = message and message.new_send(
            send, stored.record, stored.question, stored.answer, self._latest(send, stored), stored.spans
        )
        if retry:
            # The retry has a request of its own, so the first request's record does not apply to it.
            send, stored = retry, replace(stored, record=None)
        elif stored.record is not None:
            replay = _replay(send, stored.record, stored.answer, now)
            if replay is not None:
                return replay
        if stored.chat is None and message is None:
            raise NotFound
        if send.replaces and others_running(send, stored.chat_fields, now):
            raise RequestInProgress("An answer is still on its way.", retry_after=1)
        return send, stored

    def _decide_continuation(
        self, continuation: Continuation, send: Send, stored: _Stored, now: datetime
    ) -> tuple[Send, _Stored] | Replay:
        if stored.record is not None:
            replay = _replay(send, stored.record, stored.answer, now)
            if replay is not None:
                return replay
        if stored.chat is not None and others_running(send, stored.chat_fields, now):
            raise RequestInProgress("An answer is still on its way.", retry_after=1)
        if stored.chat is None or stored.answer is None or stored.question is None:
            raise NotFound
        continuation.check(stored.answer, self._latest(send, stored), now)
        text, files = str(stored.question.data.get("text", "")), tuple(stored.question.data.get("files", ()))
        if continuation.decisions:
            # One more round trip, which only the answers that a person has thought about need.
            continued = self._services.store.get(send.scope.request(str(stored.answer.data["request_id"])))
            if continued is None or held_calls(continued) is None:
                raise Conflict("The time to approve this call is over. Send a new message.")
            stored = replace(stored, continued=continued)
        return replace(send, text=text, attachments=files, decisions=continuation.decisions), stored

    def _prompt(self, send: Send, stored: _Stored) -> _Prompt:
        """Gather the chat's history, its summary and the notes on the user."""
        own = {send.user_message, send.answer}  # an earlier try of this send may have stored them
        recent = _cacheable_history(self._recent(send, stored)[::-1], stored.message_count, self._history_messages)
        recent = [
            d for d in recent if d.path not in own and (str(d.data.get("text", "")).strip() or d.data.get("files"))
        ]
        own_files: tuple[Attachment, ...] = ()
        shown: dict[str, tuple[Attachment, ...]] = {}
        if send.attachments or send.new_attachments or any(document.data.get("files") for document in recent):
            files = self._services.files.within(send.scope)
            own_files, shown = load_attachments(
                files, self.attachment_room, send.attachments, send.new_attachments, recent[::-1]
            )
        asked = send.place.author if stored.question is None else stored.question.data
        said = [document.data for document in recent if document.data.get("role") == "user"]
        speakers = Speakers([*said, asked])
        history = [_prompt_message(document, shown.get(document.path, ()), speakers) for document in recent]
        if history and history[0]["role"] == "assistant":
            del history[0]  # what it answers lies before the window, and a conversation begins with the user
        held = None if stored.continued is None else held_calls(stored.continued)
        so_far = _so_far(stored.answer) if send.continues and held is None else ()
        summary = str(stored.chat_fields.get("summary", ""))
        notes = () if stored.memory is None else notes_of(stored.memory)
        return _Prompt(speakers.marked(send.text, asked), history, summary, notes, so_far, held, own_files)

    def _recent(self, send: Send, stored: _Stored) -> Sequence[Document]:
        """Return the chat's latest messages, newest first, without those that were replaced or are about to be."""
        spans = stored.spans
        if send.replaces and stored.question is not None:
            spans = with_span(spans, stored.question.data["created_at"], send.at)
        # Only after an edit there may be another read, until as many new messages have come.
        most, store = self._history_messages, self._services.store
        return latest_current(store, send.scope, send.chat_id, spans, list(stored.newest_first), most, most)

    def _latest(self, send: Send, stored: _Stored) -> Document | None:
        """Return the chat's latest message; None if it has none. It takes another read if those read are replaced."""
        page = max(self._history_messages, _LATEST_MESSAGES)
        store, newest = self._services.store, list(stored.newest_first)
        return next(iter(latest_current(store, send.scope, send.chat_id, stored.spans, newest, 1, page)), None)

    def _index_version(self, stored: _Stored) -> State | None:
        if not self._services.settings.search.in_chats:
            return None
        return self._services.documents.versions.in_use(stored.index_state)

    def _reserve(
        self, send: Send, day: str, stored: _Stored, prompt: _Prompt, grounding: Grounding, chance: Chance
    ) -> tuple[Reservation, list[Write]]:
        """Reserve the most that the answer and its search can cost.

        Returns:
            the reservation, and the writes that store it.

        Raises:
            RateLimited, BudgetExceeded: the caller's plan does not admit the message.
        """
        services = self._services
        tokens = prompt.token_bound + services.settings.limits.prompt_tokens + grounding.token_bound
        choice, search_cost = services.settings.choice, grounding.cost_bound
        worst = partial(services.gateway.worst_case, audio_tokens=prompt.audio_bound, kinds=prompt.kinds)
        quotes = [Quote(model, worst(model, tokens) + search_cost) for model in (choice.chat, choice.cheap)]
        used = Day.of(stored.usage, stored.erasure, day)
        reservation, reserve = services.metering.reserve(
            send.place.payer, day, used, stored.payer, send.request_id, *quotes, chance=chance
        )
        reservation.held, reservation.names = search_cost, send.place.names
        if stored.record is not None:
            reservation.days = tuple(stored.record.data.get("days", ()))
        return reservation, reserve

    def _run(
        self,
        request: _Request,
        send: Send,
        stored: _Stored,
        prompt: _Prompt,
        reservation: Reservation,
        checkpoints: Checkpoints,
    ) -> TurnRun:
        services, limits = self._services, self._services.settings.limits
        llm = services.gateway.answering(
            reservation,
            reservation.model,
            limits.request_seconds,
            streamed=request.streamed,
            owner=send.scope,
            client=request.client,
            own_models=not reservation.cheaper,
            asks_people=True,
        )
        llm.attachments, llm.so_far = prompt.attachments, prompt.so_far
        approvals = None
        if stored.continued is not None and prompt.held is not None:
            alive = chat_update(send, {"updated_at": send.at})
            approvals = RecordedApprovals(self._store(send), stored.continued, prompt.held, alive, send.decisions)
        llm.approvals = approvals
        turn = Turn(
            services.settings.app,
            send.scope,
            prompt.text,
            prompt.history,
            llm,
            services,
            services.prompts.of(send.caller.uid, own_models=not reservation.cheaper),
            request.grounding,
            send.caller,
            features=frozenset(reservation.limit.features),
            attachments=prompt.attachments,
            summary=prompt.summary,
            memory=prompt.notes,
            _guard=send.place.guard,
        )
        first = stored.question or stored.record
        messages = stored.message_count + (stored.record is None) + (stored.answer is None)
        return TurnRun(
            services,
            send,
            reservation,
            turn,
            self._workflow,
            self._shutdown,
            sent_view(send, send.at if first is None else first.data["created_at"], _author(send, stored)),
            str(stored.chat_fields.get("title", "")),
            checkpoints,
            answer_is_new=stored.answer is None or _deletes_answer(send, stored),
            following=self._follow_ups.following(send.place.payer, _answered_chat(send), stored.chat_fields, messages),
            goes_on=limits.on_disconnect == "continue",
            client=request.client,
            begun=stored.answer if send.continues else None,
            so_far=prompt.so_far,
            approvals=approvals,
        )


def _writes(send: Send, stored: _Stored, reservation: Reservation, expires_at: datetime) -> list[Write]:
    """Return the writes that store the request's record, the user's message, and the chat's latest request.

    A client that reconnects finds the answer through the chat's latest request (:mod:`firelaunch.turns.resume`).
    """
    data = {
        "uid": send.place.payer.uid,
        **send.place.names,
        "chat_id": send.chat_id,
        "turn_id": send.turn_id,
        "state": "reserved",
        "body_hash": send.body_hash,
        "day": reservation.day,
        "plan": reservation.plan,
        "reserved_micro_usd": reservation.reserved,
        "expires_at": expires_at,
        "delete_at": send.at + timedelta(days=RECORD_DAYS),
        **log_names(),
    }
    if send.call is not None:
        data["call"] = send.call
    message = {"role": "user", "text": send.text, "request_id": send.request_id, "created_at": send.at}
    message |= send.place.author
    if send.attachments:
        message["files"] = list(send.attachments)
    change: dict[str, Any] = {"updated_at": send.at, "latest_request": send.request_id}
    began = begins(send, stored.chat_fields, expires_at)
    alone = None if stored.chat is None else stored.chat.update_time
    writes: list[Write] = []
    if send.continues and stored.answer is not None:
        writes.append(chat_update(send, change | began, alone))
        data["so_far"] = len(str(stored.answer.data.get("text", "")))
    elif send.replaces and stored.question is not None:
        writes += _replacing(send, stored, stored.question, change | began)
    elif stored.chat is None:
        first = {**new_chat("", send.at), **change, RUNNING: {send.request_id: expires_at}, "message_count": 1}
        writes.append(Create(send.scope.chat(send.chat_id), first))
        writes.append(Set(send.user_message, message))
    elif stored.record is None and stored.question is None:
        writes.append(chat_update(send, {**change, **began, "message_count": Increment(1)}))
        writes.append(Create(send.user_message, message))
    else:
        # This send came before. Its message is stored, unless the chat was deleted since, and keeps its place.
        writes.append(chat_update(send, change | began))
        who = send.place.author if stored.question is None else {}
        writes.append(Set(send.user_message, {"text": send.text, **who}, merge=True))
    if stored.record is None:
        return [*writes, Create(send.record, {**data, "created_at": send.at})]
    # The earlier try may have left its checkpoints and a request to stop; nothing of it is meant for this one.
    cleared = dict.fromkeys(("partial", "stop", "abandoned", "cancelled"), DELETE_FIELD)
    if len(stored.record.data.get("sums", ())) >= _MOST_TRIES_KEPT:
        cleared["sums"] = DELETE_FIELD
    return [*writes, Update(send.record, {**data, **cleared}, if_updated_at=stored.record.update_time)]


def _replacing(send: Send, stored: _Stored, question: Document, change: dict[str, Any]) -> list[Write]:
    """Return the writes that replace a message, its answer and what followed. All of it stays stored."""
    writes: list[Write] = []
    copies = {"ru": question, "ra": stored.answer}
    edited = _is_edited(send, question)
    for name, document in copies.items():
        if document is not None and (edited or name == "ra"):
            copy = {**document.data, "replaced_by": send.request_id}
            writes.append(Set(send.scope.message(send.chat_id, f"{send.request_id}-{name}"), copy))
    if edited and stored.answer is not None:
        writes.append(Delete(send.answer))  # it answers what was said before
        change = {**change, "message_count": Increment(-1)}
    asked_at = question.data["created_at"]
    current = next((message for message in stored.newest_first if is_current(message.data, stored.spans)), None)
    if current is None or current.id not in {question.id, send.answer_id}:
        change = {**change, "replaced": with_span(stored.spans, asked_at, send.at)}
    if stored.chat_fields.get("summary_until", asked_at) > asked_at:  # it sums up what is replaced
        change = {**change, "summary": "", "summary_until": DELETE_FIELD, "summarized": 0}
    writes.append(chat_update(send, change, None if stored.chat is None else stored.chat.update_time))
    fields = {"text": send.text, "files": list(send.attachments), "request_id": send.request_id}
    writes.append(Set(send.user_message, fields, merge=True))
    return writes


def _is_edited(send: Send, question: Document) -> bool:
    files = [each["id"] for each in question.data.get("files", ())]
    return question.data.get("text") != send.text or files != [each["id"] for each in send.attachments]


def _deletes_answer(send: Send, stored: _Stored) -> bool:
    return send.replaces and stored.question is not None and _is_edited(send, stored.question)


def _author(send: Send, stored: _Stored) -> Mapping[str, Any]:
    """Return the fields that name the writer of the message, who may be another than who asks for its answer."""
    if stored.question is None:
        return send.place.author
    return {name: stored.question.data[name] for name in ("written_by", "author") if name in stored.question.data}


def _answered_chat(send: Send) -> AnsweredChat:
    message = {"chat_id": send.chat_id, "question": send.user_message_id, "answer": send.answer_id}
    return AnsweredChat(**message, title=plain_title(send.text), group=send.scope.group)


def _cacheable_history(recent: Sequence[Document], count: int, most: int) -> Sequence[Document]:
    """Return the latest messages of a chat of ``count``, with a start that moves in steps of half of ``most``.

    Providers charge less for a prompt's beginning that they saw before. If each new message dropped the oldest one,
    no prompt would begin like the one before it.
    """
    if len(recent) < most or most < 2:
        return recent
    return recent[-max(0, count - most) % (most // 2) :]


def _replay(send: Send, record: Document, answer: Document | None, now: Any) -> Replay | None:
    """Return the answer that the send's record tells of, or None if the send is to be answered (again).

    Raises:
        IdempotencyMismatch: the record is of another user's send, or of one with another text or chat.
        RequestInProgress: another request is answering the send.
    """
    data = record.data
    names = {"uid": send.place.payer.uid, "group": None, "writer": None, **send.place.names}
    if data.get("body_hash") != send.body_hash or any(data.get(name) != value for name, value in names.items()):
        raise IdempotencyMismatch
    if data["state"] == "reserved":
        left = (data["expires_at"] - now).total_seconds()
        if left > 0:
            raise RequestInProgress(retry_after=min(left, 5))
        return None  # its process died before it settled
    if data.get("outcome") != "answered" or answer is None:
        return None
    return Replay(
        send,
        sent_view(send, data["created_at"], send.place.author),
        message_view(answer.id, answer.data),
        dict(data.get("usage", {})),
        data.get("so_far", 0),
    )


def _so_far(answer: Document | None) -> tuple[Message, ...]:
    """Return the messages that have a model go on with an answer that was cut."""
    text = "" if answer is None else str(answer.data.get("text", ""))
    if not text.strip():
        return ()
    return {"role": "assistant", "content": text}, {"role": "user", "content": _GO_ON}


def _says_something(message: Document) -> bool:
    return bool(str(message.data.get("text", "")).strip() or message.data.get("files"))


def _prompt_message(document: Document, attachments: Sequence[Attachment], speakers: Speakers) -> Message:
    text = str(document.data.get("text", ""))
    if document.data.get("role") == "assistant":
        return {"role": "assistant", "content": text}
    message: Message = {"role": "user", "content": speakers.marked(text, document.data)}
    if attachments:
        message["attachments"] = attachments
    return message
