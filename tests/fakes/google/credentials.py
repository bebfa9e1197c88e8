"""Tokens: IAM Credentials, which makes them for service accounts, and sign-in by custom tokens, with its API keys."""

from __future__ import annotations

import json
import re
import secrets
import time
from typing import Any

from firelaunch.testing.certificates import CertificateServer

from .base import Call, Refusal, Route, done, exists, not_found
from .project import Project
from .sign_in import SignIn
from .users import Users

__all__ = ["Credentials"]

_CREATOR = "roles/iam.serviceAccountTokenCreator"
_AUDIENCE = "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"
_PREFIX = "a-token-of-"
_STARTS = re.compile(r'resource\.name\.startsWith\("([^"]+)"\)')
_LISTS = re.compile(r'resource\.name=="([^"]+)" && api\.getAttribute\("[^"]+", ""\)\.startsWith\("([^"]+)"\)')
_IS = re.compile(r'resource\.name=="([^"]+)"')
_LIFETIME = 3600


class Credentials:
    """State and routes.

    Attributes:
        certificates: sign all tokens.
        me: whoever calls, as policies name them.
        conditions_hold: whether IAM looks at conditions.
        keys: API keys, by their ids.
    """

    def __init__(self, project: str, account: Project, users: Users, sign_in: SignIn) -> None:
        self.certificates: CertificateServer | None = None
        self.me = "user:founder@example.com"
        self.conditions_hold = True
        self.keys: dict[str, dict[str, Any]] = {}
        self._project = project
        self._account = account
        self._users = users
        self._set_up = sign_in

    def routes(self) -> list[Route]:
        """Every route."""
        account = r"iamcredentials\.googleapis\.com/v1/projects/-/serviceAccounts/([^/:]+)"
        keys = f"apikeys.googleapis.com/v2/projects/{self._project}/locations/global/keys"
        identity = "identitytoolkit.googleapis.com/v1"
        return [
            Route("POST", account + ":generateAccessToken", self._access_token),
            Route("POST", account + ":generateIdToken", self._identity_token),
            Route("POST", account + ":signJwt", self._sign_jwt),
            Route("POST", keys, self._create_key, "apikeys.keys.create"),
            Route("GET", keys + "/([^/]+)", self._key, "apikeys.keys.get"),
            Route("GET", keys + "/([^/]+)/keyString", self._key_string, "apikeys.keys.getKeyString"),
            Route("DELETE", keys + "/([^/]+)", self._delete_key, "apikeys.keys.delete"),
            Route("POST", f"{identity}/accounts:signInWithCustomToken", self._sign_in, open=True),
        ]

    def account_of(self, token: str) -> str | None:
        """The service account whose access token this is; None where it is another."""
        return token.removeprefix(_PREFIX) if token.startswith(_PREFIX) else None

    def claims(self, token: str) -> dict[str, Any]:
        """What a user's ID token says.

        Raises:
            Refusal: it is none of this project's.
        """
        from google.auth import jwt

        certificate = {"key-1": self._certificates.certificate}
        try:
            claims: dict[str, Any] = jwt.decode(token, certificate, audience=self._project)  # type: ignore[no-untyped-call]
        except ValueError:
            raise Refusal(401, "UNAUTHENTICATED", "Missing or invalid authentication.") from None
        return claims

    def check(self, email: str, role: str, resource: str, listed: str | None = None) -> None:
        """Refuse a service account what none of its roles allows (https://cloud.google.com/iam/docs/conditions-overview).

        Args:
            resource: its name, as conditions see it.
            listed: the prefix of a list of objects.
        """
        conditions = [condition for held, condition in self._account.roles_of(email) if held == role]
        if not any(self._holds(condition, resource, listed) for condition in conditions):
            raise Refusal(403, "PERMISSION_DENIED", f"{email} does not have {role} on {resource}.")

    def _holds(self, condition: str | None, resource: str, listed: str | None) -> bool:
        if condition is None or not self.conditions_hold:
            return True
        starts, lists, is_one = _STARTS.search(condition), _LISTS.search(condition), _IS.fullmatch(condition)
        if is_one:
            return resource == is_one[1]
        if listed is not None:
            return bool(lists and resource == lists[1] and listed.startswith(lists[2]))
        return bool(starts and resource.startswith(starts[1]))

    def identity_token(self, email: str, audience: str, **claims: Any) -> str:
        """An OIDC token of a service account, as Google's services bring it."""
        now = int(time.time())
        made = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "sub": "104029292929292929292",
            "email": email,
            "email_verified": True,
            "iat": now,
            "exp": now + _LIFETIME,
        }
        return self._certificates.sign({**made, **claims})

    @property
    def _certificates(self) -> CertificateServer:
        if self.certificates is None:
            self.certificates = CertificateServer()
        return self.certificates

    def _check_creator(self, email: str, permission: str) -> None:
        policy = self._account.account_policies.get(email, {"bindings": []})
        held = any(b["role"] == _CREATOR and self.me in b["members"] for b in policy["bindings"])
        if not held or self._account.is_late("impersonation"):
            said = f"Permission 'iam.serviceAccounts.{permission}' denied on resource (or it may not exist)."
            raise Refusal(403, "PERMISSION_DENIED", said)

    def _access_token(self, call: Call, email: str) -> Any:
        self._check_creator(email, "getAccessToken")
        if not call.json.get("scope"):
            raise Refusal(400, "INVALID_ARGUMENT", "Scope is required.")
        return {"accessToken": f"{_PREFIX}{email}", "expireTime": "2099-01-01T00:00:00Z"}

    def _identity_token(self, call: Call, email: str) -> Any:
        self._check_creator(email, "getOpenIdToken")
        named = bool(call.json.get("includeEmail"))
        return {"token": self.identity_token(email if named else "", call.json["audience"], email_verified=named)}

    def _sign_jwt(self, call: Call, email: str) -> Any:
        self._check_creator(email, "signJwt")
        payload = json.loads(call.json["payload"])
        if payload.get("exp", 0) > time.time() + 12 * 3600:
            raise Refusal(400, "INVALID_ARGUMENT", "The expiration time is more than 12 hours in the future.")
        return {"keyId": "key-1", "signedJwt": self._certificates.sign(payload)}

    def _create_key(self, call: Call) -> Any:
        name = call.query.get("keyId") or f"k{len(self.keys)}"
        if name in self.keys:
            raise exists(name)
        whole = f"projects/1234/locations/global/keys/{name}"
        self.keys[name] = {**call.json, "name": whole, "keyString": f"AIza{secrets.token_hex(8)}"}
        return {**done({"name": whole}), "name": f"operations/akmf.{name}"}

    def _key(self, _: Call, name: str) -> Any:
        if name not in self.keys:
            raise not_found(name)
        return {key: value for key, value in self.keys[name].items() if key != "keyString"}

    def _key_string(self, call: Call, name: str) -> Any:
        self._key(call, name)
        return {"keyString": self.keys[name]["keyString"]}

    def _delete_key(self, call: Call, name: str) -> Any:
        """It can still be looked at (https://cloud.google.com/docs/authentication/api-keys#deleting_api_keys)."""
        self._key(call, name)
        self.keys[name]["deleteTime"] = "2026-01-01T00:00:00Z"
        return {**done({}), "name": f"operations/akmf.{name}"}

    def _sign_in(self, call: Call) -> Any:
        """https://cloud.google.com/identity-platform/docs/reference/rest/v1/accounts/signInWithCustomToken"""
        live = [key for key in self.keys.values() if not key.get("deleteTime")]
        if call.query.get("key") not in {key["keyString"] for key in live}:
            raise Refusal(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
        if self._set_up.config is None:
            raise Refusal(400, "INVALID_ARGUMENT", "CONFIGURATION_NOT_FOUND")
        claims = self._custom(call.json["token"])
        uid = claims["uid"]
        new = uid not in self._users.claims
        self._users.claims.setdefault(uid, {})
        own = {**self._users.claims[uid], **claims.get("claims", {})}
        token = self._certificates.token(self._project, uid, **own)
        return {"idToken": token, "refreshToken": "r", "expiresIn": str(_LIFETIME), "isNewUser": new}

    def _custom(self, token: str) -> dict[str, Any]:
        from google.auth import jwt

        certificate = {"key-1": self._certificates.certificate}
        try:
            claims: dict[str, Any] = jwt.decode(token, certificate, audience=_AUDIENCE)  # type: ignore[no-untyped-call]
        except ValueError:
            raise Refusal(400, "INVALID_ARGUMENT", "INVALID_CUSTOM_TOKEN") from None
        if claims["iss"] not in self._account.accounts or claims["iss"] != claims["sub"]:
            raise Refusal(400, "INVALID_ARGUMENT", "CREDENTIAL_MISMATCH")
        return claims
