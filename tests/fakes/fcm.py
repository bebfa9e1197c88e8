"""A local server that plays Firebase Cloud Messaging's HTTP v1 API, as far as sending to one token goes.

It refuses what Google refuses (https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode), and keeps what each
device would show: notifications of the same tag take each other's place.
"""

from __future__ import annotations

import secrets
from typing import Any

from firelaunch.testing.http import HttpAnswer, JsonServer

__all__ = ["FcmServer"]

_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_STATUS = {
    "UNREGISTERED": (404, "NOT_FOUND", "Requested entity was not found."),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED", "SenderId mismatch"),
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED", "Quota exceeded."),
    "UNAVAILABLE": (503, "UNAVAILABLE", "The service is unavailable."),
    "INTERNAL": (500, "INTERNAL", "Internal error encountered."),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
}
_MOST_BYTES = 4096
_KNOWN = {"token", "notification", "data", "android", "apns", "webpush", "fcm_options", "name"}


class FcmServer(JsonServer):
    """A context manager.

    Attributes:
        devices: what each device shows, by its token: title and body by tag. Tokens that are not in here are
            unregistered.
        sent: how many messages were taken.
        fail: an error's code for each token that is to be refused, such as ``{"t1": "QUOTA_EXCEEDED"}``.
    """

    def __init__(self, project: str, *tokens: str) -> None:
        super().__init__()
        self.project = project
        self.devices: dict[str, dict[str, tuple[str, str]]] = {token: {} for token in tokens}
        self.sent = 0
        self.fail: dict[str, str] = {}

    def answer(self, path: str, body: Any) -> Any:
        """The method ``projects.messages.send``."""
        if path != f"v1/projects/{self.project}/messages:send":
            return HttpAnswer(404, {"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}})
        if not self.headers[-1].get("authorization", "").startswith("Bearer "):
            return _refused("THIRD_PARTY_AUTH_ERROR", fcm=False)
        message = body.get("message", {})
        token = message.get("token")
        if not isinstance(token, str) or set(message) - _KNOWN or not _is_text(message.get("data", {})):
            return _refused("INVALID_ARGUMENT")
        if (
            len(str(message.get("data", "")).encode()) + len(str(message.get("notification", "")).encode())
            > _MOST_BYTES
        ):
            return _refused("INVALID_ARGUMENT")
        if token in self.fail:
            return _refused(self.fail[token])
        if token not in self.devices:
            return _refused("UNREGISTERED")
        shown = message.get("notification", {})
        tag = message.get("android", {}).get("notification", {}).get("tag") or secrets.token_hex(8)
        self.devices[token][tag] = (shown.get("title", ""), shown.get("body", ""))
        self.sent += 1
        return {"name": f"projects/{self.project}/messages/{secrets.token_hex(8)}"}


def _is_text(data: Any) -> bool:
    return isinstance(data, dict) and all(isinstance(value, str) for value in data.values())


def _refused(code: str, *, fcm: bool = True) -> HttpAnswer:
    status, name, message = _STATUS[code]
    details = [{"@type": _ERROR, "errorCode": code}] if fcm else []
    return HttpAnswer(status, {"error": {"code": status, "message": message, "status": name, "details": details}})
