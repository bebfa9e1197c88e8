"""The sections of ``firelaunch.toml`` on documents: where they are indexed, and what a search gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .settings_sections import Section

__all__ = ["EmbedderKind", "Index", "IndexKind", "Search", "VertexIndex", "index_problems"]

IndexKind = Literal["embedded", "firestore", "vertex", "vector_search", "pgvector"]
EmbedderKind = Literal["none", "local", "openai", "vertex"]


class VertexIndex(Section):
    """``[index.vertex]``: the Vertex AI index that all apps share, when the backend is ``vertex``."""

    index: str = Field(description="Id of the index; it must allow streaming updates.")
    domain: str = Field(description="Public domain name of the index endpoint.")
    endpoint: str = Field(description="Id of the index endpoint.")
    deployed: str = Field(description="Id of the index as it is deployed there.")


class Index(Section):
    """``[index]``: where the deployed app keeps its documents' vectors, and what makes them."""

    backend: IndexKind = Field(
        default="embedded", description="The index of the deployed app. A laptop has the embedded one."
    )
    embedder: EmbedderKind = Field(
        default="none",
        description="What makes vectors. With none, documents are searched by their words alone; so they are on a "
        "laptop that has no OPENAI_API_KEY or OPENAI_BASE_URL, unless it is local.",
    )
    model: str = Field(
        default="",
        description='The embedding model; if empty, "text-embedding-3-small" of OpenAI, "gemini-embedding-001" of '
        "Vertex AI.",
    )
    dimensions: int = Field(
        default=0,
        ge=0,
        le=4_096,
        description="Length of the vectors, where a model can shorten them; 0 for its own.",
    )
    requests_per_minute: int = Field(
        default=0, ge=0, description="Requests to the embedding model at most, of one process; 0 for no limit."
    )
    tokens_per_minute: int = Field(
        default=0, ge=0, description="Tokens for the embedding model at most, of one process; 0 for no limit."
    )
    language: str = Field(
        default="english", description='Whose word endings lexical search ignores: a stemmer of Snowball, or "none".'
    )
    memory_mb: int = Field(
        default=512, ge=16, description="Megabytes that the embedded index may keep of its vectors in memory."
    )
    collection: str = Field(
        default="firelaunch", description="The collection that all apps share, when the backend is vector_search."
    )
    vertex: VertexIndex | None = Field(default=None, description="The index, when the backend is vertex.")

    @property
    def embedding_model(self) -> str:
        """The model's name, with the default of its provider."""
        defaults = {"openai": "text-embedding-3-small", "vertex": "gemini-embedding-001"}
        return self.model or defaults.get(self.embedder, "")


class Search(Section):
    """``[search]``: what a search in documents gives."""

    passages: int = Field(default=8, ge=1, le=50, description="Passages at most.")
    candidates: int = Field(
        default=50, ge=1, le=1_000, description="How many each of the two rankings, by words and by vectors, brings in."
    )
    min_cosine: float = Field(
        default=-1.0, ge=-1.0, le=1.0, description="How near a passage must be that is found by its vector; -1 for all."
    )
    tokens: int = Field(default=3_000, ge=1, description="What the passages may take of a prompt, estimated.")
    same: float = Field(
        default=0.9, ge=0.0, description="Share of words in common from which a passage counts as one that is there."
    )


def index_problems(index: Index, *, openai_key: bool, database_url: bool) -> Iterator[str]:
    """What does not hold together in the ``[index]`` of a deployed app, each with its mend.

    Args:
        openai_key, database_url: whether the environment has them.
    """
    if index.backend == "vertex" and index.vertex is None:
        yield "firelaunch.toml: [index.vertex] is missing: name the index, its endpoint and its domain."
    if index.backend in {"firestore", "vertex", "vector_search"} and index.embedder == "none":
        yield (
            f"firelaunch.toml: index.embedder is 'none', and the backend {index.backend!r} finds by vectors alone: set "
            "it to openai, vertex or local."
        )
    if index.backend == "pgvector" and not database_url:
        yield "DATABASE_URL is not set: index.backend = 'pgvector' needs it."
    if index.embedder == "openai" and not openai_key:
        yield "OPENAI_API_KEY is not set: index.embedder = 'openai' needs it."
