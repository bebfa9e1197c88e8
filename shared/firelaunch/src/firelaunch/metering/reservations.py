"""Metering: an amount is reserved before a model is called and settled after, and neither can be done twice.

Everything of one user's day is in one document, so that the minute window, the daily budget and what is reserved are
checked and changed by one commit whose precondition is that nobody changed it meanwhile. Money is integer
micro-dollars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ..billing.entitlements import Entitlements
from ..errors import BudgetExceeded, Contention, PreconditionFailed, RateLimited
from ..llm.types import TokenCounts
from ..scope import Scope
from ..settings.plans import Plan
from ..store.base import DELETE_FIELD, SERVER_TIME, Create, Document, DocumentStore, Increment, Update, Write

__all__ = ["Day", "Metering", "Quote", "Reservation"]

Counter = Literal["requests", "uploads"]
"""What is limited in a clock minute."""

_EXTEND_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Quote:
    """What a request is expected to cost at most, with which model."""

    model: str
    micro_usd: int


@dataclass(frozen=True, slots=True)
class Day:
    """One user's usage on one day (UTC), as the database has it."""

    data: Mapping[str, Any]
    update_time: datetime | None

    @classmethod
    def of(cls, document: Document | None) -> Day:
        """From the document, or an empty day where there is none yet."""
        return cls({}, None) if document is None else cls(document.data, document.update_time)

    def number(self, name: str) -> int:
        """A counter; 0 where it is not there yet."""
        return int(self.data.get(name, 0))

    def counted_in(self, minute: str, counter: Counter) -> int:
        """Requests or uploads in the clock minute ``minute`` ("HH:MM")."""
        return self.number(f"minute_{counter}") if self.data.get("minute") == minute else 0

    def one_more(self, minute: str, counter: Counter) -> dict[str, Any]:
        """The fields of the minute's counters with one more of ``counter``."""
        others: dict[str, Any] = {
            name: self.data[name] if self.data.get("minute") == minute else 0
            for name in ("minute_requests", "minute_uploads")
            if name in self.data
        }
        return others | {"minute": minute, f"minute_{counter}": self.counted_in(minute, counter) + 1}

    def reservations(self, now: datetime, *, expired: bool) -> dict[str, int]:
        """Micro-dollars of each open reservation, by request: those that ran out, or those that did not."""
        held: Mapping[str, Any] = self.data.get("reservations", {})
        return {key: int(item["micro_usd"]) for key, item in held.items() if (item["expires_at"] <= now) is expired}

    def committed(self, now: datetime) -> int:
        """Micro-dollars that are spent or reserved."""
        return self.number("cost_micro_usd") + sum(self.reservations(now, expired=False).values())


@dataclass(slots=True)
class Reservation:
    """One admitted request: what it may spend and what it has spent. The gateway's meter.

    ``cheaper`` says that the soft cap was reached, so the plan's cheap model answers. ``held`` micro-dollars of it are
    for what is spent beside the model's calls, and not yet told.
    """

    metering: Metering
    scope: Scope
    request_id: str
    day: str
    model: str
    plan: str
    limit: Plan
    reserved: int
    cheaper: bool
    spent: int = 0
    held: int = 0
    tokens: TokenCounts = field(default_factory=TokenCounts)
    reused: int = 0

    def cover(self, micro_usd: int) -> None:
        """See :class:`~firelaunch.llm.types.Meter`."""
        if self.spent + self.held + micro_usd > self.reserved:
            self.metering.extend(self, self.spent + self.held + micro_usd)

    def spend(self, model: str, tokens: TokenCounts, micro_usd: int) -> None:
        """See :class:`~firelaunch.llm.types.Meter`."""
        self.model = model
        self.tokens += tokens
        self.spent += micro_usd

    def reuse(self, model: str) -> None:
        """See :class:`~firelaunch.llm.types.Meter`."""
        self.model = model
        self.reused += 1

    def add(self, micro_usd: int) -> None:
        """Take down what was spent beside the model's calls, all of it."""
        self.spent += micro_usd
        self.held = 0

    def report(self) -> dict[str, Any]:
        """What was used until now, as clients and records have it."""
        return {
            "model": self.model,
            "input_tokens": self.tokens.input,
            "cached_input_tokens": self.tokens.cached_input,
            "output_tokens": self.tokens.output,
            "estimated": self.tokens.estimated,
            "cost_micro_usd": self.spent,
            "cheaper_model": self.cheaper,
            "cached": self.reused > 0 and self.tokens == TokenCounts(),
        }

    def settlement(self) -> Write:
        """The write that turns the reservation into cost; committed with the request's record, which makes it once."""
        return Update(
            self.scope.usage(self.day),
            {
                "cost_micro_usd": Increment(self.spent),
                "input_tokens": Increment(self.tokens.input),
                "cached_input_tokens": Increment(self.tokens.cached_input),
                "output_tokens": Increment(self.tokens.output),
                f"reservations.{self.request_id}": DELETE_FIELD,
                "updated_at": SERVER_TIME,
            },
        )


@dataclass(frozen=True, slots=True)
class Metering:
    """Admits requests under their user's plan.

    Args:
        entitlements: who may use how much.
        clock: the time now, aware.
        reservation_seconds: how long a request that never settles keeps what it reserved.
    """

    store: DocumentStore
    entitlements: Entitlements
    clock: Callable[[], datetime]
    reservation_seconds: float

    @property
    def plans(self) -> Mapping[str, Plan]:
        """The plans, by name."""
        return self.entitlements.plans

    def today(self) -> str:
        """The day (UTC) that a request is counted on, ``yyyy-mm-dd``."""
        return self.clock().astimezone(UTC).date().isoformat()

    def plan_of(self, user: Document | None) -> str:
        """The name of the user's plan; see :class:`~firelaunch.billing.entitlements.Entitlements`."""
        return self.entitlements.of(user).plan

    def reserve(
        self,
        scope: Scope,
        day: str,
        usage: Day,
        plan: str,
        request_id: str,
        quote: Quote,
        cheap: Quote,
        *,
        counted: bool = True,
    ) -> tuple[Reservation, Write]:
        """Admit a request, as a reservation and the write that makes it; nothing is reserved until that is committed.

        The write fails with ``PreconditionFailed`` or ``AlreadyExists`` when another request came first: read again.

        Args:
            counted: whether it is one of the minute's and the day's requests; a job's steps are not.

        Raises:
            RateLimited: the minute's requests are used up.
            BudgetExceeded: even the cheap model is not covered by what is left of the day's budget.
        """
        now = self.clock().astimezone(UTC)
        limit = self.plans[plan]
        minute = now.strftime("%H:%M")
        if counted:
            _check_minute(usage.counted_in(minute, "requests"), limit.requests_per_minute, "requests", now)
        committed = usage.committed(now)
        over_soft_cap = committed * 100 >= limit.daily_usd * limit.cheaper_model_at_percent
        # A plan without a budget can still be served by models that cost nothing, and there is no cap to be near to.
        cheaper = limit.daily_usd > 0 and (over_soft_cap or committed + quote.micro_usd > limit.daily_usd)
        chosen = cheap if cheaper else quote
        if committed + chosen.micro_usd > limit.daily_usd:
            raise _no_budget(now)
        reservation = Reservation(
            self, scope, request_id, day, chosen.model, plan, limit, chosen.micro_usd, cheaper=cheaper
        )
        return reservation, self._write(reservation, usage, now, minute if counted else None)

    def _write(self, reservation: Reservation, usage: Day, now: datetime, minute: str | None) -> Write:
        entry = {
            "micro_usd": reservation.reserved,
            "expires_at": now + timedelta(seconds=self.reservation_seconds),
        }
        data: dict[str, Any] = {"updated_at": SERVER_TIME}
        if minute is not None:
            data["requests"] = usage.number("requests") + 1
            data |= usage.one_more(minute, "requests")
        path = reservation.scope.usage(reservation.day)
        if usage.update_time is None:
            return Create(path, data | {"reservations": {reservation.request_id: entry}})
        data[f"reservations.{reservation.request_id}"] = entry
        expired = usage.reservations(now, expired=True)
        # A repeated request may take its own run-out reservation up again; it is not dropped and set in one write.
        for request_id, micro_usd in expired.items():
            data["expired_requests"] = usage.number("expired_requests") + len(expired)
            data["expired_micro_usd"] = data.get("expired_micro_usd", usage.number("expired_micro_usd")) + micro_usd
            data.setdefault(f"reservations.{request_id}", DELETE_FIELD)
        return Update(path, data, if_updated_at=usage.update_time)

    def count_upload(self, scope: Scope, day: str, usage: Day, plan: str) -> Write:
        """Admit an upload, as the write that counts it; it is under the same condition as that of :meth:`reserve`.

        Raises:
            RateLimited: the minute's uploads are used up.
        """
        now = self.clock().astimezone(UTC)
        minute = now.strftime("%H:%M")
        _check_minute(usage.counted_in(minute, "uploads"), self.plans[plan].uploads_per_minute, "uploads", now)
        data = {**usage.one_more(minute, "uploads"), "updated_at": SERVER_TIME}
        path = scope.usage(day)
        return Create(path, data) if usage.update_time is None else Update(path, data, if_updated_at=usage.update_time)

    def extend(self, reservation: Reservation, micro_usd: int) -> None:
        """Raise an open reservation to ``micro_usd`` in all.

        Raises:
            BudgetExceeded: the day's budget does not cover it.
            Contention: other requests of the user were in the way each time.
        """
        path = reservation.scope.usage(reservation.day)
        for _ in range(_EXTEND_ATTEMPTS):
            now = self.clock().astimezone(UTC)
            usage = Day.of(self.store.get(path))
            others = usage.committed(now) - usage.reservations(now, expired=False).get(reservation.request_id, 0)
            if others + micro_usd > reservation.limit.daily_usd:
                raise _no_budget(now)
            entry = {"micro_usd": micro_usd, "expires_at": now + timedelta(seconds=self.reservation_seconds)}
            try:
                self.store.commit(
                    [Update(path, {f"reservations.{reservation.request_id}": entry}, if_updated_at=usage.update_time)]
                )
            except PreconditionFailed:
                continue
            reservation.reserved = micro_usd
            return
        raise Contention(retry_after=1)

    def release_expired(self, scope: Scope, day: str) -> dict[str, int]:
        """Let go of the reservations of a user's day whose time is over; they are counted as expired.

        Returns:
            micro-dollars that each held, by request.

        Raises:
            Contention: other requests of the user were in the way each time.
        """
        path = scope.usage(day)
        for _ in range(_EXTEND_ATTEMPTS):
            usage = Day.of(self.store.get(path))
            expired = usage.reservations(self.clock().astimezone(UTC), expired=True)
            if not expired:
                return {}
            data: dict[str, Any] = {f"reservations.{request_id}": DELETE_FIELD for request_id in expired}
            data["expired_requests"] = usage.number("expired_requests") + len(expired)
            data["expired_micro_usd"] = usage.number("expired_micro_usd") + sum(expired.values())
            try:
                self.store.commit([Update(path, data, if_updated_at=usage.update_time)])
            except PreconditionFailed:
                continue
            return expired
        raise Contention(retry_after=1)


def _check_minute(counted: int, most: int, counter: Counter, now: datetime) -> None:
    if counted >= most:
        left = 60 - now.second
        raise RateLimited(f"Too many {counter} this minute. Try again in {left} s.", retry_after=left)


def _no_budget(now: datetime) -> BudgetExceeded:
    left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
    hours, minutes = divmod(-(-left // 60), 60)
    wait = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return BudgetExceeded(f"{BudgetExceeded.message} The next day begins in {wait}, at midnight UTC.", retry_after=left)
