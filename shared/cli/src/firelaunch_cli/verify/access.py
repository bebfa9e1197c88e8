"""Tokens by which a run calls as the app's accounts and as users, without a key file and without a password."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from ..deploy.gcloud import CommandFailed, Request, Tools, gcloud
from ..deploy.resources import Place, account_of
from ..deploy.steps import Step
from .manifest import LABEL, Manifest
from .resources import place_of

__all__ = ["CREDENTIALS_API", "KEYS_API", "Access", "api_key", "caller", "may_impersonate"]

CREDENTIALS_API = "iamcredentials.googleapis.com"
KEYS_API = "apikeys.googleapis.com"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 - a role's name

_CREDENTIALS = f"https://{CREDENTIALS_API}/v1/projects/-/serviceAccounts"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AUDIENCE = "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"
"""Of custom tokens (https://firebase.google.com/docs/auth/admin/create-custom-tokens#create_custom_tokens_using_a_third-party_jwt_library)."""

_NEW_RIGHT_SECONDS = 420.0
"""How long a new right may take to hold (https://cloud.google.com/iam/docs/access-change-propagation)."""
_KEY_SECONDS = 300.0
_NOT_YET = re.compile(r"API key not valid|API_KEY_INVALID|CONFIGURATION_NOT_FOUND")
_LIFETIME = 3600


def caller(tools: Tools, project: str) -> str:
    """Whoever runs this, as IAM policies name them.

    Raises:
        CommandFailed: gcloud knows no account.
    """
    email = str(tools.run(gcloud("config", "get", "account", project=project)) or "")
    if "@" not in email:
        raise CommandFailed(
            "gcloud knows no account of yours", "gcloud auth login, or: gcloud config set account ACCOUNT"
        )
    kind = "serviceAccount" if email.endswith(".gserviceaccount.com") else "user"
    return f"{kind}:{email}"


def may_impersonate(place: Place, app: str, member: str) -> list[Step]:
    """The steps that let whoever runs this have tokens of the app's accounts."""
    return [_may_impersonate(place, account_of(kind, app), member) for kind in ("app", "job")]


def _may_impersonate(place: Place, account: str, member: str) -> Step:
    bind = gcloud(
        *("iam", "service-accounts", "add-iam-policy-binding", place.email(account)),
        *(f"--member={member}", f"--role={TOKEN_CREATOR}", "--condition=None"),
        project=place.project,
    )
    return Step(
        f"you may have tokens of {account}",
        (),
        lacks=lambda _: [bind],
        mend=f"ask for roles/iam.serviceAccountAdmin in {place.project}",
    )


def api_key(manifest: Manifest) -> Step:
    """A key for Identity Toolkit alone, by which users sign in; it names the project and opens nothing
    (https://firebase.google.com/docs/projects/api-keys)."""
    keys = f"https://{KEYS_API}/v2/projects/{manifest.project}/locations/global/keys"
    body = {
        "displayName": f"firelaunch verify, run {manifest.run}",
        "annotations": {LABEL: manifest.run},
        "restrictions": {"apiTargets": [{"service": "identitytoolkit.googleapis.com"}]},
    }
    return Step(
        "an API key for sign-in",
        (),
        lacks=lambda _: [Request("POST", f"{keys}?keyId={manifest.app}", body)],
        mend=f"ask for roles/serviceusage.apiKeysAdmin in {manifest.project}",
    )


class Access:
    """Tokens of one run.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, tools: Tools, manifest: Manifest, clock: Callable[[], float] = time.time) -> None:
        self._tools = tools
        self._manifest = manifest
        self._place = place_of(manifest)
        self._clock = clock
        self._key = ""
        self._signed_in: dict[str, str] = {}

    def email(self, kind: str) -> str:
        """The address of the app's own account ("app"), or of the one that brings its jobs ("job")."""
        return self._place.email(account_of(kind, self._manifest.app))

    def access_token(self, kind: str) -> str:
        """A token by which the account calls Google's APIs.

        Raises:
            CommandFailed: it cannot be had.
        """
        said = self._as(kind, "generateAccessToken", {"scope": [_SCOPE], "lifetime": f"{_LIFETIME}s"})
        return str(said["accessToken"])

    def identity_token(self, kind: str, audience: str) -> str:
        """A token by which the account proves who it is to a service, signed by Google.

        Raises:
            CommandFailed: it cannot be had.
        """
        return str(self._as(kind, "generateIdToken", {"audience": audience, "includeEmail": True})["token"])

    def user_token(self, uid: str) -> str:
        """An ID token of Firebase Authentication for a user of the run, who is a member of its app.

        The account signs a custom token, which is exchanged for an ID token: no sign-in method has to be switched on.

        Raises:
            CommandFailed: it cannot be had.
        """
        if uid not in self._signed_in:
            now, signer = int(self._clock()), self.email("app")
            claims = {"apps": {self._manifest.app: "member"}}
            payload = {"iss": signer, "sub": signer, "aud": _AUDIENCE, "uid": uid, "iat": now, "exp": now + _LIFETIME}
            said = self._as("app", "signJwt", {"payload": json.dumps({**payload, "claims": claims})})
            user = self._manifest.plan("user", uid)
            self._signed_in[uid] = self._exchange(str(said["signedJwt"]))
            self._manifest.set_state(user, "made")
        return self._signed_in[uid]

    def _as(self, kind: str, method: str, body: dict[str, Any]) -> Any:
        """A call to IAM Credentials, repeated until the right to make it holds."""
        waited, pause = 0.0, 2.0
        while True:
            try:
                return self._tools.request(Request("POST", f"{_CREDENTIALS}/{self.email(kind)}:{method}", body))
            except CommandFailed as failed:
                if ": 403 " not in str(failed) or waited >= _NEW_RIGHT_SECONDS:
                    raise
            if waited == 0:
                self._tools.say("waiting, 7 minutes at most: your new right to this account's tokens does not hold yet")
            self._tools.pause(pause)
            waited += pause
            pause = min(pause * 2, 30.0)

    def _exchange(self, custom: str) -> str:
        """The ID token for a custom token; a new key and new settings take a while to hold."""
        waited, pause = 0.0, 2.0
        while True:
            status, said = self._sign_in(custom)
            if status == 200:
                return str(said["idToken"])
            message = str(said.get("error", {}).get("message", status))
            if not _NOT_YET.search(message) or waited >= _KEY_SECONDS:
                raise CommandFailed(
                    f"signing in a user: {message}", "see that Firebase Authentication is set up in the project"
                )
            if waited == 0:
                self._tools.say("waiting, 5 minutes at most: the run's API key does not hold everywhere yet")
            self._tools.pause(pause)
            waited += pause
            pause = min(pause * 2, 30.0)

    def _sign_in(self, custom: str) -> tuple[int, Any]:
        import httpx

        url = "https://identitytoolkit.googleapis.com/v1/accounts:signInWithCustomToken"
        body = {"token": custom, "returnSecureToken": True}
        try:
            answer = httpx.post(url, params={"key": self._api_key()}, json=body, timeout=60)
            return answer.status_code, answer.json()
        except (httpx.HTTPError, ValueError) as error:
            # The address holds the key, and is not told.
            raise CommandFailed(
                f"signing in a user: {type(error).__name__}", "run the same command again", passing=True
            ) from None

    def _api_key(self) -> str:
        if not self._key:
            name = f"projects/{self._manifest.project}/locations/global/keys/{self._manifest.app}"
            said = self._tools.request(Request("GET", f"https://{KEYS_API}/v2/{name}/keyString"))
            if not said:
                raise CommandFailed("the run's API key is not there", "run firelaunch verify again")
            self._key = str(said["keyString"])
        return self._key
