"""Call a model within one time budget: retry its failures, then try the fallback models.

The error's class alone decides whether the gateway retries, falls back or fails at once (see
:class:`~firelaunch.llm.types.Provider`). Once text has reached the caller, the gateway restarts nothing and raises
the error.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pydantic import BaseModel

from ..errors import (
    AnswerFiltered,
    BudgetExceeded,
    EmptyAnswer,
    FirelaunchError,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    OutputLimitReached,
    ToolLimitReached,
)
from ..scope import Scope
from .attachments import Attachment, Kind, Takes, takes_all
from .breaker import Breaker
from .cache_key import Reuse, answer_key
from .claude_models import is_claude, unseen_tokens
from .client_connection import ClientConnection
from .conversation import alternating, as_taken, with_attachments
from .deadline import Deadline
from .finish import CUT, Finish, empty_answer
from .prices import Prices
from .thinking import Effort, thinks
from .tool_calls import CallAssembler
from .tool_threads import ToolThreads
from .types import (
    LEAVING,
    WAITING,
    Approvals,
    Chunk,
    FinishedCall,
    HeldCalls,
    Message,
    Meter,
    ModelCall,
    Provider,
    Shape,
    Source,
    TokenCounts,
    ToolCall,
    ToolChunk,
    ToolSpec,
    audio_bound,
    text_bound,
    token_bound,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from .cache import AnswerCache, OwnedAnswers
    from .session_client import RawCall
    from .shapes import AnswerReader
    from .tools import Tool

__all__ = ["Gateway", "ModelSession"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

_FINAL = (ModelRefused, OutputLimitReached, AnswerFiltered, ToolLimitReached)
"""Errors that say something about the request itself, so that no other try and no other model would help."""

_TRIES = 3
_TRIES_AFTER_EMPTY = 2
"""Tries of a model that gives no answer. Each is paid, and a model that was empty twice is mostly empty again."""

_FIRST_PAUSE = 0.4
_LONGEST_PAUSE = 8.0
_SHORTEST_TRY = 0.5
"""Seconds below which another try could only time out."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The calls of one provider's models, with fallbacks, retries and prices.

    Args:
        max_output_tokens: the most tokens of one answer.
        thinking_tokens: the tokens that a thinking model may use in addition.
        effort: returns how much the model of a name should think; None for the model's own default.
        cache: earlier answers; None if the app has its cache off.
        show_thinking: whether what models think is passed on.
        searches: the web searches that are reserved for an answer; 0 if models may not search.
        takes: returns which files a model takes.
        content: whether telemetry has what is written.
        named: the models that a workflow may ask for, by each name that it may use.
        first_token_seconds, between_tokens_seconds: how long one try of a stream may be silent.
        pause, jitter: how to wait, and ``random.random``, as arguments for tests.
    """

    provider: Provider
    prices: Prices
    fallback: Sequence[str]
    max_output_tokens: int
    thinking_tokens: int = 0
    effort: Callable[[str], Effort | None] = lambda _: None
    first_token_seconds: float = 60.0
    between_tokens_seconds: float = 30.0
    cache: AnswerCache | OwnedAnswers | None = None
    pause: Callable[[Deadline, float], None] = Deadline.pause
    jitter: Callable[[], float] = random.random
    breaker: Breaker = field(default_factory=lambda: Breaker(time.monotonic))
    tool_threads: ToolThreads = field(default_factory=ToolThreads)
    named: Mapping[str, str] = field(default_factory=dict)
    show_thinking: bool = False
    searches: int = 0
    takes: Takes = lambda _model, _kind: True
    content: bool = False

    def model_named(self, name: str) -> str:
        """Return the model that a workflow asks for by ``name``: "chat", "cheap", or the name of one in the settings.

        Raises:
            ValueError: the settings name no such model.
        """
        if name not in self.named:
            known = ", ".join(map(repr, self.named))
            raise ValueError(
                f"{name!r} is none of the models of firelaunch.toml. Name one of {known}, or add it to `others` there."
            )
        return self.named[name]

    def worst_case(
        self,
        model: str,
        input_tokens: int,
        max_output_tokens: int | None = None,
        *,
        audio_tokens: int = 0,
        kinds: Collection[Kind] = (),
    ) -> int:
        """Return the most micro-dollars that an answer of ``model``, or of any of its fallbacks, can cost.

        Args:
            audio_tokens: the part of ``input_tokens`` that is recordings.
            kinds: those of the message's files.
        """
        output = max_output_tokens or self.max_output_tokens
        return max(
            self.prices.most(
                name, input_tokens + unseen_tokens(name), output + self.allowance(name), self.searches, audio_tokens
            )
            for name in self.route(model, kinds)
        )

    def allowance(self, model: str) -> int:
        """Return the tokens that ``model`` may use to think, in addition to its answer's."""
        return self.thinking_tokens if thinks(model, self.effort(model)) else 0

    def route(self, model: str, kinds: Collection[Kind] = ()) -> tuple[str, ...]:
        """Return the models to try for ``model``, in order.

        Args:
            kinds: those of the message's files. Models that don't take them are left out. If none is left, the first of
                the settings' models that takes them answers instead.
        """
        usual = tuple(dict.fromkeys((model, *self.fallback)))
        if not kinds:
            return usual
        able = tuple(name for name in usual if takes_all(self.takes, name, kinds))
        return able or self.able(kinds)[:1] or usual

    def able(self, kinds: Collection[Kind]) -> tuple[str, ...]:
        """Return those of the settings' models that take files of all of ``kinds``."""
        names = dict.fromkeys((*self.named.values(), *self.fallback))
        return tuple(name for name in names if takes_all(self.takes, name, kinds))

    def within(self, scope: Scope) -> Gateway:
        """Return a gateway that sees only the cached answers of ``scope``."""
        return self if self.cache is None else replace(self, cache=self.cache.of(scope))

    def answering(
        self,
        meter: Meter,
        model: str,
        seconds: float,
        *,
        streamed: bool,
        owner: Scope | None = None,
        client: ClientConnection | None = None,
        check: Callable[[], None] = lambda: None,
        purpose: str = "turn",
        own_models: bool = True,
        asks_people: bool = False,
    ) -> ModelSession:
        """Return a session for one request of ``owner``, which has ``seconds`` in all.

        Without an owner, no answer is cached. :class:`~firelaunch.llm.deadline.Deadline` explains ``client`` and
        ``check``, :class:`ModelSession` the others.
        """
        ends = time.monotonic() + seconds
        return ModelSession(
            self,
            meter,
            model,
            ends,
            streamed,
            client,
            check,
            owner,
            purpose=purpose,
            own_models=own_models,
            asks_people=asks_people,
        )


@dataclass(slots=True)
class ModelSession:
    """A workflow's ``turn.llm``: the gateway, bound to one request's model, meter and time.

    Attributes:
        model: the model in use; it changes when a fallback takes over.
        temperature: for calls that name none.
        purpose: what calls are for that do not say it, in their records.
        searches: whether models may search the web for an answer, if the settings allow it.
        own_models: whether a call may name a model of its own; False once the user is over their plan's soft cap.
        prompt: the prompt of the next calls (``name@version``), in their records.
        finish: how the last answer of :meth:`stream` ended; None before that.
        attachments: those of the user's message. :meth:`stream` puts them into the last message of the user's.
        so_far: what the model has said before, for an answer that was cut. It follows the messages of the next
            :meth:`stream`.
        asks_people: whether an answer may end with tool calls that wait for approval. They are then in ``held``.
        over: is set when the request is settled, after which its clients (:meth:`openai`) refuse.
        approvals: what was decided on the held calls of this answer. The next :meth:`stream` with tools goes on after
            them.
    """

    gateway: Gateway
    meter: Meter
    model: str
    deadline: float
    streamed: bool
    client: ClientConnection | None = None
    check: Callable[[], None] = lambda: None
    owner: Scope | None = None
    temperature: float | None = None
    purpose: str = "turn"
    own_models: bool = True
    searches: bool = True
    prompt: str | None = None
    finish: Finish | None = None
    attachments: tuple[Attachment, ...] = ()
    so_far: tuple[Message, ...] = ()
    asks_people: bool = False
    held: HeldCalls | None = None
    approvals: Approvals | None = None
    over: Event = field(default_factory=Event, repr=False)
    _steps: Iterator[int] = field(default_factory=lambda: count(1), repr=False)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        purpose: str | None = None,
        temperature: float | None = None,
        max_output_tokens: int | None = None,
        shape: Shape | None = None,
        reuse: Reuse = "owner",
        keep: Callable[[str], bool] = bool,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        tool_steps: int = 5,
    ) -> Iterator[Chunk]:
        """Yield the model's answer to ``messages`` piece by piece, or in one piece if the client asked for no stream.

        Closing the iterator ends the call at the provider; the meter records what was used until then.

        Args:
            model: one of the settings' models, by name or as "chat" or "cheap". The plan's cheap model answers instead
                once the user is over the soft cap.
            purpose: what the call is for, in its record.
            temperature, max_output_tokens: instead of the prompt's and the settings' values.
            shape: the form that the answer must have. Such an answer comes in one piece and unchecked; ``extract``
                checks it.
            reuse: who may get this answer again from the app's cache; "app" only if ``messages`` hold nothing of the
                user's.
            keep: returns whether an answer is worth caching.
            tools: functions that the model may call (see :mod:`.tools`); such an answer is not cached.
            tool_steps: how often the model may call tools; each time, the gateway calls the model once more.

        Raises:
            BudgetExceeded: the caller's budget does not cover the call.
            ModelError: no model answered, or an answer broke off.
            TypeError: a function cannot be a tool.
            ValueError: the settings name no such ``model``.
        """
        session = self if model is None and purpose is None else self._with(model, purpose)
        messages = [*with_attachments(messages, self.attachments), *self.so_far]
        approvals = self.approvals if tools else None
        # They are for this call alone: the first one, and of decisions the first one with tools.
        self.so_far, self.approvals = (), None if tools else self.approvals
        yield from session._stream(
            messages, temperature, max_output_tokens, shape, reuse, keep, tools, tool_steps, approvals
        )
        self.finish, self.held = session.finish, session.held

    def openai(self) -> OpenAI:
        """Return a client of the ``openai`` package whose chat completions are calls of this session.

        Give it to code that was written for such a client. Its calls are metered like any other, and name a model as
        :meth:`stream` does: "chat", "cheap", or one of the settings'.
        """
        from .session_client import sync_client

        return sync_client(self._aside())

    def openai_async(self) -> AsyncOpenAI:
        """Return the same for asynchronous code, such as pydantic-ai's agents."""
        from .session_client import async_client

        return async_client(self._aside())

    def raw_stream(self, call: RawCall) -> Iterator[Chunk]:
        """Yield the model's answer to a call whose tools are the caller's to run.

        Raises:
            BudgetExceeded, ModelError, ValueError: as for :meth:`stream`.
        """
        if self.over.is_set():
            raise FirelaunchError(reason="a client of turn.llm.openai() was used after its turn; make one in each turn")
        session = self._with(call.model, None)
        most = self.gateway.max_output_tokens
        request = ModelCall(
            session.model,
            alternating(call.messages),
            min(call.max_output_tokens or most, most),
            session._call_deadline(),
            session.temperature if call.temperature is None else call.temperature,
            call.shape,
            call.tools,
            may_call=call.may_call,
            must_call=call.must_call,
        )
        for chunk in session._try_models(request):
            if chunk is not WAITING and chunk is not LEAVING:
                yield chunk

    def complete(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        purpose: str | None = None,
        temperature: float | None = None,
        max_output_tokens: int | None = None,
        reuse: Reuse = "owner",
        tools: Sequence[Tool | Callable[..., Any]] = (),
        tool_steps: int = 5,
    ) -> str:
        """Return the text of the model's whole answer, for a step whose text the user does not see.

        The arguments and errors are those of :meth:`stream`.
        """
        chunks = self._aside(streamed=False).stream(
            messages,
            model=model,
            purpose=purpose,
            temperature=temperature,
            max_output_tokens=max_output_tokens,
            reuse=reuse,
            tools=tools,
            tool_steps=tool_steps,
        )
        return "".join(chunk.text for chunk in chunks)

    def _aside(self, *, streamed: bool | None = None) -> ModelSession:
        """Return a session of the same request for a step whose text the user does not see."""
        streamed = self.streamed if streamed is None else streamed
        return replace(
            self, streamed=streamed, attachments=(), so_far=(), approvals=None, asks_people=False, searches=False
        )

    def _with(self, model: str | None, purpose: str | None) -> ModelSession:
        """Return a session of the same request for calls of another model or purpose."""
        named = None if model is None else self.gateway.model_named(model)
        return replace(
            self,
            model=named if named is not None and self.own_models else self.model,
            purpose=self.purpose if purpose is None else purpose,
        )

    def _stream(
        self,
        messages: Sequence[Message],
        temperature: float | None,
        max_output_tokens: int | None,
        shape: Shape | None,
        reuse: Reuse,
        keep: Callable[[str], bool],
        tools: Sequence[Tool | Callable[..., Any]],
        tool_steps: int,
        approvals: Approvals | None,
    ) -> Iterator[Chunk]:
        output_limit = min(max_output_tokens or self.gateway.max_output_tokens, self.gateway.max_output_tokens)
        temperature = self.temperature if temperature is None else temperature
        messages = alternating(messages)
        call = ModelCall(self.model, messages, output_limit, self._call_deadline(), temperature, shape)
        if tools:
            yield from self._stream_with_tools(call, tools, tool_steps, approvals)
            return
        if self.searches and self.gateway.searches and shape is None:
            call = replace(call, searches=self.gateway.searches)
        cache = self.gateway.cache
        # An answer with a web search is not cached: it is about today, and its sources belong to it.
        if cache is None or self.owner is None or reuse == "never" or call.searches:
            yield from self._try_models(call)
            return
        scope = self.owner if reuse == "owner" else Scope(self.owner.app_id)
        provider, model = self.gateway.provider.name, self.model
        key = answer_key(scope, provider, model, messages, output_limit, temperature, shape)
        yield from cache.of(scope).answer(
            key,
            lambda: self._try_models(call),
            hit=lambda: self.meter.reuse(model),
            tick=self._tick,
            keep=lambda text: self.model == model and keep(text),  # do not cache a fallback's answer as the model's
        )

    def _stream_with_tools(
        self, call: ModelCall, tools: Sequence[Tool | Callable[..., Any]], steps: int, approvals: Approvals | None
    ) -> Iterator[Chunk]:
        """Yield the answer of a model that may call tools, one model call for each step."""
        from .tools import Toolbox

        def ask(messages: Sequence[Message], specs: Sequence[ToolSpec], may_call: bool) -> Iterator[Chunk]:
            step = replace(call, model=self.model, messages=messages, tools=specs, may_call=may_call)
            return self._try_models(step)

        hold = self._hold if self.asks_people else None
        toolbox = Toolbox(tools, steps, self.gateway.tool_threads, self._tick, hold)
        yield from toolbox.answer(call.messages, ask, approvals)

    def _hold(self, calls: HeldCalls) -> None:
        self.held = calls

    def _try_models(self, request: ModelCall) -> Iterator[Chunk]:
        """Yield the answer of the first model on the route that gives one."""
        step = next(self._steps)
        last_error: ModelError | None = None
        for model in self.gateway.route(request.model, self._kinds(request.messages)):
            if not self.gateway.breaker.allows(model):
                continue
            try:
                gateway = self.gateway
                call = replace(
                    request,
                    model=model,
                    messages=as_taken(request.messages, model, gateway.takes),
                    thinking_tokens=gateway.allowance(model),
                    effort=gateway.effort(model),
                    show_thinking=gateway.show_thinking,
                    searches=0 if is_claude(model) else request.searches,
                )
                yield from self._with_retries(call, step)
            except _FINAL:
                raise
            except BudgetExceeded:
                if last_error is None:
                    raise
                break  # the budget covers no other model either: what failed first is the reason to tell
            except _BrokenOff as broken:
                raise broken.error from broken.error.__cause__
            except ModelError as error:
                log.warning("model %s failed: %s", model, error)
                last_error = error
            else:
                return
        raise last_error or ModelUnavailable(reason="every model is resting after failures", retry_after=5)

    def _kinds(self, messages: Sequence[Message]) -> frozenset[Kind]:
        """Return the kinds of the files that the model has to take: those of the request, and of the last message."""
        last = next((message for message in reversed(messages) if message["role"] == "user"), None)
        asked = () if last is None else last.get("attachments", ())
        return frozenset(each.kind for each in (*self.attachments, *asked))

    @overload
    def extract(
        self,
        kind: type[M],
        messages: Sequence[Message],
        *,
        model: str | None = None,
        purpose: str | None = None,
        max_output_tokens: int | None = None,
    ) -> M: ...
    @overload
    def extract(
        self,
        kind: Mapping[str, Any],
        messages: Sequence[Message],
        *,
        model: str | None = None,
        purpose: str | None = None,
        max_output_tokens: int | None = None,
    ) -> dict[str, Any]: ...
    def extract(
        self,
        kind: type[BaseModel] | Mapping[str, Any],
        messages: Sequence[Message],
        *,
        model: str | None = None,
        purpose: str | None = None,
        max_output_tokens: int | None = None,
    ) -> Any:
        """Return the answer to ``messages`` as an instance of a pydantic model, or as data of a JSON schema.

        :func:`.structured.extract` says how it is checked and retried, :meth:`stream` what the other arguments are.
        """
        from .structured import extract, reader_of

        reader: AnswerReader[Any] = reader_of(kind)
        return extract(self._aside()._with(model, purpose), reader, messages, max_output_tokens)

    def _with_retries(self, call: ModelCall, step: int) -> Iterator[Chunk]:
        """Yield one model's answer; retry while nothing was sent and the time allows it."""
        input_tokens = token_bound(call.messages, call.shape, call.tools) + unseen_tokens(call.model)
        audio_tokens = audio_bound(call.messages)
        worst_case = self.gateway.prices.most(call.model, input_tokens, call.most_tokens, call.searches, audio_tokens)
        failure: ModelError | None = None
        for attempt in range(_TRIES):
            # A failed try may have been charged, so each try reserves its own worst case.
            try:
                self.meter.cover(worst_case)
            except BudgetExceeded:
                if failure is not None:
                    raise failure from failure.__cause__  # the budget covers no further try
                raise
            self.model = call.model
            try:
                yield from self._stream_once(call, step)
            except _FINAL:
                raise
            except (ModelUnavailable, ModelTimeout, EmptyAnswer) as error:
                failure, pause = error, self._pause_before(attempt, error)
                if pause is None:
                    raise
            else:
                return
            finally:
                self.meter.release(worst_case)
            self.gateway.pause(self._call_deadline(), pause)

    def _pause_before(self, attempt: int, error: ModelError) -> float | None:
        """Return the seconds to wait before the next try; None if there is no further try."""
        if attempt + 1 == (_TRIES_AFTER_EMPTY if isinstance(error, EmptyAnswer) else _TRIES):
            return None
        # Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) on top of the wait
        # that the provider asked for, so that clients do not all retry at the same moment.
        pause: float = self.gateway.jitter() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        pause += error.retry_after or 0.0
        return pause if self._seconds_left() - pause > _SHORTEST_TRY else None

    def _seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def _tick(self) -> None:
        """Raise whatever should end the request, such as its deadline or a client that left."""
        deadline = self._call_deadline()
        deadline.left()
        deadline.pause(0.001)

    def _call_deadline(self) -> Deadline:
        """Return the limits of one call that begins now."""
        gateway = self.gateway
        times = (self.deadline, gateway.first_token_seconds, gateway.between_tokens_seconds)
        return Deadline(*times, self.client, self.check)

    def _stream_once(self, call: ModelCall, step: int) -> Iterator[Chunk]:
        """Make one call, and book it, however it ends."""
        call = replace(call, deadline=self._call_deadline())
        call.deadline.left()
        provider, reply = self.gateway.provider, _Reply(call)
        reply.streamed = self.streamed and call.shape is None
        chunks = provider.stream(call) if reply.streamed else _in_one_piece(provider, call)
        failure: BaseException | None = None
        try:
            for chunk in self._watch(call.model, chunks, reply.texts):
                yield chunk if chunk is WAITING or chunk is LEAVING else reply.take(chunk)
            tool_calls = reply.end()
            if tool_calls:
                yield ToolChunk(calls=tool_calls)
            for source in reply.sources.values():
                yield Chunk(source=source)
            self.finish = reply.finish
        except BaseException as error:
            failure = error
            raise
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            self._book(reply, failure, step)

    def _watch(self, model: str, chunks: Iterator[Chunk], texts: list[str]) -> Iterator[Chunk]:
        """Pass chunks on, enforce the request's deadline, and report the outcome to the breaker."""
        breaker = self.gateway.breaker
        try:
            for chunk in chunks:
                yield chunk
                if chunk is WAITING:  # next comes the text that the stream loop passed on meanwhile; it must be charged
                    continue
                if self._seconds_left() <= 0 and chunk.finish is None and chunk.tokens is None:
                    if self.client is not None and self.client.hosted:
                        yield LEAVING  # the turn is settled next, and the other streams should not wait for that
                    raise ModelTimeout(reason="the request's time is used up")
        except ModelError as error:
            if not isinstance(error, ModelRefused):
                # One user's prompt may be what makes a server send nonsense.
                about_request = isinstance(error, ModelUnavailable) and error.garbled
                breaker.failed(model, self.owner if about_request else None)
            if any(texts):
                # The caller has some text already, so neither a retry nor a fallback may start over.
                raise _BrokenOff(error) from error
            raise
        breaker.succeeded(model)

    def _book(self, reply: _Reply, failure: BaseException | None, step: int) -> None:
        """Charge a call that has ended to the meter."""
        tokens = reply.billed_tokens(failure)
        model = reply.call.model
        self.meter.spend(
            FinishedCall(
                model,
                tokens,
                self.gateway.prices.cost(model, tokens) if tokens != TokenCounts() else 0,
                time.monotonic() - reply.began,
                reply.first_token,
                self.purpose,
                self.prompt,
                step,
                reply.finish,
                reply.error_code(failure),
                provider=self.gateway.provider.name,
                asked=reply.call.messages if self.gateway.content else (),
                answered="".join(reply.texts) if self.gateway.content else "",
            )
        )


@dataclass(slots=True)
class _Reply:
    """The parts of one call's answer that have come so far."""

    call: ModelCall
    streamed: bool = False
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    assembler: CallAssembler | None = None
    tokens: TokenCounts | None = None
    finish: Finish | None = None
    first_token: float | None = None
    charged: bool = False
    ended: bool = False
    began: float = field(default_factory=time.monotonic)

    def take(self, chunk: Chunk) -> Chunk:
        """Take in a piece of the answer, and return what to pass on of it."""
        if chunk.tokens is not None:
            self.tokens = chunk.tokens.at_least(self.tokens)
        if chunk.finish is not None:
            self.finish, self.ended = chunk.finish, True
        if not self.charged and (chunk.text or chunk.parts or chunk.finish or chunk.thought):
            self.charged = True
            if self.streamed:
                self.first_token = time.monotonic() - self.began
        self.texts.append(chunk.text)
        # Tool calls are assembled here and sent on whole; thoughts may be for the reader, and count toward the usage.
        if chunk.parts or chunk.thought or chunk.sources:
            self.sources |= {source.id: source for source in chunk.sources}
            if chunk.parts:
                self.assembler = self.assembler or CallAssembler()
                self.assembler.add(chunk.parts)
            self.thoughts.append(chunk.thought)
            thought = chunk.thought if self.call.show_thinking else ""
            return ToolChunk(chunk.text, chunk.tokens, chunk.finish, thought=thought)
        return chunk

    def end(self) -> tuple[ToolCall, ...]:
        """Return the tool calls of an answer that has come to its end.

        Raises:
            EmptyAnswer: it says nothing, and calls no tool.
        """
        self.charged = self.ended = True
        self.finish = self.finish or "other"
        # Some models call tools that they were not offered. Such a call is no answer. A cut call is never run: what is
        # left of its arguments may be valid by chance.
        takes_calls = self.assembler is not None and self.call.tools and self.finish not in CUT
        takes_calls = bool(self.call.tools) and self.finish not in CUT
        tool_calls = self.assembler.calls() if self.assembler is not None and takes_calls else ()
        if not tool_calls and not self.call.shape and not "".join(self.texts).strip():
            raise empty_answer(self.finish)
        return tool_calls

    def billed_tokens(self, failure: BaseException | None) -> TokenCounts:
        """Return the tokens that the call is charged for: none if it failed before the provider said anything."""
        # Providers charge for a call that we gave up on, even before its first token, but not for own failures.
        gave_up = isinstance(failure, ModelTimeout) or not isinstance(failure, ModelError | _BrokenOff)
        charged = self.charged or (failure is not None and gave_up and self.call.deadline.sent)
        if not charged and self.tokens is None:
            return TokenCounts()
        calls = "" if self.assembler is None else self.assembler.text()
        text = "".join([*self.thoughts, *self.texts, calls])
        return _billed_tokens(self.call, self.tokens or TokenCounts(), text, self.ended)

    def error_code(self, failure: BaseException | None) -> str | None:
        """Return the code of what ended the call; None if it came to its own end."""
        if isinstance(failure, _BrokenOff):
            failure = failure.error
        if isinstance(failure, FirelaunchError):
            return failure.code
        return None if failure is None or self.ended else "stopped"


def _billed_tokens(call: ModelCall, reported: TokenCounts, text: str, ended: bool) -> TokenCounts:
    """Return the tokens that a call is charged for.

    The provider's own figures count. Where the provider reported none, or 0 for what cannot be 0, an upper bound
    replaces them, so that nobody can exceed their budget by ending answers before the usage arrives. If an answer did
    not finish, the reported output counts only if it is larger than the bound of the text that arrived.
    """
    input_tokens, output_tokens, audio = reported.input, reported.output, reported.audio
    if not input_tokens:
        input_tokens = token_bound(call.messages, call.shape, call.tools)
        audio = audio_bound(call.messages)
    if not ended or not output_tokens:
        # The model may have used its whole allowance to think, without sending any of its thoughts.
        thinking_tokens = 0 if ended or output_tokens else call.thinking_tokens
        output_tokens = max(output_tokens, text_bound(text) + thinking_tokens)
    estimated = reported.estimated or (input_tokens, output_tokens) != (reported.input, reported.output)
    cached = min(reported.cached_input, input_tokens)
    cache_write = min(reported.cache_write, input_tokens - cached)
    reasoning = min(reported.reasoning, output_tokens)
    # Searches are reported with the end of an answer.
    searches = reported.searches if ended else max(reported.searches, call.searches)
    return TokenCounts(
        input_tokens,
        cached,
        output_tokens,
        estimated or searches != reported.searches,
        cache_write,
        reasoning,
        searches,
        audio=min(audio, input_tokens),
        cached_audio=min(reported.cached_audio, cached, audio),
    )


def _in_one_piece(provider: Provider, call: ModelCall) -> Iterator[Chunk]:
    yield provider.complete(call)


class _BrokenOff(FirelaunchError):
    """An answer that broke off after some text was sent: neither retried nor handed to a fallback."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(reason=error.reason)
        self.error = error
