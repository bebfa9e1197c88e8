"""The record of one model call, ``apps/{app}/calls/{call}``. It is written in a commit that is made anyway.

docs/metering.md describes its fields, and those of a request's record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ..errors import ScopeViolation
from ..llm.types import FinishedCall, TokenCounts
from ..paging import Page, iso_time, page_after, page_cursor
from ..scope import Scope
from ..store.base import Create, Document, DocumentStore, Filter, Increment, Order, Query, Set, Update, Write
from .reports import METER
from .sums import hour_of, is_sum_path

__all__ = ["RECORD_DAYS", "CallLog", "call_write", "calls_of_request", "calls_of_user", "token_fields"]

_MOST_LISTED = 1_000
_DRAW = re.compile(r"/budget/[^/]+/draws/[^/]+")

RECORD_DAYS: Final = 30
"""Days that records of requests and calls are kept (Firestore's TTL policy on ``delete_at``)."""


def call_write(
    scope: Scope, call_id: str, request_id: str, call: FinishedCall, finished_at: datetime, day: str, plan: str
) -> Create:
    """Return the write that stores the record of ``call``.

    Args:
        scope: the user who pays, or the app.
        request_id: the request that the call belongs to.
        day: the day (UTC) whose budget pays.
        plan: the user's plan.
    """
    started_at = finished_at - timedelta(seconds=call.seconds)
    first = call.first_token_seconds
    data = {
        "uid": scope.uid,
        "request": request_id,
        "step": call.step,
        "purpose": call.purpose,
        "plan": plan,
        "model": call.model,
        "prompt": call.prompt,
        **token_fields(call.tokens),
        "cache_write_tokens": call.tokens.cache_write,
        "reasoning_tokens": call.tokens.reasoning,
        "audio_tokens": call.tokens.audio,
        "searches": call.tokens.searches,
        "cost_micro_usd": call.micro_usd,
        "finish": call.finish,
        "error": call.error,
        "started_at": started_at,
        "first_token_at": None if first is None else started_at + timedelta(seconds=first),
        "finished_at": finished_at,
        "hour": hour_of(finished_at, day),
        "delete_at": finished_at + timedelta(days=RECORD_DAYS),
    }
    return Create(scope.call(call_id), data)


class CallLog:
    """Commits the records of one user's requests and calls, their payment and their draws, and nothing else.

    Records lie outside their users' part of the database. Code that reaches one user's part alone, as that of a job,
    is handed this to write them.
    """

    def __init__(self, store: DocumentStore) -> None:
        self.__store = store

    def commit(self, user: Scope, writes: Sequence[Write]) -> datetime:
        """Commit ``writes``, as :meth:`.DocumentStore.commit <firelaunch.store.base.DocumentStore.commit>` does.

        Raises:
            ScopeViolation: one of them is no record of a request or a call of ``user``, no change of the user's usage
                or credit, no report of it, no addition to a sum of the app's or the user's, and no draw on the app's
                budget.
        """
        return self.__store.commit(self.checked(user, writes))

    @staticmethod
    def checked(user: Scope, writes: Sequence[Write]) -> list[Write]:
        """Return copies of ``writes`` after the check of :meth:`commit`."""
        own: list[Write] = []
        for write in writes:
            if type(write) is Create and (_is_own(user, write) or _is_report(user, write)):
                own.append(Create(write.path, dict(write.data)))
            elif type(write) is Update and _is_payment(user, write):
                own.append(Update(write.path, dict(write.data), write.if_updated_at))
            elif type(write) is Set and write.merge and (fields := _sum_fields(user, write)) is not None:
                own.append(Set(write.path, fields, merge=True))
            elif type(write) is Set and _DRAW.fullmatch(write.path.removeprefix(Scope(user.app_id).root)):
                own.append(Set(write.path, dict(write.data)))
            else:
                raise ScopeViolation(reason=f"{write!r:.200} is neither a call of {user.root} nor its usage")
        return own


def _is_report(user: Scope, write: Create) -> bool:
    """Return whether a write stores a job that reports the user's usage to Stripe."""
    of_user = write.data.get("uid") == user.uid and write.data.get("kind") == METER
    return of_user and write.path.startswith(f"{user.jobs()}/")


def _is_payment(user: Scope, write: Update) -> bool:
    """Return whether a write changes nothing but the user's usage of a day, or their credit."""
    on_credit = write.path == user.root and all(name.startswith("balance.") for name in write.data)
    return on_credit or write.path.startswith(f"{user.root}/usage/")


def _sum_fields(user: Scope, write: Set) -> dict[str, Any] | None:
    """Return a copy of what a write adds to a sum of the app's or of ``user``; None if it does anything else."""
    data = dict(write.data)
    kept = {name: data.pop(name) for name in ("hour", "uid", "period", "delete_at") if name in data}
    allowed = (
        is_sum_path(user, kept["hour"], write.path)
        if "hour" in kept
        else kept.get("uid") == user.uid and "period" in kept and write.path == user.user_sum(kept["period"])
    )
    increments = _increments(data)
    return None if not allowed or increments is None else kept | increments


def _increments(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a copy of nested increments; None if there is anything else among them."""
    own: dict[str, Any] = {}
    for name, value in data.items():
        if type(value) is Increment:
            own[name] = Increment(value.by)
        elif type(value) is dict and (nested := _increments(value)) is not None:
            own[name] = nested
        else:
            return None
    return own


def _is_own(user: Scope, write: Create) -> bool:
    if write.path.startswith(f"{user.root}/usage/"):
        return True
    return write.path.startswith((f"{user.calls()}/", f"{user.requests()}/")) and write.data["uid"] == user.uid


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
    of_request = (Filter("request", "==", request_id),)
    documents = store.query(Query(app.calls(), where=of_request, limit=_MOST_LISTED))
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
    fields = {name: value for name, value in document.data.items() if name not in {"delete_at", "hour", "feature"}}
    times = {name: iso_time(fields.get(name)) for name in ("started_at", "first_token_at", "finished_at")}
    return {"id": document.id, **fields, **times}
