"""Firestore's documents by REST, kept by the emulator: IAM decides for accounts, security rules for users."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from firelaunch.testing.emulator import Emulator, unsigned_token

from .base import TOKEN, Call, Refusal, Route
from .credentials import Credentials
from .firestore import Firestore

__all__ = ["Documents"]

_SECONDS = 30.0


class Documents:
    """Routes that take the place of those of :class:`.firestore.Firestore` for documents.

    Attributes:
        deleted: is told the database and path of each document that a request deletes.
    """

    def __init__(self, project: str, emulator: Emulator, credentials: Credentials, firestore: Firestore) -> None:
        self.deleted: Callable[[str, str], object] = lambda _database, _path: None
        self._project = project
        self._emulator = emulator
        self._credentials = credentials
        self._firestore = firestore

    def routes(self) -> list[Route]:
        """Every route; who calls is looked at here."""
        base = f"firestore.googleapis.com/v1/projects/{self._project}/databases/([^/]+)/documents(.*)"
        return [Route(method, base, self._answer, open=True) for method in ("GET", "POST", "PATCH", "DELETE")]

    def _answer(self, call: Call, database: str, rest: str) -> Any:
        self._firestore.check(database)
        bearer = self._bearer(call, database)
        if rest.endswith(":runQuery"):
            self._check_index(database, call.json["structuredQuery"])
        there = call.method == "DELETE" and self._send("GET", database, rest, bearer, None)[0] == 200
        query = {key: value for key, value in call.query.items() if key in ("pageSize", "pageToken")}
        more = "".join(f"{'&' if number else '?'}{key}={quote(query[key])}" for number, key in enumerate(query))
        status, said = self._send(call.method, database, f"{rest}{more}", bearer, call.body or None)
        if status >= 400:
            error = said[0] if isinstance(said, list) else said
            raise Refusal(status, error["error"]["status"], error["error"]["message"])
        if there:
            self.deleted(database, rest.strip("/"))
        return said

    def _bearer(self, call: Call, database: str) -> str | None:
        email = self._credentials.account_of(call.token)
        if email:
            resource = f"projects/{self._project}/databases/{database}"
            self._credentials.check(email, "roles/datastore.user", resource)
        if email or call.token == TOKEN:
            return "owner"
        if not call.token:
            return None
        return unsigned_token(self._project, self._credentials.claims(call.token))

    def _check_index(self, database: str, query: dict[str, Any]) -> None:
        """Refuses a query by several fields that no index is ready for, which the emulator does not."""
        order = [(each["field"]["fieldPath"], each["direction"]) for each in query.get("orderBy", [])]
        if len(order) < 2:
            return
        group = query["from"][0]["collectionId"]
        for index in self._firestore.indexes.get(database, []):
            fields = [(field["fieldPath"], field.get("order")) for field in index["fields"]]
            named = f"/collectionGroups/{group}/" in index["name"]
            if named and index["state"] == "READY" and [f for f in fields if f[0] != "__name__"] == order:
                return
        raise Refusal(400, "FAILED_PRECONDITION", "The query requires an index. You can create it here: https://...")

    def _send(self, method: str, database: str, rest: str, bearer: str | None, body: bytes | None) -> tuple[int, Any]:
        where = f"http://{self._emulator.host}/v1/projects/{self._project}/databases/{quote(database)}/documents{rest}"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        request = urllib.request.Request(where, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - the emulator's address
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
