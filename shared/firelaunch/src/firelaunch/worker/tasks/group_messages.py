"""Erase what a user wrote in chats of groups, as the app's setting says (``groups.chats_on_erase``).

A message names its writer, and a rating names who gave it. An answer names nobody: it is the group's, and goes with its
message only if that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from ...errors import NotFound
from ...scope import Scope
from ...store.base import DELETE_FIELD, Delete, Document, Filter, Increment, Order, Query, Update, Write
from ...store.scoped import ScopedStore
from .user_data import KeptDocuments

__all__ = ["RATED", "WRITTEN", "group_chats", "remove_messages", "written_in"]

WRITTEN: Final = "written_by"
"""The field of a message that names its writer."""

RATED: Final = "rating.by"
"""The field of an answer that names who rated it."""

_PAGE = 100

OnErase = Literal["delete", "anonymize", "hand_over"]


def group_chats(store: ScopedStore, user: Scope, groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the chats of the groups that a user is or was a member of, as the ids of the group and the chat."""
    for group in groups:
        for chat_id in store.ids(user.of_group(group).chats()):
            yield group, chat_id


def written_in(user: Scope, group: str, chat_id: str, on_erase: OnErase) -> tuple[KeptDocuments, KeptDocuments]:
    """Return what a user wrote in a group's chat: messages, and ratings of answers."""
    place, folder = user.of_group(group), f"chats/{chat_id}/"
    written = Query(place.messages(chat_id), where=(Filter("written_by", "==", user.uid),), limit=_PAGE)
    rated = Query(place.messages(chat_id), where=(Filter("rating.by", "==", user.uid),), limit=_PAGE)
    return (
        KeptDocuments(written, WRITTEN, on_erase, group=group, folder=folder),
        KeptDocuments(rated, RATED, "anonymize", group=group, folder=folder, shown=("rating",)),
    )


def remove_messages(
    store: ScopedStore,
    user: Scope,
    kept: KeptDocuments,
    documents: Sequence[Document],
    heir: Document | None,
    discard: Callable[[Scope, str], object],
) -> None:
    """Do with messages and ratings of an erased user what is to be done with them.

    Args:
        heir: the membership of an owner of the group, whom messages that are handed over name.
        discard: deletes a file of the group's, by its id.
    """
    if kept.field == RATED:
        _change(store, documents, {"rating": DELETE_FIELD})
    elif kept.on_erase == "hand_over" and heir is not None:
        _change(store, documents, {WRITTEN: heir.id, "author": str(heir.data.get("name", ""))})
    elif kept.on_erase == "delete":
        _delete(store, user, kept, documents, discard)
    else:
        _change(store, documents, {WRITTEN: DELETE_FIELD, "author": DELETE_FIELD})


def _change(store: ScopedStore, documents: Sequence[Document], fields: dict[str, Any]) -> None:
    for document in documents:
        with suppress(NotFound):  # the chat was deleted meanwhile
            store.commit([Update(document.path, fields)])


def _delete(
    store: ScopedStore,
    user: Scope,
    kept: KeptDocuments,
    documents: Sequence[Document],
    discard: Callable[[Scope, str], object],
) -> None:
    """Delete messages with their answers and files, and what the chat's title and summary say of them."""
    place, chat_id = user.of_group(str(kept.group)), kept.folder.split("/")[1]
    changes: dict[str, Any] = {"summary": "", "summary_until": DELETE_FIELD, "summarized": 0}
    first = store.query(Query(place.messages(chat_id), order=(Order("created_at"),), limit=1))
    if first and first[0].data.get(WRITTEN) == user.uid:
        changes["title"] = ""  # the first message gave it, or a model that was shown it
    for document in documents:
        # Ids end with "u" for a message, and with "a" for its answer, also those of replaced ones.
        answer = store.get(f"{document.path[:-1]}a")
        gone = [each for each in (document, answer) if each is not None]
        counted = sum("replaced_by" not in each.data for each in gone)
        writes: list[Write] = [Delete(each.path) for each in gone]
        try:
            changed = Update(place.chat(chat_id), {**changes, "message_count": Increment(-counted)})
            store.commit([*writes, changed])
        except NotFound:  # the chat is being deleted
            store.commit(writes)
    files = {str(file["id"]) for document in documents for file in document.data.get("files", ())}
    for file in files - _still_used(store, place, chat_id) if files else ():
        discard(place, file)


def _still_used(store: ScopedStore, place: Scope, chat_id: str) -> set[str]:
    """Return the ids of the files of all messages of a chat."""
    used: set[str] = set()
    after: list[Any] | None = None
    while True:
        page = store.query(Query(place.messages(chat_id), limit=_PAGE, after=after))
        used |= {str(file["id"]) for message in page for file in message.data.get("files", ())}
        if len(page) < _PAGE:
            return used
        after = [page[-1].id]
