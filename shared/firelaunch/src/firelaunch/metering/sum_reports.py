"""Read the app's sums: what a range of time cost, who caused it, and how long it took.

The nightly job folds the documents of a day's hours into one, ``apps/{app}/rollups/{day}``, up to the hour ``through``.
A report reads one document for each day, and those of the hours since. So it costs at most :data:`MOST_READS` reads,
however many requests there were; only hours in which a process was busy have more documents than that counts on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from ..scope import Scope
from ..store.base import Document, DocumentStore, Filter, Order, Query
from .sums import CALL_PARTS, QUIET_SHARDS, REQUEST_PARTS, Tree, added, milliseconds_of

__all__ = [
    "FIGURES",
    "MOST_DAYS",
    "MOST_READS",
    "HourRange",
    "SumReader",
    "SumReport",
    "by_hour_of",
    "dearest_users",
    "hours_of_day",
    "hours_query",
    "merged",
    "point_of",
]

MOST_READS: Final = 200
MOST_DAYS: Final = 92

FIGURES: Final = (
    "calls",
    "cost_micro_usd",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "embedded_tokens",
    "searches",
    "estimated",
)
"""The figures of a cell of calls."""

REQUEST_FIGURES: Final = (
    "requests",
    "counted",
    "cached",
    "cheaper",
    "searched",
    "empty",
    "retries",
    "fallbacks",
)
"""The figures of a cell of requests."""

_BY_HOUR_MOST = timedelta(hours=48)
"""The longest window that is exact to the hour. A longer one is of whole days, since an hour takes four reads."""

_BY_HOUR_DAYS = 39
"""Days back in which the documents of hours are kept."""

_USER_FIGURES = ("cost_micro_usd", "requests", "calls", "input_tokens", "cached_input_tokens", "output_tokens")
_KNOWN_BEFORE = ("requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_micro_usd")
_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True, slots=True)
class HourRange:
    """A range of whole hours (UTC), from ``start`` to before ``end``."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: datetime, end: datetime, now: datetime) -> HourRange:
        """Return the hours from ``start`` to ``end``, or their whole days if there are many or they are long ago."""
        start, end = _floor(start), _ceiling(end) if end < now else _floor(now) + timedelta(hours=1)
        if end - start > _BY_HOUR_MOST or now - start > timedelta(days=_BY_HOUR_DAYS):
            start, end = _midnight(start), _midnight(end + timedelta(days=1, microseconds=-1))
        return cls(start, end)

    @property
    def days(self) -> list[str]:
        """The days that the window touches."""
        count = (_midnight(self.end + timedelta(days=1, microseconds=-1)) - _midnight(self.start)).days
        return [(self.start.date() + timedelta(days=number)).isoformat() for number in range(count)]

    def hours_of(self, day: str) -> list[str]:
        """Return the hours of ``day`` in the window."""
        return [hour for hour in hours_of_day(day) if self._holds(hour)]

    def _holds(self, hour: str) -> bool:
        return self.start.strftime("%Y-%m-%dT%H") <= hour < self.end.strftime("%Y-%m-%dT%H")


@dataclass(frozen=True, slots=True)
class SumReport:
    """The sums of a window.

    Attributes:
        total: all of them together.
        points: by day and hour (or by day), what :func:`point_of` returns.
        before: the points of days from before there were sums by the hour.
        folded: the documents of the window's whole days.
        missing: days that nobody has summed up yet, and that would have taken too many reads.
        reads: how many documents were counted on.
    """

    window: HourRange
    total: Tree
    points: Mapping[str, Mapping[str, Any]]
    missing: Sequence[str] = ()
    before: Sequence[Mapping[str, Any]] = ()
    folded: Mapping[str, Document | None] = field(default_factory=dict)
    reads: int = 0

    def totals(self) -> dict[str, Any]:
        """Return the figures of the whole window, those of days before there were sums by the hour included."""
        total = point_of(self.total)
        for point in self.before:
            for name in _KNOWN_BEFORE:
                total[name] += point[name]
        return total

    def by(self, part: str) -> list[dict[str, Any]]:
        """Return the figures of calls by one part of their cells' names, dearest first."""
        place, figures = CALL_PARTS.index(part), dict[str, dict[str, int]]()
        for cell, values in self.total.get("calls", {}).items():
            own = figures.setdefault(cell.split("|")[place], dict.fromkeys(FIGURES, 0))
            for name in FIGURES:
                own[name] += values.get(name, 0)
        rows = [{"name": name, **values} for name, values in figures.items()]
        return sorted(rows, key=lambda row: (-row["cost_micro_usd"], -row["calls"], row["name"]))

    def calls(self) -> list[dict[str, Any]]:
        """Return the cells of calls, dearest first."""
        rows = _rows(self.total.get("calls", {}), CALL_PARTS, FIGURES)
        return sorted(rows, key=lambda row: (-row["cost_micro_usd"], -row["calls"]))

    def requests(self) -> list[dict[str, Any]]:
        """Return the cells of requests, most first."""
        rows = _rows(self.total.get("requests", {}), REQUEST_PARTS, REQUEST_FIGURES)
        return sorted(rows, key=lambda row: -row["requests"])

    def refusals(self) -> list[dict[str, Any]]:
        """Return how many requests were refused by the code of their error, most first."""
        rows = [
            {"code": code, "requests": figures.get("requests", 0)}
            for code, figures in self.total.get("refusals", {}).items()
        ]
        return sorted(rows, key=lambda row: (-row["requests"], row["code"]))

    def times(self) -> list[dict[str, Any]]:
        """Return the histograms of requests' times, by kind and measure."""
        rows = []
        for cell, buckets in sorted(self.total.get("times", {}).items()):
            kind, measure = cell.split("|")
            bars = [{"ms": round(milliseconds_of(name), 1), "count": buckets[name]} for name in sorted(buckets)]
            rows.append({"kind": kind, "measure": measure, **quantiles([buckets]), "buckets": bars})
        return rows


class SumReader:
    """Reads the sums of one app.

    Args:
        now: the current time.
        most_reads: the most documents that a report reads. Days that would take more are missing in it.
    """

    def __init__(self, store: DocumentStore, scope: Scope, now: datetime, most_reads: int = MOST_READS) -> None:
        self._store = store
        self._scope = scope
        self._now = now.astimezone(UTC)
        self._most_reads = most_reads

    def report(self, start: datetime, end: datetime, step: Literal["hour", "day"] = "hour") -> SumReport:
        """Return the sums of a range.

        Args:
            step: what each point stands for.
        """
        window = HourRange.of(start.astimezone(UTC), end.astimezone(UTC), self._now)
        days = window.days
        whole = [day for day in days if len(window.hours_of(day)) == 24 or day == self._today]
        whole = [day for day in whole if window.hours_of(day)[0] == f"{day}T00"]
        folded = dict(zip(whole, self._store.get_many([self._scope.rollup(day) for day in whole]), strict=True))
        unread, missing = self._unread(window, folded)
        hours = self._hours([hours for hours in unread.values() if hours])
        points: dict[str, Mapping[str, Any]] = {}
        trees: list[Mapping[str, Any]] = []
        before: list[Mapping[str, Any]] = []
        for day in days:
            own = _Day(day, folded.get(day), {hour: hours[hour] for hour in unread.get(day, ())})
            trees += own.trees()
            before += own.before
            points |= own.points(window.hours_of(day), step)
        now = self._now.strftime("%Y-%m-%dT%H")
        shown = {at: point for at, point in points.items() if at <= now}
        reads = len(folded) + len(hours) * QUIET_SHARDS
        return SumReport(window, added(trees), shown, missing, before, folded, reads)

    @property
    def _today(self) -> str:
        return self._now.date().isoformat()

    def _unread(
        self, window: HourRange, folded: Mapping[str, Document | None]
    ) -> tuple[dict[str, list[str]], list[str]]:
        """Return the hours to read by day, and the days for which there are too many."""
        left = self._most_reads - len(folded)
        now = self._now.strftime("%Y-%m-%dT%H")
        first = min((day for day, document in folded.items() if document is not None), default="")
        kept = (self._now - timedelta(days=_BY_HOUR_DAYS)).date().isoformat()
        unread: dict[str, list[str]] = {}
        missing = []
        for day in reversed(window.days):
            document = folded.get(day)
            through = "" if document is None else str(document.data.get("through", ""))
            if document is not None and not through and day < self._today and "requests" in document.data:
                continue  # it was summed up before there were sums by the hour
            hours = [hour for hour in window.hours_of(day) if through <= hour <= now]
            if len(hours) * QUIET_SHARDS > left:
                # Before its first night an app had nothing to sum up, and later hours are kept for some weeks.
                if day >= max(first, kept):
                    missing.append(day)
                continue
            left -= len(hours) * QUIET_SHARDS
            unread[day] = hours
        return unread, missing[::-1]

    def _hours(self, stretches: Sequence[Sequence[str]]) -> dict[str, Tree]:
        _, found = self._store.read([], [hours_query(self._scope, hours) for hours in stretches])
        by_hour = by_hour_of(document for documents in found for document in documents)
        return {hour: merged(by_hour.get(hour, ())) for hours in stretches for hour in hours}


@dataclass(frozen=True, slots=True)
class _Day:
    """One day's part of a report: its folded document, and the hours since."""

    day: str
    folded: Document | None
    hours: Mapping[str, Tree]

    def trees(self) -> list[Mapping[str, Any]]:
        return [self._folded.get("sums", {}), *self.hours.values()]

    @property
    def before(self) -> list[Mapping[str, Any]]:
        """The day's point, if the day was summed up before there were sums by the hour."""
        if self.folded is None or "sums" in self._folded or self.hours:
            return []
        return [point_of({}) | {name: int(self._folded.get(name, 0)) for name in _KNOWN_BEFORE}]

    @property
    def _folded(self) -> Mapping[str, Any]:
        return {} if self.folded is None else self.folded.data

    def points(self, hours: Sequence[str], step: str) -> dict[str, Mapping[str, Any]]:
        if step == "day":
            return {self.day: self.before[0] if self.before else point_of(added(self.trees()))}
        earlier: Mapping[str, Any] = self._folded.get("hours", {})
        return {
            hour: point_of(self.hours[hour])
            if hour in self.hours
            else {**point_of({}), **earlier.get(f"h{hour[11:]}", {})}
            for hour in hours
        }


def hours_query(app: Scope, hours: Sequence[str]) -> Query:
    """Return the query for the documents of hours that follow each other."""
    stretch = (Filter("hour", ">=", hours[0]), Filter("hour", "<=", hours[-1]))
    return Query(app.sums(), where=stretch)


def by_hour_of(documents: Iterable[Document]) -> dict[str, list[Document]]:
    """Return the documents of each hour that has some."""
    found: dict[str, list[Document]] = {}
    for document in documents:
        found.setdefault(document.data["hour"], []).append(document)
    return found


def merged(documents: Iterable[Document]) -> Tree:
    """Return the sum of an hour's documents."""
    return added(document.data for document in documents)


def point_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a tree that a chart over time shows."""
    calls, requests = tree.get("calls", {}).values(), tree.get("requests", {})
    times: Mapping[str, Mapping[str, int]] = tree.get("times", {})
    failed = sum(values.get("requests", 0) for cell, values in requests.items() if _is_error(cell))
    return {
        **{name: sum(values.get(name, 0) for values in calls) for name in FIGURES},
        **{name: sum(values.get(name, 0) for values in requests.values()) for name in REQUEST_FIGURES},
        "failed": failed,
        "refused": sum(values.get("requests", 0) for values in tree.get("refusals", {}).values()),
        "first_token_ms": quantiles(_of_measure(times, "first_token")),
        "total_ms": quantiles(_of_measure(times, "total")),
    }


def quantiles(histograms: Iterable[Mapping[str, int]]) -> dict[str, Any]:
    """Return how many times were measured, and the time that 50, 95 and 99% of them stayed below or reached."""
    counts: dict[str, int] = {}
    for buckets in histograms:
        for bucket, count in buckets.items():
            counts[bucket] = counts.get(bucket, 0) + count
    total, result = sum(counts.values()), dict[str, Any]()
    for name, part in _QUANTILES:
        left = part * total
        for bucket in sorted(counts):
            left -= counts[bucket]
            if left <= 0:
                result[name] = round(milliseconds_of(bucket))
                break
        else:
            result[name] = None
    return {"count": total, **result}


def hours_of_day(day: str) -> list[str]:
    """Return the hours of a day, each as ``yyyy-mm-ddThh``."""
    return [f"{day}T{hour:02d}" for hour in range(24)]


def dearest_users(store: DocumentStore, app: Scope, period: str, limit: int) -> list[dict[str, Any]]:
    """Return what users used in a day or a month, dearest first."""
    of_period = (Filter("period", "==", period),)
    dearest = (Order("cost_micro_usd", descending=True),)
    documents = store.query(Query(app.user_sums(), where=of_period, order=dearest, limit=limit))
    return [
        {"uid": document.data["uid"], **{name: int(document.data.get(name, 0)) for name in _USER_FIGURES}}
        for document in documents
    ]


def _rows(cells: Mapping[str, Any], parts: Sequence[str], figures: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {**dict(zip(parts, cell.split("|"), strict=True)), **{name: values.get(name, 0) for name in figures}}
        for cell, values in cells.items()
    ]


def _is_error(cell: str) -> bool:
    return cell.rpartition("|")[2].startswith("error:")


def _of_measure(times: Mapping[str, Mapping[str, int]], measure: str) -> list[Mapping[str, int]]:
    return [buckets for cell, buckets in times.items() if cell.endswith(f"|{measure}")]


def _floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _ceiling(moment: datetime) -> datetime:
    return _floor(moment + timedelta(hours=1, microseconds=-1))


def _midnight(moment: datetime) -> datetime:
    return _floor(moment).replace(hour=0)
