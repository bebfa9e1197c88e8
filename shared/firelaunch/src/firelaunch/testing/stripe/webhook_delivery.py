"""Send an account's events to a webhook, as Stripe does: signed, in turn, and again while nobody takes them."""

from __future__ import annotations

import logging
import queue
import threading
import urllib.error
import urllib.request
from typing import Any, Self

from .server import StripeServer

__all__ = ["WebhookDelivery"]

log = logging.getLogger(__name__)

_TRIES = 120
"""Tries of an event. Stripe goes on for three days; an app that starts again is back in seconds."""
_TIMEOUT_SECONDS = 30


class WebhookDelivery:
    """Sends each new event of an account to a webhook, as a context manager.

    Args:
        url: the webhook's address.
        pause: seconds between two tries.
    """

    def __init__(self, stripe: StripeServer, url: str, pause: float = 1.0) -> None:
        self._stripe = stripe
        self._url = url
        self._pause = pause
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by a proxy

    def __enter__(self) -> Self:
        self._stripe.account.heard = self._events.put
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stripe.account.heard = lambda _: None
        self._ended.set()
        self._events.put(None)

    def _run(self) -> None:
        while (event := self._events.get()) is not None and not self._ended.is_set():
            for _ in range(_TRIES):
                problem = self._send(event)
                if problem is None or self._ended.wait(self._pause):
                    break
            else:
                log.error("the event %s of type %s was not taken: %s", event["id"], event["type"], problem)

    def _send(self, event: dict[str, Any]) -> str | None:
        """Send an event once. Return why it was not taken, or None."""
        body, signature = self._stripe.webhook(event)
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - the webhook's address
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS):
                return None
        except urllib.error.HTTPError as refused:
            return f"status {refused.code}"
        except OSError as error:
            return str(error)
