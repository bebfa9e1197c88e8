"""Replace Stripe in tests and on a laptop: the part of its API that firelaunch uses, and its webhooks and pages."""

from .server import StripeServer
from .webhook_delivery import WebhookDelivery

__all__ = ["StripeServer", "WebhookDelivery"]
