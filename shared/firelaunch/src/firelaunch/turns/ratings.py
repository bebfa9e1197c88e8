"""Keep what users think of answers, and list it for an app's admins.

A rating is a field of the answer's message, so it is exported and erased with its user's chats. Its value and reason,
without the user's words, are also in the record of the answer's request. There admins find it, for as long as records
are kept (:data:`~firelaunch.metering.call_records.RECORD_DAYS`), and no user's chats are read for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from ..chats.place import ChatPlace, is_of
from ..chats.store import rating_view
from ..errors import Conflict, NotFound
from ..metering.call_records import calls_of_request
from ..metering.retries import Retries
from ..paging import Page, iso_time, page_after, page_cursor
from ..scope import Scope
from ..store.base import DELETE_FIELD, Document, DocumentStore, Filter, Order, Query, Update, Write
from ..store.scoped import ScopedStore
from .contents import messages_of

__all__ = ["RATING_CHARACTERS", "Rating", "Reason", "Verdict", "rate", "rated_requests", "rating_counts"]

Verdict = Literal["up", "down"]
Reason = Literal["incorrect", "incomplete", "irrelevant", "refused", "unsafe", "slow", "other"]
"""Why an answer was rated down."""

RATING_CHARACTERS: Final = 1_000
"""The most characters of a user's own words on an answer."""

_ON_THE_RECORD: Final = ("rating", "rating_reason", "rated_at", "rated_prompt")
_MOST_COUNTED = 10_000
_RETRIES = Retries()
_LATEST = (Order("rated_at", descending=True),)


@dataclass(frozen=True, slots=True)
class Rating:
    """A user's rating of an answer, with its reason."""

    value: Verdict
    reason: Reason | None = None
    text: str = ""


def rate(
    app: ScopedStore,
    clock: Callable[[], datetime],
    place: ChatPlace,
    chat_id: str,
    message_id: str,
    rating: Rating | None,
) -> dict[str, Any] | None:
    """Store a user's rating of an answer, or remove it if ``rating`` is None, and return it as its user sees it.

    An answer in a group's chat has one rating, of the editor or owner who rated it last.

    Args:
        place: the owner of the chat.

    Raises:
        NotFound: there is no such message, or the chat is a group's and the user is no member.
        Forbidden: the chat is a group's, and the user may not write.
        Conflict: the message is no answer.
        Contention: others kept changing the answer.
    """

    store, owner = place.guarded(app), place.scope
    by = {} if owner.group is None else {"by": place.caller.uid}

    def attempt() -> dict[str, Any] | None:
        message = store.get(owner.message(chat_id, message_id))
        if message is None:
            raise NotFound
        if message.data.get("role") != "assistant":
            raise Conflict("Only answers can be rated.")
        at = clock()
        stored = None if rating is None else {**asdict(rating), "rated_at": at, **by}
        value = DELETE_FIELD if stored is None else stored
        change = Update(message.path, {"rating": value}, if_updated_at=message.update_time)
        try:
            store.commit([change, *_on_the_record(store, owner, message, rating, at)])
        except NotFound:  # the record has expired meanwhile; or the message is gone, and this raises again
            store.commit([change])
        return None if stored is None else rating_view(stored)

    return _RETRIES.run(owner.root, attempt)


def _on_the_record(
    store: DocumentStore, owner: Scope, message: Document, rating: Rating | None, at: datetime
) -> list[Write]:
    """Return the change of the record of the answer's request, if that is still kept."""
    request_id = message.data.get("request_id")
    record = store.get(owner.request(request_id)) if request_id else None
    if record is None or not is_of(record.data, owner):
        return []
    if rating is None:
        return [Update(record.path, dict.fromkeys(_ON_THE_RECORD, DELETE_FIELD))]
    prompts = [call["prompt"] for call in calls_of_request(store, owner, record.id) if call["prompt"] is not None]
    values = (rating.value, rating.reason, at, prompts[-1] if prompts else None)
    return [Update(record.path, dict(zip(_ON_THE_RECORD, values, strict=True)))]


def rated_requests(
    store: DocumentStore,
    app: Scope,
    limit: int,
    cursor: str | None,
    verdict: Verdict | None,
    times: tuple[datetime, datetime],
    *,
    contents: bool,
) -> Page[dict[str, Any]]:
    """Return a page of the ratings of all users of an app, the latest first.

    Args:
        times: when they were given: from the first time to before the second.
        contents: whether to read what the users asked, were answered and wrote, too: two more reads for each rating.

    Raises:
        InvalidCursor: ``cursor`` is not one of ours.
    """
    after, most = page_after(cursor), limit + 1
    given = (Filter("rated_at", ">=", times[0]), Filter("rated_at", "<", times[1]))
    query = Query(app.requests(), where=given, order=_LATEST, limit=most, after=after)
    if verdict is not None:
        query = _of_verdict(app, verdict, times, most, after)
    records = store.query(query)
    items = [_record_view(record) for record in records[:limit]]
    if contents:
        for item, pair in zip(items, messages_of(store, app, records[:limit]), strict=True):
            item |= _contents(*pair)
    return Page(items, page_cursor(records, limit, "rated_at"))


def rating_counts(store: DocumentStore, app: Scope, times: tuple[datetime, datetime]) -> dict[str, int]:
    """Return how many ratings of each value were given between two times; 10,000 stands for all above it.

    Firestore takes one read for each 1,000 that it counts
    (https://cloud.google.com/firestore/pricing#aggregation_queries).
    """
    return {value: store.count(_of_verdict(app, value, times, _MOST_COUNTED, None)) for value in get_args(Verdict)}


def _of_verdict(
    app: Scope, verdict: Verdict, times: tuple[datetime, datetime], most: int, after: Sequence[Any] | None
) -> Query:
    of_value = (
        Filter("rating", "==", verdict),
        Filter("rated_at", ">=", times[0]),
        Filter("rated_at", "<", times[1]),
    )
    return Query(app.requests(), where=of_value, order=_LATEST, limit=most, after=after)


def _record_view(record: Document) -> dict[str, Any]:
    data = record.data
    usage = data.get("usage") or {}
    return {
        "request_id": record.id,
        "uid": data.get("uid"),
        "chat_id": data.get("chat_id"),
        "message_id": f"{data.get('turn_id')}-a",
        "rating": data.get("rating"),
        "reason": data.get("rating_reason"),
        "model": usage.get("model"),
        "prompt": data.get("rated_prompt"),
        "cost_micro_usd": usage.get("cost_micro_usd"),
        "rated_at": iso_time(data.get("rated_at")),
    }


def _contents(question: Mapping[str, Any] | None, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the texts of a rated answer that is still there; null for one that is gone or was replaced."""
    said: Mapping[str, Any] = answer or {}
    return {
        "question": None if question is None else question.get("text"),
        "answer": said.get("text"),
        "text": (said.get("rating") or {}).get("text"),
        "cited": [each["title"] for each in said.get("citations", ())],
    }
