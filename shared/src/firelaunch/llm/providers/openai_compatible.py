"""Any server that speaks OpenAI's chat completions: OpenAI, Ollama and the like, Gemini on Vertex AI.

The openai package takes most of a second to import, so it waits for the first call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, ModelRefused, ModelTimeout, ModelUnavailable
from ..base import Call, Chunk, Tokens

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAICompatibleProvider", "translate"]

_CONNECT_SECONDS = 5.0
"""A provider that does not even accept a connection in this time is taken as out of reach."""


class OpenAICompatibleProvider:
    """Calls ``<base_url>/chat/completions``.

    Args:
        name: what to call the provider in records.
        api_key: the key, or a function that returns a fresh one for each call (Google's access tokens last an hour).
        base_url: without it, OpenAI's own.
        model_prefix: what the server wants before a model's name ("google/" on Vertex AI).
    """

    def __init__(
        self, name: str, api_key: str | Callable[[], str], base_url: str | None = None, model_prefix: str = ""
    ) -> None:
        self.name = name
        self._api_key = api_key
        self._base_url = base_url
        self._prefix = model_prefix
        # Older compatible servers know the limit by its first name alone; OpenAI's newer models refuse that one.
        self._limit = "max_completion_tokens" if base_url is None else "max_tokens"
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> openai.OpenAI:
        with self._lock:
            import openai

            # The gateway does all retries, so that they share the request's time.
            return openai.OpenAI(api_key=self._api_key, base_url=self._base_url, max_retries=0)

    def complete(self, call: Call) -> Chunk:
        """See :class:`~firelaunch.llm.base.Provider`."""
        import openai

        try:
            answer = self._client.chat.completions.create(**self._arguments(call))
        except openai.OpenAIError as error:
            raise translate(error) from error
        except ValueError as error:
            raise ModelUnavailable(reason=f"the provider's answer is no JSON: {error}") from error
        if not isinstance(answer, openai.types.chat.ChatCompletion) or not answer.choices:
            raise ModelUnavailable(reason="the provider's answer is no chat completion")
        choice = answer.choices[0]
        text = choice.message.content or choice.message.refusal or ""
        return Chunk(text, _tokens(answer.usage), choice.finish_reason)

    def stream(self, call: Call) -> Iterator[Chunk]:
        """See :class:`~firelaunch.llm.base.Provider`."""
        import openai

        arguments = self._arguments(call) | {"stream": True, "stream_options": {"include_usage": True}}
        finished = False
        try:
            with self._client.chat.completions.create(**arguments) as events:
                for event in events:
                    chunk = _chunk(event)
                    finished = finished or chunk.finish is not None
                    yield chunk
        except openai.OpenAIError as error:
            raise translate(error) from error
        except (OSError, ValueError) as error:
            raise ModelUnavailable(reason=f"the stream broke: {error}") from error
        except Exception as error:
            # The HTTP library's own errors are not the openai package's, and their names change with its version.
            if not type(error).__module__.startswith(("httpx", "httpcore")):
                raise
            raise ModelUnavailable(reason=f"the stream broke: {error!r}") from error
        if not finished:
            raise ModelUnavailable(reason="the stream ended before the answer did")

    def _arguments(self, call: Call) -> dict[str, Any]:
        import openai

        arguments: dict[str, Any] = {
            "model": self._prefix + call.model.removeprefix(self._prefix),
            "messages": list(call.messages),
            "timeout": openai.Timeout(call.seconds, connect=min(_CONNECT_SECONDS, call.seconds)),
            self._limit: call.max_output_tokens,
        }
        if call.temperature is not None:
            arguments["temperature"] = call.temperature
        return arguments


def _chunk(event: Any) -> Chunk:
    usage = _tokens(getattr(event, "usage", None))
    if not event.choices:
        return Chunk(tokens=usage)
    choice = event.choices[0]
    delta = choice.delta
    text = (delta.content or getattr(delta, "refusal", None) or "") if delta else ""
    return Chunk(text, usage, choice.finish_reason)


def _tokens(usage: Any) -> Tokens | None:
    if usage is None or usage.prompt_tokens is None:
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    cached = (details.cached_tokens or 0) if details else 0
    # Cached tokens are a part of the prompt's; a server that counts them beside it must not make a negative price.
    return Tokens(
        input=usage.prompt_tokens, cached_input=min(cached, usage.prompt_tokens), output=usage.completion_tokens or 0
    )


def translate(error: openai.OpenAIError) -> ModelError:
    """The error of our own tree that one of the openai package is."""
    import openai

    reason = f"{type(error).__name__}: {error}"[:500]
    if isinstance(error, openai.APITimeoutError):
        return ModelTimeout(reason=reason)
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, reason)
    if isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError):
        return ModelUnavailable(reason=reason)
    return ModelError(reason=reason)


def _of_status(error: openai.APIStatusError, reason: str) -> ModelError:
    status = error.status_code
    if status == 429 and error.code == "insufficient_quota":
        return ModelError(reason=reason)
    if status in {408, 409, 429} or status >= 500:
        return ModelUnavailable(reason=reason, retry_after=_retry_after(error.response.headers))
    if status in {401, 403, 404}:
        return ModelError(reason=reason)
    return ModelRefused(reason=reason)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
