"""The users of Firebase Auth, as Identity Toolkit lists them."""

from __future__ import annotations

import json
from typing import Any

from .base import Call, Refusal, Route
from .sign_in import SignIn

__all__ = ["Users"]


class Users:
    """Accounts by their uid, each with its claims; where there are some, Firebase Authentication was set up."""

    def __init__(self, project: str, sign_in: SignIn) -> None:
        self.project = project
        self._sign_in = sign_in
        self.claims: dict[str, dict[str, Any]] = {}
        self.fields: dict[str, dict[str, Any]] = {}
        """What else the API says of an account, by its uid."""

    def routes(self) -> list[Route]:
        """Every route."""
        where = f"identitytoolkit.googleapis.com/v1/projects/{self.project}/accounts:batchGet"
        accounts = where.removesuffix(":batchGet")
        return [
            Route("GET", where, self._list, "firebaseauth.users.get"),
            Route("POST", accounts + ":lookup", self._lookup, "firebaseauth.users.get"),
            Route("POST", accounts + ":delete", self._delete, "firebaseauth.users.delete"),
        ]

    def _lookup(self, call: Call) -> Any:
        found = [uid for uid in call.json.get("localId", []) if uid in self.claims]
        users = [{"localId": uid, "customAttributes": json.dumps(self.claims[uid])} for uid in found]
        return {"kind": "identitytoolkit#GetAccountInfoResponse"} | ({"users": users} if users else {})

    def _delete(self, call: Call) -> Any:
        if call.json["localId"] not in self.claims:
            raise Refusal(400, "INVALID_ARGUMENT", "USER_NOT_FOUND")
        del self.claims[call.json["localId"]]
        return {"kind": "identitytoolkit#DeleteAccountResponse"}

    def _list(self, call: Call) -> Any:
        """https://cloud.google.com/identity-platform/docs/reference/rest/v1/projects.accounts/batchGet"""
        if self._sign_in.config is None and not self.claims:
            raise Refusal(400, "INVALID_ARGUMENT", "CONFIGURATION_NOT_FOUND")
        size = int(call.query.get("maxResults", "20"))
        if size > 1000:
            raise Refusal(400, "INVALID_ARGUMENT", "INVALID_MAX_RESULTS")
        begin = int(call.query.get("nextPageToken", "0"))
        page = sorted(self.claims)[begin : begin + size]
        users = [
            {"localId": uid, "customAttributes": json.dumps(self.claims[uid]), **self.fields.get(uid, {})}
            for uid in page
        ]
        more = begin + size < len(self.claims)
        return {"kind": "identitytoolkit#DownloadAccountResponse", "users": users} | (
            {"nextPageToken": str(begin + size)} if more else {}
        )
