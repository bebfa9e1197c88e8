"""Build the services from the settings. Only this room knows the adapters, and it imports only those in use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from ..billing.base import Payments, Webhooks
from ..billing.checkout import Checkout
from ..billing.entitlements import Entitlements
from ..chats.store import Chats
from ..documents.catalog import Documents
from ..documents.kept_files import KeptFiles
from ..errors import SettingsError
from ..identity import AnyOf, Attestation, DevIdentity, Identity, load_or_create_key
from ..jobs import Backend, Callers, Jobs
from ..llm.attachments import Takes, takes_of
from ..llm.claude_models import is_claude
from ..llm.gateway import Gateway
from ..llm.google_locations import GLOBAL
from ..llm.prices import CLAUDE_IN_A_REGION, FLEX, STANDARD, Prices
from ..llm.types import Provider
from ..membership.guests import Guests
from ..metering.ceiling import Ceiling
from ..metering.model_calls import ModelCalls
from ..metering.reports import UsageOutbox
from ..metering.reservations import Metering
from ..metering.retries import Retries
from ..prompts.versions import Prompts
from ..push import Push
from ..records.data import Data
from ..scope import Scope
from ..settings.app import Budget, Cache, Settings, VertexChoice
from ..settings.openai_server import is_loopback
from ..store.base import DocumentStore, TreeStore
from ..store.scoped import ScopedStore
from .budget_notices import announcer
from .build_search import build_documents, build_reranker
from .bundle import Services
from .deferred import Warming, deferred
from .usage_outbox import JobOutbox

if TYPE_CHECKING:
    from ..llm.cache import AnswerCache
    from ..rag.files import Files
    from ..rag.rerank.base import Reranker
    from ..rag.web.fetch import Fetcher
    from ..telemetry.spans import Tracer

__all__ = [
    "build",
    "build_store",
    "build_tracer",
]

_SETTLE_GRACE = 30.0
"""Seconds that a reservation outlives its request's time, to leave time to settle."""

_OFFLINE_PACE = 0.01
"""Seconds between two words of the offline model."""

_EMULATOR_PROJECT = "demo-firelaunch"
"""The emulators' project if the settings name none. The prefix "demo-" keeps Google's tools from calling real services
(https://firebase.google.com/docs/emulator-suite/connect_firestore)."""


def build(
    settings: Settings,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    store: DocumentStore | None = None,
    provider: Provider | None = None,
    moderate: Callable[[str], None] | None = None,
    backend: Backend | None = None,
    internal: Callers | None = None,
    push: Push | None = None,
    files: Files | None = None,
    fetcher: Fetcher | None = None,
    reranker: Reranker | None = None,
    tracer: Tracer | None = None,
) -> Services:
    """Build the services of one app's process. Nothing connects yet: adapters connect when they are first used.

    Args:
        clock, store, provider, backend, internal, push, files, fetcher, tracer: replacements for those that the
            settings name, for tests and benchmarks.
        reranker: improves the order of the passages that a search found; None for that of the settings.
        moderate: an app's own hook, instead of that of the settings (see :mod:`firelaunch.turns.guardrails`).

    Raises:
        SettingsError: a model has no known price, a prompt has no file, or an adapter's own settings are invalid.
    """
    limits = settings.limits
    prices, prompts = _prices(settings), _prompts(settings)
    prompts_models = [prompt.model for prompt in prompts.in_use() if prompt.model]
    _check_efforts(settings, prompts_models)
    for prompt in prompts.in_use():
        if prompt.model:
            prices.check(settings.provider, [prompt.model], f"the prompt {prompt.id}")
    adapter = store or build_store(settings)
    scoped = ScopedStore(adapter, Scope(settings.app.id))
    identity, dev_identity = _identity(settings)
    entitlements = Entitlements(settings.plans, settings.app.plan, settings.billing.pauses_without_plan)
    jobs = Jobs(scoped, backend or _jobs_backend(settings), settings.jobs, clock)
    longest = limits.request_seconds + _SETTLE_GRACE
    outbox = _outbox(settings, jobs)
    ceiling = _ceiling(settings, scoped, clock, longest, jobs)
    metering = Metering(scoped, entitlements, clock, longest, ceiling=ceiling, outbox=outbox)
    tracer = tracer or build_tracer(settings)
    gateway = Gateway(
        provider or _provider(settings),
        prices,
        settings.choice.fallback,
        limits.max_output_tokens,
        limits.thinking_tokens,
        settings.choice.effort_of,
        limits.first_token_seconds,
        limits.between_tokens_seconds,
        cache=_cache(settings.cache),
        named=_named_models(settings, prompts_models),
        show_thinking=settings.choice.show_thinking,
        searches=settings.choice.searches if isinstance(settings.choice, VertexChoice) else 0,
        takes=_takes(settings, prices),
        content=tracer is not None and tracer.content,
    )
    admission, moderate = Retries(), moderate or _moderation(settings)
    documents = build_documents(
        settings,
        _project(settings),
        settings.database,
        scoped,
        jobs,
        admission,
        metering.plan_of,
        clock,
        own_machine=settings.environment.development and is_loopback(settings.openai_server.base_url),
        files=files,
        fetcher=fetcher,
        reranker=reranker or build_reranker(settings, _project(settings), gateway),
    )
    return Services(
        settings=settings,
        store=scoped,
        data=Data(scoped, scoped.scope, admission, clock),
        files=KeptFiles(
            scoped, documents.files(scoped.scope), scoped.scope, admission, clock, settings.documents.file_bytes
        ),
        identity=identity,
        agents=_agents(settings, identity, scoped),
        guests=Guests(scoped) if settings.guests else None,
        dev_identity=dev_identity,
        app_check=_app_check(settings),
        chats=Chats(scoped, clock),
        documents=documents,
        metering=metering,
        admission=admission,
        gateway=gateway,
        llm=ModelCalls(settings, scoped, metering, gateway, prompts, clock, admission, moderate),
        prompts=prompts,
        moderate=moderate,
        jobs=jobs,
        internal=internal or _internal_callers(settings),
        clock=clock,
        checkout=Checkout(
            scoped,
            entitlements,
            _payments(settings),
            settings.billing.return_url,
            settings.billing.top_ups,
            clock,
            _webhooks(settings),
        ),
        push=push or _push(settings),
        tracer=tracer,
        warming=_warming(settings, identity, adapter, documents),
    )


def build_store(settings: Settings, database: str = "") -> TreeStore:
    """Build the store without the wall around the app's part, for operators' commands, never for application code.

    Args:
        database: id of another Firestore database of the project, such as one that a restore made; else the app's own.
    """
    if settings.environment.mode == "embedded":
        from ..store.sqlite import SQLiteStore

        return SQLiteStore(settings.environment.data / "data.sqlite3")

    def firestore() -> TreeStore:
        from ..store.firestore import FirestoreStore

        return FirestoreStore(_project(settings), database or settings.database)

    return deferred(firestore)


def build_tracer(settings: Settings) -> Tracer | None:
    """Build what begins the traces of requests and jobs; None if the settings send no telemetry.

    Raises:
        SettingsError: telemetry is to be sent, and OpenTelemetry is not installed.
    """
    options = settings.telemetry_options
    if options is None:
        return None
    from ..telemetry.sinks import outbox
    from ..telemetry.spans import Tracer

    on_cloud_run = settings.environment.on_cloud_run
    return Tracer(outbox(options, settings.app.id, settings.cloud.project if on_cloud_run else ""))


def _ceiling(
    settings: Settings, store: ScopedStore, clock: Callable[[], datetime], longest: float, jobs: Jobs
) -> Ceiling | None:
    if settings.budget == Budget():
        return None
    return Ceiling(store, store.scope, settings.budget, clock, longest, announcer(jobs, store.scope))


def _project(settings: Settings) -> str:
    return settings.cloud.project or _EMULATOR_PROJECT


def _identity(settings: Settings) -> tuple[Identity, DevIdentity | None]:
    env, app_id = settings.environment, settings.app.id
    if env.mode == "cloud":
        return deferred(lambda: _firebase(settings)), None
    dev = DevIdentity(app_id, load_or_create_key(env.data), guests=settings.guests)
    if env.auth_emulator is None:
        return dev, dev

    def emulator() -> Identity:
        from ..identity.firebase import EmulatorIdentity

        return EmulatorIdentity(_project(settings), app_id, guests=settings.guests)

    return AnyOf(dev, deferred(emulator)), dev


def _firebase(settings: Settings) -> Identity:
    from ..identity.firebase import FirebaseIdentity

    checks = settings.identity
    return FirebaseIdentity(
        _project(settings),
        settings.app.id,
        tenant=checks.tenant or None,
        guests=settings.guests,
        check_revoked=checks.check_revoked,
    )


def _agents(settings: Settings, identity: Identity, store: ScopedStore) -> Identity:
    """Return what verifies agents' tokens: ``identity``, and access tokens if the settings name their keys."""
    mcp, app_id = settings.mcp, settings.app.id
    if not mcp.keys_url:
        return identity
    if not settings.mcp_resource:
        raise SettingsError("mcp.keys_url needs mcp.resource, the address of POST /mcp as agents call it. Add it.")
    from ..identity.access_tokens import AccessTokens

    def role_of(uid: str) -> str | None:
        member = store.get(Scope(app_id, uid).member())
        role = None if member is None else member.data.get("role")
        return role if isinstance(role, str) else None

    tokens = AccessTokens(
        app_id, mcp.authorization_server, mcp.keys_url, settings.mcp_resource, mcp.user_claim, role_of
    )
    return AnyOf(tokens, identity)


def _warming(settings: Settings, identity: Identity, store: DocumentStore, documents: Documents) -> Warming:
    """Return what makes the clients that a request needs; asking for a method makes what has it."""
    if settings.environment.mode == "embedded":
        return Warming([])
    return Warming([lambda: identity.verify, lambda: store.get, documents.warm])


def _app_check(settings: Settings) -> Attestation | None:
    if settings.environment.development or not settings.identity.app_check:
        return None

    def app_check() -> Attestation:
        from ..identity.app_check import AppCheck

        return AppCheck(_project(settings), settings.identity.app_check)

    return deferred(app_check)


def _push(settings: Settings) -> Push | None:
    if settings.environment.development:
        return None
    from ..push.fcm import FcmPush

    return FcmPush(_project(settings))


def _outbox(settings: Settings, jobs: Jobs) -> UsageOutbox | None:
    """Return what reports usage to Stripe's meters, if a plan has one and billing is on.

    Raises:
        SettingsError: there are no jobs, so nothing would be reported.
    """
    metered = next((name for name, plan in settings.plans.items() if plan.meter), None)
    if metered is None or settings.environment.stripe_api_key is None:
        return None
    if jobs.backend is None:
        raise SettingsError(
            f"firelaunch.toml: plans.{metered}.meter is told by jobs: set jobs.url and jobs.service_account."
        )
    return JobOutbox(jobs)


def _payments(settings: Settings) -> Payments | None:
    env = settings.environment
    if env.stripe_api_key is None:
        return None
    from ..billing.stripe import StripePayments

    return StripePayments(env.stripe_api_key, env.stripe_api_base)


def _webhooks(settings: Settings) -> Webhooks | None:
    env = settings.environment
    if env.stripe_webhook_secret is None or not env.development:
        return None
    from ..billing.stripe import StripeWebhooks

    return StripeWebhooks(env.stripe_webhook_secret)


def _provider(settings: Settings) -> Provider:
    env = settings.environment
    if settings.provider == "offline":
        from ..llm.providers.offline import OfflineProvider

        return OfflineProvider(_OFFLINE_PACE)
    if settings.provider == "vertex":
        from ..llm.providers.gemini import GeminiOptions
        from ..llm.providers.vertex import vertex_provider

        choice = settings.models.vertex
        if choice is None:
            return vertex_provider(_project(settings), GLOBAL)
        return vertex_provider(_project(settings), choice.location, options=GeminiOptions(choice.safety))
    if settings.provider == "claude":
        from ..llm.providers.claude import ANTHROPIC, ClaudeProvider, ClaudeWithKey

        anthropic_key = env.anthropic_api_key.get_secret_value() if env.anthropic_api_key else ""
        return ClaudeProvider("claude", ClaudeWithKey(anthropic_key, env.anthropic_base_url or ANTHROPIC))
    from ..llm.providers.openai_compatible import OpenAICompatibleProvider

    # A server on your own machine needs no key, and gets a word in its place.
    key = env.openai_api_key.get_secret_value() if env.openai_api_key else "none"
    tier = _service_tier(settings)
    chat = OpenAICompatibleProvider("openai", key, *settings.openai_server, service_tier=tier)
    if settings.openai_server.base_url is not None:
        return chat
    from ..llm.providers.openai_responses import OpenAIProvider, OpenAIResponsesProvider

    return OpenAIProvider(chat, OpenAIResponsesProvider("openai", key, service_tier=tier))


def _takes(settings: Settings, prices: Prices) -> Takes:
    """Return which files the app's models take."""
    own_server: tuple[str, ...] | None = None
    if settings.provider == "openai" and settings.openai_server.base_url is not None:
        choice = settings.models.openai
        own_server = ("image",) if choice is None else choice.attachments
    return takes_of(settings.provider, has_audio_price=prices.has_audio, own_server=own_server)


def _named_models(settings: Settings, prompts_models: list[str]) -> dict[str, str]:
    """Return the models that a workflow may ask for, by name."""
    choice, named = settings.choice, {}
    if settings.environment.development:
        # The deployed app's models may not be here. A workflow that names one gets the model that is.
        named = {model: choice.chat for other in settings.models.named().values() for model in other.all()}
    own = {model: model for model in (*choice.all(), *prompts_models)}
    return {"chat": choice.chat, "cheap": choice.cheap, **named, **own}


def _check_efforts(settings: Settings, prompts_models: list[str]) -> None:
    for provider, choice in settings.models.named().items():
        named = choice.effort if isinstance(choice.effort, dict) else {}
        unknown = sorted(set(named) - {*choice.all(), *prompts_models}) if named else []
        if unknown:
            raise SettingsError(
                f"firelaunch.toml: models.{provider}.effort names {unknown[0]!r}, which is none of the models there: "
                f"name one of {', '.join(choice.all())}, or write one effort for all."
            )


def _jobs_backend(settings: Settings) -> Backend | None:
    policy = settings.jobs
    if settings.environment.development:
        from ..jobs.embedded import EmbeddedBackend

        return EmbeddedBackend(policy.workers)
    if not (policy.url and policy.service_account):
        return None
    from ..jobs.cloud_tasks import CloudTasksBackend

    project, region = _project(settings), settings.cloud.region
    queue = f"projects/{project}/locations/{region}/queues/{policy.queue or settings.app.id}"
    return CloudTasksBackend(settings.app.id, queue, policy.url, policy.service_account)


def _internal_callers(settings: Settings) -> Callers | None:
    policy = settings.jobs
    if settings.environment.development or not (policy.url and policy.service_account):
        return None

    def tokens() -> Callers:
        from ..jobs.oidc import ServiceAccountTokens

        return ServiceAccountTokens(policy.url, policy.service_account)

    return deferred(tokens)


def _service_tier(settings: Settings) -> str:
    choice = settings.models.openai
    return choice.service_tier if choice is not None else ""


def _price_factor(settings: Settings) -> Callable[[str], Decimal]:
    """Return what the table's price of a model is multiplied by, as it is for the standard tier, everywhere."""
    if settings.provider == "openai":
        factor = FLEX if _service_tier(settings) == "flex" else STANDARD
        return lambda _: factor
    vertex = settings.models.vertex
    if settings.provider == "vertex" and vertex is not None and vertex.location != GLOBAL:
        return lambda model: CLAUDE_IN_A_REGION if is_claude(model) else STANDARD
    return lambda _: STANDARD


def _check_tier(settings: Settings) -> None:
    """Check that models of the priority tier have prices of their own, since the table has none.

    Raises:
        SettingsError: one has none.
    """
    choice = settings.models.openai
    missing = [model for model in choice.all() if model not in settings.prices] if choice is not None else []
    if _service_tier(settings) == "priority" and missing:
        raise SettingsError(
            f"firelaunch.toml: models.openai.service_tier is 'priority', and no price of that tier is known for "
            f'{missing[0]!r}: add [prices."{missing[0]}"] with its input and output in dollars per million tokens.'
        )


def _prices(settings: Settings) -> Prices:
    env = settings.environment
    own_machine = env.development and env.openai_model is not None and is_loopback(settings.openai_server.base_url)
    free = settings.choice.all() if own_machine else ()
    prices = Prices(settings.provider, settings.prices, free=free, factor=_price_factor(settings))
    _check_tier(settings)
    for provider, choice in settings.models.named().items():
        prices.check(provider, choice.all(), f"firelaunch.toml: models.{provider}")
    if settings.provider == "openai" and env.openai_model:
        prices.check("openai", [env.openai_model], "OPENAI_MODEL")
    return prices


def _moderation(settings: Settings) -> Callable[[str], None] | None:
    key = settings.environment.openai_api_key
    if settings.guardrails.moderation == "off" or key is None:
        return None
    from ..llm.moderation import OpenAIModeration

    return OpenAIModeration(key.get_secret_value(), settings.openai_server)


def _cache(settings: Cache) -> AnswerCache | None:
    if not settings.answers:
        return None
    from ..llm.cache import AnswerCache

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
