"""Learn which parameters a model refuses from the provider's error messages, and leave them out from then on.

Models and servers accept different parameters: reasoning models refuse a temperature and the older name of the output
limit, older servers refuse the newer name. Nobody can maintain a table of all of them, but a 400 response names the
parameter. The request is then sent again without it, at once and at no cost. What helped is kept for the model as long
as the process lives, so that later calls succeed at the first try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import ModelRefused
from .types import Chunk

__all__ = ["Body", "ParameterRefusal", "RefusedParameters"]

Body = Mapping[str, Any]


class ParameterRefusal(NamedTuple):
    """A parameter that a model refuses, or one ``value`` of it.

    With ``once``, the refusal is about one request alone, such as about its schema, and is not kept for the model.
    """

    name: str
    value: str | None = None
    once: bool = False


class RefusedParameters:
    """The parameters that each model has refused. Create one for each provider and process; safe for many threads.

    Args:
        adapt: returns a request's body without the refused parameters.
        blame: returns the part of a body that an error message names; None if that part cannot be left out.
    """

    def __init__(
        self,
        adapt: Callable[[Body, frozenset[ParameterRefusal]], Body],
        blame: Callable[[Body, str], ParameterRefusal | None],
    ) -> None:
        self._adapt = adapt
        self._blame = blame
        self._by_model: dict[str, frozenset[ParameterRefusal]] = {}

    def send(self, model: str, body: Body, send: Callable[[Body], Iterator[Chunk]]) -> Iterator[Chunk]:
        """Yield the chunks that ``send`` returns for ``body``, in a form that the model accepts.

        Raises:
            ModelRefused: the model accepts no form. Other errors of ``send`` pass through.
        """
        refused = self._by_model.get(model, frozenset())
        while True:
            adapted = self._adapt(body, refused)
            chunks, begun = send(adapted), False
            try:
                for chunk in chunks:
                    # Keep it only after success: a refusal may quote the user's text, which may name an innocent
                    # parameter. Waiting is no success, since some servers refuse inside of a stream.
                    if not begun and chunk != Chunk():
                        begun = True
                        kept = frozenset(refusal for refusal in refused if not refusal.once)
                        self._by_model[model] = self._by_model.get(model, frozenset()) | kept
                    yield chunk
            except ModelRefused as error:
                refusal = None if begun else self._blame(adapted, error.explanation)
                if refusal is None or refusal in refused:
                    raise
                refused |= {refusal}
            else:
                return
            finally:
                chunks.close()  # type: ignore[attr-defined]
