"""Refuse checkout sessions as Stripe does (https://docs.stripe.com/api/checkout/sessions/create)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .account import Account
from .forms import FormRefused, missing

__all__ = ["CHECKOUT", "create_checkout"]

_ANY = {"*": None}
_KEPT = (
    *("mode", "customer", "client_reference_id", "success_url", "cancel_url"),
    *("payment_method_collection", "expires_at"),
)
CHECKOUT = {
    **dict.fromkeys(_KEPT),
    "metadata": _ANY,
    "subscription_data": {
        "metadata": _ANY,
        "trial_period_days": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": None}},
    },
    "payment_intent_data": {"metadata": _ANY},
    "line_items": [{"price": None, "quantity": None}],
}
"""The parameters that are known."""

_OF_A_MODE = {"subscription": ("subscription_data", "payment_method_collection"), "payment": ("payment_intent_data",)}
_MOST_TRIAL_DAYS = 730


def create_checkout(account: Account, params: Mapping[str, Any]) -> dict[str, Any]:
    """Create a checkout session, and return it as its creator gets it.

    Raises:
        FormRefused: Stripe would refuse the parameters.
    """
    mode = params.get("mode")
    if mode not in _OF_A_MODE:
        raise missing("mode")
    for name in ("line_items", "success_url"):
        if name not in params:
            raise missing(name)
    _check_texts(params)
    _check_mode(params, str(mode))
    _check_trial(params.get("subscription_data", {}), params)
    prices = _prices(account, params["line_items"], str(mode))
    account.known_customer(params.get("customer"))
    fields: dict[str, Any] = {key: params.get(key) for key in _KEPT if key in params or key != "expires_at"}
    if "expires_at" in fields:
        fields["expires_at"] = _expiry(account, fields["expires_at"])
    data = params.get("subscription_data" if mode == "subscription" else "payment_intent_data", {})
    session = account.session({**fields, "metadata": params.get("metadata", {})}, prices, data)
    return {key: value for key, value in session.items() if not key.startswith("_")}


def _check_texts(params: Mapping[str, Any]) -> None:
    for name in ("success_url", "cancel_url"):
        if not re.match(r"https?://", params.get(name, "http://")):
            raise FormRefused(400, "Not a valid URL", code="url_invalid", param=name)
    if len(params.get("client_reference_id", "")) > 200:
        raise FormRefused(400, "Invalid string: over 200 characters", param="client_reference_id")


def _check_mode(params: Mapping[str, Any], mode: str) -> None:
    for other, names in _OF_A_MODE.items():
        for name in names:
            if other != mode and name in params:
                raise FormRefused(400, f"You can not pass `{name}` in `{mode}` mode.", param=name)


def _check_trial(data: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    days = data.get("trial_period_days")
    if days is not None and not (days.isdigit() and 1 <= int(days) <= _MOST_TRIAL_DAYS):
        param = "subscription_data[trial_period_days]"
        raise FormRefused(400, f"The trial period is from 1 to {_MOST_TRIAL_DAYS} days.", param=param)
    ends = data.get("trial_settings", {}).get("end_behavior", {}).get("missing_payment_method", "cancel")
    if ends not in {"cancel", "create_invoice", "pause"}:
        raise FormRefused(400, "Invalid missing_payment_method", param="subscription_data[trial_settings]")
    if params.get("payment_method_collection", "always") not in {"always", "if_required"}:
        raise FormRefused(400, "Invalid payment_method_collection", param="payment_method_collection")


def _prices(account: Account, items: Mapping[str, Mapping[str, str]], mode: str) -> list[str]:
    prices = [account.known_price(item.get("price", "")) for item in items.values()]
    if mode == "payment" and any(price not in account.one_time for price in prices):
        raise FormRefused(400, "You specified `payment` mode but passed a recurring price.", param="mode")
    if mode == "subscription" and all(price in account.one_time for price in prices):
        raise FormRefused(400, "You must provide at least one recurring price in `subscription` mode.", param="mode")
    for number, item in enumerate(items.values()):
        if item["price"] in account.metered and "quantity" in item:
            raise FormRefused(400, "Quantity should not be specified.", param=f"line_items[{number}][quantity]")
    return prices


def _expiry(account: Account, value: str) -> int:
    now, at = account.clock(), int(value)
    if not now + 1_795 <= at <= now + 86_400:
        raise FormRefused(400, "`expires_at` is from 30 minutes to 24 hours after the creation.", param="expires_at")
    return at
