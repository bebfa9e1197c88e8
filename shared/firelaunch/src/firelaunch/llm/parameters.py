"""Parameters that a model refuses, learned from the provider's own words and left out from then on.

Models and servers differ in what they take: reasoning models refuse a temperature and the older name of the limit,
older servers the newer one. Nobody can keep a table of all of them, but their answer of 400 names the parameter. The
request is then sent again without it, at once and at no cost. What helped is kept for the model as long as the process
lives, so that every later call is right at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import ModelRefused
from .types import Chunk

__all__ = ["Body", "ParameterRefusal", "RefusedParameters"]

Body = Mapping[str, Any]


class ParameterRefusal(NamedTuple):
    """A parameter that a model refuses, or one ``value`` of it."""

    name: str
    value: str | None = None


class RefusedParameters:
    """What each model has refused. One per provider and process; may be used by many threads.

    Args:
        adapt: gives a request's body without what was refused.
        blame: finds what a body holds that the provider's words name; None where that cannot be left out.
    """

    def __init__(
        self,
        adapt: Callable[[Body, frozenset[ParameterRefusal]], Body],
        blame: Callable[[Body, str], ParameterRefusal | None],
    ) -> None:
        self._adapt = adapt
        self._blame = blame
        self._known: dict[str, frozenset[ParameterRefusal]] = {}

    def send(self, model: str, body: Body, send: Callable[[Body], Iterator[Chunk]]) -> Iterator[Chunk]:
        """The chunks that ``send`` gives for ``body``, in a form that the model takes.

        Raises:
            ModelRefused: it takes none. What ``send`` raises else passes through.
        """
        refused = self._known.get(model, frozenset())
        while True:
            shaped = self._adapt(body, refused)
            chunks = send(shaped)
            try:
                first = next(chunks, None)
            except ModelRefused as error:
                found = self._blame(shaped, error.said)
                if found is None or found in refused:
                    raise
                refused |= {found}
                continue
            break
        # Only now: a refusal may quote the user's own words, and those may name a parameter that is none of its cause.
        self._known[model] = self._known.get(model, frozenset()) | refused
        try:
            if first is not None:
                yield first
            yield from chunks
        finally:
            chunks.close()  # type: ignore[attr-defined]
