"""Map a provider's failure to an error that says whether another try, another model, or neither may help.

The same rules apply to models' responses and to the openai package's exceptions. docs/failures.md has the table.
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

_RETRIABLE = frozenset({408, 409, 425, 429})
_PROVIDER_UNUSABLE = frozenset({401, 402, 403, 404})

_STATUS = {
    "insufficient_quota": 402,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "invalid_request_error": 400,
}
"""Status for the ``code`` or ``type`` of an error inside a stream, which has no status of its own."""

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def of_response(status: int, headers: Mapping[str, str], body: str) -> ModelError:
    """Return the error for a response other than 200.

    Args:
        headers: with lower-case names.
    """
    CONTENT.info("the provider said: %s", body)
    details = _error_object(body)
    code = details.get("status") or details.get("code")  # Google's word for it, or OpenAI's
    reason = f"HTTP {status}" if code is None else f"HTTP {status}, {code}"[:200]
    error = of_status(status, code, headers, reason)
    if isinstance(error, ModelRefused):
        error.explanation = f"{details.get('param') or ''}\n{details.get('message') or body}"
    if isinstance(error, ModelUnavailable) and error.retry_after is None:
        error.retry_after = _retry_info(details)
    return error


def of_status(status: int, code: Any, headers: Mapping[str, str], reason: str) -> ModelError:
    """Return the error for a status; ``code`` is the error object's own, if it has one."""
    if status == 429 and code == "insufficient_quota":
        return ModelError(reason=reason)
    if status in _RETRIABLE or status >= 500:
        return ModelUnavailable(reason=reason, retry_after=retry_after(headers))
    if status in _PROVIDER_UNUSABLE or status < 400:
        return ModelError(reason=reason)
    return ModelRefused(reason=reason)


def of_stream(error: Any) -> ModelError:
    """Return the error for an error object inside a stream, or instead of one."""
    code = error.get("code") if isinstance(error, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    CONTENT.info("the provider said: %s", error)
    reason = f"the provider sent an error in its stream: {code or kind}"[:200]
    status = code if isinstance(code, int) else _STATUS.get(str(code)) or _STATUS.get(str(kind), 500)
    model_error = of_status(status, None, {}, reason)
    if isinstance(model_error, ModelRefused) and isinstance(error, dict):
        model_error.explanation = f"{error.get('param') or ''}\n{error.get('message') or ''}"
    return model_error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the provider asks for; None if it says nothing.

    The sources are ``Retry-After`` in seconds or as a date, and ``retry-after-ms``. If both are missing, it is the
    time at which OpenAI's ``x-ratelimit-*`` says that an exhausted limit resets
    (https://platform.openai.com/docs/guides/rate-limits).
    """
    for value in (_milliseconds(headers.get("retry-after-ms")), _seconds_or_date(headers.get("retry-after"))):
        if value is not None:
            return value
    resets = [
        _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0"
    ]
    return max((seconds for seconds in resets if seconds is not None), default=None)


def _seconds_or_date(value: str | None) -> float | None:
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
    """Return a requested wait in seconds; None if it is not a number, or endless."""
    return max(0.0, seconds) if seconds == seconds and seconds < 1e9 else None


def _error_object(body: str) -> dict[str, Any]:
    try:
        error = from_json(body).get("error")
    except (ValueError, AttributeError):
        return {}
    return error if isinstance(error, dict) else {}


def _retry_info(error: Mapping[str, Any]) -> float | None:
    """Return the seconds of Google's ``retryDelay``, as in "13.5s".

    Source: https://cloud.google.com/apis/design/errors#retry_info.
    """
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str):
            return _duration(delay)
    return None
