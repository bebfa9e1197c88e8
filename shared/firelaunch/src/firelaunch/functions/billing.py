"""Stripe's webhooks and the nightly reconciliation, over HTTP."""

from __future__ import annotations

from typing import Any, Protocol

from flask import request

from ..billing.base import Event
from ..billing.reconcile import Reconciliation
from ..billing.webhooks import WebhookInbox
from ..identity import bearer
from ..server.app import App
from .http import function_app

__all__ = ["Invoker", "Webhooks", "reconciliation_app", "webhook_app"]

MAX_EVENT = 1024 * 1024
"""Bytes of a webhook's body at most. Stripe names no limit; events of subscriptions are a few kilobytes."""


class Webhooks(Protocol):
    """Verifies what arrives as a webhook."""

    def event(self, body: bytes, signature: str | None) -> Event:
        """The event in a body.

        Raises:
            BadRequest: its signature does not hold, or what it signs is no event.
        """


class Invoker(Protocol):
    """Verifies who calls a function that Google Cloud alone is to call."""

    def verify(self, token: str) -> None:
        """Nothing, where ``token`` is the one's who may.

        Raises:
            Unauthenticated: it is not.
        """


def webhook_app(inbox: WebhookInbox, webhooks: Webhooks) -> App:
    """Takes Stripe's events. 200 says that one need not be sent again; see docs/billing.md for the rest."""
    app = function_app("stripe_webhook", MAX_EVENT)

    @app.route("/", methods=["POST"])
    def receive() -> dict[str, Any]:
        event = webhooks.event(request.get_data(), request.headers.get("Stripe-Signature"))
        return {"event": event.id, "outcome": inbox.receive(event)}

    return app


def reconciliation_app(reconciliation: Reconciliation, invoker: Invoker | None) -> App:
    """Compares and mends when it is called.

    Args:
        invoker: None takes anybody; for a laptop.
    """
    app = function_app("reconcile_billing", 4096)

    @app.route("/", methods=["POST"])
    def reconcile() -> dict[str, Any]:
        if invoker is not None:
            invoker.verify(bearer(request.headers.get("Authorization")))
        return reconciliation.run().as_dict()

    return app
