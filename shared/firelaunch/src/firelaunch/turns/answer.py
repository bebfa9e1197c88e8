"""Answer an admitted message, and settle its cost when the answer ends. This is the second half of a turn.

An answer can end whole, fail, lose its client, or be cut short by a restart. In each case one commit stores its text,
its exact usage and the request's outcome. The first half of a turn is in :mod:`firelaunch.turns.admit`.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import GeneratorType
from typing import Any

from .. import precedence
from ..chats.checkpoints import Checkpoints, MemberLeft, Stopped
from ..chats.events import (
    Delta,
    Done,
    Event,
    Failed,
    Heartbeat,
    Paused,
    Start,
    Thought,
    ToolAsked,
    ToolCalled,
    ToolReturned,
    close,
)
from ..chats.store import message_view
from ..chats.transcript import Transcript
from ..documents.kept_files import KeptFiles
from ..errors import AlreadyExists, EmptyAnswer, FirelaunchError, Interrupted, NotFound, PreconditionFailed, StoreError
from ..llm.client_connection import ClientConnection
from ..llm.deadline import ClientLeft
from ..llm.finish import Finish
from ..llm.gateway import ModelSession
from ..llm.types import LEAVING, WAITING, Chunk, Message, Passed, Source, ToolUse
from ..metering.reservations import Reservation
from ..metering.settled_log import log_settled
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..store.base import DELETE_FIELD, SERVER_TIME, Document, Increment, Set, Update, Write
from ..store.fence import BEGAN, begun_at
from ..store.machine_faults import machine_fault
from ..telemetry.spans import SPAN, Span, current
from .approvals import RecordedApprovals, held_fields
from .attachments import discard_attachments, store_attachments
from .chunks import check_chunk, chunks_of
from .follow_ups import FollowUpJobs
from .send import Send, chat_update, ends
from .turn import Turn, Workflow

__all__ = ["Replay", "TurnRun", "plain_title"]

log = logging.getLogger(__name__)

_SETTLE_TRIES = 4
_SETTLE_ROUNDS = 100
"""The most commits of one settlement: others may change the record meanwhile, as when they ask to stop the answer."""

_TITLE_CHARACTERS = 60
_STREAM = ModelSession.stream.__code__
_ENDED = Chunk()


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer that was given before, to be sent again. No model is called and nothing is billed."""

    send: Send
    sent: dict[str, Any]
    message: dict[str, Any]
    usage: dict[str, Any]
    so_far: int = 0
    """Characters that the client had before the request."""

    def events(self) -> Iterator[Event]:
        """Yield the events of the first time, with the text in one piece."""
        yield Start(self.send.request_id, self.send.chat_id, self.sent, self.send.answer_id)
        yield Delta(self.message["text"][self.so_far :])
        yield Done(self.message, self.usage)


@dataclass(slots=True)
class ToolTime:
    """The time in which an answer waited for tools: the seconds in which at least one ran."""

    seconds: float = 0.0
    _running: set[str] = field(default_factory=set)
    _since: float = 0.0

    def note(self, use: ToolUse) -> None:
        """Take down that a tool has started, or ended."""
        if use.waits:
            return
        if not use.done:
            self._since = self._since if self._running else time.monotonic()
            self._running.add(use.id)
        elif use.id in self._running:
            self._running.discard(use.id)
            if not self._running:
                self.seconds += time.monotonic() - self._since


@dataclass(slots=True)
class TurnRun:
    """A message that was admitted and stored. Call ``events()`` once to answer it.

    Attributes:
        begun: the answer as it was stored, if this run goes on with it.
        so_far: the messages that tell the model so.
        admission_seconds: how long it took to admit the message.
        store_seconds: how much of that went into the database's answers.
        approvals: what the user decided on the tool calls with which that answer ended.
    """

    services: Services
    send: Send
    reservation: Reservation
    turn: Turn
    workflow: Workflow
    shutdown: Shutdown
    sent: dict[str, Any]
    title: str
    checkpoints: Checkpoints
    answer_is_new: bool
    following: FollowUpJobs | None = None
    goes_on: bool = False
    client: ClientConnection | None = None
    begun: Document | None = None
    so_far: tuple[Message, ...] = ()
    approvals: RecordedApprovals | None = None
    outlives: float | None = None
    admission_seconds: float = 0.0
    store_seconds: float = 0.0
    _noted_left: bool = False
    _transcript: Transcript = field(default_factory=Transcript)
    _tools: dict[str, ToolUse] = field(default_factory=dict)
    _tool_time: ToolTime = field(default_factory=ToolTime)
    _started_at: float = field(default_factory=time.monotonic)
    _span: Span | None = field(default_factory=SPAN.get)
    _began: datetime = field(default_factory=lambda: BEGAN.get() or datetime.now(UTC))
    _first_token_at: float | None = None
    _finish: Finish | None = None
    _follows: FollowUpJobs | None = None

    def __post_init__(self) -> None:
        self.turn.llm.check = self.pulse
        if self.client is not None:
            self.client.goes_on = self.goes_on
        if self.begun is not None:
            self._take_up(message_view(self.begun.id, self.begun.data))

    def begin_at(self, began: float) -> None:
        """Count the time of the turn from ``began`` (of the monotonic clock), when its admission began."""
        self.admission_seconds, self._started_at = self._started_at - began, began

    def _take_up(self, answer: dict[str, Any]) -> None:
        """Take what the client has of the answer into the transcript, for followers and for the stored answer."""
        for use in answer.get("tools", ()):
            waits = use["approve_until"] is not None
            tool = ToolUse(use["id"], use["name"], use["input"], use["output"], use["error"], not waits, waits)
            for event in self._tool_events(replace(tool, done=False)):
                self._transcript.other(event)
            if not waits:
                for event in self._tool_events(tool):
                    self._transcript.other(event)
        for source in answer.get("sources", ()):
            self._transcript.other(Source(**source))
        self._transcript.thought(answer.get("thinking") or "")
        self._transcript.text(answer["text"])

    def outlive_client(self, seconds: float | None) -> None:
        """Go on without the client if it leaves: for ``seconds``, or to the answer's end if None.

        If somebody asks for the answer again in that time (:meth:`Answers.join <.resume.Answers.join>`), it goes on.
        """
        self.goes_on, self.outlives = True, seconds
        if self.client is not None:
            self.client.goes_on = True

    def pulse(self) -> None:
        """Store a checkpoint of the answer if one is due. It is called several times a second while the answer runs.

        Raises:
            Interrupted: the process is shutting down.
            Stopped: the client asked to stop the answer.
        """
        if self.shutdown.due:
            raise Interrupted(retry_after=1)
        if self.client is not None and self.client.left and not self._noted_left:
            self._noted_left = True
            until = None if self.outlives is None else datetime.now(UTC) + timedelta(seconds=self.outlives)
            self.checkpoints.abandon(until)
        self.checkpoints.look()

    def events(self) -> Iterator[Event | Paused]:
        """Yield Start, the pieces of the answer, then Done or Failed.

        A user who is removed from the chat's group meanwhile gets Failed, and the text so far is stored and billed.

        If you close the iterator early, the model's call ends, and the text so far is stored and billed. If ``goes_on``
        is set, closing waits until the answer is complete.
        """
        answer = self._answer()
        try:
            for event in answer:  # noqa: UP028 - "yield from" would close `answer` too, which may have to go on
                yield event
        except GeneratorExit:
            if self.goes_on:
                deque(answer, maxlen=0)
            raise
        finally:
            answer.close()
            self._let_go()

    def _let_go(self) -> None:
        """Take this turn out of what it has handed itself to.

        Otherwise they would refer to each other, and only a garbage collection would free what the turn has read.
        """
        self.turn.llm.check = _no_check
        if self.client is not None:
            self.client.waits_for = self.client.add_text = None

    def _answer(self) -> Generator[Event | Paused, None, None]:
        outcome, left = "stopped", False
        error: FirelaunchError | None = None
        self.checkpoints.begin(self._transcript)
        try:
            yield Start(self.send.request_id, self.send.chat_id, self.sent, self.send.answer_id)
            if self.send.new_attachments:
                store_attachments(self._files, self.send.new_attachments)
            yield from self._pieces()
            if self.turn.llm.approvals is not None:
                raise FirelaunchError(reason="the workflow offered no tools, so what the user decided had no effect")
            if not self._transcript.whole.strip() and not self._transcript.sources() and not self._tools:
                raise EmptyAnswer
            outcome = "answered"
        except (ClientLeft, Stopped) as end:
            left = isinstance(end, MemberLeft)
        except FirelaunchError as failure:
            outcome, error = "failed", failure
        except Exception as failure:
            fault = machine_fault(failure)
            outcome, error = "failed", fault or FirelaunchError()
            said = "" if fault is None else f": {fault}"
            log.error("the app's workflow failed in request %s%s", self.send.request_id, said, exc_info=fault is None)
        finally:
            self.checkpoints.end()
            # This also settles an answer whose generator is closed early. Its last event then goes to nobody.
            last_event = self._end(outcome, error)
            if left:  # the text is not theirs to read any more
                last_event = Failed(NotFound(), self.send.request_id)
        try:
            yield last_event
        finally:
            # After the answer's last event and before the response ends: Cloud Run takes the CPU away after that.
            self.reservation.send_reports()
            if self._follows is not None:
                self._follows.send()

    @property
    def _files(self) -> KeptFiles:
        return self.services.files.within(self.send.scope)

    def _end(self, outcome: str, error: FirelaunchError | None) -> Done | Failed:
        """Settle the answer, and return its last event."""
        try:
            with current(self._span):
                done = self._settle(outcome, error)
        except Exception as failure:
            log.exception("request %s could not be settled: %s", self.send.request_id, self.reservation.report())
            shown_error = failure if isinstance(failure, FirelaunchError) else FirelaunchError()
            return Failed(shown_error, self.send.request_id)
        return done if error is None else Failed(error, self.send.request_id)

    def _pieces(self) -> Generator[Event | Paused, None, None]:  # noqa: C901 - a branch for each kind of chunk
        """Yield the workflow's chunks as events, with citations checked."""
        grounding = self.turn.grounding
        with begun_at(self._began), current(self._span):
            chunks = chunks_of(self.workflow, self.turn)
        try:
            for chunk in _steps(self._began, self._span, chunks):
                check_chunk(self.workflow, chunk)
                hosted = self.client is not None and self.client.hosted
                if chunk is WAITING and self.client is not None and (hosted or _only_waits(chunks)):
                    # The server's stream loop may now wait for the provider in this generator's place. While only text
                    # comes, the loop sends it on by itself, through `_shown_text`. The text comes here later, as
                    # `Passed`.
                    self.client.may_wait, self.client.add_text = True, self._shown_text
                    yield Paused.WAITING
                    continue
                if chunk is LEAVING:
                    yield Paused.LEAVING
                    continue
                if not hosted:  # the stream loop does it for all its streams
                    self.pulse()
                self._finish = chunk.finish or self._finish
                if chunk.thought and (thought := self._transcript.thought(chunk.thought)):
                    yield Thought(thought)
                if chunk.source is not None:
                    yield self._transcript.other(chunk.source)
                    continue
                if chunk.tool is not None:
                    for event in self._tool_events(chunk.tool):
                        yield self._transcript.other(event)
                    continue
                if not chunk.text:
                    if chunk.tokens is None and chunk.finish is None and not chunk.thought and chunk is not WAITING:
                        yield Heartbeat()
                # The client has the text of a `Passed` chunk already.
                elif type(chunk) is not Passed and (text := self._shown_text(chunk.text)):
                    yield Delta(text)
            if text := grounding.rest():
                yield Delta(self._transcript.text(text))
            for source in grounding.sources():
                yield self._transcript.other(source)
        finally:
            with current(self._span):
                close(chunks)

    def _shown_text(self, text: str) -> str:
        """Add a piece of the model's text to the transcript, and return the text to show for it."""
        if self._first_token_at is None:
            self._first_token_at = time.monotonic()
        text = self.turn.grounding.shown(text)
        return self._transcript.text(text) if text else ""

    def _tool_events(self, use: ToolUse) -> list[ToolCalled | ToolAsked | ToolReturned]:
        """Return the events of a tool call's start or end, and keep the call for the stored answer."""
        self._tools[use.id] = use
        self._tool_time.note(use)
        if use.done:
            return [ToolReturned(use.id, use.name, use.output, use.error)]
        return [ToolCalled(use.id, use.name, use.input), *([ToolAsked(use.id, use.name)] if use.waits else [])]

    def _settle(self, outcome: str, error: FirelaunchError | None) -> Done:
        """Store the answer, its cost and the request's outcome in one commit, and send the jobs that follow it."""
        precedence.renew()
        grounding = self.turn.grounding
        text = self._transcript.whole + grounding.rest()
        self.reservation.add(*grounding.calls)
        usage = self.reservation.report()
        held = self.turn.llm.held if outcome == "answered" else None
        finish = "tool_calls" if held is not None else self._ended_by(outcome)
        answer = {
            "role": "assistant",
            "text": text,
            "status": "complete" if finish == "stop" else "incomplete",
            "finish": finish,
            "model": usage["model"],
            "request_id": self.send.request_id,
            "citations": grounding.cited,
            "usage": usage,
            # A clock that was set back meanwhile must not put the answer before its question.
            "created_at": max(self.services.clock(), self.send.at + timedelta(microseconds=1)),
        }
        if self.begun is not None:
            answer |= _joined(self.begun.data, answer)
        if thinking := self._transcript.thinking:
            answer["thinking"] = thinking
        if sources := self._transcript.sources():
            answer["sources"] = [source.view() for source in sources]
        if tools := [use for use in self._tools.values() if use.done or use.waits]:
            until = self.services.clock() + timedelta(seconds=self.services.settings.limits.approval_seconds)
            answer["tools"] = [_tool_fields(use, until) for use in tools]
        following = self.following if outcome == "answered" and held is None else None
        jobs = following.writes if following is not None else []
        self.turn.llm.over.set()
        record = self._record(outcome, finish, error, usage)
        if held is not None:
            record |= held_fields(held, self.so_far)
        self._commit(
            record, [*self._chat_writes(answer), *jobs] if self._is_kept(outcome, text) else self._left_as_is()
        )
        told = record if self.turn.llm.streamed else {**record, "first_token_ms": None}
        log_settled("turn", self.send.request_id, told)
        self._follows = following
        rating = {} if self.begun is None else {"rating": self.begun.data.get("rating")}
        return Done(message_view(self.send.answer_id, {**answer, **rating}), usage)

    def _is_kept(self, outcome: str, text: str) -> bool:
        """Return whether the answer is stored. One that broke off before its first word leaves the chat as it was.

        So does one that broke off after the user's decision on its tool calls: the decision can be sent again.
        """
        if outcome != "answered" and self.send.decisions:
            return False
        return bool(text.strip()) or outcome == "answered"

    def _left_as_is(self) -> list[Write]:
        """Return the writes that leave the chat as it was before this run, but for the end of the run."""
        return [chat_update(self.send, ends(self.send))]

    def _ended_by(self, outcome: str) -> Finish | None:
        """Return how the answer ended; None if it was stopped."""
        if outcome != "answered":
            return "error" if outcome == "failed" else None
        # A workflow may pass on the text alone. Then the model's last streamed answer counts.
        return self._finish or self.turn.llm.finish or "stop"

    def _record(
        self, outcome: str, finish: Finish | None, error: FirelaunchError | None, usage: dict[str, Any]
    ) -> dict[str, Any]:
        now = time.monotonic()
        first = None if self._first_token_at is None else round((self._first_token_at - self._started_at) * 1000)
        record = {
            "state": "settled",
            "outcome": outcome,
            "finish": finish,
            "error": None if error is None else error.code,
            "calls": self.reservation.calls,
            "usage": usage,
            "retrieval": self.turn.grounding.report(),
            "first_token_ms": first,
            "total_ms": round((now - self._started_at) * 1000),
            "admission_ms": round(self.admission_seconds * 1000),
            "store_ms": round(self.store_seconds * 1000),
            "tools_ms": round(self._tool_time.seconds * 1000),
            "partial": DELETE_FIELD,
            "stop": DELETE_FIELD,
            "settled_at": SERVER_TIME,
        }
        return record | self.reservation.ended(record)

    def _chat_writes(self, answer: dict[str, Any]) -> list[Write]:
        changes: dict[str, Any] = {"updated_at": self.services.clock(), **ends(self.send)}
        if self.answer_is_new:
            changes["message_count"] = Increment(1)
        if not self.title:
            changes["title"] = plain_title(self.send.text)
        # An answer that went on keeps its user's rating, which may have come meanwhile. A new answer has none yet.
        stored = Set(self.send.answer, answer, merge=self.begun is not None)
        decided = [self.approvals.dropped()] if self.approvals is not None else []
        return [stored, chat_update(self.send, changes), *decided]

    def _commit(self, outcome: dict[str, Any], chat: list[Write]) -> None:  # noqa: C901 - the ways in which a commit may fail
        """Commit the settlement exactly once, however often it has to be tried.

        The precondition on the record makes it once: no commit succeeds after another one has changed the record.
        """
        failures, known = 0, True
        for _ in range(_SETTLE_ROUNDS):
            at = self.checkpoints.updated_at
            if self.checkpoints.of_nobody and known:
                known, outcome, chat = False, self._of_nobody(outcome), self._left_as_is()
            # Whether the client gave up may be known only from the record, as the last try found it.
            fields = {**outcome, "abandoned": True} if self.checkpoints.abandoned else outcome
            record = Update(self.send.record, fields, if_updated_at=at)
            try:
                # A sum never keeps an answer from being stored: the last try goes without.
                payment = self.reservation.settlement(sums=failures + 1 < _SETTLE_TRIES)
                self.services.store.commit([*payment, record, *chat])
                return
            except NotFound:
                # The chat was deleted during its answer. The answer's cost is owed all the same.
                if not chat:
                    raise
                chat = []
                discard_attachments(self._files, self.send.new_attachments)
            except (AlreadyExists, PreconditionFailed):
                # Either an earlier try did commit, or a request to stop changed the record: then try again.
                if self._is_settled():
                    return
            except StoreError:
                failures += 1
                if failures == _SETTLE_TRIES:
                    if chat:
                        self._bill_alone(outcome)
                    raise
                time.sleep(0.05 * 2**failures)
            except Exception as error:
                # A client library may reject a value with an error of its own. Another try would fail the same way.
                if chat:
                    self._bill_alone(outcome)
                raise StoreError(reason=f"{type(error).__name__}: {error}"[:500]) from error
        raise StoreError(reason="others kept changing the request's record")

    def _of_nobody(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """Return the outcome of an answer whose user was erased meanwhile: its cost is owed, and nothing else kept."""
        self.reservation.forget_writer()
        stopped = {name: value for name, value in outcome.items() if name not in {"held", "ran"}}
        stopped |= {"outcome": "stopped", "finish": None, "error": None}
        return stopped | self.reservation.ended(stopped)

    def _bill_alone(self, outcome: dict[str, Any]) -> None:
        """Settle the cost of an answer that cannot be stored, such as one that is too large for a document."""
        if not self._is_settled():
            failed = {**outcome, "outcome": "failed", "error": StoreError.code}
            failed |= self.reservation.ended(failed)
            record = Update(self.send.record, failed, if_updated_at=self.checkpoints.updated_at)
            self.services.store.commit([*self.reservation.settlement(sums=False), record])

    def _is_settled(self) -> bool:
        """Return whether an earlier try did commit and its acknowledgement was lost.

        The record may also have changed because the client asked to stop. Then it is not settled yet.
        """
        try:
            return self.checkpoints.reread()
        except Stopped:
            return False


def _steps(moment: datetime, span: Span | None, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield the workflow's chunks. Each step counts as work that began at ``moment`` and is a part of ``span``.

    A stream's steps run on many threads, and the workflow and its tools may write: see :data:`.store.fence.BEGAN`.
    """
    while True:
        token, span_token = BEGAN.set(moment), SPAN.set(span)
        try:
            chunk = next(chunks, _ENDED)
        finally:
            BEGAN.reset(token)
            SPAN.reset(span_token)
        if chunk is _ENDED:
            return
        yield chunk


def _tool_fields(use: ToolUse, until: datetime) -> dict[str, Any]:
    # As JSON text, because Firestore has no lists within lists.
    values = {"input": json.dumps(use.input), "output": json.dumps(use.output)}
    waits = {"approve_until": until} if use.waits else {}
    return {"id": use.id, "name": use.name, "error": use.error, **values, **waits}


def _joined(before: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an answer that sum up the earlier request's and this one's."""
    cited = list(before.get("citations", ()))
    numbers = {each["number"] for each in cited}
    cited += [each for each in answer["citations"] if each["number"] not in numbers]
    usage = dict(answer["usage"])
    earlier = before.get("usage") or {}
    for name in ("input_tokens", "cached_input_tokens", "output_tokens", "cost_micro_usd"):
        usage[name] += earlier.get(name, 0)
    usage["estimated"] = usage["estimated"] or earlier.get("estimated", False)
    return {"citations": cited, "usage": usage, "created_at": before["created_at"]}


def _no_check() -> None:
    """The check of a turn that has ended."""


def _only_waits(chunks: object) -> bool:
    """Return whether the workflow only passes on the model's chunks, so that resuming it runs none of its own code.

    This is so while the workflow, or a generator that it delegates to with ``yield from``, delegates to
    ``turn.llm.stream``.
    """
    while isinstance(chunks, GeneratorType):
        if chunks.gi_code is _STREAM:
            return True
        chunks = chunks.gi_yieldfrom
    return False


def plain_title(text: str) -> str:
    """Return a chat's title made from its first message."""
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1].rstrip() + "…"
