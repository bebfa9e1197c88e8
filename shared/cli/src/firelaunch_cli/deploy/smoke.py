"""Tries a revision before it gets traffic: it answers, reaches its database, and lets nobody in without a token."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .resources import Refusal

__all__ = ["smoke_app", "smoke_function"]

_SECONDS = 30.0
_ATTEMPTS = 6
"""A new role may take a minute or two to hold everywhere (https://cloud.google.com/iam/docs/access-change-propagation)."""

Pause = Callable[[float], object]


def smoke_app(url: str, app: str, token: str | None = None, pause: Pause = time.sleep) -> str | None:
    """Return the fault of an app's revision, or None.

    Args:
        token: an identity token for Cloud Run itself, where the service is private.
    """

    def ready() -> str | None:
        code, body = _call("GET", f"{url}/ready", token)
        if code != 200 or not isinstance(body, dict):
            return f"/ready is answered with {code}: {str(body)[:300]}"
        return None if body.get("app") == app else f"/ready says that it is the app {body.get('app')!r}, not {app!r}"

    return (
        _until_right(ready, pause)
        or _expect("GET", f"{url}/v1/me", token, 401, "it lets somebody in without a token")
        or _expect("POST", f"{url}/dev/token", token, 404, "it hands out dev tokens")
    )


def smoke_function(url: str, refusal: Refusal, token: str | None = None, pause: Pause = time.sleep) -> str | None:
    """Return the fault of a function's revision; None if it answers, and refuses requests without a token."""
    where, reason = f"{url}{refusal.path}", "it does not ask for a token"
    return _until_right(lambda: _expect(refusal.method, where, token, refusal.status, reason), pause)


def _until_right(check: Callable[[], str | None], pause: Pause) -> str | None:
    problem = check()
    for attempt in range(_ATTEMPTS - 1):
        if problem is None:
            break
        pause(2.0**attempt)
        problem = check()
    return problem


def _expect(method: str, url: str, token: str | None, code: int, otherwise: str) -> str | None:
    got, body = _call(method, url, token)
    return None if got == code else f"{otherwise}: {method} {url} is answered with {got}, not {code}: {str(body)[:300]}"


def _call(method: str, url: str, token: str | None) -> tuple[int, Any]:
    import requests

    # Cloud Run takes its own token from this header, and leaves Authorization to the app.
    headers = {"X-Serverless-Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.request(method, url, headers=headers, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        return 0, error
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, answer.text
