"""Serve embeddings on a real socket, as OpenAI's ``/embeddings`` and Vertex AI's methods, with their limits."""

from __future__ import annotations

import base64
import re
import struct
from hashlib import sha256
from typing import Any

from .grpc_server import GrpcServer, Method
from .http import JsonServer, RequestRefused

__all__ = ["OpenAIEmbeddingServer", "VertexEmbeddingServer", "embedding"]

_OPENAI_TEXTS = 2_048
_OPENAI_TOKENS = 300_000
_VERTEX_TEXTS = 250
_VERTEX_TOKENS = 20_000
_OWN_DIMENSIONS = {"gemini-embedding-001": 3072, "text-embedding-005": 768}
_CONTENT_DIMENSIONS = {"gemini-embedding-2": 3072}
"""Models that ``:predict`` does not serve."""
_TASKS = {"RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING",
          "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"}  # fmt: skip


def embedding(text: str, dimensions: int) -> list[float]:
    """Return a vector that is close to those of texts with the same words: each word adds to one dimension."""
    vector = [0.001] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        vector[int.from_bytes(sha256(word.encode()).digest()[:4]) % dimensions] += 1.0
    return vector


def tokens_of(text: str) -> int:
    """Return the tokens that these servers count, which are words."""
    return len(text.split())


class OpenAIEmbeddingServer(JsonServer):
    """A server of OpenAI's embeddings at ``base_url``. With ``reverse`` it returns the vectors in reverse order."""

    def __init__(self, dimensions: int = 16, *, reverse: bool = False, usage: bool = True) -> None:
        super().__init__()
        self.base_url = f"{self.url}/v1"
        self._dimensions = dimensions
        self._reverse = reverse
        self._usage = usage

    def answer(self, path: str, body: Any) -> Any:
        """Return the embeddings of the texts in ``body``."""
        if path != "v1/embeddings":
            raise RequestRefused(404, f"no route {path}")
        texts = body["input"]
        total = sum(map(tokens_of, texts))
        if not 1 <= len(texts) <= _OPENAI_TEXTS or not all(texts) or total > _OPENAI_TOKENS:
            raise RequestRefused(400, "'input' is out of bounds")
        dimensions = body.get("dimensions", self._dimensions)
        data = [
            {"object": "embedding", "index": n, "embedding": _coded(embedding(text, dimensions), body)}
            for n, text in enumerate(texts)
        ]
        usage = {"usage": {"prompt_tokens": total, "total_tokens": total}} if self._usage else {}
        return {"object": "list", "model": body["model"], "data": data[::-1] if self._reverse else data, **usage}


class VertexEmbeddingServer(GrpcServer):
    """A server of Vertex AI's embedding models, which answers by gRPC and REST."""

    def __init__(self) -> None:
        super().__init__()
        self.base_url = f"{self.url}/v1"

    def methods(self) -> list[Method]:
        """Return ``predict`` and ``embedContent``."""
        from google.cloud.aiplatform_v1 import types

        service = "google.cloud.aiplatform.v1.PredictionService"
        predict = (types.PredictRequest, types.PredictResponse, lambda request: f"v1/{request.endpoint}:predict")
        embed = (
            types.EmbedContentRequest,
            types.EmbedContentResponse,
            lambda request: f"v1/{request.model}:embedContent",
        )
        return [(service, "Predict", *predict), (service, "EmbedContent", *embed)]

    def answer(self, path: str, body: Any) -> Any:
        """Return the embeddings of the texts in ``body``."""
        by_content = re.fullmatch(
            r"v1/projects/[\w-]+/locations/[\w-]+/publishers/google/models/([\w-]+):embedContent", path
        )
        if by_content is not None:
            return _embed_content(by_content[1], body)
        target = re.fullmatch(r"v1/projects/[\w-]+/locations/[\w-]+/publishers/google/models/([\w-]+):predict", path)
        if target is None or target[1] not in _OWN_DIMENSIONS:
            raise RequestRefused(404, f"no model at {path}", "NOT_FOUND")
        if not set(body) <= {"instances", "parameters"}:
            raise RequestRefused(400, f"unknown fields: {sorted(body)}")
        instances, parameters = body["instances"], body.get("parameters", {})
        texts = [_content(instance) for instance in instances]
        limit = 1 if target[1].startswith("gemini") else _VERTEX_TEXTS
        if not 1 <= len(texts) <= limit:
            raise RequestRefused(400, f"{len(texts)} instances, and {limit} at most are supported")
        if sum(map(tokens_of, texts)) > _VERTEX_TOKENS:
            raise RequestRefused(400, "the input has more than 20000 tokens")
        full_length = _OWN_DIMENSIONS[target[1]]
        dimensions = int(parameters.get("outputDimensionality", full_length))
        if not set(parameters) <= {"outputDimensionality", "autoTruncate"} or not 1 <= dimensions <= full_length:
            raise RequestRefused(400, f"parameters are not valid: {parameters}")
        return {
            "predictions": [
                {"embeddings": {"values": embedding(text, dimensions), "statistics": {"token_count": tokens_of(text)}}}
                for text in texts
            ]
        }


def _embed_content(model: str, body: Any) -> dict[str, Any]:
    if model not in _CONTENT_DIMENSIONS:
        raise RequestRefused(400, f"{model} is not supported by embedContent")
    config, full_length = body.get("embedContentConfig", {}), _CONTENT_DIMENSIONS[model]
    if not set(body) <= {"content", "embedContentConfig"} or not set(config) <= {
        "outputDimensionality",
        "autoTruncate",
    }:
        raise RequestRefused(400, f"task types go into the text of {model}; unknown fields: {sorted(body)}")
    texts = [part.get("text", "") for part in body["content"]["parts"]]
    dimensions = config.get("outputDimensionality", full_length)
    if not 1 <= dimensions <= full_length or not all(texts):
        raise RequestRefused(400, "the content or the dimensions are not valid")
    text = " ".join(texts)
    usage = {"promptTokenCount": tokens_of(text), "totalTokenCount": tokens_of(text)}
    return {"embedding": {"values": embedding(text, dimensions)}, "usageMetadata": usage}


def _content(instance: Any) -> str:
    valid_fields = isinstance(instance, dict) and set(instance) <= {"content", "task_type", "title"}
    if not valid_fields or not instance.get("content") or instance.get("task_type", "RETRIEVAL_QUERY") not in _TASKS:
        raise RequestRefused(400, f"an instance is not valid: {sorted(instance)}")
    return str(instance["content"])


def _coded(vector: list[float], body: Any) -> Any:
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
