"""Embeddings from Vertex AI: ``gemini-embedding-2``, ``gemini-embedding-001``, ``text-embedding-005`` and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import ModelError, ModelRefused, ModelUnavailable
from ...llm.fields import figure
from ...llm.google_locations import vertex_host
from ..google_calls import GoogleError
from ..vertex_clients import VertexClients
from .base import Embedded, counted

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import (
        EmbedContentRequest,
        EmbedContentResponse,
        PredictRequest,
        PredictResponse,
    )

__all__ = ["VertexEmbeddings"]

_WITH_PREDICT = re.compile(r"gemini-embedding-(?:001|exp)|(?!gemini-)")
"""Models that are served by ``:predict``; those since gemini-embedding-2 are served by ``:embedContent`` alone."""

_QUERY, _DOCUMENT = "task: search result | query: ", "title: none | text: "
"""What says in the text itself, for models with ``:embedContent``, whether a text asks or is searched.

Source: https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/embeddings/get-multimodal-embeddings.
"""


class VertexEmbeddings:
    """An :class:`~firelaunch.rag.embed.base.EmbeddingModel`.

    A request holds 250 texts and 20,000 tokens, or a single text with Gemini's models. A text of more than 2,048
    tokens, or 8,192 with ``gemini-embedding-2``, is cut
    (https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings).

    Args:
        model: its name.
        project, location: where it is called: a region, or "global".
        dimensions: length of the vectors; 0 for the model's own (3,072 of Gemini's, 768 of the others).
        clients: replace those of the location's host, for tests.
    """

    provider = "vertex"
    batch_tokens = 20_000

    def __init__(
        self, model: str, project: str, location: str, dimensions: int = 0, clients: VertexClients | None = None
    ) -> None:
        self.id = f"{model}-{dimensions}" if dimensions else model
        self.batch_texts = 1 if model.startswith("gemini-") else 250
        self._dimensions = dimensions
        self._clients = clients or VertexClients(vertex_host(location))
        self._predicts = _WITH_PREDICT.match(model) is not None
        self._model = f"projects/{project}/locations/{location}/publishers/google/models/{model}"

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:
        """Embed one batch, as :class:`~firelaunch.rag.embed.base.EmbeddingModel` describes."""
        try:
            return self._predict(texts, query, seconds) if self._predicts else self._embed(texts, query, seconds)
        except GoogleError as error:
            raise _model_error(error) from error

    def _predict(self, texts: Sequence[str], query: bool, seconds: float) -> Embedded:
        task = "RETRIEVAL_QUERY" if query else "RETRIEVAL_DOCUMENT"
        instances = [{"content": text, "task_type": task} for text in texts]
        parameters = {"outputDimensionality": self._dimensions} if self._dimensions else {}
        request = _request(self._model, instances, parameters)
        return _read(self._clients.call(lambda clients: clients.predictions.predict, request, seconds), texts)

    def _embed(self, texts: Sequence[str], query: bool, seconds: float) -> Embedded:
        (text,) = texts
        request = _content_request(self._model, (_QUERY if query else _DOCUMENT) + text, self._dimensions)
        return _read_one(self._clients.call(lambda clients: clients.predictions.embed_content, request, seconds), texts)

    def warm(self) -> None:
        """Import what the first request needs."""
        self._clients.warm()


def _request(endpoint: str, instances: Sequence[Mapping[str, str]], parameters: Mapping[str, int]) -> PredictRequest:
    from google.cloud.aiplatform_v1.types import PredictRequest

    message = PredictRequest.pb()()
    message.endpoint = endpoint
    for instance in instances:
        message.instances.add().struct_value.update(instance)
    if parameters:
        message.parameters.struct_value.update(parameters)
    request: PredictRequest = PredictRequest.wrap(message)
    return request


def _read(answer: PredictResponse, texts: Sequence[str]) -> Embedded:
    import numpy as np

    # Read the raw protobuf message: proto-plus would wrap each of thousands of numbers.
    embeddings = [
        each.struct_value.fields["embeddings"].struct_value.fields for each in type(answer).pb(answer).predictions
    ]
    rows = [[number.number_value for number in each["values"].list_value.values] for each in embeddings]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ModelUnavailable(reason="the answer is no list of embeddings of one length")
    counts = [each["statistics"].struct_value.fields for each in embeddings]
    token_counts = [figure(count["token_count"].number_value) if "token_count" in count else None for count in counts]
    return counted(
        np.asarray(rows, np.float32), texts, None if None in token_counts else sum(filter(None, token_counts))
    )


def _content_request(model: str, text: str, dimensions: int) -> EmbedContentRequest:
    from google.cloud.aiplatform_v1.types import EmbedContentRequest

    message = EmbedContentRequest.pb()()
    message.model = model
    message.content.role = "user"
    message.content.parts.add().text = text
    message.embed_content_config.auto_truncate = True
    if dimensions:
        message.embed_content_config.output_dimensionality = dimensions
    request: EmbedContentRequest = EmbedContentRequest.wrap(message)
    return request


def _read_one(answer: EmbedContentResponse, texts: Sequence[str]) -> Embedded:
    import numpy as np

    message = type(answer).pb(answer)
    if not message.embedding.values:
        raise ModelUnavailable(reason="the answer is no embedding")
    rows = np.asarray([message.embedding.values], np.float32)
    return counted(rows, texts, message.usage_metadata.prompt_token_count or None)


def _model_error(error: GoogleError) -> ModelError:
    if error.passing:
        return ModelUnavailable(reason=str(error), retry_after=error.retry_after)
    return ModelRefused(reason=str(error)) if error.status == 400 else ModelError(reason=str(error))
