"""Embeddings from Vertex AI: ``gemini-embedding-001``, ``text-embedding-005`` and similar models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...errors import ModelError, ModelRefused, ModelUnavailable
from ...llm.fields import figure
from ...llm.google_locations import vertex_host
from ..google_calls import GoogleError
from ..vertex_clients import VertexClients
from .base import Embedded, counted

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.types import PredictRequest, PredictResponse

__all__ = ["VertexEmbeddings"]


class VertexEmbeddings:
    """An :class:`~firelaunch.rag.embed.base.EmbeddingModel`.

    A request holds 250 texts and 20,000 tokens, or a single text with ``gemini-embedding-001``. A text of more than
    2,048 tokens is cut (https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings).

    Args:
        model: its name.
        project, location: where it is called: a region, or "global".
        dimensions: length of the vectors; 0 for the model's own (3,072 of gemini-embedding-001, 768 of the others).
        clients: replace those of the location's host, for tests.
    """

    batch_tokens = 20_000

    def __init__(
        self, model: str, project: str, location: str, dimensions: int = 0, clients: VertexClients | None = None
    ) -> None:
        self.id = f"{model}-{dimensions}" if dimensions else model
        self.batch_texts = 1 if model.startswith("gemini-") else 250
        self._dimensions = dimensions
        self._clients = clients or VertexClients(vertex_host(location))
        self._model = f"projects/{project}/locations/{location}/publishers/google/models/{model}"

    def request(self, texts: Sequence[str], *, query: bool, seconds: float) -> Embedded:
        """Embed one batch, as :class:`~firelaunch.rag.embed.base.EmbeddingModel` describes."""
        task = "RETRIEVAL_QUERY" if query else "RETRIEVAL_DOCUMENT"
        instances = [{"content": text, "task_type": task} for text in texts]
        parameters = {"outputDimensionality": self._dimensions} if self._dimensions else {}
        try:
            request = _request(self._model, instances, parameters)
            answer = self._clients.call(lambda clients: clients.predictions.predict, request, seconds)
        except GoogleError as error:
            raise _model_error(error) from error
        return _read(answer, texts)

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


def _model_error(error: GoogleError) -> ModelError:
    if error.passing:
        return ModelUnavailable(reason=str(error), retry_after=error.retry_after)
    return ModelRefused(reason=str(error)) if error.status == 400 else ModelError(reason=str(error))
