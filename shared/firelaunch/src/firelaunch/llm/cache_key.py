"""The key of a cached answer: a hash of everything that is sent, and of the owner.

The owner is the app and its user, or the app alone if the workflow says that the app's users share the prompt. So an
answer never reaches anyone who could not have asked for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from ..scope import Scope
from .attachments import Attachment
from .types import Message, Shape

__all__ = ["Reuse", "answer_key"]

Reuse = Literal["owner", "app", "never"]
"""Who may get an answer again: its owner, every user of the app, nobody."""


def answer_key(
    scope: Scope,
    provider: str,
    model: str,
    messages: Sequence[Message],
    max_output_tokens: int,
    temperature: float | None,
    shape: Shape | None,
) -> str:
    """Return a key that depends on all arguments; ``scope`` is the app's if its users share the answer."""
    prompt = [
        [message["role"], message["content"], [_file_key(each) for each in message.get("attachments", ())]]
        for message in messages
    ]
    shape_parts = None if shape is None else [shape.name, shape.text, json.dumps(shape.schema)]
    parts = [scope.app_id, scope.uid, provider, model, prompt, max_output_tokens, temperature, shape_parts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _file_key(attachment: Attachment) -> str:
    return f"{attachment.media_type} {hashlib.sha256(attachment.data).hexdigest()} {attachment.name}"
