"""The steps that prepare a project, and a service in it, up to its first revision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .names import (
    APIS,
    AUTH_ADMIN,
    BUILDER,
    BUILDER_ROLE,
    DEFAULT_DATABASE,
    FORBIDDEN_ROLES,
    PERMISSIONS,
    REPOSITORY,
    SECRET_READER,
    VERTEX_API,
    Place,
    Role,
    Service,
)
from .steps import Action, Step
from .tools import Command, Request, gcloud

__all__ = ["for_project", "for_service", "preflight", "publish"]

_RESOURCES = "https://cloudresourcemanager.googleapis.com/v1"
_FIRESTORE = "https://firestore.googleapis.com/v1"


def preflight(place: Place, *, vertex: bool) -> list[Step]:
    """What must be so before anything is made."""
    project = place.project
    apis = (*APIS, VERTEX_API) if vertex else APIS
    return [
        Step(
            "logged in, and the project is there",
            (gcloud("projects", "describe", project, project=project),),
            refuses=lambda a: None if a[0]["lifecycleState"] == "ACTIVE" else f"{project} is being deleted",
            mend=f"gcloud auth login; or make the project: gcloud projects create {project} && "
            f"firebase projects:addfirebase {project}",
        ),
        Step(
            "billing is on",
            (gcloud("billing", "projects", "describe", project, project=project),),
            refuses=lambda a: None if a[0].get("billingEnabled") else f"{project} has no billing account",
            mend=f"gcloud billing accounts list && gcloud billing projects link {project} --billing-account=ACCOUNT_ID",
        ),
        Step(
            "permissions of whoever deploys",
            (
                Request(
                    "POST", f"{_RESOURCES}/projects/{project}:testIamPermissions", {"permissions": list(PERMISSIONS)}
                ),
            ),
            refuses=_missing_permissions,
            mend=f"an owner of the project runs, for each such role: gcloud projects add-iam-policy-binding {project} "
            "--member=user:YOU --role=ROLE --condition=None",
        ),
        Step(
            "APIs are on",
            (gcloud("services", "list", "--enabled", project=project),),
            lacks=lambda a: _enable(project, apis, a[0]),
            mend=f"ask for roles/serviceusage.serviceUsageAdmin in {project}",
        ),
    ]


def for_project(place: Place) -> list[Step]:
    """What all services of the project share."""
    project, region = place.project, place.region
    repositories = gcloud("artifacts", "repositories", "list", f"--location={region}", project=project)
    create = gcloud(
        *("artifacts", "repositories", "create", REPOSITORY, f"--location={region}", "--repository-format=docker"),
        project=project,
    )
    return [
        Step(
            "a repository for images",
            (repositories,),
            lacks=lambda a: [] if _named(a[0], f"/repositories/{REPOSITORY}") else [create],
            mend=f"ask for roles/artifactregistry.admin in {project}",
        ),
        _account(place, BUILDER, "firelaunch: builds images"),
        _roles(place, BUILDER, (Role(BUILDER_ROLE),)),
        database(place, DEFAULT_DATABASE),
    ]


def for_service(place: Place, service: Service, keys: Mapping[str, str]) -> Iterable[Step]:
    """What one service needs before its first revision.

    Args:
        keys: the values of secrets that are not in Secret Manager yet, by environment variable.
    """
    yield _account(place, service.account, f"firelaunch: runs {service.name}")
    yield _roles(place, service.account, service.roles)
    yield _no_more_rights(place, service)
    for variable, name in service.secrets.items():
        yield _secret(place, variable, name, keys.get(variable))
        yield _secret_reader(place, service, name)
    for role in service.roles:
        if role.database not in (None, DEFAULT_DATABASE):
            yield database(place, str(role.database))


def database(place: Place, name: str) -> Step:
    """A Firestore database. It cannot be deleted until somebody takes the protection away."""
    create = gcloud(
        *("firestore", "databases", "create", f"--database={name}", f"--location={place.region}"),
        *("--type=firestore-native", "--delete-protection"),
        project=place.project,
    )
    return Step(
        f"Firestore database {name}",
        (gcloud("firestore", "databases", "list", project=place.project),),
        lacks=lambda a: [] if _named(a[0], f"/databases/{name}") else [create],
        refuses=lambda a: _wrong_type(a[0], name),
        mend=f"ask for roles/datastore.owner in {place.project}; for another location make the database yourself first",
    )


def publish(place: Place, database_name: str, app: str, fields: Mapping[str, Any]) -> Step:
    """The app's own document, as ``firelaunch publish`` writes it: its name, and who may join."""
    url = f"{_FIRESTORE}/projects/{place.project}/databases/{database_name}/documents/apps/{app}"
    wanted = {name: _value(value) for name, value in fields.items()}
    mask = "&".join(f"updateMask.fieldPaths={name}" for name in sorted(wanted))

    def same(document: Any) -> bool:
        there = (document or {}).get("fields", {})
        return all(_plain(there.get(name)) == _plain(value) for name, value in wanted.items())

    return Step(
        "the app's name and who may join it",
        (Request("GET", url),),
        lacks=lambda a: [] if same(a[0]) else [Request("PATCH", f"{url}?{mask}", {"fields": wanted})],
        mend=f"ask for roles/datastore.user in {place.project}",
    )


def _account(place: Place, account: str, title: str) -> Step:
    create = gcloud("iam", "service-accounts", "create", account, f"--display-name={title}", project=place.project)
    return Step(
        f"service account {account}",
        (gcloud("iam", "service-accounts", "list", project=place.project),),
        lacks=lambda a: [] if any(x["email"] == place.email(account) for x in a[0] or []) else [create],
        mend=f"ask for roles/iam.serviceAccountAdmin in {place.project}",
    )


def _roles(place: Place, account: str, roles: tuple[Role, ...]) -> Step:
    names = ", ".join(role.name + (f" on {role.database} alone" if role.database else "") for role in roles)
    return Step(
        f"its roles: {names}",
        (_policy(place),),
        lacks=lambda a: [_bind(place, account, role) for role in roles if not _holds(place, account, role, a[0])],
        mend=f"ask for roles/resourcemanager.projectIamAdmin in {place.project}",
    )


def _no_more_rights(place: Place, service: Service) -> Step:
    """Wall 4: what a service's account may not hold, and what nobody's but the membership function's may."""
    own = place.member(service.account)
    allowed = {(role.name, _condition(place, role)) for role in service.roles}

    def wrong(answers: Sequence[Any]) -> str | None:
        for binding in (answers[0] or {}).get("bindings", []):
            role, condition = binding["role"], binding.get("condition", {}).get("expression")
            members = binding.get("members", [])
            if own in members and role in FORBIDDEN_ROLES and (role, condition) not in allowed:
                return f"{own} holds {role}{_on(condition)}, by which it reaches more than its own"
            others = [m for m in members if m.startswith("serviceAccount:fl-app-")]
            if role == AUTH_ADMIN and others:
                return f"{others[0]} holds {role}, by which it could make itself a member of any app"
        return None

    return Step(
        "no rights beyond those",
        (_policy(place),),
        refuses=wrong,
        mend=f"gcloud projects remove-iam-policy-binding {place.project} --member=MEMBER --role=ROLE --all; "
        "then deploy again, which gives back what it needs",
    )


def _secret(place: Place, variable: str, name: str, key: str | None) -> Step:
    listed = gcloud("secrets", "list", project=place.project)
    versions = gcloud("secrets", "versions", "list", name, "--filter=state=ENABLED", project=place.project)
    create = gcloud("secrets", "create", name, "--replication-policy=automatic", project=place.project)
    mend = f"{variable}=... firelaunch deploy, or: gcloud secrets versions add {name} --data-file=-"

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        if not _named(answers[0], f"/secrets/{name}"):
            yield create
        if not answers[1]:
            yield gcloud("secrets", "versions", "add", name, "--data-file=-", project=place.project, stdin=key or "")

    return Step(
        f"secret {name}, for {variable}",
        (listed, versions),
        lacks=lacks,
        refuses=lambda a: None if a[1] or key else f"{variable} is neither in Secret Manager nor in the environment",
        mend=mend,
        look=lambda tools: _secret_state(tools.read(listed), name, lambda: tools.read(versions)),
    )


def _secret_state(listed: Any, name: str, versions: Any) -> Sequence[Any]:
    """A secret that is not there has no versions, and asking for them would be an error."""
    return [listed, versions() if _named(listed, f"/secrets/{name}") else []]


def _secret_reader(place: Place, service: Service, name: str) -> Step:
    member = place.member(service.account)
    bind = gcloud(
        *("secrets", "add-iam-policy-binding", name, f"--member={member}", f"--role={SECRET_READER}"),
        project=place.project,
    )

    def reads(policy: Any) -> bool:
        bindings = (policy or {}).get("bindings", [])
        return any(b["role"] == SECRET_READER and member in b.get("members", []) for b in bindings)

    return Step(
        f"{service.name} alone is given secret {name}",
        (gcloud("secrets", "get-iam-policy", name, project=place.project),),
        lacks=lambda a: [] if reads(a[0]) else [bind],
        mend=f"ask for roles/secretmanager.admin in {place.project}",
    )


def _missing_permissions(answers: Sequence[Any]) -> str | None:
    held = set((answers[0] or {}).get("permissions", []))
    missing = sorted({f"{role} (for {name})" for name, role in PERMISSIONS.items() if name not in held})
    return f"you lack {', '.join(missing)}" if missing else None


def _enable(project: str, apis: Sequence[str], listed: Any) -> list[Action]:
    on = {item["config"]["name"] for item in listed or []}
    missing = [api for api in apis if api not in on]
    return [gcloud("services", "enable", *missing, project=project)] if missing else []


def _policy(place: Place) -> Command:
    return gcloud("projects", "get-iam-policy", place.project, project=place.project)


def _bind(place: Place, account: str, role: Role) -> Command:
    expression = _condition(place, role)
    condition = f"expression={expression},title=firelaunch-{_title(role)}" if expression else "None"
    return gcloud(
        *("projects", "add-iam-policy-binding", place.project),
        *(f"--member={place.member(account)}", f"--role={role.name}", f"--condition={condition}"),
        project=place.project,
    )


def _title(role: Role) -> str:
    return "default" if role.database == DEFAULT_DATABASE else str(role.database)


def _condition(place: Place, role: Role) -> str | None:
    return place.only(role.database) if role.database else None


def _holds(place: Place, account: str, role: Role, policy: Any) -> bool:
    return any(
        binding["role"] == role.name
        and binding.get("condition", {}).get("expression") == _condition(place, role)
        and place.member(account) in binding.get("members", [])
        for binding in (policy or {}).get("bindings", [])
    )


def _on(condition: str | None) -> str:
    return f" where {condition}" if condition else " without a condition"


def _named(listed: Any, end: str) -> bool:
    return any(item["name"].endswith(end) for item in listed or [])


def _wrong_type(listed: Any, name: str) -> str | None:
    for item in listed or []:
        if item["name"].endswith(f"/databases/{name}") and item.get("type") == "DATASTORE_MODE":
            return f"database {name} is in Datastore mode, and clients and rules need Firestore's native mode"
    return None


def _value(value: Any) -> dict[str, Any]:
    if value is None:
        return {"nullValue": None}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}


def _plain(value: Any) -> Any:
    """A value as it compares: the API leaves out what is empty."""
    if value is None:
        return "nothing"
    if "arrayValue" in value:
        return [_plain(item) for item in value["arrayValue"].get("values", [])]
    return value.get("stringValue")
