"""The one table of what a deploy makes: names, roles, settings. Whatever deploys takes them from here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import SettingsError
from ..settings import Settings

__all__ = [
    "APIS",
    "BUILDER",
    "BUILDER_ROLE",
    "DEFAULT_DATABASE",
    "FORBIDDEN_ROLES",
    "PERMISSIONS",
    "REPOSITORY",
    "RUN_FLAGS",
    "Place",
    "Role",
    "Service",
    "app_service",
    "membership_service",
]

APIS = (
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "firebase.googleapis.com",
    "firebaserules.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "identitytoolkit.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
)
VERTEX_API = "aiplatform.googleapis.com"

PERMISSIONS: Mapping[str, str] = {
    "serviceusage.services.enable": "roles/serviceusage.serviceUsageAdmin",
    "resourcemanager.projects.setIamPolicy": "roles/resourcemanager.projectIamAdmin",
    "iam.serviceAccounts.create": "roles/iam.serviceAccountAdmin",
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    "run.services.create": "roles/run.admin",
    "run.services.setIamPolicy": "roles/run.admin",
    "artifactregistry.repositories.create": "roles/artifactregistry.admin",
    "cloudbuild.builds.create": "roles/cloudbuild.builds.editor",
    "storage.buckets.create": "roles/storage.admin",
    "secretmanager.secrets.create": "roles/secretmanager.admin",
    "datastore.databases.create": "roles/datastore.owner",
    "firebaserules.releases.update": "roles/firebaserules.admin",
}
"""What whoever deploys must be allowed, and the least of Google's roles that allows it."""

REPOSITORY = "cloud-run-source-deploy"
"""Where ``gcloud run deploy --source`` keeps images (https://cloud.google.com/run/docs/deploying-source-code)."""

BUILDER = "firelaunch-build"
BUILDER_ROLE = "roles/run.builder"
"""The account that builds images; without it builds would run as the project's default account, often an editor."""

MEMBERSHIP = "firelaunch-membership"
"""The membership function's service, and its account."""

_RESERVED = "firelaunch-"
DEFAULT_DATABASE = "(default)"
DATASTORE_USER = "roles/datastore.user"
AUTH_ADMIN = "roles/firebaseauth.admin"
SECRET_READER = "roles/secretmanager.secretAccessor"  # noqa: S105 - a role's name

FORBIDDEN_ROLES = (
    *("roles/owner", "roles/editor", "roles/firebase.admin", "roles/firebase.sdkAdminServiceAgent", AUTH_ADMIN),
    *("roles/identitytoolkit.admin", "roles/identityplatform.admin", "roles/secretmanager.admin", SECRET_READER),
    *(
        "roles/datastore.owner",
        "roles/datastore.user",
        "roles/datastore.viewer",
        "roles/iam.serviceAccountTokenCreator",
    ),
    *("roles/iam.serviceAccountUser", "roles/iam.serviceAccountAdmin", "roles/resourcemanager.projectIamAdmin"),
)
"""Project-wide roles by which an app's service would reach what is not its own. Its own binding, with the condition on
its database, is let be; the same role without it is not."""

RUN_FLAGS = ("--cpu=1", "--cpu-boost", "--execution-environment=gen2", "--no-session-affinity", "--port=8080")
TIMEOUT = 3600
"""Seconds of a request on Cloud Run, its most: streams are long. A model's time is ``limits.request_seconds``."""

_ACCOUNT_ID = 30
"""Characters of a service account's id at most; six at least (https://cloud.google.com/iam/docs/service-accounts-create)."""

_DATABASE_ID = 4
"""Characters of a named database's id at least (https://cloud.google.com/firestore/docs/manage-databases)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A project, and the region of what is made in it."""

    project: str
    region: str

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


@dataclass(frozen=True, slots=True)
class Role:
    """A role in the project; for one ``database`` alone, where there is one."""

    name: str
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One Cloud Run service: an app's, or the membership function's.

    Args:
        secrets: by environment variable, the secret's name.
        function: the entry point, where a buildpack builds it; None where a Dockerfile does.
    """

    name: str
    account: str
    roles: tuple[Role, ...]
    environ: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)
    function: str | None = None
    public: bool = True
    concurrency: int = 80
    min_instances: int = 0
    max_instances: int = 10
    memory: str = "512Mi"


def app_service(settings: Settings, place: Place) -> Service:
    """An app's service.

    Raises:
        SettingsError: its id is reserved, or too short for a database of its own.
    """
    app, cloud = settings.app.id, settings.cloud
    if app.startswith(_RESERVED):
        raise SettingsError(
            f"firelaunch.toml: app.id is {app!r}: ids with {_RESERVED!r} first are reserved; rename it."
        )
    if cloud.database == "dedicated" and len(app) < _DATABASE_ID:
        raise SettingsError(
            f"firelaunch.toml: app.id is {app!r}: a database of its own needs {_DATABASE_ID} characters or more."
        )
    roles = [Role(DATASTORE_USER, app if cloud.database == "dedicated" else DEFAULT_DATABASE)]
    if settings.models.provider == "vertex":
        roles.append(Role("roles/aiplatform.user"))
    if settings.identity.check_revoked:
        roles.append(Role("roles/firebaseauth.viewer"))
    return Service(
        name=app,
        account=_account(app),
        roles=tuple(roles),
        environ={
            "FIRELAUNCH_MODE": "cloud",
            "GOOGLE_CLOUD_PROJECT": place.project,
            "CONCURRENCY": str(cloud.concurrency),
        },
        secrets={"OPENAI_API_KEY": f"{app}-openai-api-key"} if settings.models.provider == "openai" else {},
        public=cloud.edge == "public",
        concurrency=cloud.concurrency,
        min_instances=cloud.min_instances,
        max_instances=cloud.max_instances,
        memory=cloud.memory,
    )


def membership_service(place: Place, dedicated: frozenset[str]) -> Service:
    """The membership function's service: the one that may change users.

    Args:
        dedicated: ids of the apps that have a database of their own.
    """
    return Service(
        name=MEMBERSHIP,
        account=MEMBERSHIP,
        roles=(Role(AUTH_ADMIN), Role(DATASTORE_USER)),
        environ={"GOOGLE_CLOUD_PROJECT": place.project, "DEDICATED_APPS": ",".join(sorted(dedicated))},
        function="membership",
        concurrency=1,
    )


def _account(app: str) -> str:
    """``fl-app-<app>``, cut to what IAM takes; a hash keeps two apps with one beginning apart."""
    whole = f"fl-app-{app}"
    if len(whole) <= _ACCOUNT_ID:
        return whole
    return f"{whole[: _ACCOUNT_ID - 9].rstrip('-')}-{hashlib.sha256(app.encode()).hexdigest()[:8]}"
