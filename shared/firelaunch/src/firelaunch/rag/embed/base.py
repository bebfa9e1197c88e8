"""The port to an embedding model, and the embedder that splits any number of texts into requests."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import ModelRefused, ModelTimeout, ModelUnavailable
from ...llm.fields import figure
from ...llm.types import FinishedCall, TokenCounts, text_bound
from ...slots import Pace
from ...telemetry.names import EMBEDDINGS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

__all__ = ["Embedded", "Embedder", "EmbeddingModel", "counted", "estimate"]

_BYTES_A_TOKEN = 3
"""Fewer than English has (about 4), so that a batch rarely exceeds a limit; a batch that does is halved."""

_MIN_WAIT, _MAX_WAIT = 0.25, 20.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, one row for each text, and the tokens and seconds that they took.

    ``estimated``: the model did not report them, and ``tokens`` is an upper bound. ``provider`` is who made them.
    """

    vectors: Vectors
    tokens: int
    estimated: bool = False
    seconds: float = 0.0
    provider: str = ""

    def as_call(self, model: str, micro_usd: int, purpose: str) -> FinishedCall:
        """Return the call for its bill and its record."""
        tokens = TokenCounts(input=self.tokens, estimated=self.estimated)
        return FinishedCall(
            model,
            tokens,
            micro_usd,
            self.seconds,
            purpose=purpose,
            step=0,
            operation=EMBEDDINGS,
            provider=self.provider,
        )


class EmbeddingModel(Protocol):
    """One model of one provider.

    Attributes:
        id: names the model and the length of its vectors; a part of the index version.
        batch_texts, batch_tokens: the limits of one request.

    Raises (``request``):
        ModelUnavailable, ModelTimeout: another try may help.
        ModelRefused: another try would not help.
        ModelError: the model is of no use now.
    """

    id: str
    batch_texts: int
    batch_tokens: int

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:
        """Return the vectors of texts that fit one request; ``query`` if they are questions."""


def estimate(text: str) -> int:
    """Return roughly how many tokens a text has, rather too many than too few."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


def counted(vectors: Vectors, texts: Sequence[str], tokens: Any) -> Embedded:
    """Return vectors with the tokens that the provider reports, or with an upper bound if it reports no valid count."""
    used = figure(tokens)
    return Embedded(vectors, used, False) if used else Embedded(vectors, sum(map(text_bound, texts)), True)


class Embedder:
    """An embedding model with batches, rate limits and retries. May be called from many threads.

    Args:
        model: makes the vectors.
        requests_per_minute, tokens_per_minute: limits of this process; 0 for no limit.
        sleep, clock: replacements of the system's, for tests.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = model.id
        self._model = model
        self._provider: str = getattr(model, "provider", "")
        self._requests = Pace(requests_per_minute, clock)
        self._tokens = Pace(tokens_per_minute, clock)
        self._sleep = sleep
        self._clock = clock

    def warm(self) -> None:
        """Import what the first request needs, if the model names it."""
        warm: Callable[[], None] = getattr(self._model, "warm", lambda: None)
        warm()

    def embed(self, texts: Sequence[str], *, query: bool = False, seconds: float = 120.0) -> Embedded:
        """Return the vectors of ``texts``, in their order.

        Args:
            query: the texts are questions; some models embed those differently.
            seconds: for each request with its retries, including waits for the rate limit.

        Raises:
            ModelError: one of its kinds. No vector is returned then, but what was embedded must be paid.
        """
        import numpy as np

        if not all(text.strip() for text in texts):
            raise ModelRefused(reason="a text without a word has no embedding")
        began = self._clock()
        batches = [part for batch in self._batches(texts) for part in self._embed(batch, query, seconds)]
        vectors = np.concatenate([part.vectors for part in batches]) if batches else np.zeros((0, 0), np.float32)
        estimated = any(part.estimated for part in batches)
        return Embedded(vectors, sum(part.tokens for part in batches), estimated, self._clock() - began, self._provider)

    def _batches(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        first = tokens = 0
        for number, text in enumerate(texts):
            more = estimate(text)
            full = number - first == self._model.batch_texts or tokens + more > self._model.batch_tokens
            if full and number > first:
                yield texts[first:number]
                first, tokens = number, 0
            tokens += more
        if first < len(texts):
            yield texts[first:]

    def _embed(self, texts: Sequence[str], query: bool, seconds: float) -> Iterator[Embedded]:
        try:
            yield self._try(texts, query, seconds)
        except ModelRefused:
            if len(texts) == 1:
                raise
            # More tokens than estimated, or one bad text among good ones: try both halves to find out which.
            middle = len(texts) // 2
            yield from self._embed(texts[:middle], query, seconds)
            yield from self._embed(texts[middle:], query, seconds)

    def _try(self, texts: Sequence[str], query: bool, seconds: float) -> Embedded:
        give_up = self._clock() + seconds
        wait, tokens = _MIN_WAIT, sum(map(estimate, texts))
        while True:
            pause = max(self._requests.take(1), self._tokens.take(tokens))
            if self._clock() + pause >= give_up:
                raise ModelUnavailable(reason="the embedding model's limit a minute is used up", retry_after=pause)
            if pause:
                self._sleep(pause)
            try:
                return _check(self._model.request(texts, query=query, seconds=give_up - self._clock()), len(texts))
            except (ModelUnavailable, ModelTimeout) as error:
                # Full jitter keeps processes that failed together from retrying together.
                pause = max(error.retry_after or 0.0, random.uniform(0, wait))  # noqa: S311 - keeps no secret
                wait = min(2 * wait, _MAX_WAIT)
                if self._clock() + pause >= give_up:
                    raise
                self._sleep(pause)


def _check(embedded: Embedded, count: int) -> Embedded:
    import numpy as np

    vectors = embedded.vectors
    if vectors.ndim != 2 or len(vectors) != count or not vectors.size or not np.isfinite(vectors).all():
        raise ModelUnavailable(
            reason=f"the embedding model gave {vectors.shape} vectors for {count} texts, or no numbers"
        )
    return embedded
