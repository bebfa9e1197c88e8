"""The second half of a turn: the answer of a message that was admitted, and what is settled when it ends.

However an answer ends (whole, broken off, left by its client, cut short by a restart) one commit stores what was said,
its exact use and the request's outcome.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from .after_turn import Following
from .chats import message_view
from .checkpoints import Checkpoints, Stopped
from .errors import AlreadyExists, EmptyAnswer, FirelaunchError, Interrupted, NotFound, PreconditionFailed, StoreError
from .grounding import Grounding
from .identity import Caller
from .lifecycle import Shutdown
from .llm.base import LEAVING, WAITING, Chunk, Message, Passed, ToolUse
from .llm.client import Client
from .llm.gateway import Answering
from .llm.patience import ClientLeft
from .prompts import UserPrompts
from .said import Said
from .scope import Scope
from .services import Services
from .settings import App
from .store.base import DELETE_FIELD, SERVER_TIME, Increment, Set, Update, Write
from .stream import Delta, Done, Event, Failed, Heartbeat, Paused, Start, ToolCalled, ToolReturned, close
from .usage import Reservation

if TYPE_CHECKING:
    from .rag.retrieve import Passage

__all__ = ["Replay", "Running", "Send", "Turn", "Workflow", "chat_update", "plain_title", "sent_view"]

log = logging.getLogger(__name__)

_SETTLE_TRIES = 4
_TITLE_CHARACTERS = 60
_STREAM = Answering.stream.__code__


@dataclass(slots=True)
class Turn:
    """What the app's workflow is handed: the message, what was said before, and a model that is metered.

    ``features`` are those that the user's plan switches on. ``summary`` is of the chat's earlier messages, ``memory``
    holds notes on the user; both are empty unless ``[after_turn]`` has them kept.
    """

    app: App
    text: str
    history: list[Message]
    llm: Answering
    _prompts: UserPrompts
    grounding: Grounding
    prompt_id: str | None = None
    features: frozenset[str] = frozenset()
    summary: str = ""
    memory: tuple[str, ...] = ()
    _model: str | None = None

    def prompt(self, name: str, **values: str) -> str:
        """The version of prompt ``name`` that this user gets, filled in; the request's record will name it.

        "chat@2" asks for just that version. The calls that follow use the prompt's model and temperature, where it
        has them.
        """
        prompt = self._prompts.get(name)
        self.prompt_id = prompt.id
        self._model = self._model or self.llm.model  # the plan's own, for prompts that name none
        self.llm.model, self.llm.temperature = prompt.model or self._model, prompt.temperature
        return prompt.render(**values)

    @property
    def passages(self) -> str:
        """What the user's documents and the library hold on the message, to be put before it; empty if there are none.

        Once this is asked for, citations such as [1] in the answer are checked, and those that hold are its sources.
        """
        return self.grounding.prompt

    @property
    def sources(self) -> tuple[Passage, ...]:
        """The same passages, for code."""
        return self.grounding.passages


Workflow = Callable[[Turn], Iterable[Chunk]]


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


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer that was given before, told again; nothing is called and nothing is billed."""

    send: Send
    sent: dict[str, Any]
    message: dict[str, Any]
    usage: dict[str, Any]

    def events(self) -> Iterator[Event]:
        """The same events as the first time, with the text in one piece."""
        yield Start(self.send.request_id, self.send.chat_id, self.sent, self.send.answer_id)
        yield Delta(self.message["text"])
        yield Done(self.message, self.usage)


@dataclass(slots=True)
class Running:
    """A message that was admitted and stored. ``events()`` answers it; to be called once."""

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
    following: Following | None = None
    goes_on: bool = False
    client: Client | None = None
    _said: Said = field(default_factory=Said)
    _tools: list[ToolUse] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _first_token: float | None = None
    _follows: Following | None = None

    def pulse(self) -> None:
        """Called several times a second while the answer is on its way; stores how far it is.

        Raises:
            Interrupted: the process ends.
            Stopped: the client asked for the end.
        """
        if self.shutdown.due:
            raise Interrupted(retry_after=1)
        self.checkpoints.look()

    def events(self) -> Iterator[Event | Paused]:
        """Start, the pieces of the answer, then Done (or Failed, after which nothing follows).

        Closing it early ends the model's call, and keeps and bills what was said until then; where ``goes_on`` is set
        it returns when the answer has come to its own end.
        """
        answer = self._answer()
        try:
            for event in answer:  # noqa: UP028 - "yield from" would close it too
                yield event
        except GeneratorExit:
            if self.goes_on:
                deque(answer, maxlen=0)
            raise
        finally:
            answer.close()

    def _answer(self) -> Generator[Event | Paused, None, None]:
        outcome = "stopped"
        error: FirelaunchError | None = None
        self.checkpoints.begin(self._said)
        try:
            yield Start(self.send.request_id, self.send.chat_id, self.sent, self.send.answer_id)
            yield from self._pieces()
            if not self._said.whole.strip() and not self._said.sources() and not self._tools:
                raise EmptyAnswer
            outcome = "answered"
        except (ClientLeft, Stopped):
            pass
        except FirelaunchError as failure:
            outcome, error = "failed", failure
        except Exception:
            outcome, error = "failed", FirelaunchError()
            log.exception("the app's workflow failed in request %s", self.send.request_id)
        finally:
            self.checkpoints.end()
            last = self._ended(outcome, error)
        try:
            yield last
        finally:
            # Behind the answer's last event and before the response's end: Cloud Run takes the CPU away after that.
            if self._follows is not None:
                self._follows.send()

    def _ended(self, outcome: str, error: FirelaunchError | None) -> Done | Failed:
        try:
            done = self._settle(outcome, error)
        except Exception as failure:
            log.exception("request %s could not be settled: %s", self.send.request_id, self.reservation.report())
            told = failure if isinstance(failure, FirelaunchError) else FirelaunchError()
            return Failed(told, self.send.request_id)
        return done if error is None else Failed(error, self.send.request_id)

    def _pieces(self) -> Generator[Event | Paused, None, None]:
        chunks, grounding = iter(self.workflow(self.turn)), self.turn.grounding
        try:
            for chunk in chunks:
                hosted = self.client is not None and self.client.hosted
                if chunk is WAITING and self.client is not None and (hosted or _only_waits(chunks)):
                    self.client.may_wait, self.client.told = True, self._told
                    yield Paused.WAITING
                    continue
                if chunk is LEAVING:
                    yield Paused.LEAVING
                    continue
                if not hosted:  # the hub does it for all its streams
                    self.pulse()
                if chunk.source is not None:
                    yield self._said.other(chunk.source)
                    continue
                if chunk.tool is not None:
                    yield self._said.other(self._tool_event(chunk.tool))
                    continue
                if not chunk.text:
                    if chunk.tokens is None and chunk.finish is None and chunk is not WAITING:
                        yield Heartbeat()
                elif type(chunk) is not Passed and (text := self._told(chunk.text)):
                    yield Delta(text)
            if text := grounding.rest():
                yield Delta(self._said.text(text))
            for source in grounding.sources():
                yield self._said.other(source)
        finally:
            close(chunks)

    def _told(self, text: str) -> str:
        """Take in a piece of the model's text, and give what is to be shown of it."""
        if self._first_token is None:
            self._first_token = time.monotonic()
        text = self.turn.grounding.shown(text)
        return self._said.text(text) if text else ""

    def _tool_event(self, use: ToolUse) -> ToolCalled | ToolReturned:
        if not use.done:
            return ToolCalled(use.id, use.name, use.input)
        self._tools.append(use)
        return ToolReturned(use.id, use.name, use.output, use.error)

    def _settle(self, outcome: str, error: FirelaunchError | None) -> Done:
        grounding = self.turn.grounding
        text = self._said.whole + grounding.rest()
        self.reservation.add(grounding.cost)
        usage = self.reservation.report()
        answer = {
            "role": "assistant",
            "text": text,
            "status": "complete" if outcome == "answered" else "incomplete",
            "model": usage["model"],
            "request_id": self.send.request_id,
            "citations": grounding.cited,
            "usage": usage,
            "created_at": self.services.clock(),
        }
        if sources := self._said.sources():
            answer["sources"] = [source.view() for source in sources]
        if self._tools:
            answer["tools"] = [_stored(use) for use in self._tools]
        kept = bool(text.strip()) or outcome == "answered"
        following = self.following if outcome == "answered" else None
        jobs = following.writes if following is not None else []
        self._commit(self._record(outcome, error, usage), [*self._chat_writes(answer), *jobs] if kept else [])
        self._follows = following
        return Done(message_view(self.send.answer_id, answer), usage)

    def _record(self, outcome: str, error: FirelaunchError | None, usage: dict[str, Any]) -> dict[str, Any]:
        now = time.monotonic()
        first = None if self._first_token is None else round((self._first_token - self._started) * 1000)
        return {
            "state": "settled",
            "outcome": outcome,
            "error": None if error is None else error.code,
            "prompt": self.turn.prompt_id,
            "usage": usage,
            "retrieval": self.turn.grounding.report(),
            "first_token_ms": first,
            "total_ms": round((now - self._started) * 1000),
            "partial": DELETE_FIELD,
            "stop": DELETE_FIELD,
            "settled_at": SERVER_TIME,
        }

    def _chat_writes(self, answer: dict[str, Any]) -> list[Write]:
        changes: dict[str, Any] = {"updated_at": answer["created_at"]}
        if self.answer_is_new:
            changes["message_count"] = Increment(1)
        if not self.title:
            changes["title"] = plain_title(self.send.text)
        return [Set(self.send.answer, answer), chat_update(self.send, changes)]

    def _commit(self, outcome: dict[str, Any], chat: list[Write]) -> None:
        for attempt in range(_SETTLE_TRIES):
            record = Update(self.send.record, outcome, if_updated_at=self.checkpoints.updated_at)
            try:
                self.services.store.commit([self.reservation.settlement(), record, *chat])
                return
            except NotFound:
                # The chat was deleted while its answer was on the way. What the answer cost is owed all the same.
                if not chat:
                    raise
                chat = []
            except (AlreadyExists, PreconditionFailed):
                if self._is_settled():
                    return
            except StoreError:
                if attempt + 1 == _SETTLE_TRIES:
                    if chat:
                        self._bill_alone(outcome)
                    raise
                time.sleep(0.1 * 2**attempt)
            except Exception as error:
                # A client library may refuse a value by an error of its own, and would the next time, too.
                if chat:
                    self._bill_alone(outcome)
                raise StoreError(reason=f"{type(error).__name__}: {error}"[:500]) from error

    def _bill_alone(self, outcome: dict[str, Any]) -> None:
        """Settle an answer that cannot be stored, such as one that no document can hold; its cost is owed."""
        if not self._is_settled():
            failed = {**outcome, "outcome": "failed", "error": StoreError.code}
            record = Update(self.send.record, failed, if_updated_at=self.checkpoints.updated_at)
            self.services.store.commit([self.reservation.settlement(), record])

    def _is_settled(self) -> bool:
        """Whether an earlier try did commit, and its acknowledgement was lost; a stop may have come in between."""
        try:
            return self.checkpoints.reread()
        except Stopped:
            return False


def _stored(use: ToolUse) -> dict[str, Any]:
    # As text, since Firestore has no lists within lists.
    values = {"input": json.dumps(use.input), "output": json.dumps(use.output)}
    return {"id": use.id, "name": use.name, "error": use.error, **values}


def _only_waits(chunks: object) -> bool:
    """Whether a workflow does nothing but hand on what the model says, so that going on with it runs none of its code.

    It is so while the workflow, or what it delegates to by ``yield from``, delegates to ``turn.llm.stream``.
    """
    while isinstance(chunks, GeneratorType):
        if chunks.gi_code is _STREAM:
            return True
        chunks = chunks.gi_yieldfrom
    return False


def plain_title(text: str) -> str:
    """A chat's title from its first message."""
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1].rstrip() + "…"
