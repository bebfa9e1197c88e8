"""Take Stripe's webhooks on a laptop, where no function runs. Registered only in embedded and emulators modes.

It answers as the function ``stripe_webhook`` does (docs/billing.md). No OpenAPI document shows it.
"""

from __future__ import annotations

from typing import Any

from flask import request
from flask_openapi3 import APIBlueprint

from .base import services

__all__ = ["api"]

api = APIBlueprint("dev_stripe", __name__, url_prefix="/dev", doc_ui=False)


@api.post("/stripe")
def receive() -> dict[str, Any]:
    """Apply an event that Stripe signed."""
    event, outcome = services().checkout.receive(
        services().store.scope, request.get_data(), request.headers.get("Stripe-Signature")
    )
    return {"event": event.id, "outcome": outcome}
