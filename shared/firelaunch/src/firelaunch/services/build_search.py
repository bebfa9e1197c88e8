"""Build what reads, embeds and indexes documents, from the settings.

Only this module and :mod:`firelaunch.services.build` know the adapters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..documents.catalog import Documents
from ..documents.incoming_files import IncomingFiles
from ..errors import FirelaunchError, SettingsError
from ..jobs import Jobs
from ..llm.prices import Prices
from ..llm.types import TokenCounts
from ..metering.contention import Retries
from ..rag.files import Files, LocalFiles, ScopedFiles
from ..rag.versions import Version, Versions
from ..settings.app import Settings
from ..settings.search import EmbedderKind, IndexKind, index_problems
from ..store.base import Document
from ..store.scoped import ScopedStore

if TYPE_CHECKING:
    from ..rag.embed.base import Embedder, EmbeddingModel
    from ..rag.index.base import Index
    from ..rag.index.scoped import ScopedIndex
    from ..rag.pipeline import Engine
    from ..rag.retrieve import Reranker
    from ..rag.web.fetch import Fetcher

__all__ = ["build_documents", "named_embedder", "scratch_index", "wanted_version"]


def build_documents(
    settings: Settings,
    project: str,
    database: str,
    store: ScopedStore,
    jobs: Jobs,
    admission: Retries,
    plan_of: Callable[[Document | None], str],
    clock: Callable[[], datetime],
    *,
    own_machine: bool = False,
    files: Files | None = None,
    fetcher: Fetcher | None = None,
    reranker: Reranker | None = None,
) -> Documents:
    """The app's documents. Connects to nothing, and imports nothing heavy; adapters do when they are first used.

    Args:
        own_machine: whether the embedding model runs on the developer's own machine, and costs nothing.

    Raises:
        SettingsError: ``[index]`` does not hold together, or the embedding model has no known price.
    """
    env = settings.environment
    if not env.development:
        keys = {"openai_key": bool(env.openai_api_key), "database_url": bool(env.database_url)}
        problems = list(index_problems(settings.index, settings.embedding, **keys))
        if problems:
            raise SettingsError("\n".join(problems))
    engines = _Engines(settings, project, database, store, own_machine, reranker)
    engines.cost_of(settings.embedder, settings.embedding.model)
    own_files = ScopedFiles(files or _files(settings, project), store.scope)
    return Documents(
        store,
        own_files,
        jobs,
        admission,
        Versions(store, partial(wanted_version, settings), lambda version: _lasts(settings, version)),
        engines.of,
        lambda version, tokens: engines.cost_of(version.embedder, version.model)(tokens),
        settings.documents,
        settings.plans,
        plan_of,
        clock,
        cache(lambda: fetcher or _fetcher(settings)),
        IncomingFiles(own_files, clock),
        settings.search.tokens,
        engines.warm,
    )


def wanted_version(settings: Settings) -> Version:
    """The index version that the settings ask for, in this process."""
    index, env = settings.index, settings.environment
    embedder = settings.embedder
    kinds: dict[str, IndexKind] = {"embedded": "embedded", "emulators": "firestore", "cloud": index.backend}
    backend = kinds[env.mode]
    made = index.embedding(embedder, backend)
    return Version.made(
        backend=backend,
        embedder=embedder,
        model=made.model,
        dimensions=made.dimensions,
        language=index.language,
        chunker=index.chunker,
        chunk_tokens=index.chunk_tokens,
        chunk_overlap=index.chunk_overlap,
    )


def _lasts(settings: Settings, version: Version) -> bool:
    """Whether a version holds what was written to it: the embedded index of a Cloud Run instance ends with it."""
    return settings.environment.development or version.backend != "embedded"


class _Engines:
    """What reads and writes index versions; each is made once, when it is first asked for."""

    def __init__(
        self,
        settings: Settings,
        project: str,
        database: str,
        store: ScopedStore,
        own_machine: bool,
        reranker: Reranker | None,
    ) -> None:
        self._settings = settings
        self._project = project
        self._database = database
        self._store = store
        self._own_machine = own_machine
        self._reranker = reranker
        self._made: dict[str, Engine] = {}
        self._warmed = False
        self._lock = threading.Lock()

    def of(self, version: Version) -> Engine:
        """The engine of a version."""
        with self._lock:
            found = self._made.get(version.id)
            if found is None:
                found = self._made[version.id] = self._make(version)
            return found

    def warm(self) -> None:
        """Have a thread import the embedding model's client: most of a second, beside the first request."""
        if self._warmed:
            return
        self._warmed = True
        settings = self._settings
        if not settings.environment.development and settings.embedding.kind in {"openai", "vertex"}:
            threading.Thread(target=self._import_clients, name="warm", daemon=True).start()

    def _import_clients(self) -> None:
        with suppress(FirelaunchError):  # the search that needs it is told
            embedder = self.of(wanted_version(self._settings)).embedder
            if embedder is not None:
                embedder.warm()

    def cost_of(self, embedder: EmbedderKind, model: str) -> Callable[[int], int]:
        """From tokens to micro-dollars.

        Raises:
            SettingsError: the model has no known price.
        """
        if embedder not in {"openai", "vertex"}:
            return lambda _: 0
        free = (model,) if self._own_machine and embedder == "openai" else ()
        prices = Prices(embedder, self._settings.prices, free=free)
        prices.check_embedder(model)
        return lambda tokens: prices.cost(model, TokenCounts(input=tokens)) if tokens else 0

    def _make(self, version: Version) -> Engine:
        from ..rag.index.scoped import ScopedIndex
        from ..rag.pipeline import Engine
        from ..rag.retrieve import RetrievalLimits, Retriever

        wanted = self._settings.search
        limits = RetrievalLimits(wanted.passages, wanted.candidates, wanted.min_cosine, wanted.tokens, wanted.same)
        index = ScopedIndex(self._index(version), self._settings.app.id)
        embedder = self._embedder(version)
        retriever = Retriever(index, lambda: version.id, embedder, limits, self._reranker)
        return Engine(version, index, embedder, retriever, self.cost_of(version.embedder, version.model))

    def _index(self, version: Version) -> Index:
        settings, index = self._settings, self._settings.index
        place = f"projects/{self._project}/locations/{settings.cloud.region}"
        from ..rag.index.words import Analyzer

        analyzer, env = Analyzer(version.language), settings.environment
        if version.backend == "vertex" and index.vertex is not None:
            from ..rag.index.vertex import VertexIndex

            names = index.vertex
            endpoint = f"{place}/indexEndpoints/{names.endpoint}"
            return VertexIndex(
                f"{place}/indexes/{names.index}", endpoint, names.deployed, names.domain, self._store, analyzer=analyzer
            )
        if version.backend == "vector_search":
            from ..rag.index.vector_search import VectorSearchIndex

            return VectorSearchIndex(f"{place}/collections/{index.collection}", analyzer=analyzer)
        if version.backend == "firestore":
            from ..rag.index.firestore import FirestoreIndex

            return FirestoreIndex(self._project, self._database, analyzer=analyzer)
        if version.backend == "pgvector":
            from ..rag.index.pgvector import PgvectorIndex

            return PgvectorIndex(env.database_url.get_secret_value() if env.database_url else "", analyzer)
        from ..rag.index.embedded import EmbeddedIndex

        return EmbeddedIndex(env.data / "index", analyzer, index.memory_mb * 2**20)

    def _embedder(self, version: Version) -> Embedder | None:
        """What makes the version's vectors, or None where it has none, or this process has no key for it."""
        from ..rag.embed.base import Embedder

        model = self._model(version)
        index = self._settings.index
        return None if model is None else Embedder(model, index.requests_per_minute, index.tokens_per_minute)

    def _model(self, version: Version) -> EmbeddingModel | None:
        settings, env = self._settings, self._settings.environment
        if version.embedder == "vertex" and not env.development:
            from ..rag.embed.vertex import VertexEmbeddings

            return VertexEmbeddings(version.model, self._project, settings.embedding_location, version.dimensions)
        if version.embedder == "local":
            from ..rag.embed.local import LocalEmbeddings

            return LocalEmbeddings()
        if version.embedder == "openai" and (env.openai_api_key or env.openai_base_url):
            from ..rag.embed.openai_compatible import OpenAIEmbeddings

            key = env.openai_api_key.get_secret_value() if env.openai_api_key else "none"
            return OpenAIEmbeddings(version.model, key, env.openai_base_url, version.dimensions)
        return None


def _fetcher(settings: Settings) -> Fetcher:
    from ..rag.web.fetch import Fetcher, FetchLimits

    return Fetcher(FetchLimits(bytes=settings.documents.file_bytes))


def _files(settings: Settings, project: str) -> Files:
    if settings.environment.development:
        return LocalFiles(settings.environment.data / "files")
    from ..rag.cloud_files import CloudFiles

    return CloudFiles(project, settings.documents.bucket or f"{project}.firebasestorage.app")


def named_embedder(name: str, environ: Mapping[str, str]) -> Embedder | None:
    """An embedder without an app's settings: "none", "local", "openai", "openai:MODEL"; "auto" is local where it is.

    Raises:
        SettingsError: there is no such embedder, or it cannot be used here.
    """
    from ..rag.embed.base import Embedder
    from ..rag.embed.local import LocalEmbeddings
    from ..rag.embed.openai_compatible import OpenAIEmbeddings

    kind, _, model = name.partition(":")
    if kind == "auto":
        kind = "local" if LocalEmbeddings.installed() else "none"
    if kind == "none":
        return None
    if kind == "local":
        return Embedder(LocalEmbeddings())
    key, url = environ.get("OPENAI_API_KEY"), environ.get("OPENAI_BASE_URL")
    if kind != "openai":
        raise SettingsError(f"There is no embedder {name!r}: it is none, local, openai, openai:MODEL or auto.")
    if not key and not url:
        raise SettingsError("OPENAI_API_KEY is not set: the embedder 'openai' needs it, or OPENAI_BASE_URL.")
    return Embedder(OpenAIEmbeddings(model or "text-embedding-3-small", key or "none", url))


def scratch_index(folder: Path, app_id: str, language: str = "english") -> ScopedIndex:
    """An embedded index of its own in ``folder``, as ``firelaunch eval`` fills and throws away."""
    from ..rag.index.embedded import EmbeddedIndex
    from ..rag.index.scoped import ScopedIndex
    from ..rag.index.words import Analyzer

    return ScopedIndex(EmbeddedIndex(folder, Analyzer(language)), app_id)
