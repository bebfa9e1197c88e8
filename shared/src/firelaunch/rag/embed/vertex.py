"""Embeddings of Vertex AI by REST: ``gemini-embedding-001``, ``text-embedding-005`` and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ModelError, ModelRefused, ModelUnavailable
from ...llm.fields import figure, table
from ...llm.google_locations import vertex_host
from ..google_rest import GoogleError, GoogleRest
from .base import Embedded, counted

__all__ = ["VertexEmbeddings"]


class VertexEmbeddings:
    """An :class:`~firelaunch.rag.embed.base.EmbeddingModel`.

    A request holds 250 texts and 20,000 tokens, and one text alone with ``gemini-embedding-001``; a text beyond 2,048
    tokens is cut (https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings).

    Args:
        model: its name.
        project, region: where it is called; the region may be "global".
        dimensions: length of the vectors; 0 for the model's own (3,072 of gemini-embedding-001, 768 of the others).
        credentials, base_url: others than the environment's and Google's, for tests.
    """

    batch_tokens = 20_000

    def __init__(
        self,
        model: str,
        project: str,
        region: str,
        dimensions: int = 0,
        credentials: Any = None,
        base_url: str | None = None,
    ) -> None:
        self.id = f"{model}-{dimensions}" if dimensions else model
        self.batch_texts = 1 if model.startswith("gemini-") else 250
        self._dimensions = dimensions
        self._rest = GoogleRest(base_url or f"https://{vertex_host(region)}/v1", credentials)
        self._path = f"projects/{project}/locations/{region}/publishers/google/models/{model}:predict"

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:
        """See :class:`~firelaunch.rag.embed.base.EmbeddingModel`."""
        task = "RETRIEVAL_QUERY" if query else "RETRIEVAL_DOCUMENT"
        body: dict[str, Any] = {"instances": [{"content": text, "task_type": task} for text in texts]}
        if self._dimensions:
            body["parameters"] = {"outputDimensionality": self._dimensions}
        try:
            answer = self._rest.call(self._path, body, seconds)
        except GoogleError as error:
            raise _translated(error) from error
        return _read(answer, texts)


def _read(answer: dict[str, Any], texts: Sequence[str]) -> Embedded:
    import numpy as np

    try:
        found = [prediction["embeddings"] for prediction in answer["predictions"]]
        vectors = np.asarray([each["values"] for each in found], dtype=np.float32)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelUnavailable(reason=f"the answer is no list of embeddings: {error!r}") from error
    counts = [figure(table(table(each).get("statistics")).get("token_count")) for each in found]
    return counted(vectors, texts, None if None in counts else sum(filter(None, counts)))


def _translated(error: GoogleError) -> ModelError:
    if error.passing:
        return ModelUnavailable(reason=str(error), retry_after=error.retry_after)
    return ModelRefused(reason=str(error)) if error.status == 400 else ModelError(reason=str(error))
