"""Firebase Authentication: its settings, as whoever deploys changes them, and sign-ins, as clients ask for them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from .base import Call, Refusal, Route, exists
from .firebase import Firebase
from .project import Project

__all__ = ["SignIn"]

_API = "identitytoolkit.googleapis.com"
_IDPS = ("google.com", "apple.com", "facebook.com", "github.com")
_CONFIG = {
    "signIn.email.enabled": bool,
    "signIn.email.passwordRequired": bool,
    "signIn.anonymous.enabled": bool,
    "signIn.phoneNumber.enabled": bool,
    "authorizedDomains": list,
}
_TENANT = {
    "allowPasswordSignup": bool,
    "enableEmailLinkSignin": bool,
    "enableAnonymousUser": bool,
    "disableAuth": bool,
    "displayName": str,
}
_IDP = {"enabled": bool, "clientId": str, "clientSecret": str}
"""Fields that may be changed, by their paths; what is false is left out of answers
(https://cloud.google.com/identity-platform/docs/reference/rest/v2/Config, .../projects.tenants and
.../projects.defaultSupportedIdpConfigs)."""


class SignIn:
    """State and routes.

    Attributes:
        config: the project's settings; None before Firebase Authentication is set up.
        tenants: by id, each one's settings.
        idps: by tenant ("" for the project) and provider, each one's settings.
    """

    def __init__(self, project: str, account: Project, firebase: Firebase) -> None:
        self.project = project
        self.config: dict[str, Any] | None = None
        self.tenants: dict[str, dict[str, Any]] = {}
        self.idps: dict[tuple[str, str], dict[str, Any]] = {}
        self._account = account
        self._firebase = firebase

    def routes(self) -> list[Route]:
        """Every route. Clients bring an API key in place of a token."""
        project = f"{_API}/(?:admin/)?v2/projects/{self.project}"
        tenant = rf"{_API}/v2/projects/{self.project}/tenants/([^/:]+)"
        get, update = "firebaseauth.configs.get", "firebaseauth.configs.update"
        return [
            Route(
                *("POST", f"{_API}/v2/projects/{self.project}/identityPlatform:initializeAuth"),
                *(self._initialize, "firebaseauth.configs.create"),
            ),
            Route("GET", f"{project}/config", self._get, get),
            Route("PATCH", f"{project}/config", self._patch, update),
            Route("GET", f"{project}/defaultSupportedIdpConfigs", self._list_idps, get),
            Route("GET", f"{project}()/defaultSupportedIdpConfigs/([^/:]+)", self._get_idp, get),
            Route("POST", f"{project}()/defaultSupportedIdpConfigs", self._create_idp, update),
            Route("PATCH", f"{project}()/defaultSupportedIdpConfigs/([^/:]+)", self._patch_idp, update),
            Route("GET", f"{tenant}/defaultSupportedIdpConfigs/([^/:]+)", self._get_idp, get),
            Route("POST", f"{tenant}/defaultSupportedIdpConfigs", self._create_idp, update),
            Route("PATCH", f"{tenant}/defaultSupportedIdpConfigs/([^/:]+)", self._patch_idp, update),
            Route("GET", tenant, self._get_tenant, "identitytoolkit.tenants.get"),
            Route("PATCH", tenant, self._patch_tenant, "identitytoolkit.tenants.update"),
            Route("POST", f"{_API}/v1/accounts:sendOobCode", self._send_link, open=True),
            Route("POST", f"{_API}/v1/accounts:signUp", self._sign_up, open=True),
            Route("POST", f"{_API}/v1/accounts:createAuthUri", self._provider_page, open=True),
        ]

    def link(self, app: str, tenant: str = "") -> str:
        """What a client of the app that asks for a link is answered: "sent", or why not."""
        named = app in self._firebase.web_apps.values()
        body = {
            "requestType": "EMAIL_SIGNIN",
            "email": "ada@example.com",
            "continueUrl": f"https://{self.project}.web.app",
        }
        query = {"key": self._firebase.key(app) if named else ""}
        data = json.dumps({**body, **({"tenantId": tenant} if tenant else {})}).encode()
        try:
            self._send_link(Call("POST", _API, "/v1/accounts:sendOobCode", query, {}, data))
        except Refusal as refusal:
            return str(refusal)
        return "sent"

    def _initialize(self, call: Call) -> Any:
        if call.json:
            raise Refusal(400, "INVALID_ARGUMENT", "The request body must be empty.")
        if not self._account.billing:
            raise Refusal(400, "FAILED_PRECONDITION", "BILLING_NOT_ENABLED")
        if self.config is not None:
            raise Refusal(
                *(400, "INVALID_ARGUMENT"),
                "INVALID_PROJECT_ID : Identity Platform has already been enabled for this project.",
            )
        domains = ["localhost", f"{self.project}.firebaseapp.com", f"{self.project}.web.app"]
        self.config = {"signIn": {"email": {}, "anonymous": {}, "phoneNumber": {}}, "authorizedDomains": domains}
        return {}

    def _there(self) -> dict[str, Any]:
        if self.config is None or self._account.is_late("auth"):
            raise Refusal(404, "NOT_FOUND", "CONFIGURATION_NOT_FOUND")
        return self.config

    def _get(self, _: Call) -> Any:
        return {"name": "projects/1234/config", **_shown(self._there())}

    def _patch(self, call: Call) -> Any:
        _change(self._there(), call, _CONFIG)
        return self._get(call)

    def _list_idps(self, _: Call) -> Any:
        self._there()
        return {"defaultSupportedIdpConfigs": [_shown(idp) for (of, _), idp in self.idps.items() if not of]}

    def _idp(self, tenant: str, name: str) -> dict[str, Any]:
        self._check_tenant(tenant)
        if (tenant, name) not in self.idps:
            raise Refusal(404, "NOT_FOUND", "CONFIGURATION_NOT_FOUND")
        return self.idps[tenant, name]

    def _get_idp(self, _: Call, tenant: str, name: str) -> Any:
        return _shown(self._idp(tenant, name))

    def _create_idp(self, call: Call, tenant: str) -> Any:
        self._check_tenant(tenant)
        name, body = call.query.get("idpId", ""), call.json
        if name not in _IDPS:
            raise Refusal(400, "INVALID_ARGUMENT", "INVALID_IDP_ID")
        if not body.get("clientId") or not body.get("clientSecret"):
            raise Refusal(400, "INVALID_ARGUMENT", "INVALID_CONFIG : client_id and client_secret are required.")
        if (tenant, name) in self.idps:
            raise exists(name)
        self.idps[tenant, name] = {"name": f"projects/{self.project}/defaultSupportedIdpConfigs/{name}", **body}
        return _shown(self.idps[tenant, name])

    def _patch_idp(self, call: Call, tenant: str, name: str) -> Any:
        _change(self._idp(tenant, name), call, _IDP)
        return _shown(self.idps[tenant, name])

    def _check_tenant(self, tenant: str) -> None:
        self._there()
        if tenant and tenant not in self.tenants:
            raise Refusal(404, "NOT_FOUND", "TENANT_NOT_FOUND")

    def _get_tenant(self, _: Call, tenant: str) -> Any:
        self._check_tenant(tenant)
        return {"name": f"projects/{self.project}/tenants/{tenant}", **_shown(self.tenants[tenant])}

    def _patch_tenant(self, call: Call, tenant: str) -> Any:
        self._check_tenant(tenant)
        _change(self.tenants[tenant], call, _TENANT)
        return self._get_tenant(call, tenant)

    # What clients ask for. https://cloud.google.com/identity-platform/docs/error-codes

    def _client(self, call: Call) -> dict[str, Any]:
        """The settings that count for a client's call: of its tenant, in a tenant's own words, or of the project."""
        keys = {self._firebase.key(name) for name in self._firebase.web_apps.values()}
        if call.query.get("key") not in keys:
            raise Refusal(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
        if self.config is None:
            raise Refusal(400, "INVALID_ARGUMENT", "CONFIGURATION_NOT_FOUND")
        tenant = call.json.get("tenantId", "")
        if tenant and tenant not in self.tenants:
            raise Refusal(400, "INVALID_ARGUMENT", "INVALID_TENANT_ID")
        if tenant:
            return self.tenants[tenant]
        email = self.config["signIn"]["email"]
        return {
            "allowPasswordSignup": email.get("enabled"),
            "enableEmailLinkSignin": email.get("enabled") and not email.get("passwordRequired"),
            "enableAnonymousUser": self.config["signIn"]["anonymous"].get("enabled"),
        }

    def _send_link(self, call: Call) -> Any:
        allowed = self._client(call)
        if call.json.get("requestType") != "EMAIL_SIGNIN":
            raise Refusal(400, "INVALID_ARGUMENT", "INVALID_REQ_TYPE")
        if not (allowed.get("allowPasswordSignup") and allowed.get("enableEmailLinkSignin")):
            raise Refusal(400, "INVALID_ARGUMENT", "OPERATION_NOT_ALLOWED")
        assert self.config is not None  # noqa: S101 - _client saw it
        if urlsplit(call.json.get("continueUrl", "")).hostname not in self.config["authorizedDomains"]:
            raise Refusal(400, "INVALID_ARGUMENT", "UNAUTHORIZED_DOMAIN : Domain not allowlisted by project")
        return {"kind": "identitytoolkit#GetOobConfirmationCodeResponse", "email": call.json["email"]}

    def _sign_up(self, call: Call) -> Any:
        allowed, anonymous = self._client(call), "email" not in call.json
        if not allowed.get("enableAnonymousUser" if anonymous else "allowPasswordSignup"):
            raise Refusal(400, "INVALID_ARGUMENT", "ADMIN_ONLY_OPERATION" if anonymous else "OPERATION_NOT_ALLOWED")
        return {"kind": "identitytoolkit#SignupNewUserResponse", "localId": "a-new-user"}

    def _provider_page(self, call: Call) -> Any:
        self._client(call)
        idp = self.idps.get((call.json.get("tenantId", ""), call.json.get("providerId", "")), {})
        if not idp.get("enabled"):
            raise Refusal(
                *(400, "INVALID_ARGUMENT"),
                "OPERATION_NOT_ALLOWED : The identity provider configuration is not found.",
            )
        return {"kind": "identitytoolkit#CreateAuthUriResponse", "authUri": f"https://x?client_id={idp['clientId']}"}


def _change(there: dict[str, Any], call: Call, fields: dict[str, type]) -> None:
    """Change what the mask names, and nothing else; a mask that names no field, or an unknown one, is refused."""
    paths = [path for path in call.query.get("updateMask", "").split(",") if path]
    if not paths or not set(paths) <= {*fields}:
        raise Refusal(400, "INVALID_ARGUMENT", "INVALID_UPDATE_MASK")
    changed = copy.deepcopy(there)
    for path in paths:
        value: Any = call.json
        *parents, last = path.split(".")
        below = changed
        for name in parents:
            value, below = value.get(name, {}), below.setdefault(name, {})
        value = value.get(last, fields[path]())
        if not isinstance(value, fields[path]):
            raise Refusal(400, "INVALID_ARGUMENT", f"Invalid value at '{path}'")
        below[last] = value
    there.clear()
    there.update(changed)


def _shown(settings: dict[str, Any]) -> dict[str, Any]:
    """As answers have them: without what is false or empty."""
    return dict(_fields(settings))


def _fields(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        kept = _shown(value) if isinstance(value, dict) else value
        if kept or isinstance(value, dict):
            yield name, kept
