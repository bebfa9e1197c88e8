"""Build the functions' apps from the environment, as :mod:`firelaunch.services.build` builds the services.

Variables: GOOGLE_CLOUD_PROJECT; DEDICATED_APPS, the ids of the apps that have a database of their own, with commas
between them, and "app=database" where its id is not the app's; for billing BILLING_APPS, BILLING_SHARED,
STRIPE_API_KEY, STRIPE_WEBHOOK_SECRET, INVOKER and INVOKER_AUDIENCE (docs/billing.md); for functions that are scoped
APPS, INVOKER, INVOKER_AUDIENCE and what the apps' settings read (docs/functions.md); and, on a laptop alone,
FIRESTORE_EMULATOR_HOST, FIREBASE_AUTH_EMULATOR_HOST and STRIPE_API_BASE.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pydantic import SecretStr

from ..api.caller_tokens import ServiceTokens
from ..billing.base import Payments
from ..billing.ledger import Ledger
from ..billing.reconcile import Reconciliation
from ..billing.webhooks import WebhookInbox
from ..errors import SettingsError
from ..membership.members import Membership
from ..scope import Scope, check_app_id
from ..server.app import App
from ..services.build import build, build_tracer
from ..services.bundle import Services
from ..settings.app import MODEL_KEYS, Settings
from ..store.base import DocumentStore
from ..store.scoped import ScopedStore
from ..telemetry import configure_logs
from ..telemetry.options import read_options
from ..telemetry.spans import Tracer
from .host import Host
from .membership import ProjectTokens, membership_app
from .stripe_webhook import Invoker, reconciliation_app, webhook_app

__all__ = ["build_host", "build_membership", "build_reconciliation", "build_webhook", "databases"]


def build_membership(environ: Mapping[str, str] = os.environ) -> App:
    """Return the membership function's app. Adapters connect when they are first used.

    Raises:
        SettingsError: a variable is missing, or one that is for a laptop alone is set on Cloud Run.
    """
    from ..membership.firebase import FirebaseDirectory

    project = _project(environ)
    configure_logs(structured=bool(environ.get("K_SERVICE")), project=project)
    database = databases(environ)
    membership = Membership(FirebaseDirectory(project), database, database(None), lambda: datetime.now(UTC))
    return _traced(membership_app(membership, _tokens(project, environ)), environ)


def build_webhook(environ: Mapping[str, str] = os.environ) -> App:
    """Return the app that receives Stripe's events.

    Raises:
        SettingsError: a variable is missing, or one that is for a laptop alone is set on Cloud Run.
    """
    from ..billing.stripe import StripeWebhooks

    configure_logs(structured=bool(environ.get("K_SERVICE")), project=_project(environ))
    shared = environ.get("BILLING_SHARED", "") == "1"
    inbox = WebhookInbox(_ledgers(environ, _payments(environ)), lambda: datetime.now(UTC), shared=shared)
    description = "the signing secret (whsec_...) of the Stripe endpoint that leads here"
    webhooks = StripeWebhooks(SecretStr(_required(environ, "STRIPE_WEBHOOK_SECRET", description)))
    return _traced(webhook_app(inbox, webhooks), environ)


def build_reconciliation(environ: Mapping[str, str] = os.environ) -> App:
    """Return the app that compares Stripe's subscriptions with the store's.

    Raises:
        SettingsError: a variable is missing, or one that is for a laptop alone is set on Cloud Run.
    """
    configure_logs(structured=bool(environ.get("K_SERVICE")), project=_project(environ))
    payments = _payments(environ)
    app = reconciliation_app(Reconciliation(payments, _ledgers(environ, payments)), _invoker(environ))
    return _traced(app, environ)


def _traced(app: App, environ: Mapping[str, str]) -> App:
    """Have a function's requests traced, if the environment asks for it."""
    options = read_options(environ)
    if options is not None:
        from ..telemetry.sinks import outbox

        app.tracer = Tracer(outbox(options, app.name, environ.get("GOOGLE_CLOUD_PROJECT", "")))
    return app


def build_host(environ: Mapping[str, str] = os.environ) -> Host:
    """Return the apps that ``scoped`` functions serve, and the check of their callers.

    Raises:
        SettingsError: a variable is missing, an app's settings are not valid, or two of the apps share an id.
    """
    folders = _required(environ, "APPS", "the folders of the apps that the functions serve, with commas between them")
    apps: dict[str, Services] = {}
    tracer: Tracer | None = None
    # Functions call no model, so they need no key. Set the key if one of your own functions calls a model.
    defaults = dict.fromkeys(MODEL_KEYS, "none") if environ.get("FIRELAUNCH_MODE") == "cloud" else {}
    for folder in filter(None, (name.strip() for name in folders.split(","))):
        settings = Settings.load(Path(folder) / "firelaunch.toml", {**defaults, **environ})
        if settings.app.id in apps:
            raise SettingsError(f"APPS names two folders of the app {settings.app.id!r}: take one of them out.")
        configure_logs(structured=settings.environment.on_cloud_run, project=settings.cloud.project)
        tracer = tracer or build_tracer(settings)
        apps[settings.app.id] = build(settings, tracer=tracer)
    return Host(apps, _invoker(environ), tracer)


def _ledgers(environ: Mapping[str, str], payments: Payments) -> dict[str, Ledger]:
    names = _names(_required(environ, "BILLING_APPS", "the ids of the apps that sell plans, with commas between them"))
    database = databases(environ)
    scopes = [Scope(name) for name in names]
    return {app.app_id: Ledger(ScopedStore(database(app.app_id), app), payments, app) for app in scopes}


def _payments(environ: Mapping[str, str]) -> Payments:
    from ..billing.stripe import StripePayments

    base = environ.get("STRIPE_API_BASE")
    if base and environ.get("K_SERVICE"):
        raise SettingsError("STRIPE_API_BASE is set on Cloud Run (K_SERVICE is set): the key would go there. Unset it.")
    return StripePayments(SecretStr(_required(environ, "STRIPE_API_KEY", "a key of the Stripe account")), base)


def _invoker(environ: Mapping[str, str]) -> Invoker | None:
    if not environ.get("K_SERVICE") and not environ.get("INVOKER"):
        return None
    from ..jobs.oidc import ServiceAccountTokens

    email = _required(environ, "INVOKER", "the e-mail address of the service account that may call this")
    audience = _required(environ, "INVOKER_AUDIENCE", "the audience of its tokens: this address")
    return ServiceTokens(ServiceAccountTokens(audience, email), environ.get("K_SERVICE", ""))


def databases(environ: Mapping[str, str]) -> Callable[[str | None], DocumentStore]:
    """Return a function that finds the Firestore database of an app by its id, and the project's own by None.

    Raises:
        SettingsError, InvalidId: DEDICATED_APPS names something that is no app's id, or no database's.
    """
    from ..store.firestore import FirestoreStore

    project = _project(environ)
    dedicated = dict(_dedicated(environ.get("DEDICATED_APPS", "")))

    @cache
    def store(database: str) -> DocumentStore:
        return FirestoreStore(project, database)

    return lambda app_id: store(dedicated.get(app_id or "", "(default)"))


def _dedicated(listed: str) -> Iterator[tuple[str, str]]:
    """Each app's id and its database's: "app", or "app=database" where that is another one."""
    for entry in filter(None, (entry.strip() for entry in listed.split(","))):
        app, _, database = entry.partition("=")
        yield check_app_id(app), check_app_id(database or app)


def _names(comma_separated: str) -> list[str]:
    return [check_app_id(name.strip()) for name in comma_separated.split(",") if name.strip()]


def _required(environ: Mapping[str, str], name: str, description: str) -> str:
    if not environ.get(name, "").strip(" ,"):
        raise SettingsError(f"{name} is not set: set it to {description}.")
    return environ[name]


def _project(environ: Mapping[str, str]) -> str:
    if environ.get("K_SERVICE"):
        for name in ("FIRESTORE_EMULATOR_HOST", "FIREBASE_AUTH_EMULATOR_HOST"):
            if environ.get(name):
                raise SettingsError(
                    f"{name} is set on Cloud Run (K_SERVICE is set): tokens would go unchecked. Unset it."
                )
    return _required(environ, "GOOGLE_CLOUD_PROJECT", "the Firebase project's id")


def _tokens(project: str, environ: Mapping[str, str]) -> ProjectTokens:
    from ..identity.firebase import EmulatorTokens, FirebaseTokens

    return EmulatorTokens(project) if environ.get("FIREBASE_AUTH_EMULATOR_HOST") else FirebaseTokens(project)
