"""What makes two questions the same: everything that is sent, and whose they are.

The owner is part of the key: the app, and the user unless the workflow says that the app's users share the prompt. So
an answer never reaches anyone who could not have asked for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from ..scope import Scope
from .types import Message, Shape

__all__ = ["Reuse", "answer_key"]

Reuse = Literal["owner", "app", "never"]
"""Who may be given an answer again: its owner, every user of the app, nobody."""


def answer_key(
    scope: Scope,
    provider: str,
    model: str,
    messages: Sequence[Message],
    max_output_tokens: int,
    temperature: float | None,
    shape: Shape | None,
) -> str:
    """A key that is equal only where all of this is; ``scope`` is the app's where its users share the answer."""
    asked = [[message["role"], message["content"]] for message in messages]
    form = None if shape is None else [shape.name, shape.text, json.dumps(shape.schema)]
    whole = [scope.app_id, scope.uid, provider, model, asked, max_output_tokens, temperature, form]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
