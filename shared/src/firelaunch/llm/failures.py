"""What a provider's failure means: whether another try, another model, or neither may help.

For streams and for calls through the openai package alike, so that both fail in the same way; docs/failures.md has the
table.
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

__all__ = ["of_response", "of_status", "of_stream", "retry_after"]

_AGAIN = frozenset({408, 409, 425, 429})
_ELSEWHERE = frozenset({401, 402, 403, 404})

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def of_response(status: int, headers: Mapping[str, str], body: str) -> ModelError:
    """The error that a response other than 200 amounts to.

    Args:
        headers: with lower-case names.
    """
    CONTENT.info("the provider said: %s", body)
    code = _code(body)
    return of_status(status, code, headers, f"HTTP {status}" if code is None else f"HTTP {status}, {code}"[:200])


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
    CONTENT.info("the provider said: %s", error)
    reason = f"the provider sent an error in its stream: {code}"[:200]
    return of_status(code, None, {}, reason) if isinstance(code, int) else ModelUnavailable(reason=reason)


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
        return _bounded(float(value))
    except ValueError:
        pass
    try:
        return _bounded((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _milliseconds(value: str | None) -> float | None:
    try:
        return None if value is None else _bounded(float(value) / 1000)
    except ValueError:
        return None


def _duration(value: str) -> float | None:
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _bounded(seconds: float) -> float | None:
    return max(0.0, seconds) if seconds == seconds and seconds < 1e9 else None


def _code(body: str) -> Any:
    try:
        error = from_json(body).get("error")
    except (ValueError, AttributeError):
        return None
    return error.get("code") if isinstance(error, dict) else None
