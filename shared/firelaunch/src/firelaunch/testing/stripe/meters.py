"""Model usage-based billing: meters and their events (https://docs.stripe.com/api/billing/meter-event/create)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .forms import FormRefused, missing
from .objects import Objects

__all__ = ["METER_EVENT", "MeterEvent", "Meters"]

METER_EVENT = {"event_name": None, "identifier": None, "timestamp": None, "payload": {"*": None}}
"""The parameters that are known."""

_REMEMBERED = 24 * 3_600
_PAST, _FUTURE = 35 * 86_400, 5 * 60
_DIGITS = 15


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """An event that was taken. ``at`` is the time of use, ``taken_at`` that of its coming."""

    meter: str
    customer: str
    value: int
    identifier: str
    at: int
    taken_at: float


class Meters:
    """The meters of an account, which sum up the values of their events.

    Attributes:
        names: the event names of the active meters.
        events: the events that were taken, in their order.
    """

    def __init__(self, account: Objects) -> None:
        self._account = account
        self.names: set[str] = set()
        self.events: list[MeterEvent] = []

    def total(self, meter: str, customer: str) -> int:
        """Return what a meter has counted for a customer."""
        return sum(event.value for event in self.events if (event.meter, event.customer) == (meter, customer))

    def take(self, params: Mapping[str, Any], customers: Mapping[str, Any]) -> dict[str, Any]:
        """Take an event, or refuse it.

        Raises:
            FormRefused: a rule does not allow it. An identifier is refused for 24 hours, and counts again after that.
        """
        now, name, payload = self._account.clock(), params.get("event_name"), params.get("payload")
        if name is None or payload is None:
            raise missing("event_name" if name is None else "payload")
        if name not in self.names:
            raise FormRefused(400, f"No active meter found for event name {name}.", code="no_meter", param="event_name")
        customer, value = payload.get("stripe_customer_id"), payload.get("value", "")
        if customer not in customers:
            raise FormRefused(400, "The customer was not found.", code="meter_event_customer_not_found")
        if not re.fullmatch(r"-?[0-9]+", value):
            raise FormRefused(400, "The value is no whole number.", code="meter_event_invalid_value")
        if len(value.lstrip("-")) > _DIGITS:
            raise FormRefused(400, "The value is too long.", code="meter_event_value_too_many_digits")
        at = self._time(params.get("timestamp"), now)
        identifier = params.get("identifier") or self._account.new_object("x", "idmp", {})["id"]
        self._check_identifier(identifier, now)
        self.events.append(MeterEvent(name, customer, int(value), identifier, at, now))
        shown = {"event_name": name, "identifier": identifier, "payload": payload, "timestamp": at}
        return {"object": "billing.meter_event", "created": int(now), "livemode": False, **shown}

    def _time(self, timestamp: str | None, now: float) -> int:
        if timestamp is None:
            return int(now)
        if not timestamp.isdigit():
            raise FormRefused(400, "Invalid integer: timestamp", param="timestamp")
        if int(timestamp) < now - _PAST:
            raise FormRefused(400, "Over 35 days old.", code="timestamp_too_far_in_past", param="timestamp")
        if int(timestamp) > now + _FUTURE:
            raise FormRefused(400, "Over 5 minutes ahead.", code="timestamp_in_future", param="timestamp")
        return int(timestamp)

    def _check_identifier(self, identifier: str, now: float) -> None:
        if len(identifier) > 100:
            raise FormRefused(400, "Invalid string: over 100 characters", param="identifier")
        if any(event.identifier == identifier and event.taken_at > now - _REMEMBERED for event in self.events):
            message = f"An event already exists with identifier {identifier}."
            raise FormRefused(400, message, code="duplicate_meter_event", param="identifier")
