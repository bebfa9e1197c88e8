"""The record of one model call, ``apps/{app}/calls/{call}``. It is written in a commit that is made anyway.

docs/metering.md describes its fields, and those of a request's record.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ..errors import ScopeViolation
from ..llm.types import FinishedCall, TokenCounts
from ..paging import Page, iso_time, page_after, page_cursor
from ..scope import Scope
from ..store.base import Create, Document, DocumentStore, Filter, Order, Query, Update, Write

__all__ = ["RECORD_DAYS", "CallLog", "call_write", "calls_of_request", "calls_of_user", "token_fields"]

_MOST_LISTED = 1_000

RECORD_DAYS: Final = 30
"""Days that records of requests and calls are kept (Firestore's TTL policy on ``delete_at``)."""


def call_write(scope: Scope, call_id: str, request_id: str, call: FinishedCall, finished_at: datetime) -> Create:
    """Return the write that stores the record of ``call``.

    Args:
        scope: the user who pays, or the app.
        request_id: the request that the call belongs to.
    """
    started_at = finished_at - timedelta(seconds=call.seconds)
    first = call.first_token_seconds
    data = {
        "uid": scope.uid,
        "request": request_id,
        "step": call.step,
        "purpose": call.purpose,
        "model": call.model,
        "prompt": call.prompt,
        **token_fields(call.tokens),
        "cache_write_tokens": call.tokens.cache_write,
        "reasoning_tokens": call.tokens.reasoning,
        "searches": call.tokens.searches,
        "cost_micro_usd": call.micro_usd,
        "finish": call.finish,
        "error": call.error,
        "started_at": started_at,
        "first_token_at": None if first is None else started_at + timedelta(seconds=first),
        "finished_at": finished_at,
        "delete_at": finished_at + timedelta(days=RECORD_DAYS),
    }
    return Create(scope.call(call_id), data)


class CallLog:
    """Commits the records of one user's calls and their payment, and nothing else.

    Records lie outside their users' part of the database. Code that reaches one user's part alone, as that of a job,
    is handed this to write them.
    """

    def __init__(self, store: DocumentStore) -> None:
        self.__store = store

    def commit(self, user: Scope, writes: Sequence[Write]) -> None:
        """Commit ``writes``, as :meth:`.DocumentStore.commit <firelaunch.store.base.DocumentStore.commit>` does.

        Raises:
            ScopeViolation: one of them is neither a record of a call of ``user`` nor a change of the user's usage.
        """
        self.__store.commit(self.checked(user, writes))

    @staticmethod
    def checked(user: Scope, writes: Sequence[Write]) -> list[Write]:
        """Return copies of ``writes`` after the check of :meth:`commit`."""
        own: list[Write] = []
        for write in writes:
            if type(write) is Create and write.path.startswith(f"{user.calls()}/") and write.data["uid"] == user.uid:
                own.append(Create(write.path, dict(write.data)))
            elif type(write) is Update and write.path.startswith(f"{user.root}/usage/"):
                own.append(Update(write.path, dict(write.data), write.if_updated_at))
            else:
                raise ScopeViolation(reason=f"{write!r:.200} is neither a call of {user.root} nor its usage")
        return own


def token_fields(tokens: TokenCounts) -> dict[str, Any]:
    """Return the figures that a call's record and a request's usage share."""
    return {
        "input_tokens": tokens.input,
        "cached_input_tokens": tokens.cached_input,
        "output_tokens": tokens.output,
        "estimated": tokens.estimated,
    }


def calls_of_request(store: DocumentStore, app: Scope, request_id: str) -> list[dict[str, Any]]:
    """Return the calls of one request in the order in which they ended, 1,000 at most."""
    documents = store.query(Query(app.calls(), where=(Filter("request", "==", request_id),), limit=_MOST_LISTED))
    return [_view(document) for document in sorted(documents, key=lambda document: document.data["finished_at"])]


def calls_of_user(store: DocumentStore, user: Scope, limit: int, cursor: str | None) -> Page[dict[str, Any]]:
    """Return a page of one user's calls, newest first.

    Raises:
        InvalidCursor: ``cursor`` is not one of ours.
    """
    own = (Filter("uid", "==", user.uid),)
    newest = (Order("finished_at", descending=True),)
    after = page_after(cursor)
    documents = store.query(Query(user.calls(), where=own, order=newest, limit=limit + 1, after=after))
    return Page([_view(document) for document in documents[:limit]], page_cursor(documents, limit, "finished_at"))


def _view(document: Document) -> dict[str, Any]:
    fields = {name: value for name, value in document.data.items() if name != "delete_at"}
    times = {name: iso_time(fields.get(name)) for name in ("started_at", "first_token_at", "finished_at")}
    return {"id": document.id, **fields, **times}
