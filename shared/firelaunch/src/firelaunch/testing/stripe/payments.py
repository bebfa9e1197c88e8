"""Model one-time payments: what a checkout in payment mode makes, and refunds and disputes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .forms import FormRefused
from .objects import Objects

__all__ = ["OneTimePayments"]


class OneTimePayments:
    """The payments of an account. Every change adds its events to the account's.

    Attributes:
        intents: the PaymentIntents by id, each with its ``latest_charge`` expanded.
        disputes: the disputes by id.
    """

    def __init__(self, account: Objects) -> None:
        self._account = account
        self.intents: dict[str, dict[str, Any]] = {}
        self.disputes: dict[str, dict[str, Any]] = {}

    def begin(self, checkout: dict[str, Any], amount: int, metadata: Mapping[str, str], *, later: bool) -> str:
        """Make the payment of a checkout, and return its id. Paid ``later``, as by bank debit, it has not succeeded."""
        fields = {"amount": amount, "currency": "usd", "customer": checkout["customer"], "metadata": dict(metadata)}
        intent = self._account.new_object("payment_intent", "pi", fields)
        intent |= {"status": "processing" if later else "succeeded", "latest_charge": None}
        self.intents[intent["id"]] = intent
        if not later:
            self._charge(intent)
        return str(intent["id"])

    def settle(self, intent_id: str, *, failed: bool = False) -> None:
        """End a payment that takes days, with the money or without."""
        account, intent = self._account, self.intents[intent_id]
        with account.lock:
            session = next(s for s in account.sessions.values() if s.get("payment_intent") == intent_id)
            intent["status"] = "requires_payment_method" if failed else "succeeded"
            if not failed:
                self._charge(intent)
                session["payment_status"] = "paid"
            account.happen(f"checkout.session.async_payment_{'failed' if failed else 'succeeded'}", session)

    def refund(self, intent_id: str, amount: int | None = None) -> dict[str, Any]:
        """Refund a payment, or ``amount`` of it, and return the refund.

        Raises:
            FormRefused: more than was paid would go back.
        """
        account, charge = self._account, self.intents[intent_id]["latest_charge"]
        with account.lock:
            left = charge["amount"] - charge["amount_refunded"]
            amount = left if amount is None else amount
            if amount > left or left == 0:
                raise FormRefused(400, "Refund amount is greater than unrefunded amount on charge.")
            charge["amount_refunded"] += amount
            fields = {"payment_intent": intent_id, "charge": charge["id"], "amount": amount, "metadata": {}}
            refund = account.new_object("refund", "re", fields | {"status": "succeeded"})
            account.happen("refund.created", refund)
            account.happen("charge.refunded", charge)
        return refund

    def fail_refund(self, refund: dict[str, Any]) -> None:
        """Have a refund fail, as where the customer's card is closed. The money is back in the account."""
        with self._account.lock:
            refund["status"] = "failed"
            self.intents[refund["payment_intent"]]["latest_charge"]["amount_refunded"] -= refund["amount"]
            self._account.happen("refund.failed", refund)

    def dispute(self, intent_id: str, status: str = "needs_response") -> dict[str, Any]:
        """Have the customer's bank dispute a payment, and return the dispute. Its metadata is empty."""
        account, charge = self._account, self.intents[intent_id]["latest_charge"]
        with account.lock:
            charge["disputed"] = True
            fields = {"payment_intent": intent_id, "charge": charge["id"], "status": status, "metadata": {}}
            dispute = account.new_object("dispute", "du", fields)
            self.disputes[dispute["id"]] = dispute
            account.happen("charge.dispute.created", dispute)
        return dispute

    def decide(self, dispute: dict[str, Any], status: str) -> None:
        """Close a dispute as "won" or "lost"."""
        with self._account.lock:
            dispute["status"] = status
            self._account.happen("charge.dispute.closed", dispute)

    def _charge(self, intent: dict[str, Any]) -> None:
        shared = {name: intent[name] for name in ("amount", "currency", "metadata")}
        fields = {**shared, "payment_intent": intent["id"], "amount_refunded": 0, "disputed": False}
        intent["latest_charge"] = self._account.new_object("charge", "ch", fields)
        self._account.happen("charge.succeeded", intent["latest_charge"])
