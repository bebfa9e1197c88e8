"""Serve Stripe's webhooks and the nightly reconciliation over HTTP."""

from __future__ import annotations

from typing import Any, Protocol

from flask import request

from ..billing.base import Webhooks
from ..billing.reconcile import Reconciliation
from ..billing.webhooks import WebhookInbox
from ..identity import bearer
from ..identity.known_callers import known
from ..server.app import App
from .http import function_app

__all__ = ["Invoker", "reconciliation_app", "webhook_app"]

MAX_EVENT = 1024 * 1024
"""Most bytes of a webhook's body. Stripe documents no limit; subscription events are a few kilobytes."""


class Invoker(Protocol):
    """A verifier of the caller's token, for functions that only Google Cloud may call."""

    def verify(self, token: str) -> None:
        """Check that ``token`` belongs to the account that may call.

        Raises:
            Unauthenticated: it does not.
        """


def webhook_app(inbox: WebhookInbox, webhooks: Webhooks) -> App:
    """Return the app that receives Stripe's events.

    Status 200 tells Stripe not to send an event again; docs/billing.md has the other statuses.
    """
    app = function_app("stripe_webhook", MAX_EVENT)

    @app.route("/", methods=["POST"])
    def receive() -> dict[str, Any]:
        event = webhooks.event(request.get_data(), request.headers.get("Stripe-Signature"))
        return {"event": event.id, "outcome": inbox.receive(event)}

    return app


def reconciliation_app(reconciliation: Reconciliation, invoker: Invoker | None) -> App:
    """Return the app that compares subscriptions with Stripe's and corrects them when it is called.

    Args:
        invoker: checks the caller; None accepts anybody, for a laptop.
    """
    app = function_app("reconcile_billing", 4096)

    @app.route("/", methods=["POST"])
    def reconcile() -> dict[str, Any]:
        if invoker is not None:
            invoker.verify(bearer(request.headers.get("Authorization")))
            known(request.environ, "/caller")
        return reconciliation.run().as_dict()

    return app
