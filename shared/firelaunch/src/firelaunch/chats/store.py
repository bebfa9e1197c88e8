"""Store chats and their messages as documents below the user's own, and read them a page at a time."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from ..errors import NotFound
from ..paging import Page, iso_time, page_after, page_cursor
from ..scope import Scope
from ..store.base import Create, Delete, Order, Query, Update
from ..store.guard import Guard
from ..store.scoped import ScopedStore
from .branches import is_current, latest_current, spans_of
from .place import ChatPlace

__all__ = ["Chats", "chat_view", "file_prefix", "message_view", "new_chat", "rating_view"]

_NEWEST = (Order("updated_at", descending=True),)
_LATEST = (Order("created_at", descending=True),)


class Chats:
    """One app's chats.

    Every method that takes a ``chat_id`` raises NotFound if the chat is not the scope's, and InvalidId.
    """

    def __init__(
        self, store: ScopedStore, clock: Callable[[], datetime], remover: Callable[[str], object] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        # Members delete the chat's document, which is checked; what lies below it goes with it.
        self._delete_tree = remover or store.delete_tree

    def for_member(self, guard: Guard) -> Chats:
        """Return the same chats for one member's request.

        Args:
            guard: the membership of the group, on which each access depends.
        """
        return Chats(self._store.within(self._store.scope, guard), self._clock, self._delete_tree)

    def of(self, place: ChatPlace) -> Chats:
        """Return the chats as the request of a place reaches them: for a member of a group, if it is a group's."""
        return self if place.guard is None else self.for_member(place.guard)

    def create(self, scope: Scope, title: str) -> dict[str, Any]:
        """Create an empty chat, and return it."""
        chat_id = secrets.token_hex(10)
        data = new_chat(title, self._clock())
        self._store.commit([Create(scope.chat(chat_id), data)])
        return chat_view(chat_id, data)

    def list(self, scope: Scope, limit: int, cursor: str | None) -> Page[dict[str, Any]]:
        """Return a page of the user's chats, the one with the latest message first.

        Raises:
            InvalidCursor: ``cursor`` is not one of ours.
        """
        chats = self._store.query(Query(scope.chats(), order=_NEWEST, limit=limit + 1, after=page_after(cursor)))
        items = [chat_view(d.id, d.data) for d in chats[:limit]]
        return Page(items, page_cursor(chats, limit, "updated_at"))

    def get(
        self, scope: Scope, chat_id: str, limit: int, cursor: str | None, *, replaced: bool = False
    ) -> tuple[dict[str, Any], Page[dict[str, Any]]]:
        """Return a chat and its latest ``limit`` messages, oldest first. The cursor leads to earlier messages.

        Args:
            replaced: whether to return messages, too, that were replaced (see :mod:`.branches`).

        Raises:
            InvalidCursor: ``cursor`` is not one of ours.
        """
        most = limit + 1
        query = Query(scope.messages(chat_id), order=_LATEST, limit=most, after=page_after(cursor))
        (chat,), (messages,) = self._store.read([scope.chat(chat_id)], [query])
        if chat is None:
            raise NotFound
        spans = spans_of(chat.data)
        if not replaced:
            messages = latest_current(self._store, scope, chat_id, spans, messages, most, most)
        items = [
            message_view(d.id, d.data) | ({} if is_current(d.data, spans) else {"replaced": True})
            for d in reversed(messages[:limit])
        ]
        return chat_view(chat.id, chat.data), Page(items, page_cursor(messages, limit, "created_at"))

    def change(self, scope: Scope, chat_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Rename or archive a chat, and return it. The chat keeps its place in the list.

        Args:
            changes: holds ``title``, ``archived`` or both.
        """
        path = scope.chat(chat_id)
        self._store.commit([Update(path, changes)])
        chat = self._store.get(path)
        if chat is None:
            raise NotFound
        return chat_view(chat.id, chat.data)

    def delete(self, scope: Scope, chat_id: str) -> None:
        """Delete a chat with all its messages.

        The chat's own document goes first: a running answer is stored only while that document exists. If a deletion
        breaks off, calling this again deletes the rest.

        Raises:
            NotFound: the chat's document does not exist, or no longer exists.
        """
        path = scope.chat(chat_id)
        exists = self._store.get(path) is not None
        if exists:
            self._store.commit([Delete(path)])
        self._delete_tree(path)
        if not exists:
            raise NotFound


def new_chat(title: str, now: datetime) -> dict[str, Any]:
    """Return the fields of a chat that has no messages."""
    return {"title": title, "message_count": 0, "archived": False, "created_at": now, "updated_at": now}


def file_prefix(chat_id: str) -> str:
    """Return how the ids of the files in a chat's messages begin."""
    return f"file_{sha256(chat_id.encode()).hexdigest()[:16]}"


def chat_view(chat_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat as clients see it."""
    return {
        "id": chat_id,
        "title": data.get("title", ""),
        "archived": data.get("archived", False),
        "message_count": data.get("message_count", 0),
        "created_at": iso_time(data.get("created_at")),
        "updated_at": iso_time(data.get("updated_at")),
    }


def message_view(message_id: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as clients see it.

    An answer's ``finish`` says how it ended (:data:`~firelaunch.llm.finish.Finish`); None if it was stopped. Only with
    "stop" is its ``status`` "complete".
    """
    view = {
        "id": message_id,
        "role": data.get("role"),
        "text": data.get("text", ""),
        "status": data.get("status", "complete"),
        "created_at": iso_time(data.get("created_at")),
    }
    view |= {name: data[name] for name in ("written_by", "author") if name in data}
    if data.get("files"):
        names = ("id", "media_type", "bytes", "name")
        view["files"] = [{name: reference[name] for name in names} for reference in data["files"]]
    if data.get("role") == "assistant":
        # Answers that were stored before there was a finish were whole unless they are marked.
        finish = data.get("finish", "stop" if view["status"] == "complete" else None)
        view |= {"finish": finish, "model": data.get("model"), "request_id": data.get("request_id")}
        view["citations"] = data.get("citations", [])
        view["usage"] = data.get("usage")
        if data.get("thinking"):
            view["thinking"] = data["thinking"]
        if data.get("sources"):
            view["sources"] = data["sources"]
        if data.get("tools"):
            view["tools"] = [_tool_view(use) for use in data["tools"]]
        if data.get("rating"):
            view["rating"] = rating_view(data["rating"])
    return view


def rating_view(rating: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored rating of an answer as its user sees it."""
    return {**rating, "rated_at": iso_time(rating.get("rated_at"))}


def _tool_view(use: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: json.loads(use[key]) for key in ("input", "output")}
    waits = use.get("approve_until")
    return {
        "id": use["id"],
        "name": use["name"],
        "error": use["error"],
        "approve_until": None if waits is None else iso_time(waits),
        **values,
    }
