"""Servers of embeddings on a real socket: OpenAI's ``/embeddings`` and Vertex AI's ``:predict``, with their limits."""

from __future__ import annotations

import base64
import re
import struct
from hashlib import sha256
from typing import Any

from .grpc_server import GrpcServer, Method
from .http import JsonServer, Refused

__all__ = ["OpenAIEmbeddingServer", "VertexEmbeddingServer", "embedding"]

_OPENAI_TEXTS = 2_048
_OPENAI_TOKENS = 300_000
_VERTEX_TEXTS = 250
_VERTEX_TOKENS = 20_000
_OWN_DIMENSIONS = {"gemini-embedding-001": 3072, "text-embedding-005": 768}
_TASKS = {"RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING",
          "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"}  # fmt: skip


def embedding(text: str, dimensions: int) -> list[float]:
    """A vector in which texts that share words are near each other: each word adds to one dimension."""
    vector = [0.001] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        vector[int.from_bytes(sha256(word.encode()).digest()[:4]) % dimensions] += 1.0
    return vector


def tokens_of(text: str) -> int:
    """The tokens that these servers count: words."""
    return len(text.split())


class OpenAIEmbeddingServer(JsonServer):
    """Speaks OpenAI's embeddings. ``base_url`` is its address for clients; ``reverse`` has it answer backwards."""

    def __init__(self, dimensions: int = 16, *, reverse: bool = False, usage: bool = True) -> None:
        super().__init__()
        self.base_url = f"{self.url}/v1"
        self._dimensions = dimensions
        self._reverse = reverse
        self._usage = usage

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`JsonServer`."""
        if path != "v1/embeddings":
            raise Refused(404, f"no route {path}")
        texts = body["input"]
        total = sum(map(tokens_of, texts))
        if not 1 <= len(texts) <= _OPENAI_TEXTS or not all(texts) or total > _OPENAI_TOKENS:
            raise Refused(400, "'input' is out of bounds")
        dimensions = body.get("dimensions", self._dimensions)
        data = [
            {"object": "embedding", "index": n, "embedding": _coded(embedding(text, dimensions), body)}
            for n, text in enumerate(texts)
        ]
        usage = {"usage": {"prompt_tokens": total, "total_tokens": total}} if self._usage else {}
        return {"object": "list", "model": body["model"], "data": data[::-1] if self._reverse else data, **usage}


class VertexEmbeddingServer(GrpcServer):
    """Answers ``predict`` of Vertex AI's embedding models, by gRPC and by REST."""

    def __init__(self) -> None:
        super().__init__()
        self.base_url = f"{self.url}/v1"

    def methods(self) -> list[Method]:
        """See :class:`GrpcServer`."""
        from google.cloud.aiplatform_v1.types import PredictRequest, PredictResponse

        service = "google.cloud.aiplatform.v1.PredictionService"
        return [(service, "Predict", PredictRequest, PredictResponse, lambda asked: f"v1/{asked.endpoint}:predict")]

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`JsonServer`."""
        found = re.fullmatch(r"v1/projects/[\w-]+/locations/[\w-]+/publishers/google/models/([\w-]+):predict", path)
        if found is None or found[1] not in _OWN_DIMENSIONS:
            raise Refused(404, f"no model at {path}", "NOT_FOUND")
        if not set(body) <= {"instances", "parameters"}:
            raise Refused(400, f"unknown fields: {sorted(body)}")
        instances, parameters = body["instances"], body.get("parameters", {})
        texts = [_content(instance) for instance in instances]
        most = 1 if found[1].startswith("gemini") else _VERTEX_TEXTS
        if not 1 <= len(texts) <= most:
            raise Refused(400, f"{len(texts)} instances, and {most} at most are supported")
        if sum(map(tokens_of, texts)) > _VERTEX_TOKENS:
            raise Refused(400, "the input has more than 20000 tokens")
        own = _OWN_DIMENSIONS[found[1]]
        dimensions = int(parameters.get("outputDimensionality", own))
        if not set(parameters) <= {"outputDimensionality", "autoTruncate"} or not 1 <= dimensions <= own:
            raise Refused(400, f"parameters are not valid: {parameters}")
        return {
            "predictions": [
                {"embeddings": {"values": embedding(text, dimensions), "statistics": {"token_count": tokens_of(text)}}}
                for text in texts
            ]
        }


def _content(instance: Any) -> str:
    known = isinstance(instance, dict) and set(instance) <= {"content", "task_type", "title"}
    if not known or not instance.get("content") or instance.get("task_type", "RETRIEVAL_QUERY") not in _TASKS:
        raise Refused(400, f"an instance is not valid: {sorted(instance)}")
    return str(instance["content"])


def _coded(vector: list[float], body: Any) -> Any:
    if body.get("encoding_format") != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
