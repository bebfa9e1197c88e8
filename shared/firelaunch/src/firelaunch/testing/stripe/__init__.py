"""Replace Stripe in tests: the part of its API that firelaunch uses, and webhooks signed as Stripe signs them."""

from .server import StripeServer

__all__ = ["StripeServer"]
