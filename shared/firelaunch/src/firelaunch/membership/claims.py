"""Read and change the custom claim ``apps: {"<app>": "<role>"}`` among all claims of an account."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import BadRequest, Conflict, FirelaunchError

__all__ = ["MAX_BYTES", "ROLE", "TooManyApps", "check_role", "encode", "roles", "with_role"]

MAX_BYTES: Final = 1000
"""All custom claims of an account, as JSON, must have fewer bytes than this. It is Firebase Auth's limit
(https://firebase.google.com/docs/auth/admin/custom-claims)."""

ROLE = re.compile(r"[a-z0-9_-]{1,32}")
"""The form of a role, which ``firestore.rules`` and the services demand too."""


class TooManyApps(Conflict):
    """One more app would make the account's claims larger than a token may carry."""

    code = "too_many_apps"


def check_role(role: str) -> str:
    """Return ``role`` if it is valid.

    Raises:
        BadRequest: ``role`` is not 1 to 32 lower-case letters, digits, "_" and "-".
    """
    if not ROLE.fullmatch(role):
        raise BadRequest('A role is 1 to 32 lower-case letters, digits, "_" and "-".')
    return role


def roles(claims: Mapping[str, Any]) -> dict[str, str]:
    """Return the roles that ``claims`` give, by app. Invalid roles are left out."""
    apps = claims.get("apps")
    if not isinstance(apps, Mapping):
        return {}
    return {app: role for app, role in apps.items() if isinstance(role, str) and ROLE.fullmatch(role)}


def with_role(claims: Mapping[str, Any], app_id: str, role: str | None) -> dict[str, Any]:
    """Return ``claims`` with ``role`` in the app, or without a role if it is None. All other claims stay unchanged.

    Raises:
        TooManyApps: the claims grew, and reach ``MAX_BYTES``.
    """
    kept = {app: held for app, held in roles(claims).items() if app != app_id}
    changed = {**claims, "apps": kept if role is None else {**kept, app_id: role}}
    if not changed["apps"]:
        del changed["apps"]
    size = len(encode(changed))
    if size >= MAX_BYTES and size > len(encode(claims)):
        raise TooManyApps(
            f"This account belongs to {len(kept)} apps, and its token holds no more: its claims would take {size} "
            f"bytes of less than {MAX_BYTES}. Leave an app first.",
        )
    return changed


def encode(claims: Mapping[str, Any]) -> str:
    """Return the claims in the form for Firebase Auth: JSON in ASCII, without spaces.

    Raises:
        FirelaunchError: the claims cannot be written as JSON.
    """
    try:
        return json.dumps(claims, separators=(",", ":"), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise FirelaunchError(reason=f"claims that are no JSON: {error}") from error
