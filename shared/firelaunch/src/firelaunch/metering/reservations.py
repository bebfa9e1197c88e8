"""Reserve an amount before a model is called, and settle the cost after it. Neither can happen twice.

This module makes the writes. A turn commits them in :mod:`firelaunch.turns.admit` and :mod:`firelaunch.turns.answer`.

One document holds the usage of one user's day. So one commit checks and changes the minute's requests, the daily
budget and the reservations, on condition that nobody else changed the document. Money is in integer micro-dollars.

Where the plan is paid from credit, the user's own document is under the same condition in the same commit, and holds
the same amount (:mod:`firelaunch.billing.balance`).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from ..billing.balance import Balance
from ..billing.entitlements import Entitlement, Entitlements
from ..billing.running import customer_of
from ..errors import (
    AlreadyExists,
    BudgetExceeded,
    Contention,
    CreditExceeded,
    FirelaunchError,
    PreconditionFailed,
    RateLimited,
)
from ..llm.types import FinishedCall, TokenCounts
from ..scope import Scope
from ..settings.plans import GUEST_PLAN, Plan
from ..settings.sections import dollars
from ..store.base import DELETE_FIELD, SERVER_TIME, Create, Document, DocumentStore, Increment, Update, Write
from ..telemetry.spans import SPAN, Span
from .call_records import CallLog, call_write, token_fields
from .call_spans import trace_call
from .ceiling import Ceiling, Chance, Draw
from .reports import MeterUsage, StoredReport, UsageOutbox
from .sums import Purposes, Spread, Tree, add_call, add_request, end_of, hour_of, hour_write, user_writes

__all__ = ["USED", "Day", "Metering", "Quote", "Reservation"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Counter = Literal["requests", "uploads"]
"""The counters that a plan limits for each clock minute."""

USED: Final = "used"
"""The field of an erasure's record that holds what :meth:`Day.kept` returned."""

_EXTEND_ATTEMPTS = 8
_COMMIT_MARGIN = timedelta(seconds=15)
"""The time before its reservation expires until which a request can be paid from credit: as long as a commit may take.
What expired may be spent by others, so a later payment could take the credit below zero."""
_MOST_RECORDS = 400
"""The most calls whose records wait for the settlement, which has to fit into one commit."""

_TIMES: Final = ("total_ms", "first_token_ms", "admission_ms", "store_ms", "tools_ms")
"""The times in a request's record that the app's sums hold, besides those of its search and its calls."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The most that a request can cost with a model."""

    model: str
    micro_usd: int


@dataclass(frozen=True, slots=True)
class Day:
    """One user's usage on one day (UTC), as stored.

    Attributes:
        before: what the user had used of the day before an erasure removed the day's document, as :meth:`kept`
            returned it. It bounds the day as well.
    """

    data: Mapping[str, Any]
    update_time: datetime | None
    before: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Document | None, erasure: Document | None = None, day: str = "") -> Day:
        """Return the day of a document, or an empty day if there is no document yet.

        Args:
            erasure: the record of the user's last erasure. Whoever admits something reads it, so that an erasure gives
                no new budget.
            day: the day, as :meth:`Metering.today` names it, if ``erasure`` is given.
        """
        kept: Mapping[str, Any] = {} if erasure is None else erasure.data.get(USED) or {}
        before = kept if kept.get("day") == day else {}
        return cls({}, None, before) if document is None else cls(document.data, document.update_time, before)

    def number(self, name: str) -> int:
        """Return a counter, or 0 if it does not exist yet."""
        return int(self.data.get(name, 0))

    def counted_in(self, minute: str, counter: Counter) -> int:
        """Return the number of requests or uploads in the clock minute ``minute`` ("HH:MM")."""
        return sum(int(at.get(f"minute_{counter}", 0)) for at in (self.data, self.before) if at.get("minute") == minute)

    def one_more(self, minute: str, counter: Counter) -> dict[str, Any]:
        """Return the fields of the minute's counters after ``counter`` has gone up by one."""
        others: dict[str, Any] = {
            name: self.data[name] if self.data.get("minute") == minute else 0
            for name in ("minute_requests", "minute_uploads")
            if name in self.data
        }
        own = self.number(f"minute_{counter}") if self.data.get("minute") == minute else 0
        return others | {"minute": minute, f"minute_{counter}": own + 1}

    def reservations(self, now: datetime, *, expired: bool) -> dict[str, int]:
        """Return the micro-dollars of each open reservation by request: either the expired ones or the others."""
        held: Mapping[str, Any] = self.data.get("reservations", {})
        return {key: int(item["micro_usd"]) for key, item in held.items() if (item["expires_at"] <= now) is expired}

    def committed(self, now: datetime) -> int:
        """Return the micro-dollars that are spent or reserved."""
        held = sum(self.reservations(now, expired=False).values())
        return self.number("cost_micro_usd") + self.carried_micro_usd + held

    @property
    def carried_micro_usd(self) -> int:
        """The micro-dollars of the day that no record explains any more: those from before an erasure."""
        return self.number("carried_micro_usd") + int(self.before.get("micro_usd", 0))

    @property
    def groups_made(self) -> int:
        """The number of groups that the user has made on the day."""
        return self.number("groups_made") + int(self.before.get("groups_made", 0))

    def kept(self, day: str, now: datetime) -> dict[str, Any]:
        """Return what an erasure keeps of the day: sums and counters alone, which bound what its user may still use.

        What running requests hold counts as spent: after the erasure they can settle nothing.
        """
        minute = now.astimezone(UTC).strftime("%H:%M")
        counted: tuple[Counter, ...] = ("requests", "uploads")
        return {
            "day": day,
            "micro_usd": self.committed(now),
            "groups_made": self.groups_made,
            "minute": minute,
            **{f"minute_{counter}": self.counted_in(minute, counter) for counter in counted},
        }


@dataclass(slots=True)
class Reservation:
    """The meter of one admitted request: the amount that it may spend, and the amount that it has spent.

    If ``cheaper`` is set, the soft cap was reached and the plan's cheap model answers. ``held`` micro-dollars of the
    reservation are kept for costs besides the model's calls, until :meth:`add` books them. ``covered`` micro-dollars
    are set aside for the calls that are being made. ``calls`` counts the calls that were booked. ``kind`` says what the
    request is, and ``counted`` whether it counts toward those of the day. ``days`` are those in which earlier tries of
    the same request ended. ``draw`` is what the request holds of the app's budget, if a ceiling bounds it.
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
    draw: Draw | None = None
    spent: int = 0
    held: int = 0
    covered: int = 0
    tokens: TokenCounts = field(default_factory=TokenCounts)
    reused: int = 0
    calls: int = 0
    kind: str = "turn"
    counted: bool = True
    days: tuple[str, ...] = ()
    names: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the records of its calls: in a chat of a group, the group and the writer."""
    credit_until: datetime | None = None
    """When the credit that is held for the request stops being held; None if none is held."""
    _late_credit: int = 0
    customer: str | None = None
    """The Stripe customer whose meter counts what the request used; None if no meter does."""
    _reports: dict[str, StoredReport] = field(default_factory=dict, repr=False)
    # A request that is sent again has the same id, and calls of its own.
    _run: str = field(default_factory=lambda: secrets.token_hex(4), repr=False)
    _records: list[Create] = field(default_factory=list, repr=False)
    _settled: bool = False
    _fact: dict[str, Any] | None = field(default=None, repr=False)
    _model_seconds: float = field(default=0.0, repr=False)
    _models: dict[int, str] = field(default_factory=dict, repr=False)
    _retries: int = field(default=0, repr=False)
    _fallbacks: int = field(default=0, repr=False)
    _span: Span | None = field(default_factory=SPAN.get, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def cover(self, micro_usd: int) -> None:
        """Set the next call's ``micro_usd`` aside, and raise the reservation if it does not hold them.

        Raises:
            BudgetExceeded, Contention: as in :meth:`Metering.extend`.
            StoreError: the records of a request of very many calls could not be stored.
        """
        with self._lock:
            if len(self._records) >= _MOST_RECORDS:
                with suppress(AlreadyExists):  # an earlier try did commit, and its acknowledgement was lost
                    self.metering.log.commit(self.scope, [*self._records, *self._hour_writes(self._records, None)])
                self._records = []
            total = self.committed + micro_usd
            if total > self.reserved:
                self.metering.extend(self, total)
            self.covered += micro_usd

    @property
    def committed(self) -> int:
        """The micro-dollars that are spent, held, or set aside for calls that are being made."""
        return self.spent + self.held + self.covered

    def release(self, micro_usd: int) -> None:
        """Give back what :meth:`cover` set aside for a call that has ended."""
        with self._lock:
            self.covered -= micro_usd
            if self._settled and self.draw is not None:
                self.draw.settle(self.draw.spent, self.covered)

    def spend(self, call: FinishedCall) -> None:
        """Book a model's call."""
        with self._lock:
            if self._settled:
                self._settle_late(call)
                return
            self._record(call)
            if call.charged:
                self.model = call.model
                self.tokens += call.tokens
                self.spent += call.micro_usd

    def reuse(self, model: str) -> None:
        """Record that a cached answer of ``model`` was used, which costs nothing."""
        self.model = model
        self.reused += 1

    def add(self, *calls: FinishedCall) -> None:
        """Book the calls besides the model's, such as that of an embedding model, and release what was held for them.

        Their tokens are not among the request's: they are another model's.
        """
        with self._lock:
            for call in calls:
                self._record(call)
                self.spent += call.micro_usd
            self.held = 0

    def forget_writer(self) -> None:
        """Have the records of calls name nobody but who pays: the user who asked was erased meanwhile."""
        with self._lock:
            self.names = {name: value for name, value in self.names.items() if name != "writer"}
            self._records = [
                Create(each.path, {name: value for name, value in each.data.items() if name != "writer"})
                for each in self._records
            ]

    def admission(self) -> AbstractContextManager[None]:
        """Return the context in which to commit the writes that admit the request."""
        return nullcontext() if self.draw is None else self.draw.committing()

    def report(self) -> dict[str, Any]:
        """Return the usage so far, in the form that clients and records get."""
        return {
            "model": self.model,
            **token_fields(self.tokens),
            "cost_micro_usd": self.spent,
            "cheaper_model": self.cheaper,
            "cached": self.reused > 0 and self.tokens == TokenCounts(),
        }

    def ended(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Take down how the request ended, for the app's sums.

        Args:
            record: the fields that the request's record gets now.

        Returns:
            further fields for the record, from which the sums can be computed again.
        """
        usage, retrieval = record["usage"], record.get("retrieval")
        hour = hour_of(self.metering.clock(), self.day)
        times = {name: record[name] for name in _TIMES if record.get(name) is not None}
        fact = {
            "hour": hour,
            "kind": self.metering.purposes.bounded(self.kind),
            "plan": self.plan,
            "end": end_of(record["outcome"], record["error"]),
            "counted": self.counted,
            "cached": usage["cached"],
            "cheaper": usage["cheaper_model"],
            "searched": retrieval is not None,
            "empty": retrieval is not None and not retrieval["passages"],
            "retries": self._retries,
            "fallbacks": self._fallbacks,
            **times,
            "model_ms": round(self._model_seconds * 1000),
        }
        if retrieval is not None:
            fact["retrieval_ms"] = retrieval["ms"]
        self._fact = fact
        return {f"sums.a{self._run}": fact, "days": sorted({*self.days, self.day})}

    def settlement(self, *, sums: bool = True) -> list[Write]:
        """Return the writes that replace the reservation with its cost, and store the records of its calls.

        Commit them together with the request's record: the record's precondition keeps them from being applied twice.
        What is booked after this is settled by itself.

        Args:
            sums: whether to add to the app's sums. The nightly job adds what is left out.
        """
        with self._lock:
            self._settled = True
            writes: list[Write] = [self._payment(self.spent, self.tokens), *self._credit_payment(), *self._records]
            if self.draw is not None:
                # A call that goes on after this is paid by itself, so the draw still holds what it may cost.
                writes.append(self.draw.settle(self.spent, self.covered))
            writes += self._report(f"{self.request_id}-{self._run}", self.spent, self.tokens, int(self.counted))
            if sums:
                writes += self._hour_writes(self._records, self._fact)
                writes += self._user_writes(self.spent, self.tokens, self.calls, int(self._fact is not None))
            return writes

    def _hour_writes(self, records: Sequence[Create], fact: Mapping[str, Any] | None) -> list[Write]:
        trees: dict[str, Tree] = {}
        for record in records:
            add_call(trees.setdefault(record.data["hour"], {}), record.data)
        if fact is not None:
            add_request(trees.setdefault(fact["hour"], {}), fact)
        shard = self.metering.spread.shard()
        return [hour_write(self.scope, hour, tree, shard) for hour, tree in trees.items()]

    def _user_writes(self, micro_usd: int, tokens: TokenCounts, calls: int, requests: int) -> list[Write]:
        figures = {
            "cost_micro_usd": micro_usd,
            "input_tokens": tokens.input,
            "cached_input_tokens": tokens.cached_input,
            "output_tokens": tokens.output,
            "calls": calls,
            "requests": requests,
        }
        return [*user_writes(self.scope, self.day, figures)]

    def _report(self, identifier: str, micro_usd: int, tokens: TokenCounts, requests: int) -> list[Write]:
        """Return the write that stores the job which reports usage to a meter in Stripe, if the plan has one."""
        outbox, counts = self.metering.outbox, self.limit.meter_counts
        value = {"micro_usd": micro_usd, "tokens": tokens.input + tokens.output, "requests": requests}[counts]
        if outbox is None or self.customer is None or value <= 0:
            return []
        usage = MeterUsage(
            meter=self.limit.meter,
            customer=self.customer,
            value=value,
            identifier=identifier,
            at=self.metering.clock(),
        )
        self._reports[identifier] = outbox(self.scope, usage)
        return [self._reports[identifier].write]

    def send_reports(self) -> None:
        """Have the stored jobs that report usage delivered. Call it after the settlement's commit."""
        with self._lock:
            reports, self._reports = self._reports, {}
        for report in reports.values():
            report.send()

    def _credit_payment(self) -> list[Write]:
        """Return the write that takes the cost off the user's credit, if some is held for the request.

        What is set aside for calls that are left behind stays held for them.
        """
        if self.credit_until is None:
            return []
        now, self._late_credit = self.metering.clock(), self.covered
        in_time = now < self.credit_until - _COMMIT_MARGIN
        if not in_time:
            log.warning("request %s settled too late for its credit: %d", self.request_id, self.spent)
        late = {"micro_usd": self.covered, "expires_at": self.credit_until} if self.covered else None
        paid = min(self.spent, self.reserved) if in_time else 0
        return [Balance.payment(self.scope, self.request_id, paid, late)]

    def _late_credit_payment(self, micro_usd: int) -> list[Write]:
        paid = min(micro_usd, self._late_credit)
        in_time = self.credit_until is not None and self.metering.clock() < self.credit_until - _COMMIT_MARGIN
        if not in_time or paid == 0:
            return []
        self._late_credit -= paid
        late = {"micro_usd": self._late_credit, "expires_at": self.credit_until} if self._late_credit else None
        return [Balance.payment(self.scope, self.request_id, paid, late)]

    def _record(self, call: FinishedCall) -> None:
        self.calls += 1
        if call.step:  # an embedding model's calls have none
            self._model_seconds += call.seconds
            before = self._models.get(call.step)
            self._retries += before == call.model
            self._fallbacks += before not in {None, call.model}
            self._models[call.step] = call.model
        self._records.append(self._record_of(call))

    def _record_of(self, call: FinishedCall) -> Create:
        call_id = f"{self.request_id}-{self._run}-{self.calls}"
        parent = call.span or self._span
        if parent is not None:
            trace_call(call, parent)
        record = call_write(self.scope, call_id, self.request_id, call, self.metering.clock(), self.day, self.plan)
        feature = self.metering.purposes.bounded(call.purpose)
        more = self.names if feature == call.purpose else {**self.names, "feature": feature}
        return Create(record.path, {**record.data, **more}) if more else record

    def _payment(self, micro_usd: int, tokens: TokenCounts) -> Write:
        return Update(
            self.scope.usage(self.day),
            {
                "cost_micro_usd": Increment(micro_usd),
                "input_tokens": Increment(tokens.input),
                "cached_input_tokens": Increment(tokens.cached_input),
                "output_tokens": Increment(tokens.output),
                f"reservations.{self.request_id}": DELETE_FIELD,
                "updated_at": SERVER_TIME,
            },
        )

    def _settle_late(self, call: FinishedCall) -> None:
        """Pay a call of a tool that took too long and was left behind: its request was settled without it."""
        self.calls += 1
        record = self._record_of(call)
        writes: list[Write] = [self._payment(call.micro_usd, call.tokens), record]
        if self.draw is not None:
            writes.append(self.draw.settle(self.draw.spent + call.micro_usd, self.covered))
        try:
            # The record must be new, so the payment counts once.
            writes += self._hour_writes([record], None)
            writes += self._late_credit_payment(call.micro_usd)
            writes += self._report(f"{self.request_id}-{self._run}-{self.calls}", call.micro_usd, call.tokens, 0)
            writes += self._user_writes(call.micro_usd, call.tokens, 1, 0)
            self.metering.log.commit(self.scope, writes)
        except AlreadyExists:
            return
        except FirelaunchError:
            log.exception("a late call of request %s could not be settled: %s", self.request_id, call)


@dataclass(frozen=True, slots=True)
class Metering:
    """Admits requests under their user's plan.

    Args:
        entitlements: the plans, and which user has which.
        clock: returns the current time, with its time zone.
        reservation_seconds: the time after which the reservation of a request that never settles expires.
        call_log: writes records of calls, where ``store`` reaches one user's part of the database alone.
        purposes: those that this process tells apart in the app's sums.
        spread: chooses the documents to which this process adds the app's sums.
        ceiling: the app's own budget; None if it has none.
        outbox: takes the reports to meters in Stripe; None if no plan has a meter, or billing is off.
    """

    store: DocumentStore
    entitlements: Entitlements
    clock: Callable[[], datetime]
    reservation_seconds: float
    call_log: CallLog | None = None
    purposes: Purposes = field(default_factory=Purposes)
    spread: Spread = field(default_factory=Spread)
    ceiling: Ceiling | None = None
    outbox: UsageOutbox | None = None

    @property
    def log(self) -> CallLog:
        """The writer of the records of calls."""
        return self.call_log or CallLog(self.store)

    def within(self, store: DocumentStore) -> Metering:
        """Return metering that reaches ``store`` alone, besides the records of calls."""
        return replace(self, store=store, call_log=self.log)

    @property
    def plans(self) -> Mapping[str, Plan]:
        """The plans, by name."""
        return self.entitlements.plans

    def today(self) -> str:
        """Return the day (UTC) on which a request counts, as ``yyyy-mm-dd``."""
        return self.clock().astimezone(UTC).date().isoformat()

    def chance(self, day: str) -> AbstractContextManager[Chance]:
        """Offer the chance to lease money for the process with the commit that admits a request.

        See :meth:`.ceiling.Ceiling.chance`.
        """
        return nullcontext(Chance()) if self.ceiling is None else self.ceiling.chance(day)

    def close(self) -> None:
        """Report what this process has spent of the app's budget, as it ends."""
        if self.ceiling is None:
            return
        try:
            self.ceiling.close()
        except FirelaunchError as error:
            log.warning("what was spent of the budget is not reported; others will find it out: %s", error)

    def plan_of(self, user: Document | None) -> str:
        """Return the name of the user's plan (see :class:`~firelaunch.billing.entitlements.Entitlements`)."""
        return self.entitlements.of(user).plan

    def reserve(
        self,
        scope: Scope,
        day: str,
        usage: Day,
        user: Document | None,
        request_id: str,
        quote: Quote,
        cheap: Quote,
        *,
        counted: bool = True,
        chance: Chance | None = None,
    ) -> tuple[Reservation, list[Write]]:
        """Admit a request, and return its reservation and the writes that store it.

        You commit the writes, inside of :meth:`Reservation.admission`.

        If another request came first, the commit fails with ``PreconditionFailed`` or ``AlreadyExists``. Then read the
        day again, and call this again.

        Args:
            user: the user's document, as it was read with ``usage``.
            counted: whether the request counts toward those of the minute and of the day. A job's steps don't.
            chance: what :meth:`chance` offered.

        Raises:
            RateLimited: the minute's requests are used up.
            BudgetExceeded: the rest of the day's budget does not even cover the cheap model.
            AppBudgetExceeded: the rest of the app's own budget does not.
            Contention, StoreError: as in :meth:`.ceiling.Ceiling.draw`.
            CreditExceeded: the plan is paid from credit, and what is left does not even cover the cheap model.
        """
        has, default = self.entitlements.of(user, scope.root), self.entitlements.default_plan
        try:
            reservation, writes = self._reserve(
                scope, day, usage, has, user, request_id, quote, cheap, counted=counted, chance=chance
            )
        except CreditExceeded:
            if has.source != "credit" or default.limits.balance:
                raise
            # A last bit of credit that covers nothing does not keep a user from what everybody has.
            return self._reserve(
                scope, day, usage, default, user, request_id, quote, cheap, counted=counted, chance=chance
            )
        if has.source == "subscription" and has.limits.meter:
            reservation.customer = customer_of(user)
        return reservation, writes

    def _reserve(
        self,
        scope: Scope,
        day: str,
        usage: Day,
        has: Entitlement,
        user: Document | None,
        request_id: str,
        quote: Quote,
        cheap: Quote,
        *,
        counted: bool,
        chance: Chance | None,
    ) -> tuple[Reservation, list[Write]]:
        now = self.clock().astimezone(UTC)
        limit = has.limits
        minute = now.strftime("%H:%M")
        if counted:
            _check_minute(usage.counted_in(minute, "requests"), limit.requests_per_minute, "requests", now)
        committed = usage.committed(now)
        over_soft_cap = committed * 100 >= limit.daily_usd * limit.cheaper_model_at_percent
        # Free models can serve a plan that has no budget. Such a plan has no soft cap either.
        left = limit.daily_usd - committed
        # A repeated request may have a reservation of its own, which this one takes the place of.
        balance = Balance.of(user) if limit.balance else None
        credit = left if balance is None else balance.available(now, besides=request_id)
        cheaper = limit.daily_usd > 0 and (over_soft_cap or quote.micro_usd > min(left, credit))
        chosen = cheap if cheaper else quote
        if chosen.micro_usd > left:
            raise _no_budget(scope, chosen.micro_usd, left, now)
        if chosen.micro_usd > credit:
            raise CreditExceeded
        draw = self._draw(request_id, day, has.plan, chosen, cheap, chance)
        if draw is not None and draw.cheap and cheap.micro_usd <= chosen.micro_usd:
            cheaper, chosen = True, cheap
        reservation = Reservation(
            self,
            scope,
            request_id,
            day,
            chosen.model,
            has.plan,
            limit,
            chosen.micro_usd,
            cheaper=cheaper,
            draw=draw,
            counted=counted,
        )
        writes = [self._write(reservation, usage, now, minute if counted else None)]
        if balance is not None and chosen.micro_usd:
            reservation.credit_until = now + timedelta(seconds=self.reservation_seconds)
            writes.append(balance.hold(scope, request_id, chosen.micro_usd, now, reservation.credit_until))
        return reservation, writes if draw is None else [*writes, *draw.writes]

    def _draw(
        self, request_id: str, day: str, plan: str, quote: Quote, cheap: Quote, chance: Chance | None = None
    ) -> Draw | None:
        """Draw on the app's budget; return None if no ceiling bounds the request, or it costs nothing."""
        guests = plan == GUEST_PLAN
        if self.ceiling is None or quote.micro_usd == 0 or not self.ceiling.bounds(guests=guests):
            return None
        draw_id = f"{request_id}-{secrets.token_hex(4)}"
        return self.ceiling.draw(
            draw_id, day, guests=guests, dear=quote.micro_usd, cheap=cheap.micro_usd, chance=chance
        )

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
        # A repeated request may renew its own expired reservation. `setdefault` keeps the new entry in that case.
        for request_id, micro_usd in expired.items():
            data["expired_requests"] = usage.number("expired_requests") + len(expired)
            data["expired_micro_usd"] = data.get("expired_micro_usd", usage.number("expired_micro_usd")) + micro_usd
            data.setdefault(f"reservations.{request_id}", DELETE_FIELD)
        return Update(path, data, if_updated_at=usage.update_time)

    def count_upload(self, scope: Scope, day: str, usage: Day, plan: str) -> Write:
        """Admit an upload, and return the write that counts it. The write has the precondition of :meth:`reserve`.

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
        """Raise an open reservation to a total of ``micro_usd``.

        Raises:
            BudgetExceeded: the day's budget does not cover the total.
            CreditExceeded: the plan is paid from credit, and that does not cover the total.
            AppBudgetExceeded: the app's own budget does not cover it.
            Contention: other requests of the user came first each time.
        """
        quote = Quote(reservation.model, micro_usd)
        draw = reservation.draw or self._draw(reservation.request_id, reservation.day, reservation.plan, quote, quote)
        with nullcontext() if draw is None else draw.raised_to(micro_usd, reservation.reserved):
            self._extend(reservation, micro_usd, () if draw is None else (draw.write(),))
        reservation.draw = draw

    def _extend(self, reservation: Reservation, micro_usd: int, drawn: Sequence[Write]) -> None:
        path, on_credit = reservation.scope.usage(reservation.day), reservation.limit.balance
        for _ in range(_EXTEND_ATTEMPTS):
            now = self.clock().astimezone(UTC)
            paths = [path, reservation.scope.erasure(), *([reservation.scope.root] if on_credit else [])]
            document, erasure, *user = self.store.get_many(paths)
            usage = Day.of(document, erasure, reservation.day)
            others = usage.committed(now) - usage.reservations(now, expired=False).get(reservation.request_id, 0)
            left = reservation.limit.daily_usd - others
            if micro_usd > left:
                raise _no_budget(reservation.scope, micro_usd, left, now)
            request_id, expires_at = reservation.request_id, now + timedelta(seconds=self.reservation_seconds)
            entry = {"micro_usd": micro_usd, "expires_at": expires_at}
            writes: list[Write] = [Update(path, {f"reservations.{request_id}": entry}, if_updated_at=usage.update_time)]
            for balance in map(Balance.of, user):
                if micro_usd > balance.available(now, besides=request_id):
                    raise CreditExceeded
                writes.append(balance.hold(reservation.scope, request_id, micro_usd, now, expires_at))
            try:
                self.log.commit(reservation.scope, [*writes, *drawn])
            except PreconditionFailed:
                continue
            reservation.reserved = micro_usd
            reservation.credit_until = expires_at if on_credit else None
            return
        raise Contention(retry_after=1)

    def pay_for_app(self, most: int, work: Callable[[], tuple[T, int]]) -> T:
        """Do work of the app itself, for which no user pays, within the app's own budget.

        Args:
            most: the most micro-dollars that the work can cost.
            work: returns its result, and what it cost.

        Raises:
            AppBudgetExceeded: the app's budget does not cover the work. Errors of ``work`` pass through; it is then
                taken for unpaid, as a user's is.
        """
        quote = Quote("", most)
        draw = self._draw("app" + secrets.token_hex(8), self.today(), "", quote, quote)
        if draw is None or self.ceiling is None:
            return work()[0]
        return self.ceiling.pay(draw, work)

    def release_expired(self, scope: Scope, day: str) -> dict[str, int]:
        """Remove the expired reservations of a user's day, and count them as expired.

        Returns:
            the micro-dollars that each reservation held, by request.

        Raises:
            Contention: other requests of the user came first each time.
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


def _no_budget(scope: Scope, most: int, budget_left: int, now: datetime) -> BudgetExceeded:
    """Return the refusal of a request that may cost ``most`` micro-dollars.

    It has a user's own figures. A group's would tell a member what the others spent.
    """
    if budget_left <= 0:
        reason = BudgetExceeded.message
    elif scope.group is not None:
        reason = "What is left of today's budget does not cover the most that this request may cost."
    else:
        reason = f"This request may cost up to {dollars(most)}, and {dollars(budget_left)} is left of today's budget."
    left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
    hours, minutes = divmod(-(-left // 60), 60)
    wait = f"{hours} h {minutes} min" if hours else f"{minutes} min"
    return BudgetExceeded(f"{reason} The next day begins in {wait}, at midnight UTC.", retry_after=left)
