"""Put a prompt's messages into the form that every provider and every model's chat template takes.

Claude and Gemini take system texts apart from the conversation, and want it to begin with the user. Many chat templates
(Mistral's, Gemma's, Llama's as served by vLLM) refuse two messages of one role in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from .attachments import Attachment, Takes
from .types import Message

__all__ = ["alternating", "as_taken", "with_attachments"]

_BEGINNING = "(The conversation begins.)"
"""The user's message before an assistant's that comes first, since a conversation begins with the user."""

_BETWEEN = "\n\n"

_LEFT_OUT = "(A file of this message, {kind}, is left out: you can't read it.)"


def alternating(messages: Sequence[Message]) -> list[Message]:
    """Return ``messages`` with the system's first, joined, and then the user's and the assistant's in turn.

    Neighbours of one role become one message, blank messages are left out, and nothing else is lost. Tools' messages
    stay behind the assistant's message that calls them. Text files become a part of their message's text.
    """
    system_texts = [message["content"] for message in messages if message["role"] == "system" and message["content"]]
    conversation: list[Message] = []
    for message in messages:
        if message["role"] != "system" and (_says_something(message) or message["role"] == "tool"):
            _append(conversation, _with_texts(message))
    if conversation and conversation[0]["role"] == "assistant":
        conversation.insert(0, {"role": "user", "content": _BEGINNING})
    system: list[Message] = [{"role": "system", "content": _BETWEEN.join(system_texts)}] if system_texts else []
    return system + conversation


def _says_something(message: Message) -> bool:
    return bool(message["content"].strip() or message.get("calls") or message.get("attachments"))


def _with_texts(message: Message) -> Message:
    """Return a message with its text files in its text, before what the user says about them."""
    files = message.get("attachments", ())
    texts = [each.text for each in files if each.kind == "text"]
    if not texts:
        return message
    content = _BETWEEN.join(filter(None, (*texts, message["content"])))
    return {**message, "content": content, "attachments": [each for each in files if each.kind != "text"]}


def _append(conversation: list[Message], message: Message) -> None:
    latest = conversation[-1] if conversation else None
    joins = latest is not None and latest["role"] == message["role"] != "tool" and not latest.get("calls")
    if latest is None or not joins:
        conversation.append(message)
        return
    text = _BETWEEN.join(filter(None, (latest["content"], message["content"])))
    joined: Message = {**message, "content": text}
    if files := [*latest.get("attachments", ()), *message.get("attachments", ())]:
        joined["attachments"] = files
    conversation[-1] = joined


def with_attachments(messages: Sequence[Message], attachments: Sequence[Attachment]) -> list[Message]:
    """Return ``messages`` with ``attachments`` in the user's last one."""
    with_them = list(messages)
    last = next((at for at in reversed(range(len(messages))) if messages[at]["role"] == "user"), None)
    if attachments and last is not None:
        files = [*messages[last].get("attachments", ()), *attachments]
        with_them[last] = {**messages[last], "attachments": files}
    return with_them


def as_taken(messages: Sequence[Message], model: str, takes: Takes) -> Sequence[Message]:
    """Return ``messages`` as ``model`` takes them. A line in its message's text stands for a file that it doesn't take.

    That is a file of the history, which another model was shown.
    """
    if all(takes(model, each.kind) for message in messages for each in message.get("attachments", ())):
        return messages
    return [_without_files(message, model, takes) for message in messages]


def _without_files(message: Message, model: str, takes: Takes) -> Message:
    files = message.get("attachments", ())
    notes = [_LEFT_OUT.format(kind=each.kind) for each in files if not takes(model, each.kind)]
    if not notes:
        return message
    content = _BETWEEN.join(filter(None, (*notes, message["content"])))
    return {**message, "content": content, "attachments": [each for each in files if takes(model, each.kind)]}
