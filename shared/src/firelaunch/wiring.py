"""From settings to services: the one room that knows the adapters, and imports only those in use."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .admission import Admission
from .chats import Chats
from .errors import SettingsError
from .identity import AnyOf, Attestation, DevIdentity, Identity, load_or_create_key
from .jobs import Backend, Callers, Jobs
from .llm.base import Provider
from .llm.gateway import Gateway
from .llm.prices import Prices
from .model_calls import ModelCalls
from .prompts import Prompts
from .rag.embed.base import Embedder, EmbeddingModel
from .rag.index.base import Index
from .rag.index.scoped import ScopedIndex
from .rag.retrieve import Limits as SearchLimits
from .rag.retrieve import Retriever
from .scope import Scope
from .search_settings import index_problems
from .services import Services
from .settings import Cache, Settings
from .store.base import DocumentStore, TreeStore
from .store.scoped import ScopedStore
from .usage import Metering

if TYPE_CHECKING:
    from .llm.cache import AnswerCache

__all__ = [
    "build",
    "build_embedder",
    "build_index",
    "build_retriever",
    "build_store",
    "named_embedder",
    "scratch_index",
]

_SETTLE_GRACE = 30.0
"""Seconds that a reservation outlives its request's time, for the settling itself."""

_OFFLINE_PACE = 0.01
"""Seconds between two words of the offline model."""

_EMULATOR_PROJECT = "demo-firelaunch"
"""The emulators' project where the settings name none; "demo-" keeps Google's tools from calling real services
(https://firebase.google.com/docs/emulator-suite/connect_firestore)."""


def build(
    settings: Settings,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    store: DocumentStore | None = None,
    provider: Provider | None = None,
    moderate: Callable[[str], None] | None = None,
    backend: Backend | None = None,
    internal: Callers | None = None,
) -> Services:
    """The services of one app's process. Connects to nothing; adapters do when they are first used.

    Args:
        clock, store, provider, backend, internal: others than the settings name, for tests and benchmarks.
        moderate: an app's own hook, in place of the settings' (see :mod:`firelaunch.guardrails`).

    Raises:
        SettingsError: a model has no known price, a prompt has no file, or an adapter's own settings do not hold.
    """
    limits = settings.limits
    prices, prompts = _prices(settings), _prompts(settings)
    prices.check(settings.provider, [prompt.model for prompt in prompts.in_use() if prompt.model])
    scoped = ScopedStore(store or build_store(settings), Scope(settings.app.id))
    identity, dev_identity = _identity(settings)
    metering = Metering(scoped, settings.plans, settings.app.plan, clock, limits.request_seconds + _SETTLE_GRACE)
    gateway = Gateway(
        provider or _provider(settings),
        prices,
        settings.choice.fallback,
        limits.max_output_tokens,
        limits.first_token_seconds,
        limits.between_tokens_seconds,
        cache=_cache(settings.cache),
    )
    admission, moderate = Admission(), moderate or _moderation(settings)
    return Services(
        settings=settings,
        store=scoped,
        identity=identity,
        dev_identity=dev_identity,
        app_check=_app_check(settings),
        chats=Chats(scoped, clock),
        metering=metering,
        admission=admission,
        gateway=gateway,
        llm=ModelCalls(settings, scoped, metering, gateway, prompts, clock, admission, moderate),
        prompts=prompts,
        moderate=moderate,
        jobs=Jobs(scoped, backend or _jobs_backend(settings), settings.jobs, clock),
        internal=internal or _internal_callers(settings),
        clock=clock,
    )


def build_store(settings: Settings) -> TreeStore:
    """The database itself, without the wall; for operators' commands, never for application code."""
    if settings.environment.mode == "embedded":
        from .store.sqlite import SQLiteStore

        return SQLiteStore(settings.environment.data / "data.sqlite3")
    from .store.firestore import FirestoreStore

    return FirestoreStore(_project(settings), _database(settings))


def _database(settings: Settings) -> str:
    return "(default)" if settings.cloud.database == "shared" else settings.app.id


def _project(settings: Settings) -> str:
    return settings.cloud.project or _EMULATOR_PROJECT


def _identity(settings: Settings) -> tuple[Identity, DevIdentity | None]:
    env, app_id = settings.environment, settings.app.id
    if env.mode == "cloud":
        from .identity.firebase import FirebaseIdentity

        checks = settings.identity
        verifier = FirebaseIdentity(
            _project(settings), app_id, tenant=checks.tenant or None, check_revoked=checks.check_revoked
        )
        return verifier, None
    dev = DevIdentity(app_id, load_or_create_key(env.data))
    if env.auth_emulator is None:
        return dev, dev
    from .identity.firebase import EmulatorIdentity

    return AnyOf(dev, EmulatorIdentity(_project(settings), app_id)), dev


def _app_check(settings: Settings) -> Attestation | None:
    if settings.environment.development or not settings.identity.app_check:
        return None
    from .identity.app_check import AppCheck

    return AppCheck(_project(settings), settings.identity.app_check)


def _provider(settings: Settings) -> Provider:
    env = settings.environment
    if settings.provider == "offline":
        from .llm.providers.offline import OfflineProvider

        return OfflineProvider(_OFFLINE_PACE)
    if settings.provider == "vertex":
        from .llm.providers.vertex import vertex_provider

        return vertex_provider(_project(settings), settings.cloud.region)
    from .llm.providers.openai_compatible import OpenAICompatibleProvider

    # Servers on one's own machine ask for no key, and the client library insists on one.
    key = env.openai_api_key.get_secret_value() if env.openai_api_key else "none"
    return OpenAICompatibleProvider("openai", key, env.openai_base_url)


def _jobs_backend(settings: Settings) -> Backend | None:
    policy = settings.jobs
    if settings.environment.development:
        from .jobs.embedded import EmbeddedBackend

        return EmbeddedBackend(policy.workers)
    if not (policy.url and policy.service_account):
        return None
    from .jobs.cloud_tasks import CloudTasksBackend

    project, region = _project(settings), settings.cloud.region
    queue = f"projects/{project}/locations/{region}/queues/{policy.queue or settings.app.id}"
    return CloudTasksBackend(settings.app.id, queue, policy.url, policy.service_account)


def _internal_callers(settings: Settings) -> Callers | None:
    policy = settings.jobs
    if settings.environment.development or not (policy.url and policy.service_account):
        return None
    from .jobs.oidc import ServiceAccountTokens

    return ServiceAccountTokens(policy.url, policy.service_account)


def _prices(settings: Settings) -> Prices:
    env = settings.environment
    own_machine = env.development and env.openai_model is not None and _is_loopback(env.openai_base_url)
    prices = Prices(settings.provider, settings.prices, free=settings.choice.all() if own_machine else ())
    for provider in ("openai", "vertex"):
        choice = getattr(settings.models, provider)
        if choice is not None:
            prices.check(provider, choice.all())
    if settings.provider == "openai":
        prices.check("openai", settings.choice.all())
    return prices


def _moderation(settings: Settings) -> Callable[[str], None] | None:
    key = settings.environment.openai_api_key
    if settings.guardrails.moderation == "off" or key is None:
        return None
    from .llm.moderation import OpenAIModeration

    return OpenAIModeration(key.get_secret_value(), settings.environment.openai_base_url)


def _cache(settings: Cache) -> AnswerCache | None:
    if not settings.answers:
        return None
    from .llm.cache import AnswerCache

    return AnswerCache(settings.seconds, settings.entries, settings.bytes)


def _prompts(settings: Settings) -> Prompts:
    env = settings.environment
    one_model = settings.provider == "offline" or (settings.provider == "openai" and env.openai_model is not None)
    return Prompts(
        settings.root / "app" / "prompts",
        settings.prompts,
        released=not env.development,
        own_models=not one_model,
    )


def _is_loopback(url: str | None) -> bool:
    host = urlsplit(url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def build_index(settings: Settings, store: ScopedStore) -> ScopedIndex:
    """The index of the app's documents. Connects to nothing; adapters do when they are first used.

    Args:
        store: the app's documents, where an index that keeps vectors alone has its texts.

    Raises:
        SettingsError: ``[index]`` does not hold together.
    """
    env = settings.environment
    if not env.development:
        keys = {"openai_key": bool(env.openai_api_key), "database_url": bool(env.database_url)}
        problems = list(index_problems(settings.index, **keys))
        if problems:
            raise SettingsError("\n".join(problems))
    return ScopedIndex(_index(settings, store), settings.app.id)


def _index(settings: Settings, store: ScopedStore) -> Index:
    env, index = settings.environment, settings.index
    # A laptop's index needs nothing. The emulators have a Firestore, which is of no use where there are no vectors.
    backend = {"embedded": "embedded", "emulators": "firestore", "cloud": index.backend}[env.mode]
    if backend == "firestore" and settings.embedder != "none":
        from .rag.index.firestore import FirestoreIndex

        return FirestoreIndex(_project(settings), _database(settings))
    if backend == "vertex" and index.vertex is not None:
        from .rag.index.vertex import VertexIndex

        place = f"projects/{_project(settings)}/locations/{settings.cloud.region}"
        names = index.vertex
        endpoint = f"{place}/indexEndpoints/{names.endpoint}"
        return VertexIndex(f"{place}/indexes/{names.index}", endpoint, names.deployed, names.domain, store)
    if backend == "vector_search":
        from .rag.index.vector_search import VectorSearchIndex

        place = f"projects/{_project(settings)}/locations/{settings.cloud.region}"
        return VectorSearchIndex(f"{place}/collections/{index.collection}")
    from .rag.index.words import Analyzer

    analyzer = Analyzer(index.language)
    if backend == "pgvector":
        from .rag.index.pgvector import PgvectorIndex

        return PgvectorIndex(env.database_url.get_secret_value() if env.database_url else "", analyzer)
    from .rag.index.embedded import EmbeddedIndex

    return EmbeddedIndex(env.data / "index", analyzer, index.memory_mb * 2**20)


def build_retriever(settings: Settings, index: ScopedIndex, version: Callable[[], str]) -> Retriever:
    """Search in the app's documents; ``version`` says which index version is in use."""
    wanted = settings.search
    limits = SearchLimits(wanted.passages, wanted.candidates, wanted.min_cosine, wanted.tokens, wanted.same)
    return Retriever(index, version, build_embedder(settings), limits)


def build_embedder(settings: Settings) -> Embedder | None:
    """What makes vectors of texts, or None where only words are searched."""
    index, env = settings.index, settings.environment
    if settings.embedder == "none":
        return None
    if settings.embedder == "vertex":
        from .rag.embed.vertex import VertexEmbeddings

        model: EmbeddingModel = VertexEmbeddings(
            index.embedding_model, _project(settings), settings.cloud.region, index.dimensions
        )
    elif settings.embedder == "local":
        from .rag.embed.local import LocalEmbeddings

        model = LocalEmbeddings()
    else:
        from .rag.embed.openai_compatible import OpenAIEmbeddings

        key = env.openai_api_key.get_secret_value() if env.openai_api_key else "none"
        model = OpenAIEmbeddings(index.embedding_model, key, env.openai_base_url, index.dimensions)
    return Embedder(model, index.requests_per_minute, index.tokens_per_minute)


def named_embedder(name: str, environ: Mapping[str, str]) -> Embedder | None:
    """An embedder without an app's settings: "none", "local", "openai", "openai:MODEL"; "auto" is local where it is.

    Raises:
        SettingsError: there is no such embedder, or it cannot be used here.
    """
    from .rag.embed.local import LocalEmbeddings
    from .rag.embed.openai_compatible import OpenAIEmbeddings

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
    from .rag.index.embedded import EmbeddedIndex
    from .rag.index.words import Analyzer

    return ScopedIndex(EmbeddedIndex(folder, Analyzer(language)), app_id)
