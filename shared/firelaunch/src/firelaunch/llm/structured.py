"""Get an answer of a given shape: ask for it in the provider's strict mode, check it, and send a misfit back once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

from pydantic import BaseModel

from ..errors import ExtractionFailed
from .finish import Finish
from .shapes import AnswerReader, Misfit, of_model, of_schema
from .types import Chunk, Message, Shape

__all__ = ["Kind", "extract", "reader_of"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
Kind = type[BaseModel] | Mapping[str, Any]

_ENDED_EARLY: dict[Finish | None, str] = {
    "length": "The answer is longer than allowed. Ask for less, or raise limits.max_output_tokens.",
    "content_filter": "The model's provider held the answer back, or the model declined to answer.",
}
_CORRECTION = "That does not fit the schema:\n{problems}\nSend the whole answer again, corrected, as JSON alone."


class Model(Protocol):
    """A model that can answer in a shape."""

    model: str

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_output_tokens: int | None = None,
        shape: Shape | None = None,
        keep: Callable[[str], bool] = bool,
    ) -> Iterator[Chunk]:
        """Yield the answer's pieces."""


@overload
def reader_of(kind: type[M]) -> AnswerReader[M]: ...
@overload
def reader_of(kind: Mapping[str, Any]) -> AnswerReader[dict[str, Any]]: ...
def reader_of(kind: Kind) -> AnswerReader[Any]:
    """Return the reader for a pydantic model or a JSON schema.

    Raises:
        InvalidSchema: no language model can be held to it.
    """
    return of_model(kind) if isinstance(kind, type) else of_schema(kind)


def extract(
    llm: Model, reader: AnswerReader[T], messages: Sequence[Message], max_output_tokens: int | None = None
) -> T:
    """Return the model's answer to ``messages``, read by ``reader``.

    An answer that does not match is sent back once with its problems. The meter records both calls.

    Raises:
        ExtractionFailed: the second answer does not match either, or an answer was cut short or is a refusal.
        BudgetExceeded, ModelError: as for :meth:`.gateway.ModelSession.stream`.
    """
    history: list[Message] = list(messages)
    for _ in range(2):
        (answer,) = _answer_chunks(llm, history, reader, max_output_tokens)
        if answer.finish in _ENDED_EARLY:
            raise ExtractionFailed(_ENDED_EARLY[answer.finish], reason=f"the answer ended by {answer.finish}")
        try:
            return reader.read(answer.text)
        except Misfit as misfit:
            log.info("an answer of model %s did not fit its schema", llm.model)
            correction: Message = {"role": "user", "content": _CORRECTION.format(problems=misfit)}
            history = [*messages, {"role": "assistant", "content": answer.text or "(nothing)"}, correction]
    raise ExtractionFailed


def _answer_chunks(llm: Model, messages: list[Message], reader: AnswerReader[Any], most: int | None) -> list[Chunk]:
    return list(llm.stream(messages, max_output_tokens=most, shape=reader.shape, keep=reader.fits))
