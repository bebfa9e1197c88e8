"""Run a server in place of Stripe on a laptop, which sells what an app's settings name and charges nothing."""

from __future__ import annotations

from contextlib import ExitStack

from firelaunch.settings.app import Settings
from firelaunch.testing.stripe import StripeServer, WebhookDelivery

__all__ = ["LocalStripe", "sells"]

_MICRO_USD_OF_A_CENT = 10_000


def sells(settings: Settings) -> bool:
    """Return whether the app has anything for sale."""
    return bool(settings.billing.top_ups) or any(plan.prices for plan in settings.plans.values())


class LocalStripe:
    """A server in place of Stripe, which sends its webhooks to an app on this machine.

    Args:
        port: the port to listen on.
        app: the app's address.
        stack: ends it.
    """

    def __init__(self, port: int, app: str, stack: ExitStack) -> None:
        self._server = stack.enter_context(StripeServer(port=port, pages=True))
        stack.enter_context(WebhookDelivery(self._server, f"{app}/dev/stripe"))

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which an app uses it."""
        server = self._server
        return {
            "STRIPE_API_KEY": server.key,
            "STRIPE_API_BASE": server.url,
            "STRIPE_WEBHOOK_SECRET": server.secret,
        }

    def offer(self, settings: Settings) -> None:
        """Sell what the settings name now, besides what was for sale."""
        account = self._server.account
        for plan in settings.plans.values():
            account.prices |= {price for price in plan.prices if price != plan.stripe_usage_price}
            if plan.stripe_usage_price:
                account.metered[plan.stripe_usage_price] = plan.meter
        for top_up in settings.billing.top_ups.values():
            account.one_time[top_up.stripe_price] = top_up.credit_usd // _MICRO_USD_OF_A_CENT
