"""The port to an embedding model, and what turns any number of texts into requests that the model takes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import ModelRefused, ModelTimeout, ModelUnavailable
from ...llm.fields import figure
from ...llm.types import text_bound

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

__all__ = ["Embedded", "Embedder", "EmbeddingModel", "Pace", "counted", "estimate"]

_BYTES_A_TOKEN = 3
"""Fewer than English has (about 4), so that a batch by this estimate rarely is over a limit; one that is, is halved."""

_MIN_WAIT, _MAX_WAIT = 0.25, 20.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, a row for each text, and the tokens they took.

    ``estimated``: the model did not say how many, and ``tokens`` is a bound.
    """

    vectors: Vectors
    tokens: int
    estimated: bool = False


class EmbeddingModel(Protocol):
    """One model of one provider.

    Attributes:
        id: names the model and the length of its vectors; a part of the index version.
        batch_texts, batch_tokens: what one request may hold.

    Raises (``request``): ModelUnavailable and ModelTimeout (another try may help), ModelRefused (it would not),
        ModelError (the model is of no use now).
    """

    id: str
    batch_texts: int
    batch_tokens: int

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:
        """The vectors of texts that fit one request; ``query`` says that they ask, rather than being searched."""


def estimate(text: str) -> int:
    """About how many tokens a text is, rather too many than too few."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


def counted(vectors: Vectors, texts: Sequence[str], tokens: Any) -> Embedded:
    """Vectors with the ``tokens`` that the provider says they took; a bound where that is no count of tokens."""
    used = figure(tokens)
    return Embedded(vectors, used, False) if used else Embedded(vectors, sum(map(text_bound, texts)), True)


class Pace:
    """Spaces requests so that no more than so many units begin in a minute.

    Args:
        per_minute: units a minute; 0 for no limit.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, units: int) -> float:
        """Take units; the seconds to wait before they may be used."""
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + units * self._seconds
            return start - now


class Embedder:
    """Turns texts into vectors: batched, paced, tried again. May be called from many threads.

    Args:
        model: who makes the vectors.
        requests_per_minute, tokens_per_minute: of this process; 0 for no limit.
        sleep, clock: others than the system's, for tests.
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
        self._requests = Pace(requests_per_minute, clock)
        self._tokens = Pace(tokens_per_minute, clock)
        self._sleep = sleep
        self._clock = clock

    def warm(self) -> None:
        """Import what the first request needs, where the model says what that is."""
        warm: Callable[[], None] = getattr(self._model, "warm", lambda: None)
        warm()

    def embed(self, texts: Sequence[str], *, query: bool = False, seconds: float = 120.0) -> Embedded:
        """The vectors of ``texts``, in their order.

        Args:
            query: the texts are questions; some models embed those in another way.
            seconds: for each request with its retries, waiting for the pace included.

        Raises:
            ModelError: one of its kinds; no vector is returned then, and what was embedded is paid all the same.
        """
        import numpy as np

        if not all(text.strip() for text in texts):
            raise ModelRefused(reason="a text without a word has no embedding")
        done = [part for batch in self._batches(texts) for part in self._embed(batch, query, seconds)]
        vectors = np.concatenate([part.vectors for part in done]) if done else np.zeros((0, 0), np.float32)
        return Embedded(vectors, sum(part.tokens for part in done), any(part.estimated for part in done))

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
            # More tokens than estimated, or one bad text among good ones: halves find out which.
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
                return _checked(self._model.request(texts, query=query, seconds=give_up - self._clock()), len(texts))
            except (ModelUnavailable, ModelTimeout) as error:
                # Full jitter keeps processes that failed together from coming back together.
                pause = max(error.retry_after or 0.0, random.uniform(0, wait))  # noqa: S311 - keeps no secret
                wait = min(2 * wait, _MAX_WAIT)
                if self._clock() + pause >= give_up:
                    raise
                self._sleep(pause)


def _checked(found: Embedded, count: int) -> Embedded:
    import numpy as np

    vectors = found.vectors
    if vectors.ndim != 2 or len(vectors) != count or not vectors.size or not np.isfinite(vectors).all():
        raise ModelUnavailable(
            reason=f"the embedding model gave {vectors.shape} vectors for {count} texts, or no numbers"
        )
    return found
