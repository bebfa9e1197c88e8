"""From settings to services: the one room that knows the adapters, and imports only those in use."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from .billing.base import Payments
from .billing.desk import Desk
from .billing.entitlements import Entitlements
from .chats import Chats
from .identity import AnyOf, Attestation, DevIdentity, Identity, load_or_create_key
from .llm.base import Provider
from .llm.gateway import Gateway
from .llm.prices import Prices
from .prompts import Prompts
from .scope import Scope
from .services import Services
from .settings import Settings
from .store.base import DocumentStore
from .store.scoped import ScopedStore
from .usage import Metering

__all__ = ["build", "build_store"]

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
) -> Services:
    """The services of one app's process. Connects to nothing; adapters do when they are first used.

    Args:
        clock, store, provider: others than the settings name, for tests and benchmarks.

    Raises:
        SettingsError: a model has no known price, a prompt has no file, or an adapter's own settings do not hold.
    """
    limits = settings.limits
    scoped = ScopedStore(store or build_store(settings), Scope(settings.app.id))
    identity, dev_identity = _identity(settings)
    entitlements = Entitlements(settings.plans, settings.app.plan)
    return Services(
        settings=settings,
        store=scoped,
        identity=identity,
        dev_identity=dev_identity,
        app_check=_app_check(settings),
        chats=Chats(scoped, clock),
        metering=Metering(scoped, entitlements, clock, limits.request_seconds + _SETTLE_GRACE),
        gateway=Gateway(
            provider or _provider(settings),
            _prices(settings),
            settings.choice.fallback,
            limits.max_output_tokens,
            limits.first_token_seconds,
            limits.between_tokens_seconds,
        ),
        prompts=Prompts(settings.root / "app" / "prompts", settings.prompts),
        clock=clock,
        desk=Desk(scoped, entitlements, _payments(settings), settings.billing.return_url),
    )


def build_store(settings: Settings) -> DocumentStore:
    """The database itself, without the wall; for operators' commands, never for application code."""
    if settings.environment.mode == "embedded":
        from .store.sqlite import SQLiteStore

        return SQLiteStore(settings.environment.data / "data.sqlite3")
    from .store.firestore import FirestoreStore

    database = "(default)" if settings.cloud.database == "shared" else settings.app.id
    return FirestoreStore(_project(settings), database)


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


def _payments(settings: Settings) -> Payments | None:
    env = settings.environment
    if env.stripe_api_key is None:
        return None
    from .billing.stripe import StripePayments

    return StripePayments(env.stripe_api_key, env.stripe_api_base)


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


def _is_loopback(url: str | None) -> bool:
    host = urlsplit(url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
