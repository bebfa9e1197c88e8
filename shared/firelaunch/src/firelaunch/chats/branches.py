"""Tell a chat's current messages from those that an edit, or a new answer to an earlier message, has replaced.

Replaced messages stay stored. An edited message keeps its id and its place; what it said before is kept in a copy with
``replaced_by``. The messages that followed it lie in one of the chat's ``replaced`` spans of time, so an edit writes no
more the longer the chat is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..scope import Scope
from ..store.base import Document, DocumentStore, Filter, Order, Query

__all__ = ["MessageSpan", "is_current", "latest_current", "spans_of", "with_span"]

_LATEST = (Order("created_at", descending=True),)

MessageSpan = Mapping[str, datetime]
"""Messages created after ``after`` and before ``until`` are replaced."""


def spans_of(chat: Mapping[str, Any]) -> list[MessageSpan]:
    """Return the chat's spans, oldest first."""
    return list(chat.get("replaced", ()))


def with_span(spans: Sequence[MessageSpan], after: datetime, until: datetime) -> list[MessageSpan]:
    """Return the spans together with a new one, which reaches to the chat's end."""
    return [*(span for span in spans if span["after"] < after), {"after": after, "until": until}]


def is_current(message: Mapping[str, Any], spans: Sequence[MessageSpan]) -> bool:
    """Return whether the message belongs to the chat as it is now."""
    return "replaced_by" not in message and _span_of(message["created_at"], spans) is None


def latest_current(
    store: DocumentStore,
    scope: Scope,
    chat_id: str,
    spans: Sequence[MessageSpan],
    newest_first: list[Document],
    limit: int,
    page: int,
) -> list[Document]:
    """Return the latest current messages, newest first, ``limit`` at most.

    Args:
        newest_first: messages that were read already, ``page`` of them unless the chat has no more.
        page: messages to read at a time, if those don't suffice.
    """
    current: list[Document] = []
    read = newest_first
    while True:
        current += [message for message in read if is_current(message.data, spans)]
        if len(current) >= limit or len(read) < page or page == 0:
            return current[:limit]
        last = read[-1]
        span = _span_of(last.data["created_at"], spans)
        if span is not None:  # go on before the span: whatever it holds is replaced
            older = (Filter("created_at", "<=", span["after"]),)
            read = store.query(Query(scope.messages(chat_id), where=older, order=_LATEST, limit=page))
        else:
            after = [last.data["created_at"], last.id]
            read = store.query(Query(scope.messages(chat_id), order=_LATEST, limit=page, after=after))


def _span_of(at: datetime, spans: Sequence[MessageSpan]) -> MessageSpan | None:
    return next((span for span in spans if span["after"] < at < span["until"]), None)
