"""Apply Stripe's events. Each event is applied once, or stored and skipped, or refused.

The HTTP side, where Stripe sends them, is :mod:`firelaunch.functions.stripe_webhook`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from ..errors import BadRequest, Fenced, Forbidden, InvalidId
from ..scope import Scope
from ..store.base import Create
from ..store.fence import begun_at
from .base import Event
from .ledger import Ledger

__all__ = ["Outcome", "WebhookInbox"]

log = logging.getLogger(__name__)

Outcome = Literal["applied", "skipped", "duplicate", "foreign"]

_KEPT_DAYS = 90
"""Days that an event's receipt is kept. Stripe resends an event for three days, and on request for thirty
(https://docs.stripe.com/webhooks#automatic-retries). An event that comes later only causes one more request to Stripe.
"""


class WebhookInbox:
    """Receives the events of some apps.

    Args:
        ledgers: the apps' ledgers, by app. The receipt of an event that names no app goes to the first app.
        shared: whether the Stripe account has other apps, each with an inbox of its own. Stripe sends every event to
            each of them, and turns off an address that refuses events. So other apps' events are ignored, not refused.
    """

    def __init__(self, ledgers: Mapping[str, Ledger], clock: Callable[[], datetime], *, shared: bool = False) -> None:
        self._ledgers = ledgers
        self._clock = clock
        self._shared = shared
        self._first = next(iter(ledgers))

    def receive(self, event: Event) -> Outcome:
        """Apply an event, or store its receipt if there is nothing to apply.

        Raises:
            Forbidden: the event belongs to an app that is not ours, and the account should have no other apps.
            BadRequest: the event's id is invalid.
            BillingError, StoreError: the event has to be sent again.
        """
        if event.payment is not None and event.owner.app_id is None:
            event = replace(event, owner=self._ledgers[self._first].owner_of(event.payment))
        app_id = event.owner.app_id or self._first
        if app_id not in self._ledgers and self._shared:
            return "foreign"
        if app_id not in self._ledgers:
            raise Forbidden("The event is of another app.", reason=f"{event.id} of {app_id[:80]!r}")
        outcome = self._file(event, self._ledgers[app_id])
        log.info("%s %s %s: %s", app_id, event.id, event.type[:100], outcome)
        if event.notice:
            log.error("%s %s: %s", app_id, event.id, event.notice[:500])
        return outcome

    def _file(self, event: Event, ledger: Ledger) -> Outcome:
        user = _user(event)
        if user is None or (event.subscription is None and event.payment is None):
            return "skipped" if ledger.keep(self._receipt(event, ledger, "skipped")) else "duplicate"
        receipt = self._receipt(event, ledger, "applied")
        try:
            # An event from before the user's erasure must not create any data of the user.
            with begun_at(event.created_at):
                if event.subscription is not None:
                    done = ledger.follow(user, event.subscription, receipt)
                else:
                    done = ledger.credit(user, str(event.payment), receipt)
        except Fenced:
            nobody = replace(event, owner=replace(event.owner, uid=None))
            return "skipped" if ledger.keep(self._receipt(nobody, ledger, "skipped")) else "duplicate"
        return "applied" if done else "duplicate"

    def _receipt(self, event: Event, ledger: Ledger, outcome: Outcome) -> Create:
        now = self._clock()
        try:
            path = ledger.app.billing_event(event.id)
        except InvalidId:
            raise BadRequest("The event has no valid id.") from None
        data: dict[str, Any] = {
            "type": event.type[:255],
            "outcome": outcome,
            "uid": event.owner.uid,
            "subscription": event.subscription,
            "payment": event.payment,
            "notice": event.notice[:500],
            "created_at": event.created_at,
            "received_at": now,
            "delete_at": now + timedelta(days=_KEPT_DAYS),
        }
        return Create(path, data)


def _user(event: Event) -> Scope | None:
    app_id, uid = event.owner.app_id, event.owner.uid
    try:
        return None if app_id is None or uid is None else Scope(app_id, uid)
    except InvalidId:
        return None
