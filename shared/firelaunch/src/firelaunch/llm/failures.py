"""What a provider's failure means: whether another try, another model, or neither may help.

For answers of models and for what the openai package raises alike, so that all fail in the same way; docs/failures.md
has the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic_core import from_json

from ..errors import ModelError, ModelRefused, ModelUnavailable
from ..telemetry import CONTENT

__all__ = ["bounded", "of_response", "of_status", "of_stream", "retry_after"]

_AGAIN = frozenset({408, 409, 425, 429})
_ELSEWHERE = frozenset({401, 402, 403, 404})

_STATUS = {
    "insufficient_quota": 402,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "invalid_request_error": 400,
}
"""Of the ``code`` or ``type`` of an error that comes inside a stream, where there is no status."""

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def of_response(status: int, headers: Mapping[str, str], body: str) -> ModelError:
    """The error that a response other than 200 amounts to.

    Args:
        headers: with lower-case names.
    """
    CONTENT.info("the provider said: %s", body)
    said = _error(body)
    code = said.get("status") or said.get("code")  # Google's word for it, or OpenAI's
    reason = f"HTTP {status}" if code is None else f"HTTP {status}, {code}"[:200]
    error = of_status(status, code, headers, reason)
    if isinstance(error, ModelRefused):
        error.said = f"{said.get('param') or ''}\n{said.get('message') or body}"
    if isinstance(error, ModelUnavailable) and error.retry_after is None:
        error.retry_after = _retry_info(said)
    return error


def of_status(status: int, code: Any, headers: Mapping[str, str], reason: str) -> ModelError:
    """The error that a status amounts to; ``code`` is the error object's own, where there is one."""
    if status == 429 and code == "insufficient_quota":
        return ModelError(reason=reason)
    if status in _AGAIN or status >= 500:
        return ModelUnavailable(reason=reason, retry_after=retry_after(headers))
    if status in _ELSEWHERE or status < 400:
        return ModelError(reason=reason)
    return ModelRefused(reason=reason)


def of_stream(error: Any) -> ModelError:
    """The error that an error object inside a stream, or in place of one, amounts to."""
    code = error.get("code") if isinstance(error, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    CONTENT.info("the provider said: %s", error)
    reason = f"the provider sent an error in its stream: {code or kind}"[:200]
    status = code if isinstance(code, int) else _STATUS.get(str(code)) or _STATUS.get(str(kind), 500)
    found = of_status(status, None, {}, reason)
    if isinstance(found, ModelRefused) and isinstance(error, dict):
        found.said = f"{error.get('param') or ''}\n{error.get('message') or ''}"
    return found


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to be left alone; None where it says nothing.

    ``Retry-After`` in seconds or as a date, ``retry-after-ms``, or, where those are missing, the time at which OpenAI's
    ``x-ratelimit-*`` says that a limit which is used up is there again
    (https://platform.openai.com/docs/guides/rate-limits).
    """
    for value in (_milliseconds(headers.get("retry-after-ms")), _asked(headers.get("retry-after"))):
        if value is not None:
            return value
    resets = [
        _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0"
    ]
    return max((seconds for seconds in resets if seconds is not None), default=None)


def _asked(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return bounded(float(value))
    except ValueError:
        pass
    try:
        return bounded((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _milliseconds(value: str | None) -> float | None:
    try:
        return None if value is None else bounded(float(value) / 1000)
    except ValueError:
        return None


def _duration(value: str) -> float | None:
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value.strip():
        return None
    return bounded(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def bounded(seconds: float) -> float | None:
    """A wait that someone asked for, in seconds; None where it is no number, or for ever."""
    return max(0.0, seconds) if seconds == seconds and seconds < 1e9 else None


def _error(body: str) -> dict[str, Any]:
    try:
        error = from_json(body).get("error")
    except (ValueError, AttributeError):
        return {}
    return error if isinstance(error, dict) else {}


def _retry_info(error: Mapping[str, Any]) -> float | None:
    """Google's ``retryDelay`` (https://cloud.google.com/apis/design/errors#retry_info), as in "13.5s"."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str):
            return _duration(delay)
    return None
