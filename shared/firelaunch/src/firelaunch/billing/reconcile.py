"""Compare Stripe's subscriptions with our copy, page by page. Differences are repaired by asking Stripe once more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import FirelaunchError, InvalidId
from ..scope import check_uid
from .base import BillingUnavailable, Owner, Payments, Subscription
from .ledger import Ledger
from .webhooks import WebhookInbox

__all__ = ["Difference", "Reconciliation", "ReconciliationReport"]

log = logging.getLogger(__name__)

_SHOWN = 100
_EVENT_DAYS = timedelta(days=29)
"""How far back lost events are looked for. Stripe keeps them for thirty days (https://docs.stripe.com/api/events)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A subscription whose state differed between our copy and Stripe. None stands for no subscription."""

    app_id: str
    uid: str
    subscription: str
    ours: str | None
    stripes: str | None


@dataclass(slots=True)
class ReconciliationReport:
    """The results of a reconciliation.

    Attributes:
        subscriptions: the running subscriptions of our apps in Stripe.
        foreign: the subscriptions in the same account that belong to no app and user of ours.
        subscribers: the users who have a subscription according to our copy.
        differences: the subscriptions that differed between our copy and Stripe.
        mended, failed: those of them that were repaired, and those that could not be.
        payment_events: the events of the last days about payments of our apps, or of nobody.
        payments_mended: those of them that never came, and are applied now.
        shown: the first hundred differences.
    """

    subscriptions: int = 0
    foreign: int = 0
    subscribers: int = 0
    differences: int = 0
    mended: int = 0
    failed: int = 0
    payment_events: int = 0
    payments_mended: int = 0
    shown: list[Difference] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dict for JSON."""
        return asdict(self)


class Reconciliation:
    """Compares all subscriptions of some apps.

    Args:
        ledgers: the apps' ledgers, by app.
    """

    def __init__(
        self,
        payments: Payments,
        ledgers: Mapping[str, Ledger],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._payments = payments
        self._ledgers = ledgers
        self._clock = clock

    def run(self, looked_at: Callable[[int], None] = lambda _: None) -> ReconciliationReport:
        """Compare all of Stripe's subscriptions with our copy, then our copy with Stripe's subscriptions.

        The second pass finds subscriptions in our copy that have ended, or that belong to another user. Then events
        about payments that never came are applied.

        Args:
            looked_at: is called after each page with the number of Stripe's subscriptions so far. Its error ends the
                run.

        Raises:
            BillingUnavailable, StoreError: start again later. Repairs that were made stay.
        """
        report, seen = ReconciliationReport(), dict[str, Owner]()
        for page in self._payments.subscription_pages():
            seen |= {subscription.id: subscription.owner for subscription in page}
            for difference in self._compare(page, report):
                self._mend(difference, report)
            looked_at(len(seen))
        for app_id, ledger in self._ledgers.items():
            for difference in self._left_over(app_id, ledger, seen, report):
                self._mend(difference, report)
        self._payments_missed(report)
        log.info("reconciled: %s", {key: value for key, value in report.as_dict().items() if key != "shown"})
        return report

    def _payments_missed(self, report: ReconciliationReport) -> None:
        """Apply the events about payments that never came."""
        inbox = WebhookInbox(self._ledgers, self._clock, shared=True)
        for page in self._payments.payment_events(self._clock() - _EVENT_DAYS):
            for event in page:
                if event.owner.app_id in self._ledgers or event.owner.app_id is None:
                    report.payment_events += 1
                    report.payments_mended += inbox.receive(event) == "applied"

    def _compare(self, page: list[Subscription], report: ReconciliationReport) -> Iterator[Difference]:
        by_app: dict[str, list[tuple[str, Subscription]]] = {}
        for subscription in page:
            app_id, uid = subscription.owner.app_id, subscription.owner.uid
            if app_id is None or uid is None or app_id not in self._ledgers or not _is_uid(uid):
                report.foreign += 1
            else:
                by_app.setdefault(app_id, []).append((uid, subscription))
        for app_id, owned in by_app.items():
            report.subscriptions += len(owned)
            entries = self._ledgers[app_id].entries([uid for uid, _ in owned])
            for (uid, subscription), ours in zip(owned, entries, strict=True):
                entry = ours.get(subscription.id)
                # Stripe may list a subscription that has ended. Our copy does not keep those.
                expected = None if subscription.ended else subscription.entry()
                if (None if entry is None else dict(entry)) != expected:
                    yield Difference(app_id, uid, subscription.id, _status(entry), subscription.status)

    def _left_over(
        self, app_id: str, ledger: Ledger, seen: Mapping[str, Owner], report: ReconciliationReport
    ) -> Iterator[Difference]:
        after: str | None = None
        while page := ledger.subscribers(after):
            after = page[-1][0]
            report.subscribers += len(page)
            for uid, entries in page:
                for subscription_id, entry in entries.items():
                    if seen.get(subscription_id) != Owner(app_id, uid):
                        yield Difference(app_id, uid, subscription_id, _status(entry), None)

    def _mend(self, difference: Difference, report: ReconciliationReport) -> None:
        report.differences += 1
        report.shown.extend([difference] if len(report.shown) < _SHOWN else [])
        ledger = self._ledgers[difference.app_id]
        try:
            ledger.follow(ledger.app.of(difference.uid), difference.subscription)
        except BillingUnavailable:
            raise
        except (FirelaunchError, ValueError):
            log.exception("%s of %s could not be mended", difference.subscription, difference.app_id)
            report.failed += 1
        else:
            report.mended += 1


def _status(entry: Mapping[str, Any] | None) -> str | None:
    return None if entry is None else str(entry.get("status"))


def _is_uid(uid: str) -> bool:
    try:
        check_uid(uid)
    except InvalidId:
        return False
    return True
