"""Build the services that read, embed and index documents from the settings.

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
from ..metering.retries import Retries
from ..rag.files import Files, LocalFiles, ScopedFiles
from ..rag.versions import Version, Versions
from ..settings.app import Settings
from ..settings.search import EmbedderKind, IndexKind, index_problems
from ..store.base import Document
from ..store.scoped import ScopedStore
from .deferred import deferred

if TYPE_CHECKING:
    from ..llm.gateway import Gateway
    from ..rag.embed.base import Embedder, EmbeddingModel
    from ..rag.index.base import Index
    from ..rag.index.scoped import ScopedIndex
    from ..rag.pipeline import Engine
    from ..rag.rerank.base import Reranker
    from ..rag.web.fetch import Fetcher

__all__ = ["build_documents", "build_reranker", "named_embedder", "scratch_index", "wanted_version"]


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
    """Build the app's documents. Nothing connects yet and nothing heavy is imported, until adapters are first used.

    Args:
        own_machine: whether the embedding model runs on the developer's own machine and so costs nothing.

    Raises:
        SettingsError: the settings of ``[index]`` contradict each other, or the embedding model has no known price.
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
        reranker.cost_bound if reranker is not None else lambda _: 0,
    )


def build_reranker(settings: Settings, project: str, gateway: Gateway) -> Reranker | None:
    """Return the reranker that the settings ask for in this process; None if there is none."""
    kind, development = settings.search.reranker, settings.environment.development
    if kind == "none":
        return None
    if kind != "cheap" and not development:
        from ..rag.rerank.vertex import VertexReranker

        return VertexReranker(kind, project)
    if settings.provider == "offline":  # it reads nothing, so its order would mean nothing
        return None
    from ..rag.rerank.model import ModelReranker

    return ModelReranker(gateway, settings.choice.cheap)


def wanted_version(settings: Settings) -> Version:
    """Return the index version that the settings ask for in this process."""
    index, env = settings.index, settings.environment
    embedder = settings.embedder
    kinds: dict[str, IndexKind] = {"embedded": "embedded", "emulators": "firestore", "cloud": index.backend}
    backend = kinds[env.mode]
    embedding = index.embedding(embedder, backend)
    return Version.of_parts(
        backend=backend,
        embedder=embedder,
        model=embedding.model,
        dimensions=embedding.dimensions,
        language=index.language,
        chunker=index.chunker,
        chunk_tokens=index.chunk_tokens,
        chunk_overlap=index.chunk_overlap,
    )


def _lasts(settings: Settings, version: Version) -> bool:
    """Return whether a version's entries last. The embedded index of a Cloud Run instance ends with the instance."""
    return settings.environment.development or version.backend != "embedded"


class _Engines:
    """The engines of index versions. Each engine is built once, when it is first needed."""

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
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def of(self, version: Version) -> Engine:
        """Return the engine of a version."""
        with self._lock:
            engine = self._engines.get(version.id)
            if engine is None:
                engine = self._engines[version.id] = self._build(version)
            return engine

    def warm(self) -> None:
        """Import what a search in the cloud needs, which takes most of a second."""
        settings = self._settings
        if settings.environment.development or settings.embedding.kind not in {"openai", "vertex"}:
            return
        with suppress(FirelaunchError):  # the search that needs the client raises the error again
            embedder = self.of(wanted_version(settings)).embedder
            if embedder is not None:
                embedder.warm()

    def cost_of(self, embedder: EmbedderKind, model: str) -> Callable[[int], int]:
        """Return a function from tokens to micro-dollars.

        Raises:
            SettingsError: the model has no known price.
        """
        if embedder not in {"openai", "vertex"}:
            return lambda _: 0
        free = (model,) if self._own_machine and embedder == "openai" else ()
        prices = Prices(embedder, self._settings.prices, free=free)
        prices.check_embedder(model)
        return lambda tokens: prices.cost(model, TokenCounts(input=tokens)) if tokens else 0

    def _build(self, version: Version) -> Engine:
        from ..rag.index.scoped import ScopedIndex
        from ..rag.pipeline import Engine
        from ..rag.retrieve import RetrievalLimits, Retriever

        search = self._settings.search
        limits = RetrievalLimits(search.passages, search.candidates, search.min_cosine, search.tokens, search.same)
        index = ScopedIndex(self._index(version), self._settings.app.id)
        embedder = self._embedder(version)
        retriever = Retriever(index, lambda: version.id, embedder, limits, self._reranker)
        return Engine(version, index, embedder, retriever, self.cost_of(version.embedder, version.model))

    def _index(self, version: Version) -> Index:
        settings, index = self._settings, self._settings.index
        location = f"projects/{self._project}/locations/{settings.cloud.region}"
        from ..rag.index.words import Analyzer

        analyzer, env = Analyzer(version.language), settings.environment
        if version.backend == "vertex" and index.vertex is not None:
            from ..rag.index.vertex import VertexIndex

            names = index.vertex
            endpoint = f"{location}/indexEndpoints/{names.endpoint}"
            index_name = f"{location}/indexes/{names.index}"
            return VertexIndex(index_name, endpoint, names.deployed, names.domain, self._store, analyzer=analyzer)
        if version.backend == "vector_search":
            from ..rag.index.vector_search import VectorSearchIndex

            return VectorSearchIndex(f"{location}/collections/{index.collection}", analyzer=analyzer)
        if version.backend == "firestore":
            from ..rag.index.firestore import FirestoreIndex

            return FirestoreIndex(self._project, self._database, analyzer=analyzer)
        if version.backend == "pgvector":
            from ..rag.index.pgvector import PgvectorIndex

            return PgvectorIndex(env.database_url.get_secret_value() if env.database_url else "", analyzer)
        from ..rag.index.embedded import EmbeddedIndex

        return EmbeddedIndex(env.data / "index", analyzer, index.memory_mb * 2**20)

    def _embedder(self, version: Version) -> Embedder | None:
        """Return the embedder of a version, or None if it has no vectors or this process has no key for the model."""
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
            return OpenAIEmbeddings(version.model, key, settings.openai_server, version.dimensions)
        return None


def _fetcher(settings: Settings) -> Fetcher:
    from ..rag.web.fetch import Fetcher, FetchLimits

    return Fetcher(FetchLimits(bytes=settings.documents.file_bytes))


def _files(settings: Settings, project: str) -> Files:
    if settings.environment.development:
        return LocalFiles(settings.environment.data / "files")

    def cloud_files() -> Files:
        from ..rag.cloud_files import CloudFiles

        return CloudFiles(project, settings.documents.bucket or f"{project}.firebasestorage.app")

    return deferred(cloud_files)


def named_embedder(name: str, environ: Mapping[str, str]) -> Embedder | None:
    """Return an embedder by its name alone, without an app's settings.

    Args:
        name: "none", "local", "openai", "openai:MODEL", or "auto" for the local one if it is installed.

    Raises:
        SettingsError: there is no such embedder, or it cannot be used here.
    """
    from ..rag.embed.base import Embedder
    from ..rag.embed.local import LocalEmbeddings
    from ..rag.embed.openai_compatible import OpenAIEmbeddings
    from ..settings.openai_server import OpenAIServer

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
    return Embedder(OpenAIEmbeddings(model or "text-embedding-3-small", key or "none", OpenAIServer(url)))


def scratch_index(folder: Path, app_id: str, language: str = "auto") -> ScopedIndex:
    """Return a new embedded index in ``folder``, which ``firelaunch eval`` fills and throws away."""
    from ..rag.index.embedded import EmbeddedIndex
    from ..rag.index.scoped import ScopedIndex
    from ..rag.index.words import Analyzer

    return ScopedIndex(EmbeddedIndex(folder, Analyzer(language)), app_id)
