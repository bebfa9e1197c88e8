"""The size of the smallest answer that a JSON schema allows, computed without making the answer.

:mod:`.shapes` refuses schemas whose smallest answer no model could write.
:mod:`firelaunch.llm.providers.offline_values` makes small answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidSchema
from .strict_schema import resolve

__all__ = ["MOST_CHARACTERS", "check_size"]

MOST_CHARACTERS = 100_000
"""The most JSON characters that a schema's smallest answer may have.

The 64,000 tokens of models' longest answers hold fewer characters of lists and numbers.
"""

_UNDER_WAY = -1
Node = Mapping[str, Any]


def check_size(schema: Node) -> None:
    """Check that the smallest answer to ``schema`` has at most ``MOST_CHARACTERS`` characters of JSON.

    The schema's keywords must have the types that JSON Schema demands.

    Raises:
        InvalidSchema: the answer has more; the message names the fix.
    """
    if _Sizes(schema).least(schema) > MOST_CHARACTERS:
        raise InvalidSchema(
            f"The smallest answer that it allows has over {MOST_CHARACTERS:,} characters; lower minItems and minLength."
        )


class _Sizes:
    """Sizes of the smallest values of one schema's parts. Never above the true size, so nothing possible is refused."""

    def __init__(self, schema: Node) -> None:
        self._schema = schema
        self._sizes: dict[int, int] = {}

    def least(self, node: Any) -> int:
        """Return the JSON characters of the smallest value of ``node``; 0 for a part that contains itself."""
        node = resolve(node, self._schema)
        if not isinstance(node, Mapping):
            return 0
        size = self._sizes.get(id(node))
        if size is not None:
            return max(0, size)
        self._sizes[id(node)] = _UNDER_WAY
        self._sizes[id(node)] = size = self._compute(node)
        return size

    def _compute(self, node: Node) -> int:
        for word in ("anyOf", "oneOf"):
            if isinstance(node.get(word), list) and node[word]:
                return min(self.least(option) for option in node[word])
        if isinstance(node.get("allOf"), list):
            return max((self.least(part) for part in node["allOf"]), default=0)
        if "const" in node or "enum" in node:
            values = [node["const"]] if "const" in node else node["enum"]
            return min(
                (len(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) for value in values), default=0
            )
        kinds = node["type"] if isinstance(node.get("type"), list) else [node.get("type")]
        return min((self._of_type(kind, node) for kind in kinds), default=0)

    def _of_type(self, kind: Any, node: Node) -> int:
        if kind == "string":
            return 2 + int(node.get("minLength", 0))
        if kind == "array" or (kind is None and "items" in node):
            return 2 + int(node.get("minItems", 0)) * (1 + self.least(node.get("items")))
        if kind == "object" or (kind is None and "properties" in node):
            properties = node.get("properties", {})
            return 2 + sum(len(name) + 4 + self.least(properties.get(name)) for name in node.get("required", ()))
        return 1
