"""The steps that prepare a project, and a service in it, up to its first revision."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .functions import WEBHOOK_SECRET
from .gcloud import Command, Request, Tools, gcloud
from .iam import account, binds, no_more_rights, roles, signs_for_nobody
from .resources import (
    APIS,
    BUILDER,
    BUILDER_ROLE,
    FEATURE_APIS,
    FEATURE_PERMISSIONS,
    FIREBASE,
    FIRST_APIS,
    PERMISSIONS,
    REPOSITORY,
    SECRET_READER,
    Place,
    Role,
    Service,
)
from .steps import Action, Grant, Step

__all__ = ["describe", "describe_command", "for_project", "for_service", "preflight", "secret_versions", "secrets_of"]

_RESOURCES = "https://cloudresourcemanager.googleapis.com/v1"
_WEBHOOK = "Stripe shows it when {url}/stripe_webhook is added as an endpoint (docs/billing.md); "


def describe_command(project: str) -> Command:
    """Return the command that shows the project and its number."""
    return gcloud("projects", "describe", project, project=project)


def describe(project: str) -> Step:
    """The project, and that somebody is logged in."""
    return Step(
        "logged in, and the project is there",
        (describe_command(project),),
        refuses=lambda a: None if a[0]["lifecycleState"] == "ACTIVE" else f"{project} is being deleted",
        mend=f"gcloud auth login; or make the project: gcloud projects create {project}",
    )


def preflight(
    place: Place,
    features: Collection[str],
    quotas: Iterable[Step] = (),
    more: Mapping[str, str] = MappingProxyType({}),
) -> list[Step]:
    """Return the steps that check the project before anything is made.

    Args:
        features: names of FEATURE_APIS.
        quotas: the steps that look at them, for which their APIs must be on.
        more: permissions besides PERMISSIONS, and the role for each.
    """
    project = place.project
    apis = (*APIS, *(FEATURE_APIS[name] for name in features))
    needed = {**PERMISSIONS, **more}
    for name in features:
        needed |= FEATURE_PERMISSIONS.get(name, {})
    permissions = {"permissions": list(needed)}
    firebase = f"{FIREBASE}/projects/{project}"
    add = Request("POST", f"{firebase}:addFirebase", {}, operations=FIREBASE, awaited=True)
    return [
        describe(project),
        Step(
            "permissions of whoever deploys",
            (Request("POST", f"{_RESOURCES}/projects/{project}:testIamPermissions", permissions),),
            refuses=lambda a: _missing_permissions(needed, a[0]),
            mend=f"an owner of the project runs, for each such role: gcloud projects add-iam-policy-binding {project} "
            "--member=user:YOU --role=ROLE --condition=None",
        ),
        apis_are_on(place, FIRST_APIS, "APIs by which the project is looked at"),
        Step(
            "billing is on",
            (gcloud("billing", "projects", "describe", project, project=project),),
            refuses=lambda a: None if a[0].get("billingEnabled") else f"{project} has no billing account",
            mend=f"gcloud billing accounts list && gcloud billing projects link {project} --billing-account=ACCOUNT_ID",
        ),
        apis_are_on(place, apis),
        *quotas,
        Step(
            "it is a Firebase project",
            (Request("GET", firebase),),
            lacks=lambda a: [] if a[0] else [add],
            mend=f"accept Firebase's terms at https://console.firebase.google.com, and add {project} there",
        ),
    ]


def apis_are_on(place: Place, apis: Sequence[str], title: str = "APIs are on") -> Step:
    """APIs turned on in the project. Until they answer everywhere, the deploy waits for each of them."""
    project = place.project
    listed = gcloud("services", "list", "--enabled", project=project)

    def look(tools: Tools) -> Sequence[Any]:
        tools.expect_on(apis, project, place.number)
        return [tools.read(listed)]

    return Step(
        title,
        (listed,),
        lacks=lambda a: _enable(project, apis, a[0]),
        mend=f"ask for roles/serviceusage.serviceUsageAdmin in {project}",
        look=look,
    )


def for_project(place: Place) -> list[Step]:
    """Return the steps for the resources that all services of the project share."""
    project, region = place.project, place.region
    create = gcloud(
        *("artifacts", "repositories", "create", REPOSITORY, f"--location={region}", "--repository-format=docker"),
        project=project,
    )
    return [
        Step(
            "a repository for images",
            (gcloud("artifacts", "repositories", "list", f"--location={region}", project=project),),
            lacks=lambda a: [] if _named(a[0], f"/repositories/{REPOSITORY}") else [create],
            mend=f"ask for roles/artifactregistry.admin in {project}",
        ),
        account(place, BUILDER, "firelaunch: builds images"),
        roles(place, BUILDER, (Role(BUILDER_ROLE),)),
    ]


def for_service(place: Place, service: Service, keys: Mapping[str, str]) -> Iterable[Step]:
    """The account of one service, its rights and its secrets.

    Args:
        keys: the values of secrets that are not in Secret Manager yet, by environment variable.
    """
    yield account(place, service.account, f"firelaunch: runs {service.name}")
    yield roles(place, service.account, service.roles)
    yield no_more_rights(place, service)
    yield signs_for_nobody(place, service)
    yield from secrets_of(place, service, keys)


def secrets_of(place: Place, service: Service, keys: Mapping[str, str], but: Iterable[str] = ()) -> Iterable[Step]:
    """A service's secrets.

    Args:
        keys: as :func:`for_service`.
        but: names of secrets that are seen to elsewhere.
    """
    for variable, name in service.secrets.items():
        if name not in set(but):
            hint = _WEBHOOK.format(url=place.url(service.name)) if variable == WEBHOOK_SECRET else ""
            yield _secret(place, variable, name, keys.get(variable), hint)
            yield _secret_reader(place, service, name)


def secret_versions(place: Place, name: str) -> Command:
    """Return the command that lists the enabled versions of a secret."""
    return gcloud("secrets", "versions", "list", name, "--filter=state=ENABLED", project=place.project)


def _secret(place: Place, variable: str, name: str, key: str | None, hint: str) -> Step:
    listed = gcloud("secrets", "list", project=place.project)
    versions = secret_versions(place, name)
    create = gcloud("secrets", "create", name, "--replication-policy=automatic", project=place.project)

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
        mend=f'{hint}set {variable} in the environment of this one deploy, or: printf %s "$KEY" | '
        f"gcloud secrets versions add {name} --data-file=-; where a permission is missing, ask for "
        f"roles/secretmanager.admin in {place.project}",
        look=lambda tools: _secret_state(tools.read(listed), name, lambda: tools.read(versions)),
    )


def _secret_state(listed: Any, name: str, versions: Callable[[], Any]) -> Sequence[Any]:
    """A secret that is not there has no versions, and asking for them would be an error."""
    return [listed, versions() if _named(listed, f"/secrets/{name}") else []]


def _secret_reader(place: Place, service: Service, name: str) -> Step:
    member = place.member(service.account)
    bind = gcloud(
        *("secrets", "add-iam-policy-binding", name, f"--member={member}", f"--role={SECRET_READER}"),
        project=place.project,
    )
    return Step(
        f"{service.account} alone may read secret {name}: {SECRET_READER}",
        (gcloud("secrets", "get-iam-policy", name, project=place.project),),
        lacks=lambda a: [] if binds(a[0], SECRET_READER, member) else [bind],
        mend=f"ask for roles/secretmanager.admin in {place.project}",
        grants=(Grant(service.account, SECRET_READER, f"secret {name}"),),
    )


def _missing_permissions(needed: Mapping[str, str], said: Any) -> str | None:
    held = set((said or {}).get("permissions", []))
    missing = sorted({f"{role} (for {name})" for name, role in needed.items() if name not in held})
    return f"you lack {', '.join(missing)}" if missing else None


def _enable(project: str, apis: Sequence[str], listed: Any) -> list[Action]:
    on = {item["config"]["name"] for item in listed or []}
    missing = [api for api in apis if api not in on]
    return [gcloud("services", "enable", *missing, project=project)] if missing else []


def _named(listed: Any, end: str) -> bool:
    return any(item["name"].endswith(end) for item in listed or [])
