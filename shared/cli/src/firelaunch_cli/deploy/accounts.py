"""The accounts of Firebase Auth, page by page, with the deployer's own login."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from firelaunch.membership.claims import encode, roles

from .gcloud import Request, Tools

__all__ = ["members", "pages"]

_PAGE = 1000
"""Accounts of one answer, the API's most
(https://cloud.google.com/identity-platform/docs/reference/rest/v1/projects.accounts/batchGet)."""

_KEPT = (
    *("localId", "email", "emailVerified", "passwordHash", "salt", "displayName", "photoUrl", "createdAt"),
    *("phoneNumber", "disabled", "providerUserInfo"),
)
"""The fields of an account that ``firebase auth:import`` takes (https://firebase.google.com/docs/cli/auth)."""

_KEPT_OF_PROVIDER = ("providerId", "rawId", "email", "displayName", "photoUrl")
_PROVIDERS = {"google.com", "facebook.com", "twitter.com", "github.com"}


def pages(tools: Tools, project: str, tenant: str = "") -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Accounts as the API has them, and whether there are more.

    Args:
        tenant: of Identity Platform; empty for the project's own users.

    Raises:
        Failed: the API refused, or Firebase Authentication is not set up.
    """
    below = f"projects/{quote(project, safe='')}" + (f"/tenants/{quote(tenant, safe='')}" if tenant else "")
    url = f"https://identitytoolkit.googleapis.com/v1/{below}/accounts:batchGet?maxResults={_PAGE}"
    more = ""
    while True:
        answer = tools.request(Request("GET", f"{url}{more}")) or {}
        token = answer.get("nextPageToken")
        yield answer.get("users", []), bool(token)
        if not token:
            return
        more = f"&nextPageToken={quote(token, safe='')}"


def members(tools: Tools, project: str, tenant: str, app_id: str) -> Iterator[dict[str, Any]]:
    """The app's members as ``firebase auth:import`` takes accounts, each with its role in this app alone.

    Raises:
        Failed: as :func:`pages`.
    """
    for users, _ in pages(tools, project, tenant):
        for user in users:
            role = roles(_claims(user)).get(app_id)
            if role is not None:
                yield _as_imported(user, app_id, role)


def _claims(user: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found = json.loads(user.get("customAttributes") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _as_imported(user: Mapping[str, Any], app_id: str, role: str) -> dict[str, Any]:
    made = {key: user[key] for key in _KEPT if user.get(key) not in (None, "")}
    for key in ("passwordHash", "salt"):
        if key in made:  # the API's Base64 is that for URLs, the file's is not
            made[key] = made[key].replace("_", "/").replace("-", "+")
    providers = [item for item in made.pop("providerUserInfo", []) if item.get("providerId") in _PROVIDERS]
    if providers:
        made["providerUserInfo"] = [{key: x[key] for key in _KEPT_OF_PROVIDER if x.get(key)} for x in providers]
    if user.get("lastLoginAt"):
        made["lastSignedInAt"] = user["lastLoginAt"]
    return {**made, "customAttributes": encode({"apps": {app_id: role}})}
