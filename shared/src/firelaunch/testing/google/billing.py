"""Cloud Billing's budgets: those of one billing account."""

from __future__ import annotations

from typing import Any

from .base import Call, Refusal, Route, not_found

__all__ = ["Billing"]

_NUMBER = "1234"
_LONGEST_NAME = 60


class Billing:
    """State and routes (https://cloud.google.com/billing/docs/reference/budget/rest/v1/billingAccounts.budgets)."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.currency = "USD"
        """Of the billing account."""
        self.budgets: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """Every route. Who owns the project may do the same for budgets of that project alone."""
        budgets = "billingbudgets.googleapis.com/v1/billingAccounts/([^/]+)/budgets"
        return [
            Route("GET", budgets, self._list, "billing.budgets.list"),
            Route("POST", budgets, self._create, "billing.budgets.create"),
            Route("PATCH", budgets + "/([^/]+)", self._update, "billing.budgets.update"),
        ]

    def _list(self, call: Call, _: str) -> Any:
        scope = call.query.get("scope")
        found = [
            budget
            for budget in self.budgets.values()
            if scope is None or budget.get("budgetFilter", {}).get("projects") == [scope]
        ]
        return {"budgets": found} if found else {}

    def _create(self, call: Call, account: str) -> Any:
        wanted = call.json
        if len(wanted.get("displayName", "")) > _LONGEST_NAME:
            raise Refusal(400, "INVALID_ARGUMENT", "The display name must be at most 60 characters.")
        amount = self._amount(wanted)
        for rule in wanted.get("thresholdRules", []):
            if rule["thresholdPercent"] < 0:
                raise Refusal(400, "INVALID_ARGUMENT", "A threshold percent must not be negative.")
        for project in wanted.get("budgetFilter", {}).get("projects", []):
            if project != f"projects/{_NUMBER}":
                raise Refusal(400, "INVALID_ARGUMENT", f"{project} is not linked to this billing account.")
        name = f"billingAccounts/{account}/budgets/budget-{len(self.budgets) + 1}"
        self.budgets[name] = {**wanted, "name": name, "amount": {"specifiedAmount": amount}, "etag": "e"}
        return self.budgets[name]

    def _update(self, call: Call, account: str, budget: str) -> Any:
        name = f"billingAccounts/{account}/budgets/{budget}"
        if name not in self.budgets:
            raise not_found(name)
        if "amount" in call.json:
            self.budgets[name]["amount"] = {"specifiedAmount": self._amount(call.json)}
        return self.budgets[name]

    def _amount(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """The amount with its currency: that of the account, and no other."""
        amount = wanted.get("amount", {}).get("specifiedAmount", {})
        if amount.get("currencyCode") not in (None, "", self.currency):
            raise Refusal(400, "INVALID_ARGUMENT", "The currency code does not match that of the billing account.")
        return {"currencyCode": self.currency, **amount}
