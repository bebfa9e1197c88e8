"""Carry what a model thought with its tool calls, for providers that need it back, unchanged, with the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from ..fields import items, table

__all__ = ["pack_thoughts", "unpack_thoughts"]


def pack_thoughts(model: str, blocks: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the signature of a tool call: what ``model`` thought and said before it; None if there is nothing."""
    return json.dumps({"model": model, "blocks": list(blocks)}, ensure_ascii=False) if blocks else None


def unpack_thoughts(signature: str | None, model: str) -> Iterator[Mapping[str, Any]]:
    """Yield what ``model`` thought and said before a call; nothing if the signature is another model's.

    A model refuses thoughts of another one.
    """
    try:
        packed = table(from_json(signature or "{}"))
    except ValueError:
        return
    if packed.get("model") == model:
        yield from items(packed.get("blocks"))
