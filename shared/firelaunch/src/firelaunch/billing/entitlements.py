"""Decide what a user is entitled to, from their own document. Each reservation reads it, without a request to Stripe.

The document holds facts: ``plan`` (granted by an admin), ``billing`` (Stripe's latest state) and ``balance`` (credit).
This module derives the plan and its limits from them by the current settings, so a change of the settings takes effect
at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..settings.plans import GUEST_PLAN, Plan
from ..store.base import Document
from .balance import Balance

__all__ = ["PAYING", "Entitlement", "Entitlements", "subscriptions_of", "trial_of"]

Source = Literal["granted", "subscription", "credit", "default", "guest"]

PAYING = frozenset({"active", "trialing", "past_due"})
"""The states of a subscription that entitle to its plan. "past_due" is one, as long as Stripe tries to collect. When
Stripe gives up, the state becomes "canceled", "unpaid" or "paused", by the account's settings. "incomplete" waits for
the first payment, and "paused" suspends the service (https://docs.stripe.com/billing/subscriptions/overview)."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The plan that a user has, and where it comes from."""

    plan: str
    limits: Plan
    source: Source

    @property
    def features(self) -> frozenset[str]:
        """The features that the plan switches on."""
        return frozenset(self.limits.features)


_REMEMBERED = 10_000
"""The users whose plans are remembered."""


class Entitlements:
    """Derives users' entitlements from their documents.

    Args:
        plans: the plans by name.
        default: the plan of users who have none.
        pauses_without_plan: ways of paused collection in which a subscription does not entitle. By default there is
            none: Stripe says that customers keep access to the service while no payment is collected
            (https://docs.stripe.com/billing/subscriptions/pause-payment).
    """

    def __init__(self, plans: Mapping[str, Plan], default: str, pauses_without_plan: Sequence[str] = ()) -> None:
        self.plans = plans
        self.default = default
        self._pauses_without_plan = frozenset(pauses_without_plan)
        self._on_credit = next((name for name, plan in plans.items() if plan.balance), None)
        self._by_price = {price: name for name, plan in plans.items() for price in plan.prices}
        self._last: dict[str, Plan] = {}

    def last_of(self, root: str) -> Plan | None:
        """Return the plan that a user had when their document was last read, without another read.

        Args:
            root: the path of the user's document.
        """
        return self._last.get(root)

    def of(self, user: Document | None, root: str = "") -> Entitlement:
        """Return a user's entitlement, and remember their plan for :meth:`last_of`.

        Args:
            root: the path of the user's document, where the user may have none.
        """
        found = self._of(user)
        path = root if user is None else user.path
        if path:
            if len(self._last) >= _REMEMBERED:
                self._last = {}
            self._last[path] = found.limits
        return found

    def _of(self, user: Document | None) -> Entitlement:
        """Return a user's entitlement.

        It is the plan that an admin granted, or the best plan paid for, or the plan that is paid from credit if there
        is some, or the default. Plans that the settings don't have (any more) are ignored. A guest has the guests'
        plan, whatever else the document says (:mod:`firelaunch.membership.guests`).
        """
        data: Mapping[str, Any] = {} if user is None else user.data
        if data.get("guest") is True and GUEST_PLAN in self.plans:
            return Entitlement(GUEST_PLAN, self.plans[GUEST_PLAN], "guest")
        granted = data.get("plan")
        if isinstance(granted, str) and granted in self.plans:
            return Entitlement(granted, self.plans[granted], "granted")
        paid = max(self._paid(data), key=self._worth, default=None)
        if paid is not None:
            return Entitlement(paid, self.plans[paid], "subscription")
        if self._on_credit is not None and Balance.of(user).micro_usd > 0:
            return Entitlement(self._on_credit, self.plans[self._on_credit], "credit")
        return self.default_plan

    @property
    def default_plan(self) -> Entitlement:
        """The entitlement of users who have no other."""
        return Entitlement(self.default, self.plans[self.default], "default")

    def _paid(self, data: Mapping[str, Any]) -> Iterator[str]:
        trial = _trial(data)
        for subscription_id, entry in subscriptions_of(data).items():
            # Each user has one trial. Two checkout pages that are open at once may begin two.
            is_second = entry.get("status") == "trialing" and trial not in {None, subscription_id}
            if self._entitles(entry) and not is_second:
                yield from self.plans_of(entry)

    def _entitles(self, entry: Mapping[str, Any]) -> bool:
        collection = entry.get("collection") or {}
        return entry.get("status") in PAYING and collection.get("behavior") not in self._pauses_without_plan

    def plans_of(self, entry: Mapping[str, Any]) -> Iterator[str]:
        """Yield the plans that a subscription's prices belong to, whatever its state."""
        yield from (self._by_price[price] for price in entry.get("prices", ()) if price in self._by_price)

    def _worth(self, name: str) -> tuple[int, int, str]:
        plan = self.plans[name]
        return plan.daily_usd, plan.requests_per_minute, name


def trial_of(user: Document | None) -> str | None:
    """Return the id of the subscription with which a user had their trial; None if they had none yet."""
    return None if user is None else _trial(user.data)


def _trial(data: Mapping[str, Any]) -> str | None:
    billing = data.get("billing")
    trial = billing.get("trial") if isinstance(billing, Mapping) else None
    return trial if isinstance(trial, str) else None


def subscriptions_of(data: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the subscriptions in a user's document, by id."""
    billing = data.get("billing")
    by_id: Mapping[str, Mapping[str, Any]] = billing.get("subscriptions", {}) if isinstance(billing, Mapping) else {}
    return by_id
