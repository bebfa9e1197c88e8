"""Map a provider's failure to an error that says whether another try, another model, or neither may help.

docs/failures.md has the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json

from ..errors import ModelError, ModelRefused, ModelUnavailable
from ..telemetry import CONTENT

__all__ = ["bounded", "error_in", "garbled", "of_response", "of_status", "of_stream", "retry_after"]

_RETRIABLE = frozenset({408, 409, 424, 425, 429, 498, 499})
"""424 is a backend that failed (Text Generation Inference), 498 no capacity (Groq), 499 a proxy that gave up."""

_PROVIDER_UNUSABLE = frozenset({401, 402, 403, 404})

_STATUS = {
    "insufficient_quota": 402,
    "billing_error": 402,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "unauthorized": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "forbidden": 403,
    "not_found_error": 404,
    "not_found": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "invalid_request_error": 400,
    "invalid_request": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "badrequesterror": 400,
    "bad_request": 400,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
}
"""Status for the words of an error that has no status of its own, such as one inside a stream. They are in lower case.

They are OpenAI's, Anthropic's (https://docs.claude.com/en/api/errors), vLLM's and Google's
(https://cloud.google.com/apis/design/errors). Any other word counts as 500.
"""

_NUMBERS = ("code", "status", "status_code", "http_status", "error_code")
_WORDS = ("code", "type", "status", "error_type")
_MESSAGES = ("message", "detail", "msg", "error_msg", "error_message")
"""Where errors have their status, their word and their message."""

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def garbled(reason: str) -> ModelUnavailable:
    """Return the error for an answer that nobody can read, which may be about this one request."""
    error = ModelUnavailable(reason=reason)
    error.garbled = True
    return error


def error_in(document: Any) -> Any:
    """Return the error that a provider's JSON is about; None if the JSON is something else.

    Servers put it under ``error`` (OpenAI), under ``errors``, or make it the whole document: vLLM, Mistral, FastAPI's
    ``detail``, gateways. Gemini's compatible endpoint has a list around it.
    """
    if isinstance(document, list):
        document = document[0] if len(document) == 1 else None
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if error and error is not True:
        return error
    if "choices" in document or "candidates" in document:
        return None
    errors = document.get("errors")
    if errors:
        return errors[0] if isinstance(errors, list) else errors
    is_error = document.get("object") == "error" or document.get("type") == "error"
    # An object is no message of an error: Claude's streams begin with {"type": "message_start", "message": {…}}.
    has_message = any(isinstance(document.get(name), str | list) and document[name] for name in _MESSAGES)
    return document if is_error or has_message else None


def of_response(status: int, headers: Mapping[str, str], body: str) -> ModelError:
    """Return the error for a response other than a 2xx.

    Args:
        headers: with lower-case names.
    """
    CONTENT.info("the provider said: %s", body)
    try:
        details = error_in(from_json(body))
    except ValueError:
        details = None
    code = _code(details)
    reason = f"HTTP {status}" if code is None else f"HTTP {status}, {code}"[:200]
    if status == 404:
        reason += "; check the model's name and the base URL"
    if 300 <= status < 400:
        # The key must not go where the founder has not sent it.
        target = urlsplit(headers.get("location", ""))._replace(query="", fragment="").geturl()
        reason = f"HTTP {status} to {target}; redirects are not followed: set the base URL to where they lead"[:300]
    no_quota = details is not None and _status(details) == _STATUS["insufficient_quota"]
    error = of_status(status, "insufficient_quota" if no_quota else code, headers, reason)
    if isinstance(error, ModelRefused):
        error.explanation = f"{_param(details)}\n{_message(details) or body}"
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
    """Return the error for what :func:`error_in` found inside a stream, or instead of one."""
    CONTENT.info("the provider said: %s", error)
    reason = f"the provider sent an error in its stream: {_code(error) or _word(error, 'type')}"[:200]
    model_error = of_status(_status(error), None, {}, reason)
    if isinstance(model_error, ModelRefused):
        model_error.explanation = f"{_param(error)}\n{_message(error)}"
    if isinstance(model_error, ModelUnavailable):
        model_error.retry_after = _retry_info(error)
    return model_error


def _status(error: Any) -> int:
    """Return the HTTP status that an error without one stands for."""
    words = [_word(error, name).lower() for name in _WORDS] if isinstance(error, dict) else [str(error).lower()]
    known = [_STATUS[word] for word in words if word in _STATUS]
    if _STATUS["insufficient_quota"] in known:  # it comes with the number 429, and is not about too many requests
        return _STATUS["insufficient_quota"]
    numbers = [error.get(name) for name in _NUMBERS] if isinstance(error, dict) else [error]
    statuses = [int(number) for number in map(str, numbers) if re.fullmatch(r"[45]\d\d", number, re.ASCII)]
    return next(iter([*statuses, *known]), 500)


def _code(error: Any) -> Any:
    """Return Google's ``status``, a word, or OpenAI's ``code``."""
    if not isinstance(error, dict):
        return None
    return _word(error, "status") or error.get("code") or error.get("status_code")


def _word(error: Any, name: str) -> str:
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else ""


def _param(error: Any) -> str:
    return _word(error, "param")


def _message(error: Any) -> str:
    """Return an error's message; as JSON where it is no text, since validators list what they refuse."""
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    message = next((error[name] for name in _MESSAGES if error.get(name)), "")
    return message if isinstance(message, str) else json.dumps(message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the provider asks for; None if it says nothing.

    The sources are ``retry-after-ms`` (Azure also has ``x-ms-retry-after-ms``), and ``Retry-After`` in seconds, as a
    date, or as a duration like "10s". If all are missing, it is the time at which OpenAI's ``x-ratelimit-*`` says that
    an exhausted limit resets (https://platform.openai.com/docs/guides/rate-limits).
    """
    milliseconds = (_milliseconds(headers.get(name)) for name in ("retry-after-ms", "x-ms-retry-after-ms"))
    for value in (*milliseconds, _seconds_or_date(headers.get("retry-after"))):
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
    duration = _duration(value)
    if duration is not None:
        return duration
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


def _retry_info(error: Any) -> float | None:
    """Return the seconds of Google's ``retryDelay``, as in "13.5s".

    Source: https://cloud.google.com/apis/design/errors#retry_info.
    """
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str):
            return _duration(delay)
    return None
