"""Call a model within one time budget: retry its failures, then try the fallback models.

The error's class alone decides whether the gateway retries, falls back or fails at once (see
:class:`~firelaunch.llm.types.Provider`). Once text has reached the caller, the gateway restarts nothing and raises
the error.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ..errors import EmptyAnswer, FirelaunchError, ModelError, ModelRefused, ModelTimeout, ModelUnavailable
from ..scope import Scope
from .breaker import Breaker
from .cache_key import Reuse, answer_key
from .client_connection import ClientConnection
from .deadline import Deadline
from .empty import empty_answer
from .prices import Prices
from .thinking import Effort, thinks
from .tool_calls import CallAssembler
from .tool_threads import ToolThreads
from .types import (
    LEAVING,
    WAITING,
    Chunk,
    Message,
    Meter,
    ModelCall,
    Provider,
    Shape,
    TokenCounts,
    ToolChunk,
    ToolSpec,
    text_bound,
    token_bound,
)

if TYPE_CHECKING:
    from .cache import AnswerCache, OwnedAnswers
    from .tools import Tool

__all__ = ["Gateway", "ModelSession"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

_TRIES = 3
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

    def worst_case(self, model: str, input_tokens: int, max_output_tokens: int | None = None) -> int:
        """Return the most micro-dollars that an answer of ``model``, or of any of its fallbacks, can cost."""
        output = max_output_tokens or self.max_output_tokens
        return max(self.prices.most(name, input_tokens, output + self.allowance(name)) for name in self.route(model))

    def allowance(self, model: str) -> int:
        """Return the tokens that ``model`` may use to think, in addition to its answer's."""
        return self.thinking_tokens if thinks(model, self.effort(model)) else 0

    def route(self, model: str) -> tuple[str, ...]:
        """Return the models to try for ``model``, in order."""
        return tuple(dict.fromkeys((model, *self.fallback)))

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
    ) -> ModelSession:
        """Return a session for one request of ``owner``, which has ``seconds`` in all.

        Without an owner, no answer is cached. :class:`~firelaunch.llm.deadline.Deadline` explains ``client`` and
        ``check``.
        """
        return ModelSession(self, meter, model, time.monotonic() + seconds, streamed, client, check, owner)


@dataclass(slots=True)
class ModelSession:
    """A workflow's ``turn.llm``: the gateway, bound to one request's model, meter and time.

    ``model`` is the model in use; it changes when a fallback takes over. ``temperature`` is for calls that name none.
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

    def stream(
        self,
        messages: Sequence[Message],
        *,
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
        """
        output_limit = min(max_output_tokens or self.gateway.max_output_tokens, self.gateway.max_output_tokens)
        temperature = self.temperature if temperature is None else temperature
        call = ModelCall(self.model, messages, output_limit, self._call_deadline(), temperature, shape)
        if tools:
            yield from self._stream_with_tools(call, tools, tool_steps)
            return
        cache = self.gateway.cache
        if cache is None or self.owner is None or reuse == "never":
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
        self, call: ModelCall, tools: Sequence[Tool | Callable[..., Any]], steps: int
    ) -> Iterator[Chunk]:
        """Yield the answer of a model that may call tools, one model call for each step."""
        from .tools import Toolbox

        def ask(messages: Sequence[Message], specs: Sequence[ToolSpec], may_call: bool) -> Iterator[Chunk]:
            step = replace(call, model=self.model, messages=messages, tools=specs, may_call=may_call)
            return self._try_models(step)

        yield from Toolbox(tools, steps, self.gateway.tool_threads, self._tick).answer(call.messages, ask)

    def _try_models(self, request: ModelCall) -> Iterator[Chunk]:
        """Yield the answer of the first model on the route that gives one."""
        last_error: ModelError | None = None
        for model in self.gateway.route(request.model):
            if not self.gateway.breaker.allows(model):
                continue
            try:
                gateway = self.gateway
                call = replace(
                    request, model=model, thinking_tokens=gateway.allowance(model), effort=gateway.effort(model)
                )
                yield from self._with_retries(call)
            except (ModelRefused, EmptyAnswer):
                raise  # these say something about the request itself, so no other model is tried
            except _BrokenOff as broken:
                raise broken.error from broken.error.__cause__
            except ModelError as error:
                log.warning("model %s failed: %s", model, error)
                last_error = error
            else:
                return
        raise last_error or ModelUnavailable(reason="every model is resting after failures", retry_after=5)

    def extract(self, model: type[M], messages: Sequence[Message], *, max_output_tokens: int | None = None) -> M:
        """Return the answer to ``messages`` as an instance of a pydantic model.

        :func:`.structured.extract` says how it is checked and retried.
        """
        from .structured import extract, reader_of

        return extract(self, reader_of(model), messages, max_output_tokens)

    def _with_retries(self, call: ModelCall) -> Iterator[Chunk]:
        """Yield one model's answer; retry while nothing was sent and the time allows it."""
        input_tokens = token_bound(call.messages, call.shape, call.tools)
        worst_case = self.gateway.prices.most(call.model, input_tokens, call.most_tokens)
        for attempt in range(_TRIES):
            # A failed try may have been charged, so each try reserves its own worst case.
            self.meter.cover(worst_case)
            self.model = call.model
            try:
                yield from self._stream_once(call)
            except (ModelUnavailable, ModelTimeout) as error:
                pause = self._pause_before(attempt, error)
                if pause is None:
                    raise
                self.gateway.pause(self._call_deadline(), pause)
            else:
                return

    def _pause_before(self, attempt: int, error: ModelError) -> float | None:
        """Return the seconds to wait before the next try; None if there is no further try."""
        if attempt + 1 == _TRIES:
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

    def _stream_once(self, call: ModelCall) -> Iterator[Chunk]:
        """Make one call, and record its usage, however it ends."""
        call = replace(call, deadline=self._call_deadline())
        call.deadline.left()
        provider = self.gateway.provider
        texts: list[str] = []
        thoughts: list[str] = []
        assembler = CallAssembler()
        tokens: TokenCounts | None = None
        finish: str | None = None
        charged = ended = False
        chunks = provider.stream(call) if self.streamed and call.shape is None else _in_one_piece(provider, call)
        try:
            for chunk in self._watch(call.model, chunks, texts):
                if chunk is WAITING or chunk is LEAVING:
                    yield chunk
                    continue
                if chunk.tokens is not None:
                    tokens = chunk.tokens.at_least(tokens)
                finish = chunk.finish or finish
                ended = finish is not None
                charged = charged or bool(chunk.text or chunk.parts or chunk.finish or chunk.thought)
                texts.append(chunk.text)
                # Tool calls are assembled here and sent on whole; thoughts only count toward the usage.
                if chunk.parts or chunk.thought:
                    assembler.add(chunk.parts)
                    thoughts.append(chunk.thought)
                    chunk = Chunk(chunk.text, chunk.tokens, chunk.finish)
                yield chunk
            charged = ended = True
            tool_calls = assembler.calls()
            if not tool_calls and not call.shape and not "".join(texts).strip():
                raise empty_answer(finish)
            if tool_calls:
                yield ToolChunk(calls=tool_calls)
        except BaseException as error:
            # Providers charge for a call that we gave up on, even before its first token, but not for own failures.
            gave_up = isinstance(error, ModelTimeout) or not isinstance(error, ModelError | _BrokenOff)
            charged = charged or (gave_up and call.deadline.sent)
            raise
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            if charged or tokens is not None:
                self._record_usage(call, tokens, "".join([*thoughts, *texts, assembler.text()]), ended)

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
                breaker.failed(model)
            if any(texts):
                # The caller has some text already, so neither a retry nor a fallback may start over.
                raise _BrokenOff(error) from error
            raise
        breaker.succeeded(model)

    def _record_usage(self, call: ModelCall, reported: TokenCounts | None, text: str, ended: bool) -> None:
        """Charge the call to the meter."""
        tokens = _billed_tokens(call, reported or TokenCounts(), text, ended)
        self.meter.spend(call.model, tokens, self.gateway.prices.cost(call.model, tokens))


def _billed_tokens(call: ModelCall, reported: TokenCounts, text: str, ended: bool) -> TokenCounts:
    """Return the tokens that a call is charged for.

    The provider's own figures count. Where the provider reported none, or 0 for what cannot be 0, an upper bound
    replaces them, so that nobody can exceed their budget by ending answers before the usage arrives. If an answer did
    not finish, the reported output counts only if it is larger than the bound of the text that arrived.
    """
    input_tokens, output_tokens = reported.input, reported.output
    if not input_tokens:
        input_tokens = token_bound(call.messages, call.shape, call.tools)
    if not ended or not output_tokens:
        # The model may have used its whole allowance to think, without sending any of its thoughts.
        thinking_tokens = 0 if ended or output_tokens else call.thinking_tokens
        output_tokens = max(output_tokens, text_bound(text) + thinking_tokens)
    estimated = reported.estimated or (input_tokens, output_tokens) != (reported.input, reported.output)
    cached = min(reported.cached_input, input_tokens)
    return TokenCounts(input_tokens, cached, output_tokens, estimated, min(reported.cache_write, input_tokens - cached))


def _in_one_piece(provider: Provider, call: ModelCall) -> Iterator[Chunk]:
    yield provider.complete(call)


class _BrokenOff(FirelaunchError):
    """An answer that broke off after some text was sent: neither retried nor handed to a fallback."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(reason=error.reason)
        self.error = error
