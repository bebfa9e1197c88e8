"""The custom claim ``apps: {"<app>": "<role>"}`` inside all the claims that an account holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import BadRequest, Conflict, FirelaunchError

__all__ = ["MAX_BYTES", "ROLE", "TooManyApps", "check_role", "encode", "roles", "with_role"]

MAX_BYTES: Final = 1000
"""What all custom claims of an account, as JSON, must stay under; Firebase Auth takes no more
(https://firebase.google.com/docs/auth/admin/custom-claims)."""

ROLE = re.compile(r"[a-z0-9_-]{1,32}")
"""The same form that ``firestore.rules`` and the services ask of a role."""


class TooManyApps(Conflict):
    """One more app would make the account's claims larger than a token may carry."""

    code = "too_many_apps"


def check_role(role: str) -> str:
    """``role`` itself, when it is one.

    Raises:
        BadRequest: it is not 1 to 32 lower-case letters, digits, "_" and "-".
    """
    if not ROLE.fullmatch(role):
        raise BadRequest('A role is 1 to 32 lower-case letters, digits, "_" and "-".')
    return role


def roles(claims: Mapping[str, Any]) -> dict[str, str]:
    """The roles that ``claims`` give, by app; whatever is no role gives none."""
    apps = claims.get("apps")
    if not isinstance(apps, Mapping):
        return {}
    return {app: role for app, role in apps.items() if isinstance(role, str) and ROLE.fullmatch(role)}


def with_role(claims: Mapping[str, Any], app_id: str, role: str | None) -> dict[str, Any]:
    """``claims`` with this ``role`` in the app, or with none; roles in other apps and other claims stay as they are.

    Raises:
        TooManyApps: the claims grew, and are not under ``MAX_BYTES`` any more.
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
    """The claims as Firebase Auth is handed them: JSON in ASCII, without spaces.

    Raises:
        FirelaunchError: they cannot be written as JSON.
    """
    try:
        return json.dumps(claims, separators=(",", ":"), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise FirelaunchError(reason=f"claims that are no JSON: {error}") from error
