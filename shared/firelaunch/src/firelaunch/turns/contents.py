"""Read what was said in requests, for an app's admins who ask for it expressly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ..chats.place import owner_of_chat
from ..chats.store import rating_view
from ..errors import FirelaunchError, NotFound
from ..metering.request_records import request_records
from ..scope import Scope
from ..services.bundle import Services
from ..store.base import Document, DocumentStore

__all__ = ["contents_of", "messages_of"]

_MOST_PASSAGES: Final = 20
"""The most passages of one answer whose texts are read."""


def messages_of(
    store: DocumentStore, app: Scope, requests: Sequence[Document]
) -> list[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]]:
    """Return the question and the answer of each request, in one round trip.

    They are None where they were deleted since, and where another request's answer has taken this one's place.

    Args:
        requests: the records of turns.
    """
    paths = []
    for record in requests:
        user, turn = owner_of_chat(app, record.data), record.data["turn_id"]
        paths += [user.message(record.data["chat_id"], f"{turn}-{role}") for role in "ua"]
    messages = store.get_many(paths)
    pairs: list[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]] = []
    for record, question, answer in zip(requests, messages[::2], messages[1::2], strict=True):
        if answer is None or answer.data.get("request_id") != record.id:
            pairs.append((None, None))
        else:
            pairs.append((None if question is None else question.data, answer.data))
    return pairs


def contents_of(services: Services, app: Scope, request_id: str) -> dict[str, Any]:
    """Return what was said in one request: the question, the answer, the passages that it cites, and its rating.

    Raises:
        NotFound: there is no record of such a request, or the request is no message in a chat.
    """
    records = request_records(services.store, app, request_id)
    record = next((each for each in records if each.data.get("turn_id")), None)
    if record is None:
        raise NotFound
    ((question, answer),) = messages_of(services.store, app, [record])
    said: Mapping[str, Any] = answer or {}
    user = owner_of_chat(app, record.data)
    return {
        "request_id": record.id,
        "question": None if question is None else question.get("text"),
        "answer": said.get("text"),
        "passages": [_passage(services, user, place) for place in said.get("citations", ())[:_MOST_PASSAGES]],
        "rating": rating_view(said["rating"]) if said.get("rating") else None,
    }


def _passage(services: Services, user: Scope, place: Mapping[str, Any]) -> dict[str, Any]:
    """Return a passage that an answer cites. Its text is None if the document was changed or deleted since."""
    text = None
    owner = Scope(user.app_id) if place["library"] else user
    with suppress(FirelaunchError):
        _, span = services.documents.read(
            owner, place["document_id"], place["start"], place["end"], around=0, passage=place["chunk_id"]
        )
        text = None if span is None else span.text
    return {**{name: place.get(name) for name in ("number", "title", "page", "library", "document_id")}, "text": text}
