"""Sums of what calls cost and how requests went, by the hour. They are written in commits that are made anyway.

A settlement adds to one of the hour's documents, ``apps/{app}/sums/{yyyy-mm-ddThh}-{shard}``. It only increments
fields, so it never conflicts with another settlement. There are several documents an hour, because Firestore sustains
about one write a second to a document: four, and more once a process settles more than one request a second
(:class:`Spread`). :mod:`firelaunch.metering.sum_reports` reads those that are there, and docs/metering.md says what
each figure means.

A document has a *cell* for each combination of what the figures are told apart by. So no question has to be known
beforehand. What a cell's name is made of comes from the settings, except for purposes, of which a process tells a
bounded number apart.
"""

from __future__ import annotations

import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from ..scope import Scope
from ..store.base import Increment, Set

__all__ = [
    "CALL_PARTS",
    "MEASURES",
    "QUIET_SHARDS",
    "REQUEST_PARTS",
    "SHARDS",
    "Purposes",
    "Spread",
    "Tree",
    "add_call",
    "add_request",
    "added",
    "bucket_of",
    "end_of",
    "hour_of",
    "hour_write",
    "is_sum_path",
    "milliseconds_of",
    "sum_paths",
    "user_writes",
]

Tree = dict[str, Any]
"""Figures at the leaves of nested dicts: ``{"calls": {cell: {figure: 3}}, "requests": ..., "times": ...}``.

In "refusals", a cell is the code of an error (:mod:`.refusals`).
"""

SHARDS: Final = 64
"""The most documents of one hour."""

QUIET_SHARDS: Final = 4
"""The documents of an hour in which no process is busy. A view reads an hour's documents, so there are few."""

CALL_PARTS: Final = ("model", "prompt", "plan", "purpose", "end")
"""The parts of the names of the cells of calls."""

REQUEST_PARTS: Final = ("kind", "plan", "end")
"""The parts of the names of the cells of requests."""

MEASURES: Final = ("total", "first_token", "admission", "retrieval", "model", "tools", "store")
"""The times of a request that are kept in histograms."""

_KEPT_DAYS = 40
"""Days that the documents of an hour are kept; the sums of a day stay. It is more than the records have."""

_USER_DAYS = 400

_SPREAD_SECONDS = 10.0
"""Seconds over which a process measures how many requests it settles."""

_MOST_PURPOSES = 40
"""Purposes that a process tells apart. A cell takes about 400 bytes, so the cells of 40 purposes stay far below 1 MiB
for some 60 combinations of models, prompts, plans and ends (https://firebase.google.com/docs/firestore/quotas)."""

_NAME_BYTES = 100
"""The most bytes of a part of a cell's name. A path of field names has 1,500 at most."""

_CALL_FIGURES = ("cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "searches")
_REQUEST_FLAGS = ("counted", "cached", "cheaper", "searched", "empty")
_REQUEST_COUNTS = ("retries", "fallbacks")
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_STEPS = 4
"""Buckets of a histogram in which a time doubles. A time that is read from them is at most 9% off."""

_LAST_BUCKET = 80


class Purposes:
    """The purposes that one process tells apart: those that came first. All others count as "other"."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def bounded(self, purpose: str) -> str:
        """Return ``purpose``, or "other" if too many others came before."""
        if purpose not in self._known:
            with self._lock:
                if len(self._known) >= _MOST_PURPOSES:
                    return "other"
                self._known.add(purpose)
        return purpose


class Spread:
    """Chooses one of an hour's documents for each settlement of a process: of few, or of many while it is busy.

    Cloud Run starts another instance once the first is busy, so an app with many settlements has busy processes.

    Args:
        clock: returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = clock()
        self._settled = 0
        self._shards = QUIET_SHARDS

    def shard(self) -> int:
        """Return the number of a document, at random, and count one settlement."""
        with self._lock:
            seconds = self._clock() - self._since
            if seconds >= _SPREAD_SECONDS:
                self._shards = SHARDS if self._settled > seconds else QUIET_SHARDS
                self._since, self._settled = self._clock(), 0
            self._settled += 1
            return random.randrange(self._shards)  # noqa: S311 - spreads writes, keeps no secret


def hour_of(moment: datetime, day: str) -> str:
    """Return the hour (UTC) that something counts in which ended at ``moment``.

    It is one of ``day``, whose budget paid. So the sums of a day are the sums of what its users paid, also where an
    answer ends after midnight.
    """
    hour = moment.astimezone(UTC).strftime("%Y-%m-%dT%H")
    if hour[:10] == day:
        return hour
    return f"{day}T23" if hour[:10] > day else f"{day}T00"


def end_of(finish: object, error: object) -> str:
    """Return how a call or a request ended, as cells name it: its finish, or its error."""
    return f"error:{error}" if error else str(finish or "stopped")


def add_call(tree: Tree, record: Mapping[str, Any]) -> None:
    """Add the figures of one call, by the fields of its record."""
    cell = {
        "model": record["model"],
        "prompt": record["prompt"],
        "plan": record.get("plan"),
        "purpose": record.get("feature", record["purpose"]),
        "end": end_of(record["finish"], record["error"]),
    }
    # What an embedding model reads is no part of a request's tokens: they are another model's.
    tokens = "input_tokens" if record["step"] else "embedded_tokens"
    figures = {"calls": 1, "cost_micro_usd": record["cost_micro_usd"], tokens: record["input_tokens"]}
    figures |= {name: record[name] for name in _CALL_FIGURES} | {"estimated": int(record["estimated"])}
    _add(tree, "calls", _cell(cell, CALL_PARTS), figures)


def add_request(tree: Tree, fact: Mapping[str, Any]) -> None:
    """Add one request that has ended, by the entry that its record keeps of it (see ``Reservation.fact``)."""
    figures = {"requests": 1, **{name: int(bool(fact.get(name))) for name in _REQUEST_FLAGS}}
    figures |= {name: int(fact.get(name, 0)) for name in _REQUEST_COUNTS}
    _add(tree, "requests", _cell(fact, REQUEST_PARTS), figures)
    for measure in MEASURES:
        if (milliseconds := fact.get(f"{measure}_ms")) is not None:
            _add(tree, "times", f"{_part(str(fact['kind'] or '-'))}|{measure}", {bucket_of(milliseconds): 1})


def added(trees: Iterable[Mapping[str, Any]]) -> Tree:
    """Return the sum of several trees."""
    total: Tree = {}
    for tree in trees:
        for group, cells in tree.items():
            if isinstance(cells, Mapping):
                for cell, figures in cells.items():
                    _add(total, group, cell, figures)
    return total


def hour_write(scope: Scope, hour: str, tree: Tree, shard: int | None = None) -> Set:
    """Return the write that adds ``tree`` to one of the hour's documents: ``shard``, or one of the first at random."""
    chosen = random.randrange(QUIET_SHARDS) if shard is None else shard  # noqa: S311 - spreads writes, keeps no secret
    start = datetime.fromisoformat(f"{hour}:00Z")
    fields = {"hour": hour, "delete_at": start + timedelta(days=_KEPT_DAYS)}
    return Set(scope.hour_sum(hour, chosen), {**fields, **_increments(tree)}, merge=True)


def sum_paths(scope: Scope, hour: str) -> list[str]:
    """Return the paths that the documents of an hour may have."""
    return [scope.hour_sum(hour, shard) for shard in range(SHARDS)]


def is_sum_path(scope: Scope, hour: str, path: str) -> bool:
    """Return whether a path is that of one of the hour's documents."""
    shard = path.rpartition("-")[2]
    return shard.isdecimal() and int(shard) < SHARDS and path == scope.hour_sum(hour, int(shard))


def user_writes(user: Scope, day: str, figures: Mapping[str, int]) -> list[Set]:
    """Return the writes that add ``figures`` to what the user used in a day and in its month."""
    if user.uid is None:
        return []
    midnight = datetime.fromisoformat(f"{day}T00:00Z")
    increments = {name: Increment(figure) for name, figure in figures.items()}
    return [
        Set(
            user.user_sum(period),
            {"uid": user.uid, "period": period, "delete_at": midnight + timedelta(days=_USER_DAYS), **increments},
            merge=True,
        )
        for period in (day, day[:7])
    ]


def bucket_of(milliseconds: float) -> str:
    """Return the bucket of a time: the power of the fourth root of 2 that is nearest to its milliseconds."""
    return f"b{min(_LAST_BUCKET, round(_STEPS * math.log2(max(1.0, milliseconds)))):02d}"


def milliseconds_of(bucket: str) -> float:
    """Return the time that a bucket stands for."""
    return float(2.0 ** (int(bucket[1:]) / _STEPS))


def _increments(tree: Mapping[str, Any]) -> Tree:
    return {
        name: _increments(value) if isinstance(value, Mapping) else Increment(value) for name, value in tree.items()
    }


def _add(tree: Tree, group: str, cell: str, figures: Mapping[str, int]) -> None:
    own = tree.setdefault(group, {}).setdefault(cell, {})
    for name, figure in figures.items():
        if figure:
            own[name] = own.get(name, 0) + figure


def _cell(values: Mapping[str, Any], parts: tuple[str, ...]) -> str:
    return "|".join([_part(str(values.get(part) or "-")) for part in parts])


@lru_cache(maxsize=1024)
def _part(text: str) -> str:
    """Return a part of a cell's name: one that is a valid field name with or without the other parts."""
    text = text.replace("|", "/").replace("\0", "")
    text = text.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    return text.strip("_") or "-" if _RESERVED.fullmatch(text) else text
