"""Firebase Cloud Messaging through firebase-admin, which is imported for the first notification."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from .base import Outcome, PushMessage, PushUnavailable

__all__ = ["FcmPush"]

_TIMEOUT = 10
"""Seconds for one call."""

_AT_ONCE = 50
"""Devices in one multicast; firebase-admin starts a thread for each. FCM's own limit is 500."""


class FcmPush:
    """A :class:`~firelaunch.push.base.Push` of one Firebase project.

    Args:
        url, credential: replace Google's address and the environment's credentials, for tests.
    """

    def __init__(self, project: str, *, url: str | None = None, credential: Any = None) -> None:
        self._project = project
        self._url = url
        self._credential = credential
        self._lock = threading.Lock()

    @cached_property
    def _app(self) -> Any:
        with self._lock:
            cached = self.__dict__.get("_app")
            if cached is not None:
                return cached
            import firebase_admin
            from firebase_admin import messaging

            from ..identity.firebase import LazyCredential

            options = {"projectId": self._project, "httpTimeout": _TIMEOUT}
            name = f"firelaunch-push-{secrets.token_hex(4)}"
            app = firebase_admin.initialize_app(self._credential or LazyCredential(), options, name)
            if self._url is not None:
                service = messaging._get_messaging_service(app)
                service._fcm_url = f"{self._url}/v1/projects/{self._project}/messages:send"
            return app

    def send(self, tokens: Sequence[str], notification: PushMessage) -> list[Outcome]:
        """Send a notification, as :class:`~firelaunch.push.base.Push` describes."""
        from firebase_admin import messaging
        from firebase_admin.exceptions import FirebaseError
        from google.auth.exceptions import GoogleAuthError

        outcomes: list[Outcome] = []
        for start in range(0, len(tokens), _AT_ONCE):
            message = _message(list(tokens[start : start + _AT_ONCE]), notification)
            try:
                answer = messaging.send_each_for_multicast(message, app=self._app)
            except (FirebaseError, GoogleAuthError) as error:
                raise PushUnavailable(reason=f"{type(error).__name__}: {error}"[:300]) from error
            outcomes += [_outcome(response) for response in answer.responses]
        return outcomes


def _outcome(answer: Any) -> Outcome:
    from firebase_admin import exceptions, messaging

    if answer.success:
        return "sent"
    # The app was removed from the device, or the token is another project's: this token will never work again
    # (https://firebase.google.com/docs/cloud-messaging/manage-tokens).
    if isinstance(answer.exception, messaging.UnregisteredError | messaging.SenderIdMismatchError):
        return "stale"
    # An invalid argument may be the message's fault as well as the token's, so keep the token.
    final = (
        messaging.ThirdPartyAuthError
        | exceptions.InvalidArgumentError
        | exceptions.PermissionDeniedError
        | exceptions.UnauthenticatedError
    )
    return "refused" if isinstance(answer.exception, final) else "again"


def _message(tokens: list[str], notification: PushMessage) -> Any:
    from firebase_admin import messaging

    tag = notification.tag
    return messaging.MulticastMessage(
        tokens=tokens,
        notification=messaging.Notification(notification.title, notification.body),
        data=dict(notification.data),
        android=messaging.AndroidConfig(
            collapse_key=tag or None, notification=messaging.AndroidNotification(tag=tag or None)
        ),
        apns=messaging.APNSConfig(headers={"apns-collapse-id": tag} if tag else None),
        webpush=messaging.WebpushConfig(notification=messaging.WebpushNotification(tag=tag or None)),
    )
