"""Read a provider's JSON, also where it is not quite JSON."""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json

from ..failures import error_in, garbled, of_stream

__all__ = ["is_json", "json_object"]

_CONTROLS = {code: "\ufffd" for code in range(32) if chr(code) not in "\t\n\r"} | {ord("\t"): " "}
_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\(u[dD][89a-fA-F]..)|\\.", re.DOTALL)
"""An escape in a JSON string; the group is half of a surrogate pair."""


def json_object(data: bytes, *, is_error: bool = False) -> dict[str, Any]:
    """Return the object in ``data``.

    Raises:
        ModelError: it is an error, or no object.
    """
    try:
        document = _from_json(data)
    except ValueError as error:
        if is_error:
            raise of_stream(data.decode("utf-8", "replace")) from error
        raise garbled("the provider sent what is no JSON") from error
    problem = error_in(document)
    if problem is not None or is_error:
        raise of_stream(document if problem is None else problem)
    if not isinstance(document, dict):
        raise garbled("the provider sent JSON that is no object")
    return document


def _from_json(data: bytes) -> Any:
    """Parse JSON. What cannot be a character in it becomes a replacement character.

    Such are bytes that are no UTF-8, halves of surrogate pairs, and control characters.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return from_json(data)
    except ValueError:
        text = data.decode("utf-8", "replace").translate(_CONTROLS)
        return from_json(_ESCAPE.sub(lambda escape: "\\ufffd" if escape[1] else escape[0], text))


def is_json(data: bytes) -> bool:
    """Return whether ``data`` can be read as JSON."""
    try:
        _from_json(data)
    except ValueError:
        return False
    return True
