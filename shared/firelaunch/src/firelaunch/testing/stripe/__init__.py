"""A server that plays the part of Stripe: the API that firelaunch uses, and webhooks signed as Stripe signs them."""

from .server import StripeServer

__all__ = ["StripeServer"]
