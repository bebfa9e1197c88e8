"""The spending alert: a budget of the project's costs, of which Google sends e-mails. It stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..settings_sections import Cloud
from .names import Place
from .steps import Action, Step
from .tools import Request, Tools, gcloud

__all__ = ["ALERT_ROLE", "THRESHOLDS", "alert_name", "spending_alert"]

THRESHOLDS = (0.5, 0.8, 1.0)
"""Parts of the amount at which e-mails are sent."""

ALERT_ROLE = "roles/billing.costsManager"
"""On the billing account. Whoever owns or edits the project needs none, for a budget of that project alone
(https://cloud.google.com/billing/docs/how-to/budget-api-access-control)."""

_BUDGETS = "https://billingbudgets.googleapis.com/v1"
_PAGE = 100
_ACCOUNT = "billingAccounts/ACCOUNT_ID"
"""Stands for the billing account in a dry run, which asks nobody."""


def alert_name(project: str) -> str:
    """The budget's name, by which a later deploy finds it."""
    return f"firelaunch: {project}"


def spending_alert(place: Place, cloud: Cloud) -> Step:
    """Make the project's budget where the caller may; one that is there stays as it is.

    The amount goes without a currency: Google takes that of the billing account, and refuses any other
    (https://cloud.google.com/billing/docs/reference/budget/rest/v1/billingAccounts.budgets#BudgetAmount).
    """
    described = gcloud("billing", "projects", "describe", place.project, project=place.project)
    name = alert_name(place.project)

    def listed(account: str) -> Request:
        url = f"{_BUDGETS}/{account}/budgets?scope=projects/{place.number}&pageSize={_PAGE}"
        return Request("GET", url, project=place.project)

    def look(tools: Tools) -> Sequence[Any]:
        account = tools.read(described)
        return [account, tools.request(listed(account["billingAccountName"]))]

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        if _find(answers[1], name) is None:
            account = (answers[0] or {}).get("billingAccountName") or _ACCOUNT
            body = _budget(place, name, cloud.monthly_alert)
            yield Request("POST", f"{_BUDGETS}/{account}/budgets", body, project=place.project)

    def warns(answers: Sequence[Any]) -> str | None:
        there = (_find(answers[1], name) or {}).get("amount", {}).get("specifiedAmount", {})
        units = int(there.get("units", 0))
        if not there or "monthly_alert" not in cloud.model_fields_set or units == cloud.monthly_alert:
            return None
        budget = _find(answers[1], name) or {}
        update = (
            f"gcloud billing budgets update {budget['name']} --budget-amount={cloud.monthly_alert} "
            f"--billing-project={place.project}"
        )
        return (
            f"the alert is at {units} {there.get('currencyCode', '')} a month and cloud.monthly_alert is "
            f"{cloud.monthly_alert}; it is the whole project's, so that it stays. To change it: {update}"
        )

    return Step(
        "spending alert",
        (described, listed(_ACCOUNT)),
        lacks=lacks,
        warns=warns,
        mend=f"have an owner of {place.project} deploy once, or ask an administrator of the billing account: gcloud "
        f"billing accounts add-iam-policy-binding ACCOUNT_ID --member=user:YOU --role={ALERT_ROLE}; to go without: "
        "cloud.monthly_alert = 0",
        look=look,
        optional=True,
    )


def _budget(place: Place, name: str, amount: int) -> dict[str, Any]:
    """Owners of the project get the e-mails too, and not only those who pay."""
    return {
        "displayName": name,
        "budgetFilter": {"projects": [f"projects/{place.number}"], "calendarPeriod": "MONTH"},
        "amount": {"specifiedAmount": {"units": str(amount)}},
        "thresholdRules": [{"thresholdPercent": part, "spendBasis": "CURRENT_SPEND"} for part in THRESHOLDS],
        "notificationsRule": {"enableProjectLevelRecipients": True},
    }


def _find(listed: Any, name: str) -> Mapping[str, Any] | None:
    return next((item for item in (listed or {}).get("budgets", []) if item.get("displayName") == name), None)
