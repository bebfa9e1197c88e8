"""Embeddings from OpenAI, or from any server with its ``/embeddings``: Ollama, vLLM, TEI and the like."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, ModelTimeout, ModelUnavailable
from ...llm.failures import of_status
from ...llm.openai_client import key_headers, openai_client
from ...settings.openai_server import OPENAI, OpenAIServer
from ...telemetry import CONTENT
from .base import Embedded, counted

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAIEmbeddings"]

_CONNECT_SECONDS = 5.0


class OpenAIEmbeddings:
    """An :class:`~firelaunch.rag.embed.base.EmbeddingModel`.

    OpenAI allows 2,048 texts and 300,000 tokens in a request
    (https://platform.openai.com/docs/api-reference/embeddings/create). Other servers allow fewer, so a request holds
    256.

    Args:
        model: its name.
        api_key: the key; servers on your own machine accept any.
        server: OpenAI's own by default.
        dimensions: length of the vectors, for models that can shorten them; 0 for the model's own.
    """

    batch_texts = 256
    provider = "openai"
    batch_tokens = 100_000

    def __init__(self, model: str, api_key: str, server: OpenAIServer = OPENAI, dimensions: int = 0) -> None:
        self.id = f"{model}-{dimensions}" if dimensions else model
        self._model = model
        self._api_key = api_key
        self._server = server
        self._dimensions = dimensions
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> openai.OpenAI:
        with self._lock:
            return openai_client(self._api_key, self._server, max_retries=0)

    def warm(self) -> None:
        """Import what the first request needs."""
        _ = self._client

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:  # noqa: ARG002 - of the port
        """Embed one batch, as :class:`~firelaunch.rag.embed.base.EmbeddingModel` describes.

        These models embed questions like other texts.
        """
        import numpy as np
        import openai

        options: dict[str, Any] = {"dimensions": self._dimensions} if self._dimensions else {}
        timeout = openai.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
        try:
            answer = self._client.embeddings.create(
                model=self._model,
                input=list(texts),
                timeout=timeout,
                extra_headers=key_headers(self._api_key, self._server),
                **options,
            )
            # Servers may answer in any order; the index says which text a vector belongs to.
            rows = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
            vectors = np.asarray(rows, dtype=np.float32)
        except openai.OpenAIError as error:
            raise _model_error(error) from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ModelUnavailable(reason=f"the answer is no list of embeddings: {error}") from error
        return counted(vectors, texts, getattr(getattr(answer, "usage", None), "prompt_tokens", None))


def _model_error(error: openai.OpenAIError) -> ModelError:
    """Return firelaunch's error for an error of the openai package."""
    import openai

    # A provider's message may quote the prompt, so the reason holds only its codes.
    CONTENT.info("the provider said: %s", error)
    codes = (getattr(error, name, None) for name in ("status_code", "code", "param"))
    reason = " ".join([type(error).__name__, *(str(word)[:100] for word in codes if word is not None)])
    if isinstance(error, openai.APITimeoutError):
        return ModelTimeout(reason=reason)
    if isinstance(error, openai.APIStatusError):
        return of_status(error.status_code, error.code, error.response.headers, reason)
    if isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError):
        return ModelUnavailable(reason=reason)
    return ModelError(reason=reason)
