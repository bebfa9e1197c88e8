"""Define the sections of ``firelaunch.toml`` about documents: their index, and the search in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from ..errors import SettingsError
from .sections import Section

__all__ = [
    "DocumentSettings",
    "EmbedderKind",
    "Embedding",
    "IndexKind",
    "IndexSettings",
    "RerankerKind",
    "Search",
    "VertexIndexSettings",
    "index_problems",
    "with_vertex",
]

IndexKind = Literal["embedded", "firestore", "vertex", "vector_search", "pgvector"]
EmbedderKind = Literal["none", "local", "openai", "vertex"]
RerankerKind = Literal["none", "cheap", "semantic-ranker-default-004", "semantic-ranker-fast-004"]

_MODELS: Final[Mapping[str, str]] = {"openai": "text-embedding-3-small", "vertex": "gemini-embedding-001"}
"""Each embedder's model, unless ``index.model`` names one."""

_LENGTHS: Final[Mapping[str, int]] = {
    "": 384,
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
    "gemini-embedding-001": 3_072,
    "gemini-embedding-2": 3_072,
    "text-embedding-005": 768,
    "text-multilingual-embedding-002": 768,
}
"""Dimensions of each model's full vectors; "" is the local model
(https://platform.openai.com/docs/guides/embeddings,
https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings)."""

FIRESTORE_DIMENSIONS: Final = 2_048
"""The longest vector that Firestore searches (https://firebase.google.com/docs/firestore/vector-search#limitations)."""

_SHORTENED: Final = 768
"""The length to request instead of one that Firestore can't search. The first part of Google's and OpenAI's vectors is
a valid vector too, and this length loses about 1% of retrieval quality at a quarter of the storage."""


class VertexIndexSettings(Section):
    """``[index.vertex]``: a Vertex AI index that is there already, when the backend is ``vertex``.

    Several apps may share one. Where it is left out, a deploy makes one for the app, and names it to the app itself.
    """

    index: str = Field(description="Id of the index; it must allow streaming updates.")
    domain: str = Field(description="Public domain name of the index endpoint.")
    endpoint: str = Field(description="Id of the index endpoint.")
    deployed: str = Field(description="Id of the index as it is deployed there.")


class IndexSettings(Section):
    """``[index]``: where the deployed app keeps its documents' vectors, and what makes them."""

    backend: IndexKind = Field(
        default="firestore",
        description="The index of the deployed app. A laptop always has the embedded one, which is for laptops alone.",
    )
    embedder: Literal["provider", "none", "local", "openai", "vertex"] = Field(
        default="provider",
        description="What makes vectors: by default the embedding model of `models.provider`. With none, documents "
        "are searched by their words alone. So they are on a laptop, unless this is local, or openai and there is "
        "OPENAI_API_KEY or OPENAI_BASE_URL.",
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
        description="Length of the vectors, where a model can shorten them; 0 for its own, or for 768 where Firestore "
        "does not take vectors that long.",
    )
    location: str = Field(
        default="",
        pattern=r"|global|[a-z]+(-[a-z]+)+[0-9]+",
        description="Where Vertex AI embeds: a region, or `global`; `cloud.region` if empty. Its embedding models "
        "answer in most regions of Cloud Run, and not each on `global`.",
    )
    requests_per_minute: int = Field(
        default=0, ge=0, description="Requests to the embedding model at most, of one process; 0 for no limit."
    )
    tokens_per_minute: int = Field(
        default=0, ge=0, description="Tokens for the embedding model at most, of one process; 0 for no limit."
    )
    language: str = Field(
        default="auto",
        description='The language of documents and questions: "auto" to detect it of each, one of Snowball\'s stemmers '
        'for all, or "none" to search for words as they are written.',
    )
    chunker: Literal["structure", "fixed"] = Field(
        default="structure", description="How documents are cut: at headings, paragraphs and sentences, or by size."
    )
    chunk_tokens: int = Field(default=200, ge=16, le=8_192, description="Tokens of a chunk at most, estimated.")
    chunk_overlap: int = Field(default=40, ge=0, description="Tokens that a chunk repeats of the one before at most.")
    memory_mb: int = Field(
        default=512, ge=16, description="Megabytes that the embedded index may keep of its vectors in memory."
    )
    collection: str = Field(
        default="firelaunch", description="The collection that all apps share, when the backend is vector_search."
    )
    filters: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")], ...] = Field(
        default=(),
        max_length=3,
        description="Tags that your searches filter by. A deploy makes Firestore's indexes for each of them, alone and "
        "together, with and without named documents. Other backends need none.",
    )
    vertex: VertexIndexSettings | None = Field(default=None, description="The index, when the backend is vertex.")

    @model_validator(mode="after")
    def _overlap_is_a_part(self) -> Self:
        if self.chunk_overlap * 2 > self.chunk_tokens:
            raise ValueError("chunk_overlap is at most half of chunk_tokens")
        return self

    def embedding(self, kind: EmbedderKind, backend: IndexKind) -> Embedding:
        """Return the model and the vector length that an embedder uses for an index."""
        if kind == "none":
            return Embedding(kind, "", 0, 0)
        if kind == "local":
            return Embedding(kind, "", 0, _LENGTHS[""])
        model = self.model or _MODELS[kind]
        full_length = _LENGTHS.get(model, 0)
        shortened = _SHORTENED if backend == "firestore" and full_length > FIRESTORE_DIMENSIONS else 0
        dimensions = self.dimensions or shortened
        return Embedding(kind, model, dimensions, dimensions or full_length)


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedding model of an index.

    Args:
        model: the model's name; empty for the local model, and for none.
        dimensions: the length to request from the model; 0 for its default.
        length: the vectors' length; 0 if there are no vectors, or if the length is not known.
    """

    kind: EmbedderKind
    model: str
    dimensions: int
    length: int


class DocumentSettings(Section):
    """``[documents]``: what users, and admins for the library, may have searched."""

    file_bytes: int = Field(
        default=20_971_520,
        ge=1_024,
        le=104_857_600,
        description="Bytes of a file at most; storage.rules says so too. On Cloud Run a request ends at 32 MiB: a file "
        "of more than 31 MiB comes by Firebase Storage.",
    )
    text_characters: int = Field(
        default=12_000_000, ge=1_000, le=20_000_000, description="Characters of a document's text at most."
    )
    library: int = Field(default=1_000, ge=0, description="Documents in the app's library at most.")
    crawl_pages: int = Field(default=50, ge=1, le=1_000, description="Addresses that one crawl tries at most.")
    crawl_depth: int = Field(default=3, ge=0, le=10, description="Links from its first page that a crawl goes at most.")
    bucket: str = Field(
        default="",
        description="Cloud Storage bucket of the files; if empty, Firebase's own, `<project>.firebasestorage.app`.",
    )


class Search(Section):
    """``[search]``: what a search in documents gives."""

    in_chats: bool = Field(
        default=True, description="Whether documents are searched for each message; app/workflow.py uses what is found."
    )

    passages: int = Field(default=8, ge=1, le=50, description="Passages at most.")
    candidates: int = Field(
        default=50, ge=1, le=1_000, description="How many each of the two rankings, by words and by vectors, brings in."
    )
    min_cosine: float = Field(
        default=-1.0, ge=-1.0, le=1.0, description="How near a passage must be that is found by its vector; -1 for all."
    )
    tokens: int = Field(default=3_000, ge=1, description="What the passages may take of a prompt, estimated.")
    reranker: RerankerKind = Field(
        default="none",
        description="A model that reads what was found and orders it anew, for each search: one of Vertex AI's ranking "
        "models, or `cheap`, the cheap model of `[models]`. On a laptop each of them is the cheap model, and there is "
        "none with the offline model.",
    )
    same: float = Field(
        default=0.9, ge=0.0, description="Share of words in common from which a passage counts as one that is there."
    )


def with_vertex(index: IndexSettings, vertex_json: str) -> IndexSettings:
    """Return the settings with the Vertex AI index that a deploy made, or unchanged if there is none.

    Args:
        vertex_json: a :class:`VertexIndexSettings` as JSON; empty for none.

    Raises:
        SettingsError: the JSON is not valid.
    """
    if not vertex_json:
        return index
    try:
        return index.model_copy(update={"vertex": VertexIndexSettings.model_validate_json(vertex_json)})
    except ValidationError:
        fields = ", ".join(VertexIndexSettings.model_fields)
        raise SettingsError(
            f"FIRELAUNCH_VERTEX_INDEX is not JSON with {fields}: deploy again, which sets it."
        ) from None


def index_problems(
    index: IndexSettings, embedding: Embedding, *, openai_key: bool = True, database_url: bool = True
) -> Iterator[str]:
    """Yield the contradictions in the ``[index]`` of a deployed app, each with its remedy.

    Args:
        embedding: the embedding model of the deployed app.
        openai_key, database_url: whether the environment has them.
    """
    if index.backend == "embedded":
        yield (
            "firelaunch.toml: index.backend is 'embedded', which works on laptops alone: Cloud Run keeps no files, and "
            'its instances share none. Set it to "firestore", and deploy; where documents were uploaded before, '
            "then run: firelaunch reembed."
        )
    if index.backend == "vertex" and index.vertex is None:
        yield (
            "firelaunch.toml: [index.vertex] is missing: name an index, or have firelaunch deploy make one, which sets "
            "FIRELAUNCH_VERTEX_INDEX."
        )
    if index.backend in {"firestore", "vertex", "vector_search"} and (
        embedding.kind != "none" or index.backend != "firestore"
    ):
        yield from _vector_problems(index, embedding)
    if index.backend == "pgvector" and not database_url:
        yield "DATABASE_URL is not set: index.backend = 'pgvector' needs it."
    if embedding.kind == "openai" and not openai_key:
        yield f"OPENAI_API_KEY is not set: index.embedder = {index.embedder!r} needs it."


def _vector_problems(index: IndexSettings, embedding: Embedding) -> Iterator[str]:
    if embedding.kind == "none":
        yield (
            f"firelaunch.toml: index.embedder is 'none', and the backend {index.backend!r} finds by vectors alone: "
            "leave it out, or set it to openai, vertex or local."
        )
    elif embedding.length == 0:
        yield (
            f"firelaunch.toml: index.dimensions is 0, and the length of the vectors of {embedding.model!r} is not "
            "known: set it to their length, which the index is made for."
        )
    if index.backend == "firestore" and embedding.length > FIRESTORE_DIMENSIONS:
        yield (
            f"firelaunch.toml: index.dimensions is {embedding.length}, and Firestore takes {FIRESTORE_DIMENSIONS} at "
            "most: set it to that or less."
        )
