"""Stripe's events as they arrive: each is applied once, kept and skipped, or refused."""

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
"""How long an event's receipt is kept. Stripe sends an event again for three days, and by hand for thirty
(https://docs.stripe.com/webhooks#automatic-retries). One that comes later still only has the subscription asked for."""


class WebhookInbox:
    """Takes the events of some apps.

    Args:
        ledgers: by app. An event that names no app is kept with the first.
        shared: whether the Stripe account has other apps, each with an inbox of its own. It sends each of them every
            event, and turns off an address that refuses some; so what is another app's is let go, and not refused.
    """

    def __init__(self, ledgers: Mapping[str, Ledger], clock: Callable[[], datetime], *, shared: bool = False) -> None:
        self._ledgers = ledgers
        self._clock = clock
        self._shared = shared
        self._first = next(iter(ledgers))

    def receive(self, event: Event) -> Outcome:
        """Apply an event, or keep it where there is nothing to apply.

        Raises:
            Forbidden: it is of an app that is none of ours, and there should be no other.
            BadRequest: its id is none that Stripe makes.
            BillingError, StoreError: it is to be sent again.
        """
        app_id = event.owner.app_id or self._first
        if app_id not in self._ledgers and self._shared:
            return "foreign"
        if app_id not in self._ledgers:
            raise Forbidden("The event is of another app.", reason=f"{event.id} of {app_id[:80]!r}")
        outcome = self._file(event, self._ledgers[app_id])
        log.info("%s %s %s: %s", app_id, event.id, event.type[:100], outcome)
        return outcome

    def _file(self, event: Event, ledger: Ledger) -> Outcome:
        user = _user(event)
        if user is None or event.subscription is None:
            return "skipped" if ledger.keep(self._receipt(event, ledger, "skipped")) else "duplicate"
        try:
            # What happened before the user was erased makes nothing of theirs anew.
            with begun_at(event.created_at):
                done = ledger.follow(user, event.subscription, self._receipt(event, ledger, "applied"))
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
