"""Firebase Authentication: set up for the project, with the sign-in methods that an app's settings name.

All apps of a project share it, so that a deploy switches on what is missing, asks first, and switches nothing off. An
app that names an Identity Platform tenant has its methods there; web pages that users may be sent back to are the
project's in any case (https://cloud.google.com/identity-platform/docs/multi-tenancy).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from firelaunch.settings.app import Settings

from .gcloud import Request
from .resources import Place, permissions_of
from .steps import Action, Step

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "OF_TENANTS", "GoogleClient", "permissions", "set_up", "sign_in"]

_API = "https://identitytoolkit.googleapis.com"
_GOOGLE = "google.com"

CLIENT_ID, CLIENT_SECRET = "GOOGLE_SIGN_IN_CLIENT_ID", "GOOGLE_SIGN_IN_CLIENT_SECRET"
"""Variables of the deploy that bring the OAuth client for Google sign-in; Firebase Authentication keeps both."""

_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*")

OF_TENANTS = permissions_of({"roles/identitytoolkit.admin": "tenants.get tenants.update"})
"""Permissions that a tenant's ways to sign in take, and the role for each
(https://cloud.google.com/iam/docs/roles-permissions/identitytoolkit)."""

_NAMES = {"email_link": "e-mail links", "password": "passwords", "anonymous": "anonymous accounts"}


@dataclass(frozen=True, slots=True)
class GoogleClient:
    """The OAuth client by which users sign in with Google; empty where nobody brought one."""

    id: str = ""
    secret: str = field(default="", repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> GoogleClient:
        """That which the deploy's environment brings."""
        return cls(environ.get(CLIENT_ID, "").strip(), environ.get(CLIENT_SECRET, "").strip())

    @property
    def missing(self) -> str:
        """The variables that are not set."""
        return " and ".join(name for name, value in ((CLIENT_ID, self.id), (CLIENT_SECRET, self.secret)) if not value)


def permissions(settings: Settings) -> Mapping[str, str]:
    """Return the permissions that a deploy needs for the app's tenant, each with its role."""
    return OF_TENANTS if settings.identity.tenant else {}


def sign_in(place: Place, settings: Settings, client: GoogleClient) -> list[Step]:
    """The steps after which users of an app can sign in."""
    wanted, tenant = settings.identity.sign_in, settings.identity.tenant
    methods = [name for name in wanted if name in _NAMES]
    pages = _domains(settings.page_origins)
    return [
        set_up(place),
        *([_authorized(place, pages)] if pages else []),
        *([_tenant_methods(place, tenant, methods)] if tenant else []),
        *([_methods(place, methods)] if methods and not tenant else []),
        *([_google(place, tenant, client)] if "google" in wanted else []),
        *([] if wanted or tenant else [_any(place)]),
    ]


def set_up(place: Place) -> Step:
    """Firebase Authentication is there, with whatever sign-in methods it has. It cannot be taken away again."""
    project = place.project
    # https://cloud.google.com/identity-platform/docs/reference/rest/v2/projects.identityPlatform/initializeAuth
    initialize = Request(
        *("POST", f"{_API}/v2/projects/{project}/identityPlatform:initializeAuth", {}),
        settled="already been enabled",
    )
    question = (
        f"Nobody can sign in to apps of {project} yet.\n"
        "The deploy sets up Firebase Authentication with Identity Platform, for all of\n"
        "the project's apps. That cannot be undone. 50,000 users a month are free:\n"
        "https://cloud.google.com/identity-platform/pricing"
    )
    return Step(
        "Firebase Authentication is set up",
        (_config(place, there=False),),
        lacks=lambda a: [] if a[0] else [initialize],
        asks=lambda _: question,
        mend=f"{_role(place)}; or press Get started: "
        f"https://console.firebase.google.com/project/{project}/authentication",
    )


def _authorized(place: Place, pages: Sequence[str]) -> Step:
    def there(answers: Sequence[Any]) -> list[str]:
        domains: list[str] = (answers[0] or {"authorizedDomains": ["THOSE_THAT_ARE_THERE"]}).get(
            "authorizedDomains", []
        )
        return domains

    def missing(answers: Sequence[Any]) -> list[str]:
        return [page for page in pages if page not in there(answers)]

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        if missing(answers):
            yield _patch(_config(place).url, {"authorizedDomains": [*there(answers), *missing(answers)]})

    return Step(
        "web pages that users may sign in on: those of cors.origins",
        (_config(place),),
        lacks=lacks,
        asks=lambda a: _question(place, a[0], f"users may sign in on {', '.join(missing(a))}"),
        mend=_role(place),
    )


def _methods(place: Place, methods: Sequence[str]) -> Step:
    """E-mail and anonymous sign-in, as the project's own users have it.

    E-mail links are allowed where no password is required; passwords go on working beside them
    (https://cloud.google.com/identity-platform/docs/reference/rest/v2/Config#Email).
    """

    def changes(answers: Sequence[Any]) -> dict[str, bool]:
        there = (answers[0] or {}).get("signIn", {})
        email = there.get("email", {})
        found = {}
        if {"email_link", "password"} & {*methods} and not email.get("enabled"):
            found["signIn.email.enabled"] = True
            found["signIn.email.passwordRequired"] = "email_link" not in methods
        elif "email_link" in methods and email.get("passwordRequired"):
            found["signIn.email.passwordRequired"] = False
        if "anonymous" in methods and not there.get("anonymous", {}).get("enabled"):
            found["signIn.anonymous.enabled"] = True
        return found

    return Step(
        f"sign-in by {_listed(methods)}",
        (_config(place),),
        lacks=lambda a: [_patch(_config(place).url, changes(a))] if changes(a) else [],
        asks=lambda a: _question(place, a[0], f"people may sign in by {_listed(methods)}"),
        mend=_role(place),
    )


def _tenant_methods(place: Place, tenant: str, methods: Sequence[str]) -> Step:
    """The tenant is there, with e-mail and anonymous sign-in of its own.

    Google chooses tenants' ids, so that a deploy cannot make the one that the settings name
    (https://cloud.google.com/identity-platform/docs/reference/rest/v2/projects.tenants).
    """
    shown = Request("GET", f"{_API}/v2/projects/{place.project}/tenants/{quote(tenant, safe='')}")
    fields = {
        "allowPasswordSignup": bool({"email_link", "password"} & {*methods}),
        "enableEmailLinkSignin": "email_link" in methods,
        "enableAnonymousUser": "anonymous" in methods,
    }

    def changes(answers: Sequence[Any]) -> dict[str, bool]:
        there = answers[0] or {}
        return {name: True for name, wanted in fields.items() if wanted and not there.get(name)}

    def wrong(answers: Sequence[Any]) -> str | None:
        if answers[0] is None:
            return f"identity.tenant is {tenant!r}, and {place.project} has no such tenant"
        return f"tenant {tenant} is disabled" if answers[0].get("disableAuth") else None

    said = f"users of tenant {tenant} sign in by {_listed(methods)}" if methods else f"tenant {tenant} is there"
    return Step(
        said,
        (shown,),
        lacks=lambda a: [_patch(shown.url, changes(a))] if changes(a) else [],
        refuses=wrong,
        asks=lambda _: f"From now on {said}.",
        mend=f"make the tenant, and put the id that Google gives it into identity.tenant: https://console.cloud.google.com"
        f"/customer-identity/tenants?project={place.project}; where a permission is missing, ask for "
        f"roles/identitytoolkit.admin in {place.project}",
    )


def _google(place: Place, tenant: str, client: GoogleClient) -> Step:
    """Google, by the OAuth client that somebody brings; one that is there already is kept."""
    project = place.project
    below = f"v2/projects/{project}/tenants/{quote(tenant, safe='')}" if tenant else f"admin/v2/projects/{project}"
    configs = f"{_API}/{below}/defaultSupportedIdpConfigs"
    shown = Request("GET", f"{configs}/{_GOOGLE}")
    body = {"enabled": True, "clientId": client.id or "CLIENT_ID"}
    create = Request("POST", f"{configs}?idpId={_GOOGLE}", body, hidden={"clientSecret": client.secret})

    def lacks(answers: Sequence[Any]) -> Iterable[Action]:
        there = answers[0]
        if there is None and not client.missing:
            yield create
        elif there is not None and not there.get("enabled"):
            yield _patch(shown.url, {"enabled": True})

    def warns(answers: Sequence[Any]) -> str | None:
        there = answers[0]
        if there is None and client.missing:
            return "nobody can sign in with Google yet.\n" + "\n".join(_steps_to_client(project, client.missing))
        if there is not None and client.id and there.get("clientId") != client.id:
            return f"Google sign-in keeps the OAuth client that it has; {CLIENT_ID}\nnames another one"
        return None

    return Step(
        "sign-in with Google",
        (shown,),
        lacks=lacks,
        asks=lambda a: f"Google sign-in is switched off in {project}. The deploy switches it on." if a[0] else None,
        mend=f"for a client of yours: {_clients_page(project)}, and deploy with {CLIENT_ID} and {CLIENT_SECRET} set; "
        f"where a permission is missing, {_role(place)}",
        warns=warns,
    )


def _any(place: Place) -> Step:
    """For an app that names no method: whether there is any."""

    def warns(answers: Sequence[Any]) -> str | None:
        config, listed = answers
        if _in_use(config) or any(idp.get("enabled") for idp in (listed or {}).get("defaultSupportedIdpConfigs", [])):
            return None
        return 'no way to sign in is switched on; name one in firelaunch.toml:\n[identity] sign_in = ["email_link"]'

    url = f"{_API}/admin/v2/projects/{place.project}/defaultSupportedIdpConfigs?pageSize=100"
    return Step(
        "a way to sign in is switched on",
        (_config(place), Request("GET", url)),
        mend='[identity] sign_in = ["email_link"] in firelaunch.toml, or in the console: '
        f"https://console.firebase.google.com/project/{place.project}/authentication/providers",
        warns=warns,
    )


def _steps_to_client(project: str, variables: str) -> list[str]:
    """How somebody makes the OAuth client, in lines."""
    return [
        "Make an OAuth client of type Web application, with the redirect URI",
        f"https://{project}.firebaseapp.com/__/auth/handler, here:",
        _clients_page(project),
        "Then deploy again with its id and secret in the environment; not set yet:",
        variables,
    ]


def _clients_page(project: str) -> str:
    return f"https://console.cloud.google.com/auth/clients?project={project}"


def _config(place: Place, *, there: bool = True) -> Request:
    """The project's settings; ``there`` where they were just made, or seen."""
    return Request("GET", f"{_API}/admin/v2/projects/{place.project}/config", there=there)


def _patch(url: str, changes: Mapping[str, Any]) -> Request:
    """Change these fields, named by their whole paths, and no other."""
    body: dict[str, Any] = {}
    for path, value in changes.items():
        *parents, last = path.split(".")
        below = body
        for name in parents:
            below = below.setdefault(name, {})
        below[last] = value
    return Request("PATCH", f"{url}?updateMask={','.join(changes)}", body)


def _question(place: Place, config: Any, what: str) -> str | None:
    """Return the question to confirm if people sign in already, or None."""
    return f"Apps of {place.project} share its sign-in. From now on {what}." if _in_use(config) else None


def _in_use(config: Any) -> bool:
    methods = (config or {}).get("signIn", {})
    return any(methods.get(name, {}).get("enabled") for name in ("email", "phoneNumber", "anonymous"))


def _domains(origins: Iterable[str]) -> list[str]:
    """The domains of web pages. This machine is none of them, nor are addresses and patterns."""
    hosts = (origin.partition("://")[2].partition(":")[0].rstrip("/").lower() for origin in origins)
    return list(dict.fromkeys(host for host in hosts if _DOMAIN.fullmatch(host)))


def _listed(methods: Iterable[str]) -> str:
    return " and ".join(_NAMES[name] for name in methods)


def _role(place: Place) -> str:
    return f"ask for roles/firebaseauth.admin in {place.project}"
