"""Put a prompt's messages into the form that every provider and every model's chat template takes.

Claude and Gemini take system texts apart from the conversation, and want it to begin with the user. Many chat templates
(Mistral's, Gemma's, Llama's as served by vLLM) refuse two messages of one role in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from .types import Image, Message

__all__ = ["alternating", "with_images"]

_BEGINNING = "(The conversation begins.)"
"""The user's message before an assistant's that comes first, since a conversation begins with the user."""

_BETWEEN = "\n\n"


def alternating(messages: Sequence[Message]) -> list[Message]:
    """Return ``messages`` with the system's first, joined, and then the user's and the assistant's in turn.

    Neighbours of one role become one message, blank messages are left out, and nothing else is lost. Tools' messages
    stay behind the assistant's message that calls them.
    """
    system_texts = [message["content"] for message in messages if message["role"] == "system" and message["content"]]
    conversation: list[Message] = []
    for message in messages:
        if message["role"] != "system" and (_says_something(message) or message["role"] == "tool"):
            _append(conversation, message)
    if conversation and conversation[0]["role"] == "assistant":
        conversation.insert(0, {"role": "user", "content": _BEGINNING})
    system: list[Message] = [{"role": "system", "content": _BETWEEN.join(system_texts)}] if system_texts else []
    return system + conversation


def _says_something(message: Message) -> bool:
    return bool(message["content"].strip() or message.get("calls") or message.get("images"))


def _append(conversation: list[Message], message: Message) -> None:
    latest = conversation[-1] if conversation else None
    joins = latest is not None and latest["role"] == message["role"] != "tool" and not latest.get("calls")
    if latest is None or not joins:
        conversation.append(message)
        return
    text = _BETWEEN.join(filter(None, (latest["content"], message["content"])))
    joined: Message = {**message, "content": text}
    if images := [*latest.get("images", ()), *message.get("images", ())]:
        joined["images"] = images
    conversation[-1] = joined


def with_images(messages: Sequence[Message], images: Sequence[Image]) -> list[Message]:
    """Return ``messages`` with ``images`` in the user's last one."""
    with_them = list(messages)
    last = next((at for at in reversed(range(len(messages))) if messages[at]["role"] == "user"), None)
    if images and last is not None:
        with_them[last] = {**messages[last], "images": [*messages[last].get("images", ()), *images]}
    return with_them
