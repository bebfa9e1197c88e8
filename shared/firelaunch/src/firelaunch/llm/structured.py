"""An answer of a given shape: asked for in the provider's strict mode, checked, sent back once if it does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

from pydantic import BaseModel

from ..errors import ExtractionFailed
from .shapes import AnswerReader, Misfit, of_model, of_schema
from .types import Chunk, Message, Shape

__all__ = ["Kind", "extract", "reader_of"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
Kind = type[BaseModel] | Mapping[str, Any]

_ENDED_EARLY = {
    "length": "The answer is longer than allowed. Ask for less, or raise limits.max_output_tokens.",
    "content_filter": "The model's provider held the answer back.",
    "refusal": "The model declined to answer.",
}
_AGAIN = "That does not fit the schema:\n{problems}\nSend the whole answer again, corrected, as JSON alone."


class Model(Protocol):
    """A model that answers in a shape."""

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
    """The reader for a pydantic model, or for a JSON schema.

    Raises:
        InvalidSchema: no language model can be held to it.
    """
    return of_model(kind) if isinstance(kind, type) else of_schema(kind)


def extract(
    llm: Model, reader: AnswerReader[T], messages: Sequence[Message], max_output_tokens: int | None = None
) -> T:
    """The model's answer to ``messages``, read by ``reader``.

    An answer that does not fit is sent back once, with what is wrong with it. Both calls are taken down by the meter.

    Raises:
        ExtractionFailed: it did not fit the second time either, was cut short, or is a refusal.
        BudgetExceeded, ModelError: as for :meth:`.gateway.ModelSession.stream`.
    """
    said: list[Message] = list(messages)
    for _ in range(2):
        (answer,) = _whole(llm, said, reader, max_output_tokens)
        if answer.finish in _ENDED_EARLY:
            raise ExtractionFailed(_ENDED_EARLY[answer.finish], reason=f"the answer ended by {answer.finish}")
        try:
            return reader.read(answer.text)
        except Misfit as misfit:
            log.info("an answer of model %s did not fit its schema", llm.model)
            again: Message = {"role": "user", "content": _AGAIN.format(problems=misfit)}
            said = [*messages, {"role": "assistant", "content": answer.text or "(nothing)"}, again]
    raise ExtractionFailed


def _whole(llm: Model, messages: list[Message], reader: AnswerReader[Any], most: int | None) -> list[Chunk]:
    return list(llm.stream(messages, max_output_tokens=most, shape=reader.shape, keep=reader.fits))
