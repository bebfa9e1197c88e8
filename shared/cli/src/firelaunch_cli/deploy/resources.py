"""The one table of what a deploy makes: names, roles, settings. Whatever deploys takes them from here.

Nothing here runs anything. ``docs/deploy.md`` explains the choices; ``firestore.indexes.json`` has the indexes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from firelaunch.errors import SettingsError
from firelaunch.settings.app import TELEMETRY_KEY, Settings
from firelaunch.settings.environments import VARIABLE

from .declarations import NOTHING, Declarations

__all__ = [
    "ACCOUNT_USER",
    "APIS",
    "BUILDER",
    "BUILDER_ROLE",
    "DEFAULT_DATABASE",
    "DEPLOYER",
    "ENQUEUER",
    "FEATURE_APIS",
    "FEATURE_PERMISSIONS",
    "FEDERATION_APIS",
    "FIREBASE",
    "FIRST_APIS",
    "FORBIDDEN_ROLES",
    "INVOKER",
    "LONGEST_APP_ID",
    "NO_PROJECT",
    "OF_FUNCTIONS",
    "PERMISSIONS",
    "PROBES",
    "QUEUE",
    "QUOTA_VIEWER",
    "REPOSITORY",
    "RUN",
    "SECRET_READER",
    "TAGS",
    "Place",
    "Refusal",
    "Role",
    "Schedule",
    "Service",
    "Work",
    "account_of",
    "app_service",
    "bucket",
    "databases",
    "environ_of",
    "features",
    "keeps_documents",
    "permissions_of",
    "sells_plans",
]

FIRST_APIS = ("cloudbilling.googleapis.com", "cloudresourcemanager.googleapis.com")
"""Those by which a deploy looks at the project itself. The calls of a service account count for the project that it was
made in, so they have to be on there before anything else (https://cloud.google.com/docs/quotas/quota-project)."""

APIS = (
    *FIRST_APIS,
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudquotas.googleapis.com",
    "cloudscheduler.googleapis.com",
    "cloudtasks.googleapis.com",
    "firebase.googleapis.com",
    "firebaserules.googleapis.com",
    "firebasestorage.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "identitytoolkit.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
)
FEATURE_APIS: Mapping[str, str] = {
    "vertex": "aiplatform.googleapis.com",
    "vector_search": "vectorsearch.googleapis.com",
    "ranking": "discoveryengine.googleapis.com",
    "events": "eventarc.googleapis.com",
    "uploads": "pubsub.googleapis.com",
    "alerts": "monitoring.googleapis.com",
    "log_metrics": "logging.googleapis.com",
    "telemetry": "telemetry.googleapis.com",
    "hosting": "firebasehosting.googleapis.com",
}
"""By what a setting names (a models' provider, an embedder, an index), the API that it takes besides; and those by
which an app and its functions hear of its users' files and documents (:mod:`.calls`)."""

_ROLES: Mapping[str, str] = {
    "roles/serviceusage.serviceUsageAdmin": "services.enable services.get services.list",
    "roles/serviceusage.serviceUsageConsumer": "services.use",
    "roles/resourcemanager.projectIamAdmin": "projects.get projects.getIamPolicy projects.setIamPolicy",
    "roles/iam.serviceAccountAdmin": (
        "serviceAccounts.create serviceAccounts.get serviceAccounts.list serviceAccounts.getIamPolicy "
        "serviceAccounts.setIamPolicy"
    ),
    "roles/iam.serviceAccountUser": "serviceAccounts.actAs",
    "roles/run.admin": (
        "services.create services.get services.list services.update services.getIamPolicy services.setIamPolicy "
        "revisions.get"
    ),
    "roles/artifactregistry.admin": "repositories.create repositories.get repositories.list",
    "roles/cloudbuild.builds.editor": "builds.create builds.get",
    "roles/cloudscheduler.admin": "jobs.create jobs.delete jobs.list jobs.update",
    "roles/cloudtasks.admin": "queues.create queues.list queues.getIamPolicy queues.setIamPolicy",
    "roles/eventarc.developer": (
        "triggers.create triggers.delete triggers.get triggers.list triggers.update operations.get"
    ),
    "roles/pubsub.admin": (
        "topics.create topics.list topics.getIamPolicy topics.setIamPolicy topics.attachSubscription "
        "subscriptions.create subscriptions.delete subscriptions.list subscriptions.update"
    ),
    "roles/storage.admin": (
        "buckets.create buckets.get buckets.list buckets.update objects.create objects.get objects.list"
    ),
    "roles/secretmanager.admin": (
        "secrets.create secrets.list secrets.getIamPolicy secrets.setIamPolicy versions.add versions.list"
    ),
    "roles/datastore.owner": (
        "backupSchedules.create backupSchedules.list databases.create databases.getMetadata databases.list "
        "databases.update entities.create entities.get entities.update "
        "indexes.create indexes.list indexes.update operations.get"
    ),
    "roles/firebase.admin": "projects.get projects.update clients.create clients.get clients.list",
    "roles/firebaseauth.admin": "configs.create configs.get configs.update",
    "roles/firebaserules.admin": (
        "releases.create releases.get releases.list releases.update rulesets.create rulesets.get"
    ),
    "roles/firebasestorage.admin": "defaultBucket.create",
}


def permissions_of(roles: Mapping[str, str]) -> dict[str, str]:
    """Each permission with its role, from what each role is needed for, written without the service's name."""
    return {f"{role.split('.')[0][6:]}.{name}": role for role, names in roles.items() for name in names.split()}


PERMISSIONS: Mapping[str, str] = permissions_of(_ROLES)
"""The permissions of whoever deploys, each with the least of Google's roles that grants it
(https://cloud.google.com/iam/docs/roles-permissions). Of Firebase's roles only ``firebase.admin`` may add Firebase to a
project. A test derives these from the requests of ``make test-deploy``."""

FEATURE_PERMISSIONS: Mapping[str, Mapping[str, str]] = {
    "vector_search": permissions_of({"roles/vectorsearch.collectionWriter": "collections.create collections.get"}),
    "alerts": permissions_of(
        {
            "roles/monitoring.alertPolicyEditor": "alertPolicies.create alertPolicies.delete alertPolicies.list",
            "roles/monitoring.notificationChannelEditor": "notificationChannels.create notificationChannels.list",
        }
    ),
    "hosting": permissions_of({"roles/firebasehosting.admin": "sites.create sites.get sites.update"}),
    "log_metrics": permissions_of({"roles/logging.configWriter": "logMetrics.create logMetrics.list"}),
}
"""Those by what a setting names, as :data:`FEATURE_APIS`. An index of Vertex AI has its own in :mod:`.vertex`."""

QUOTA_VIEWER = "roles/cloudquotas.viewer"
"""Of whoever deploys, to have quotas looked at; without it the deploy goes on with a warning."""

FIREBASE = "https://firebase.googleapis.com/v1beta1"
"""Firebase's own API of projects and their apps."""

REPOSITORY = "cloud-run-source-deploy"
"""Where ``gcloud run deploy --source`` keeps images (https://cloud.google.com/run/docs/deploying-source-code)."""

BUILDER = "firelaunch-build"
BUILDER_ROLE = "roles/run.builder"
"""The account that builds images; without it builds would run as the project's default account, often an editor."""

DEPLOYER = "firelaunch-deploy"
"""The account that continuous integration deploys as, with the roles of :data:`PERMISSIONS` (docs/ci.md)."""

FEDERATION_APIS = ("iamcredentials.googleapis.com", "sts.googleapis.com")
"""The APIs that its tokens need (https://cloud.google.com/iam/docs/workload-identity-federation-with-deployment-pipelines)."""

NO_PROJECT = "PROJECT"
"""Stands for the project's id where none is named yet, as in a dry run."""

TAGS = ("candidate", "preview", "previous")
"""Of revisions: the one that is tried, the one that is shown to somebody, the one to go back to."""

OF_FUNCTIONS = "fl-fn-"
"""The prefix of the name of an app's functions service."""

_RESERVED = ("firelaunch-", OF_FUNCTIONS)

_ADDRESS = 46
"""Characters of a service's name and a tag together at most: they are one label of a host name
(https://cloud.google.com/run/docs/rollouts-rollbacks-traffic-migration#tags)."""

LONGEST_APP_ID = _ADDRESS - len(OF_FUNCTIONS) - max(map(len, TAGS))
"""Every other name that is made of an app's id takes more, or is cut (:func:`account_of`)."""

DEFAULT_DATABASE = "(default)"
DATASTORE_USER = "roles/datastore.user"
OBJECT_USER = "roles/storage.objectUser"
AUTH_ADMIN = "roles/firebaseauth.admin"
AUTH_VIEWER = "roles/firebaseauth.viewer"
SECRET_READER = "roles/secretmanager.secretAccessor"  # noqa: S105 - a role's name
ENQUEUER = "roles/cloudtasks.enqueuer"
ACCOUNT_USER = "roles/iam.serviceAccountUser"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 - a role's name
INVOKER = "roles/run.invoker"
EVENT_RECEIVER = "roles/eventarc.eventReceiver"
FEATURE_ROLES: Mapping[str, str] = {
    "vertex": "roles/aiplatform.user",
    "vector_search": "roles/vectorsearch.dataObjectWriter",
    "ranking": "roles/discoveryengine.viewer",
    "telemetry": "roles/telemetry.writer",
}
"""Of the account of an app that uses such a feature. Project-wide: neither has a form for one app
(docs/threat-model.md)."""

FORBIDDEN_ROLES = (
    *("roles/owner", "roles/editor", "roles/firebase.admin", "roles/firebase.sdkAdminServiceAgent", AUTH_ADMIN),
    *("roles/identitytoolkit.admin", "roles/identityplatform.admin", "roles/secretmanager.admin", SECRET_READER),
    *("roles/datastore.owner", DATASTORE_USER, "roles/datastore.viewer", "roles/cloudtasks.admin", ENQUEUER),
    *(TOKEN_CREATOR, ACCOUNT_USER, "roles/iam.serviceAccountAdmin"),
    *("roles/storage.admin", "roles/storage.objectAdmin", OBJECT_USER, "roles/storage.objectViewer"),
    *("roles/resourcemanager.projectIamAdmin", "roles/run.admin", INVOKER),
)
"""Project-wide roles by which an app's service would reach what is not its own. Its own bindings, with the
conditions on its database and on its files, are let be; the same roles without them are not."""

RUN: Mapping[str, str | int | bool] = {
    "cpu": 1,
    "cpu-boost": True,
    "execution-environment": "gen2",
    "session-affinity": False,
    "port": 8080,
    "timeout": 3600,
}
"""Settings of every service. ``timeout`` is in seconds, and Cloud Run's most: streams are long, and what a model may
take is ``limits.request_seconds``."""

PROBES: Mapping[str, Mapping[str, str | int]] = {
    "startup": {"httpGet.path": "/ready", "timeoutSeconds": 2, "periodSeconds": 2, "failureThreshold": 120},
    "liveness": {"httpGet.path": "/live", "timeoutSeconds": 5, "periodSeconds": 10, "failureThreshold": 12},
}
"""What Cloud Run asks an app: whether it reaches its database, before it gets requests; and later whether it answers,
which touches no database, because a restart would not mend one. A start may take 240 seconds, which is Google's most:
the role of a new account takes minutes to hold (https://cloud.google.com/run/docs/configuring/healthchecks)."""

QUEUE: Mapping[str, str | int] = {"max-attempts": -1, "min-backoff": "1s", "max-backoff": "300s"}
"""Of each app's queue: Cloud Tasks brings a job until the app says that it is done or dead (docs/jobs.md)."""

_ACCOUNT_ID = 30
"""Characters of a service account's id at most; six at least
(https://cloud.google.com/iam/docs/service-accounts-create)."""

_MOST_REQUESTS = 1_000
"""Requests of an instance at a time at most (https://cloud.google.com/run/docs/about-concurrency)."""

_DATABASE_ID = 4
"""Characters of a named database's id at least (https://cloud.google.com/firestore/docs/manage-databases)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A project, and the region of what is made in it. ``number`` is the project's; Cloud Run's addresses have it."""

    project: str
    region: str
    number: str = "PROJECT_NUMBER"

    def email(self, account: str) -> str:
        """The address of a service account by its id."""
        return f"{account}@{self.project}.iam.gserviceaccount.com"

    def member(self, account: str) -> str:
        """The account as IAM policies name it."""
        return f"serviceAccount:{self.email(account)}"

    def only(self, database: str) -> str:
        """The IAM condition that binds a role to one database
        (https://cloud.google.com/firestore/docs/manage-databases#database_access_permissions)."""
        return f'resource.name=="projects/{self.project}/databases/{database}"'

    def below(self, bucket: str, folder: str) -> str:
        """The IAM condition that binds a role to the objects below a folder, and to listing them
        (https://cloud.google.com/iam/docs/conditions-attribute-reference#api-attributes)."""
        whole, listed = (
            f"projects/_/buckets/{bucket}",
            'api.getAttribute("storage.googleapis.com/objectListPrefix", "")',
        )
        return (
            f'resource.name.startsWith("{whole}/objects/{folder}/") || '
            f'(resource.name=="{whole}" && {listed}.startsWith("{folder}/"))'
        )

    def url(self, service: str) -> str:
        """A service's address, which is known before it is made
        (https://cloud.google.com/run/docs/triggering/https-request#deterministic)."""
        return f"https://{service}-{self.number}.{self.region}.run.app"


@dataclass(frozen=True, slots=True)
class Role:
    """A role in the project; for one ``database`` alone, or for a ``bucket``'s ``folder``, where there is one."""

    name: str
    database: str | None = None
    bucket: str | None = None
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A Cloud Scheduler job: a POST to ``path`` of the service at ``url``, which is its token's audience too.

    Args:
        cron: when.
        zone: the time zone of ``cron``; empty for UTC, which is Cloud Scheduler's own.
        retries: how often a call that fails is made again; 5 is the most.
        runs: how many in a month of 30 days.
        deadline: of one call, in seconds with an "s"; 1800s is the most
            (https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs).
    """

    name: str
    cron: str
    url: str
    path: str
    runs: int
    deadline: str = "180s"
    zone: str = ""
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """The resources that deliver an app's jobs: a queue, a Cloud Scheduler job, and the account that both sign as.

    Args:
        sweep: looks for jobs that Cloud Tasks was never told of (docs/jobs.md).
        roles: of the account, in the project.
    """

    queue: str
    account: str
    sweep: Schedule
    roles: tuple[Role, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request without a token, and the status that the service answers it with."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Service:
    """One Cloud Run service: an app's, or one of functions.

    Args:
        secrets: by environment variable, the secret's name.
        function: the entry point in functions/main.py; None where it is an app.
        refusal: of a function, by which a new revision is tried.
        work: of a public app; Cloud Run takes the signature out of the tokens that it checks itself, so that a private
            one cannot tell who brings a job.
    """

    name: str
    account: str
    roles: tuple[Role, ...]
    environ: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    function: str | None = None
    refusal: Refusal | None = None
    work: Work | None = None
    public: bool = True
    concurrency: int = 80
    min_instances: int = 0
    max_instances: int = 10
    memory: str = "512Mi"

    @property
    def memory_bytes(self) -> int:
        """Memory of an instance."""
        return int(self.memory[:-2]) * (2**30 if self.memory.endswith("Gi") else 2**20)


def app_service(settings: Settings, place: Place, declared: Declarations = NOTHING) -> Service:
    """An app's service.

    Args:
        declared: what the app's code declares.

    Raises:
        SettingsError: its id is reserved, or too short for a database of its own; its concurrency is above Cloud Run's.
    """
    app, cloud = settings.app.id, settings.cloud
    _check(settings)
    public = cloud.edge == "public"
    work = _work(settings, place, declared) if public else None
    environ = {**environ_of(settings, place), "CONCURRENCY": str(cloud.concurrency)}
    if work:
        environ["FIRELAUNCH_JOBS_URL"] = work.sweep.url
        environ["FIRELAUNCH_JOBS_ACCOUNT"] = place.email(work.account)
    return Service(
        name=app,
        account=account_of("app", app),
        roles=_roles(settings, place),
        environ=environ,
        secrets={name: f"{app}-{name.lower().replace('_', '-')}" for name in _secrets(settings)},
        work=work,
        public=public,
        concurrency=cloud.concurrency,
        min_instances=cloud.min_instances,
        max_instances=cloud.max_instances,
        memory=cloud.memory,
    )


def environ_of(settings: Settings, place: Place) -> dict[str, str]:
    """The variables that every service of an app has: how it runs, where, and as which environment."""
    named = {VARIABLE: settings.environment.name} if settings.environment.name else {}
    return {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": place.project, **named}


def databases(settings: Settings) -> tuple[str, ...]:
    """Those that an app's deploy sees to; the app's own is the last."""
    return tuple(dict.fromkeys((DEFAULT_DATABASE, settings.database)))


def bucket(settings: Settings, place: Place) -> str:
    """That of an app's files: what users upload, and what becomes of it."""
    return settings.documents.bucket or f"{place.project}.firebasestorage.app"


def features(settings: Settings, declared: Declarations = NOTHING) -> tuple[str, ...]:
    """Return the features of :data:`FEATURE_APIS` that an app uses."""
    named: set[str] = {settings.models.provider, settings.embedding.kind, settings.index.backend}
    named |= {"alerts", "log_metrics"} if settings.alerts.email else set()
    named |= {"telemetry"} if _sends_to_google(settings) else set()
    named |= {"hosting"} if settings.cloud.site else set()
    named |= {"ranking"} if settings.search.reranker.startswith("semantic-ranker-") else set()
    if settings.cloud.edge == "public":
        documents = keeps_documents(settings)
        named |= {"events"} if documents or declared.sources("write") else set()
        named |= {"uploads"} if documents or declared.sources("upload") else set()
    return tuple(name for name in FEATURE_APIS if name in named)


def _sends_to_google(settings: Settings) -> bool:
    return urlsplit(settings.telemetry.endpoint).hostname == "telemetry.googleapis.com"


def keeps_documents(settings: Settings) -> bool:
    """Whether any user of an app may have documents of their own."""
    return any(plan.documents for plan in settings.plans.values())


def sells_plans(settings: Settings) -> bool:
    """Return whether an app sells plans or credit at Stripe."""
    return bool(settings.billing.top_ups) or any(plan.stripe_price for plan in settings.plans.values())


def _check(settings: Settings) -> None:
    app = settings.app.id
    if app.startswith(_RESERVED):
        reserved = " or ".join(map(repr, _RESERVED))
        raise SettingsError(f"firelaunch.toml: app.id is {app!r}: ids with {reserved} first are reserved; rename it.")
    if len(app) > LONGEST_APP_ID:
        raise SettingsError(
            f"firelaunch.toml: app.id is {app!r}, {len(app)} characters: Google's addresses leave room for "
            f"{LONGEST_APP_ID}; rename it."
        )
    if settings.cloud.concurrency > _MOST_REQUESTS:
        raise SettingsError(
            f"firelaunch.toml: cloud.concurrency is {settings.cloud.concurrency}: an instance of Cloud Run takes "
            f"{_MOST_REQUESTS} requests at a time at most; lower it."
        )
    if settings.cloud.database == "dedicated" and len(app) < _DATABASE_ID:
        raise SettingsError(
            f"firelaunch.toml: app.id is {app!r}: a database of its own needs {_DATABASE_ID} characters or more."
        )


def _roles(settings: Settings, place: Place) -> tuple[Role, ...]:
    return (
        Role(DATASTORE_USER, settings.database),
        Role(OBJECT_USER, bucket=bucket(settings, place), folder=f"apps/{settings.app.id}"),
        *(Role(FEATURE_ROLES[name]) for name in features(settings) if name in FEATURE_ROLES),
        *([Role(AUTH_VIEWER)] if settings.identity.check_revoked else []),
    )


def _work(settings: Settings, place: Place, declared: Declarations) -> Work:
    app = settings.app.id
    url = settings.jobs.url or place.url(app)
    return Work(
        queue=settings.jobs.queue or app,
        account=account_of("job", app),
        sweep=Schedule(f"{app}-sweep", "*/5 * * * *", url, "/internal/sweep", runs=30 * 24 * 12),
        roles=(Role(EVENT_RECEIVER),) if "events" in features(settings, declared) else (),
    )


def _secrets(settings: Settings) -> list[str]:
    asked = {settings.models.provider, settings.embedding.kind, settings.guardrails.moderation}
    return [
        *(["OPENAI_API_KEY"] if "openai" in asked else []),
        *(["ANTHROPIC_API_KEY"] if "claude" in asked else []),
        *(["DATABASE_URL"] if settings.index.backend == "pgvector" else []),
        *(["STRIPE_API_KEY"] if sells_plans(settings) else []),
        *([TELEMETRY_KEY] if settings.telemetry.endpoint and not _sends_to_google(settings) else []),
    ]


def account_of(kind: str, app: str) -> str:
    """An account of an app: ``fl-app-<app>``, cut to what IAM takes; a hash keeps two apps with one beginning apart."""
    whole = f"fl-{kind}-{app}"
    if len(whole) <= _ACCOUNT_ID:
        return whole
    return f"{whole[: _ACCOUNT_ID - 9].rstrip('-')}-{hashlib.sha256(app.encode()).hexdigest()[:8]}"
