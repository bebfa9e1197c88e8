"""Fetch the rules in force from the Firebase Rules API (https://firebase.google.com/docs/reference/rules/rest)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

__all__ = ["ENDPOINT", "LiveError", "fetch"]

ENDPOINT = "https://firebaserules.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/firebase.readonly"
_SECONDS = 30.0
_DEFAULT = "(default)"
_MENDS = {
    401: "sign in with 'gcloud auth application-default login'",
    403: "ask for the role Firebase Rules Viewer (roles/firebaserules.viewer) in this project, and see that the "
    "Firebase Rules API is enabled there",
}


class LiveError(Exception):
    """The live rules could not be fetched. The message says why and what to do."""


def fetch(project: str, database: str = _DEFAULT, endpoint: str = ENDPOINT, credentials: Any = None) -> str | None:
    """Return the text of the rules in force for a database, or None if none were ever released for it.

    Args:
        endpoint: the API's address. A token is sent there, so it must be an https address, or one of this machine.
        credentials: credentials of google-auth; by default the application default credentials.

    Raises:
        LiveError: there are no credentials, the API refused or cannot be reached, or the ruleset is not one file.
    """
    address = urlsplit(endpoint)
    if address.scheme != "https" and address.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise LiveError(f"{endpoint} is no https address, and a token is not sent without TLS")
    session = _session(credentials)
    root = f"{endpoint.rstrip('/')}/v1/"
    release = None
    for name in _release_names(database):
        release = release or _get(session, f"{root}projects/{quote(project, safe='')}/releases/{name}")
    if release is None:
        return None
    ruleset = _get(session, root + quote(str(release.get("rulesetName", "")), safe="/"))
    files = ((ruleset or {}).get("source") or {}).get("files") or []
    if len(files) != 1 or not isinstance(files[0].get("content"), str):
        raise LiveError(f"the live ruleset of {project} holds {len(files)} files, and one is expected")
    content: str = files[0]["content"]
    return content


def _release_names(database: str) -> list[str]:
    name = f"cloud.firestore/{quote(database, safe='()')}"
    # For the default database firebase-tools releases rules without the database's name, gcloud's examples with it.
    return ["cloud.firestore", name] if database == _DEFAULT else [name]


def _session(credentials: Any) -> Any:
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import AuthorizedSession
    except ImportError:
        raise LiveError("google-auth and requests are not installed; install firelaunch[cloud]") from None
    if credentials is None:
        try:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
        except DefaultCredentialsError:
            raise LiveError(f"there are no Google credentials here; {_MENDS[401]}") from None
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]


def _get(session: Any, url: str) -> Mapping[str, Any] | None:
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        answer = session.get(url, timeout=_SECONDS)
        body = answer.json()
    except GoogleAuthError as error:
        raise LiveError(f"Google refused the credentials ({error}); {_MENDS[401]}") from None
    except (RequestException, ValueError) as error:
        raise LiveError(f"GET {url}: {error}") from None
    if answer.status_code == 404 and "/releases/" in url:
        return None
    if answer.status_code != 200 or not isinstance(body, dict):
        message = body.get("error", {}).get("message", "") if isinstance(body, dict) else ""
        mend = _MENDS.get(answer.status_code, "try again later")
        raise LiveError(f"GET {url} was answered with {answer.status_code} {message}; {mend}")
    return body
