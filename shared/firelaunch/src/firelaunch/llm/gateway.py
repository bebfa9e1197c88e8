"""One call of a model, made to succeed where it can: retries inside one time budget, then the fallback models.

What is tried again, what falls back and what fails at once is decided by the error's class alone (see
:class:`~firelaunch.llm.types.Provider`). Once text has reached the caller nothing is restarted: the error passes
through.
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
"""Seconds below which another try would only end in a time-out."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Reaches one provider's models.

    Args:
        max_output_tokens: of an answer at most.
        thinking_tokens: what a model that thinks may use on top.
        effort: how much a model is to think, by its name; None for its own default.
        cache: answers given before; None where the app has it off.
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
        """Micro-dollars that an answer of ``model``, or of any model it may fall back to, costs at most."""
        output = max_output_tokens or self.max_output_tokens
        return max(self.prices.most(name, input_tokens, output + self.allowance(name)) for name in self.route(model))

    def allowance(self, model: str) -> int:
        """Tokens that ``model`` may use to think, beside its answer's."""
        return self.thinking_tokens if thinks(model, self.effort(model)) else 0

    def route(self, model: str) -> tuple[str, ...]:
        """The models to try for ``model``, in order."""
        return tuple(dict.fromkeys((model, *self.fallback)))

    def within(self, scope: Scope) -> Gateway:
        """The same, with the kept answers of ``scope`` alone."""
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
        """Calls for one request of ``owner``, which has ``seconds`` in all. Without an owner no answer is kept.

        See Patience for ``client`` and ``check``.
        """
        return ModelSession(self, meter, model, time.monotonic() + seconds, streamed, client, check, owner)


@dataclass(slots=True)
class ModelSession:
    """What a workflow is handed as ``turn.llm``: the gateway, bound to one request's model, meter and time.

    ``model`` is the model in use; it changes when a fallback takes over. ``temperature`` is that of calls that name
    none.
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
        """The model's answer to ``messages``, piece by piece (in one piece where the client did not ask for a stream).

        Closing the iterator ends the call at the provider; what was used until then is taken down.

        Args:
            temperature, max_output_tokens: in place of the prompt's and the settings' own.
            shape: what the answer is to look like; it then comes in one piece, unchecked. ``extract`` checks it.
            reuse: where the app has its cache on, who may be given this answer again; "app" where ``messages`` hold
                nothing of the user's own.
            keep: whether an answer is worth keeping in that cache.
            tools: functions that the model may ask for (see :mod:`.tools`); such an answer is not kept.
            tool_steps: how often it may ask; each time, the model is called once more.

        Raises:
            BudgetExceeded: the caller's budget does not cover the call.
            ModelError: no model answered, or the one that did broke off.
            TypeError: a function cannot be a tool.
        """
        most = min(max_output_tokens or self.gateway.max_output_tokens, self.gateway.max_output_tokens)
        heat = self.temperature if temperature is None else temperature
        call = ModelCall(self.model, messages, most, self._patience(), heat, shape)
        if tools:
            yield from self._with_tools(call, tools, tool_steps)
            return
        cache = self.gateway.cache
        if cache is None or self.owner is None or reuse == "never":
            yield from self._ask(call)
            return
        scope = self.owner if reuse == "owner" else Scope(self.owner.app_id)
        provider, model = self.gateway.provider.name, self.model
        key = answer_key(scope, provider, model, messages, most, heat, shape)
        yield from cache.of(scope).answer(
            key,
            lambda: self._ask(call),
            hit=lambda: self.meter.reuse(model),
            tick=self._tick,
            keep=lambda text: self.model == model and keep(text),  # a fallback's answer is not the model's own
        )

    def _with_tools(self, call: ModelCall, tools: Sequence[Tool | Callable[..., Any]], steps: int) -> Iterator[Chunk]:
        from .tools import Toolbox

        def ask(messages: Sequence[Message], specs: Sequence[ToolSpec], may_call: bool) -> Iterator[Chunk]:
            step = replace(call, model=self.model, messages=messages, tools=specs, may_call=may_call)
            return self._ask(step)

        yield from Toolbox(tools, steps, self.gateway.tool_threads, self._tick).answer(call.messages, ask)

    def _ask(self, asked: ModelCall) -> Iterator[Chunk]:
        last: ModelError | None = None
        for model in self.gateway.route(asked.model):
            if not self.gateway.breaker.allows(model):
                continue
            try:
                gateway = self.gateway
                call = replace(
                    asked, model=model, thinking_tokens=gateway.allowance(model), effort=gateway.effort(model)
                )
                yield from self._with_retries(call)
            except (ModelRefused, EmptyAnswer):
                raise
            except _Broken as broken:
                raise broken.error from broken.error.__cause__
            except ModelError as error:
                log.warning("model %s failed: %s", model, error)
                last = error
            else:
                return
        raise last or ModelUnavailable(reason="every model is resting after failures", retry_after=5)

    def extract(self, model: type[M], messages: Sequence[Message], *, max_output_tokens: int | None = None) -> M:
        """The answer to ``messages`` as an instance of a pydantic model; see :func:`.structured.extract`."""
        from .structured import extract, reader_of

        return extract(self, reader_of(model), messages, max_output_tokens)

    def _with_retries(self, call: ModelCall) -> Iterator[Chunk]:
        sent = token_bound(call.messages, call.shape, call.tools)
        most = self.gateway.prices.most(call.model, sent, call.most_tokens)
        for attempt in range(_TRIES):
            # A try that was given up on has been paid for, so the next is covered anew.
            self.meter.cover(most)
            self.model = call.model
            try:
                yield from self._once(call)
            except (ModelUnavailable, ModelTimeout) as error:
                pause = self._pause_before(attempt, error)
                if pause is None:
                    raise
                self.gateway.pause(self._patience(), pause)
            else:
                return

    def _pause_before(self, attempt: int, error: ModelError) -> float | None:
        if attempt + 1 == _TRIES:
            return None
        # Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) on top of what the
        # provider asked for, so that waiting clients do not come back together.
        pause: float = self.gateway.jitter() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        pause += error.retry_after or 0.0
        return pause if self._left() - pause > _SHORTEST_TRY else None

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _tick(self) -> None:
        patience = self._patience()
        patience.left()
        patience.pause(0.001)

    def _patience(self) -> Deadline:
        gateway = self.gateway
        times = (self.deadline, gateway.first_token_seconds, gateway.between_tokens_seconds)
        return Deadline(*times, self.client, self.check)

    def _once(self, call: ModelCall) -> Iterator[Chunk]:
        call = replace(call, patience=self._patience())
        call.patience.left()
        provider = self.gateway.provider
        said: list[str] = []
        thoughts: list[str] = []
        calls = CallAssembler()
        tokens: TokenCounts | None = None
        finish: str | None = None
        owed = ended = False
        chunks = provider.stream(call) if self.streamed and call.shape is None else _whole(provider, call)
        try:
            for chunk in self._watched(call.model, chunks, said):
                if chunk is WAITING or chunk is LEAVING:
                    yield chunk
                    continue
                if chunk.tokens is not None:
                    tokens = chunk.tokens.at_least(tokens)
                finish = chunk.finish or finish
                ended = finish is not None
                owed = owed or bool(chunk.text or chunk.parts or chunk.finish or chunk.thought)
                said.append(chunk.text)
                if chunk.parts or chunk.thought:
                    calls.add(chunk.parts)
                    thoughts.append(chunk.thought)
                    chunk = Chunk(chunk.text, chunk.tokens, chunk.finish)
                yield chunk
            owed = ended = True
            found = calls.whole()
            if not found and not call.shape and not "".join(said).strip():
                raise empty_answer(finish)
            if found:
                yield ToolChunk(calls=found)
        except BaseException as error:
            # What was given up on is charged by the provider, whatever it had said; a failure of its own is not.
            gave_up = isinstance(error, ModelTimeout) or not isinstance(error, ModelError | _Broken)
            owed = owed or (gave_up and call.patience.sent)
            raise
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            if owed or tokens is not None:
                self._take_down(call, tokens, "".join([*thoughts, *said, calls.text()]), ended)

    def _watched(self, model: str, chunks: Iterator[Chunk], said: list[str]) -> Iterator[Chunk]:
        breaker = self.gateway.breaker
        try:
            for chunk in chunks:
                yield chunk
                if chunk is WAITING:  # what the hub has passed on meanwhile comes next, and is to be paid
                    continue
                if self._left() <= 0 and chunk.finish is None and chunk.tokens is None:
                    if self.client is not None and self.client.hosted:
                        yield LEAVING  # what follows is settling, which the other streams should not wait for
                    raise ModelTimeout(reason="the request's time is used up")
        except ModelError as error:
            if not isinstance(error, ModelRefused):
                breaker.failed(model)
            if any(said):
                raise _Broken(error) from error
            raise
        breaker.succeeded(model)

    def _take_down(self, call: ModelCall, reported: TokenCounts | None, text: str, ended: bool) -> None:
        tokens = _used(call, reported or TokenCounts(), text, ended)
        self.meter.spend(call.model, tokens, self.gateway.prices.cost(call.model, tokens))


def _used(call: ModelCall, reported: TokenCounts, text: str, ended: bool) -> TokenCounts:
    """What a call is taken to have used.

    The provider's own figures count. Where it gave none, or 0 for what cannot be 0, a bound takes their place, so that
    nobody spends more than their budget by ending answers before their usage is told. Of an answer that did not come to
    its end, what was reported of its output counts only where it is more than what was heard.
    """
    asked, said = reported.input, reported.output
    if not asked:
        asked = token_bound(call.messages, call.shape, call.tools)
    if not ended or not said:
        # What it thought without a word of it may be all of its allowance.
        silent = 0 if ended or said else call.thinking_tokens
        said = max(said, text_bound(text) + silent)
    estimated = reported.estimated or (asked, said) != (reported.input, reported.output)
    cached = min(reported.cached_input, asked)
    return TokenCounts(asked, cached, said, estimated, min(reported.cache_write, asked - cached))


def _whole(provider: Provider, call: ModelCall) -> Iterator[Chunk]:
    yield provider.complete(call)


class _Broken(FirelaunchError):
    """An answer that broke off after some of it was said: neither retried nor handed to a fallback."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(reason=error.reason)
        self.error = error
