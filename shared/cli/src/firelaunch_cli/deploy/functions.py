"""The table of functions: which of functions/main.py a project and an app have, and what calls them.

All functions of one app are one Cloud Run service, which runs as the app's own account (docs/adr/0018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from firelaunch.settings.app import MODEL_KEYS, Settings

from .calls import Calls, DocumentTrigger, uploads_of
from .resources import (
    AUTH_ADMIN,
    DATASTORE_USER,
    OF_FUNCTIONS,
    Place,
    Refusal,
    Role,
    Schedule,
    Service,
    app_service,
    environ_of,
    keeps_documents,
    sells_plans,
)

__all__ = [
    "WEBHOOK_SECRET",
    "AppFunctions",
    "app_functions",
    "dedicated_entry",
    "membership_service",
]

MEMBERSHIP = "firelaunch-membership"
"""The membership function's service, and its account."""

TARGET = "app_functions"
"""The entry point that serves all functions of one app, each below its own name."""

EVERY_APP = ("rollup_usage", "expire_reservations", "erase_user", "notify")
BILLING = ("stripe_webhook", "reconcile_billing")
DOCUMENTS = ("ingest_upload", "on_document_written")

WEBHOOK_SECRET = "STRIPE_WEBHOOK_SECRET"  # noqa: S105 - a variable's name

_LONGEST = "1800s"
_THREADS = 8
"""Calls that one instance answers at a time. Cloud Run sends it more than that: a call whose body is slow counts
there too, and takes no thread (docs/adr/0022)."""


@dataclass(frozen=True, slots=True)
class AppFunctions:
    """One app's functions: their service, and what calls it."""

    service: Service
    calls: Calls


def app_functions(settings: Settings, place: Place) -> AppFunctions | None:
    """An app's functions; None where it is private, and so has no jobs, which nearly all of them enqueue."""
    app, whole = settings.app.id, app_service(settings, place)
    if whole.work is None:
        return None
    service = _service(settings, place, whole)
    url, documents = place.url(service.name), keeps_documents(settings)
    uploads = uploads_of(settings, place, f"fl-uploads-{app}", url, "/ingest_upload")
    removals = DocumentTrigger(
        trigger=f"fl-removals-{app}",
        database=settings.database,
        pattern=f"apps/{app}/users/*/documents/*",
        service=service.name,
        path="/on_document_written",
    )
    return AppFunctions(
        service,
        Calls(
            account=whole.work.account,
            schedules=tuple(_schedules(settings, url)),
            uploads=(uploads,) if documents else (),
            documents=(removals,) if documents else (),
        ),
    )


def membership_service(place: Place, dedicated: frozenset[str]) -> Service:
    """The membership function's service: the one that may change users, and the project's own.

    Args:
        dedicated: the apps that have a database of their own, as :func:`dedicated_entry`.
    """
    return Service(
        name=MEMBERSHIP,
        account=MEMBERSHIP,
        roles=(Role(AUTH_ADMIN), Role(DATASTORE_USER)),
        environ={
            "GOOGLE_CLOUD_PROJECT": place.project,
            "DEDICATED_APPS": ",".join(sorted(dedicated)),
            "FUNCTION_TARGET": "membership",
        },
        function="membership",
        refusal=Refusal("POST", "/apps/smoke/join", 401),
    )


def dedicated_entry(app: str, database_id: str) -> str:
    """Name an app that has a database of its own in DEDICATED_APPS: "app", or "app=database" where the ids differ."""
    return app if database_id in ("", app) else f"{app}={database_id}"


def _service(settings: Settings, place: Place, whole: Service) -> Service:
    app, name = settings.app.id, f"{OF_FUNCTIONS}{settings.app.id}"
    billing = sells_plans(settings)
    wanted = (*EVERY_APP, *(BILLING if billing else ()), *(DOCUMENTS if keeps_documents(settings) else ()))
    environ = {
        **environ_of(settings, place),
        "FIRELAUNCH_JOBS_URL": whole.environ["FIRELAUNCH_JOBS_URL"],
        "FIRELAUNCH_JOBS_ACCOUNT": whole.environ["FIRELAUNCH_JOBS_ACCOUNT"],
        "FUNCTION_TARGET": TARGET,
        "FUNCTIONS": ",".join(wanted),
        "APPS": f"apps/{app}",
        "INVOKER": whole.environ["FIRELAUNCH_JOBS_ACCOUNT"],
        "INVOKER_AUDIENCE": place.url(name),
        "THREADS": str(_THREADS),
        **_telemetry(settings),
    }
    # They call no model, so that its key stays with the app.
    secrets = {key: secret for key, secret in whole.secrets.items() if key not in MODEL_KEYS}
    if billing:
        own = dedicated_entry(app, settings.cloud.database_id) if settings.cloud.database == "dedicated" else ""
        environ |= {"BILLING_APPS": app, "BILLING_SHARED": "1", "DEDICATED_APPS": own}
        secrets[WEBHOOK_SECRET] = f"{app}-stripe-webhook-secret"
    return Service(
        name=name,
        account=whole.account,
        roles=whole.roles,
        environ=environ,
        secrets=secrets,
        function=TARGET,
        refusal=Refusal("POST", "/rollup_usage/apps/-", 401),
    )


def _telemetry(settings: Settings) -> dict[str, str]:
    """Return the variables by which functions that read no app's settings send their traces where the app does."""
    if not settings.telemetry.endpoint:
        return {}
    metrics = {} if settings.telemetry.metrics else {"OTEL_METRICS_EXPORTER": "none"}
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": settings.telemetry.endpoint, **metrics}


def _schedules(settings: Settings, url: str) -> Iterator[Schedule]:
    app = settings.app.id
    yield Schedule(f"{app}-rollup-usage", "30 0 * * *", url, f"/rollup_usage/apps/{app}", runs=30)
    yield Schedule(f"{app}-expire-reservations", "15 * * * *", url, f"/expire_reservations/apps/{app}", runs=30 * 24)
    if sells_plans(settings):
        yield Schedule(f"{app}-reconcile-billing", "45 3 * * *", url, "/reconcile_billing", runs=30, deadline=_LONGEST)
