"""Firebase Authentication as its SDK asks it: guests, links in e-mails, sessions that are renewed."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from firelaunch.testing.accounts import AccountServer, refused
from firelaunch.testing.emulator import unsigned_token

__all__ = ["API_KEY", "SignInServer"]

API_KEY = "AIza-of-tests"
_ACTION = re.compile(r"/identitytoolkit\.googleapis\.com/v1/accounts:(\w+)|/securetoken\.googleapis\.com/v1/(token)")
_HOUR = 3600
_RECENT = 300
"""Seconds after a sign-in for which an account may be deleted (the SDK's documentation of requires-recent-login)."""


class SignInServer(AccountServer):
    """A context manager: an :class:`AccountServer` that users sign in at.

    Attributes:
        links: those that were sent, by address; each is good for one sign-in.
        off: what is switched off: "anonymous", "email_link", the page's "domain", or "all" where nothing was set up.
        stale: whether new tokens have expired already, by the app's clock.
    """

    def __init__(self, project: str, domain: str = "app.example.com") -> None:
        super().__init__(project)
        self._domain = domain
        self.links: dict[str, str] = {}
        self.off: set[str] = set()
        self.stale = False
        self._sessions: dict[str, tuple[str, str]] = {}
        self._signed_in: dict[str, int] = {}
        self._native: dict[str, tuple[str, str, str]] = {}

    def native_token(self, provider: str, email: str) -> tuple[str, str]:
        """Return an ID token that a phone's own sign-in would give, and the nonce that its app made up."""
        nonce = secrets.token_hex(16)
        token = unsigned_token(
            self.project, {"sub": f"at-{provider}", "nonce": hashlib.sha256(nonce.encode()).hexdigest()}
        )
        self._native[token] = (provider, email, nonce)
        return token, nonce

    def answer(self, path: str, authorization: str | None, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to one request; a client's has an API key."""
        where = urlsplit(path)
        action = _ACTION.fullmatch(where.path)
        if action is None:
            return super().answer(path, authorization, body)
        if f"key={API_KEY}" not in where.query:
            return refused(400, "API key not valid. Please pass a valid API key.")
        if "all" in self.off:
            return refused(400, "CONFIGURATION_NOT_FOUND")
        answers = {
            "signUp": self._sign_up,
            "sendOobCode": self._send_link,
            "signInWithEmailLink": self._sign_in_by_link,
            "signInWithIdp": self._sign_in_by_provider,
            "delete": self._delete,
            "lookup": self._lookup,
            "token": self._token,
        }
        return answers[action[1] or action[2]](body)

    def _sign_up(self, _: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "anonymous" in self.off:
            return refused(400, "ADMIN_ONLY_OPERATION")
        uid = secrets.token_hex(8)
        self.add(uid)
        return self._session(uid, "anonymous")

    def _send_link(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "email_link" in self.off:
            return refused(400, "OPERATION_NOT_ALLOWED")
        if "domain" in self.off or urlsplit(body["continueUrl"]).hostname != self._domain:
            return refused(400, "UNAUTHORIZED_DOMAIN : Domain not allowlisted by project")
        code = {"mode": "signIn", "oobCode": secrets.token_hex(8), "apiKey": API_KEY}
        self.links[body["email"]] = f"{body['continueUrl']}?{urlencode(code)}"
        return 200, {"kind": "identitytoolkit#GetOobConfirmationCodeResponse", "email": body["email"]}

    def _sign_in_by_link(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        email = body["email"]
        if f"oobCode={body['oobCode']}&" not in self.links.get(email, ""):
            return refused(400, "INVALID_OOB_CODE")
        there = next((user["localId"] for user in self._users.values() if user.get("email") == email), None)
        guest = body.get("idToken") and self._sessions[body["idToken"]][0]
        if guest and there:
            return refused(400, "EMAIL_EXISTS")
        del self.links[email]
        uid = there or guest or secrets.token_hex(8)
        if there is None:
            self.add(uid, email=email, emailVerified=True)
        return self._session(uid, "password")

    def _sign_in_by_provider(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """https://cloud.google.com/identity-platform/docs/reference/rest/v1/accounts/signInWithIdp."""
        if not body.get("requestUri"):
            return refused(400, "MISSING_REQUEST_URI")
        given = dict(parse_qsl(body.get("postBody", "")))
        provider, email, nonce = self._native.get(given.get("id_token", ""), ("", "", ""))
        if not provider or given.get("providerId") != provider:
            return refused(400, "INVALID_IDP_RESPONSE : Unable to parse the ID token.")
        if provider == "apple.com" and given.get("nonce") != nonce:
            return refused(400, "MISSING_OR_INVALID_NONCE : Nonce is missing in the request.")
        there = next((user["localId"] for user in self._users.values() if user.get("email") == email), None)
        uid = there or secrets.token_hex(14)
        if there is None:
            self.add(uid, email=email, emailVerified=True)
        status, session = self._session(uid, provider)
        about = {"kind": "identitytoolkit#VerifyAssertionResponse", "providerId": provider, "isNewUser": there is None}
        return status, {**about, "email": email, "emailVerified": True, **session}

    def _delete(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """By the user's own token (https://cloud.google.com/identity-platform/docs/reference/rest/v1/accounts/delete)."""
        if body.get("idToken") not in self._sessions:
            return refused(400, "INVALID_ID_TOKEN")
        uid, signed_in = self._sessions[body["idToken"]][0], self._signed_in[body["idToken"]]
        if (None, uid) not in self._users:
            return refused(400, "USER_NOT_FOUND")
        if time.time() - signed_in > _RECENT:
            return refused(400, "CREDENTIAL_TOO_OLD_LOGIN_AGAIN")
        del self._users[None, uid]
        return 200, {"kind": "identitytoolkit#DeleteAccountResponse"}

    def _lookup(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        uid, provider = self._sessions[body["idToken"]]
        email = self._users[None, uid].get("email")
        providers = [{"providerId": "password", "rawId": email, "email": email}] if provider == "password" else []
        return 200, {"users": [{**self._users[None, uid], "providerUserInfo": providers}]}

    def _token(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body.get("refresh_token") not in self._sessions:
            return refused(400, "INVALID_REFRESH_TOKEN")
        uid, provider = self._sessions[body["refresh_token"]]
        if (None, uid) not in self._users:
            return refused(400, "USER_NOT_FOUND")
        _, made = self._session(uid, provider, self._signed_in[body["refresh_token"]])
        token = {"id_token": made["idToken"], "access_token": made["idToken"], "refresh_token": made["refreshToken"]}
        return 200, {**token, "expires_in": made["expiresIn"], "user_id": made["localId"], "token_type": "Bearer"}

    def _session(self, uid: str, provider: str, signed_in: int | None = None) -> tuple[int, dict[str, Any]]:
        """A token with the claims that the user has now, and what renews it.

        Args:
            signed_in: when the user signed in, where that is not now.
        """
        user = self._users[None, uid]
        now = int(time.time()) - (2 * _HOUR if self.stale else 0)
        signed_in = now if signed_in is None else signed_in
        claims = {
            **json.loads(user.get("customAttributes") or "{}"),
            **({"email": user["email"], "email_verified": True} if "email" in user else {}),
            "sub": uid,
            "iat": now,
            "auth_time": signed_in,
            "exp": now + _HOUR,
            "jti": secrets.token_hex(4),
            "firebase": {"sign_in_provider": provider, "identities": {}},
        }
        token, renews = unsigned_token(self.project, claims), secrets.token_hex(8)
        self._sessions[token] = self._sessions[renews] = (uid, provider)
        self._signed_in[token] = self._signed_in[renews] = signed_in
        return 200, {"idToken": token, "refreshToken": renews, "expiresIn": str(_HOUR), "localId": uid}
