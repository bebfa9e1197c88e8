"""Embeddings from OpenAI, or from any server with its ``/embeddings``: Ollama, vLLM, TEI and the like."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import ModelUnavailable
from ...llm.fields import table
from ...llm.openai_calls import OpenAICalls
from ...settings.openai_server import OPENAI, OpenAIServer
from .base import Embedded, counted

if TYPE_CHECKING:
    from .base import Vectors

__all__ = ["OpenAIEmbeddings"]


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
        self._calls = OpenAICalls(api_key, server)
        # A vector is a third as long in base64 as in digits. A server that knows only the latter ignores the field.
        self._body: dict[str, Any] = {"model": model, "encoding_format": "base64"}
        if dimensions:
            self._body["dimensions"] = dimensions

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:  # noqa: ARG002 - of the port
        """Embed one batch, as :class:`~firelaunch.rag.embed.base.EmbeddingModel` describes.

        These models embed questions like other texts.
        """
        answer = self._calls.post("/embeddings", {**self._body, "input": list(texts)}, seconds)
        try:
            vectors = _vectors(answer)
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise ModelUnavailable(reason=f"the answer is no list of embeddings: {type(error).__name__}") from error
        return counted(vectors, texts, table(answer.get("usage")).get("prompt_tokens"))


def _vectors(answer: Mapping[str, Any]) -> Vectors:
    """Return the vectors in the order of their texts: servers may answer in any order, and give each its index."""
    import numpy as np

    rows = [item["embedding"] for item in sorted(answer["data"], key=lambda item: item["index"])]
    return np.asarray(
        [np.frombuffer(base64.b64decode(row), "<f4") if isinstance(row, str) else row for row in rows], np.float32
    )
