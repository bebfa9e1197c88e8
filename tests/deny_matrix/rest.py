"""Attempts over the emulator's REST API, on one kept connection."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from rules_tester.values import ReferenceValue, fields, value

from .attempts import Operation

__all__ = ["Rest", "Unclear"]

_SECONDS = 30.0
_VECTOR = (1.0, 0.0, 0.5)
_Request = tuple[str, str, bytes | None]


class Unclear(Exception):
    """The emulator said neither yes nor no."""


class Rest:
    """One connection to one database of an emulator. Not for use by two threads at once."""

    def __init__(self, host: str, project: str, database: str = "(default)") -> None:
        self._connection = http.client.HTTPConnection(host, timeout=_SECONDS)
        self._root = f"projects/{project}/databases/{database}/documents"
        self._built: dict[Operation, _Request] = {}

    def allowed(self, operation: Operation, token: str | None) -> bool:
        """Whether the rules let it through; an answer such as "not found" comes after the rules, and means yes.

        Raises:
            Unclear: neither yes nor no.
        """
        writes = operation.right in {"create", "rename", "change", "delete"}
        if writes and operation.name.endswith("in a transaction"):
            status, said = self._commit_in_transaction(operation, token)
        else:
            status, said = self._send(*self._request(operation), token)
        if status == 403:
            return False
        if status in {200, 404, 409} or (status == 400 and b"FAILED_PRECONDITION" in said):
            return True
        raise Unclear(f"{operation.name} {operation.target}: {status} {said[:300]!r}")

    def put(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write documents with an owner's rights; a tuple of numbers becomes a vector."""
        writes = [self._write(path, data) for path, data in documents.items()]
        status, said = self._send("POST", self._url(":commit"), json.dumps({"writes": writes}).encode(), "owner")
        if status != 200:
            raise Unclear(f"the documents could not be written: {status} {said[:300]!r}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _url(self, rest: str) -> str:
        return f"/v1/{quote(self._root + rest, safe='/:')}"

    def _commit_in_transaction(self, operation: Operation, token: str | None) -> tuple[int, bytes]:
        status, said = self._send("POST", self._url(":beginTransaction"), b"{}", token)
        if status != 200:
            return status, said
        body = {"writes": list(self._writes(operation)), "transaction": json.loads(said)["transaction"]}
        return self._send("POST", self._url(":commit"), json.dumps(body).encode(), token)

    def _request(self, operation: Operation) -> _Request:
        if operation not in self._built:
            method, url, body = self._build(operation)
            self._built[operation] = (method, self._url(url), None if body is None else json.dumps(body).encode())
        return self._built[operation]

    def _build(self, operation: Operation) -> tuple[str, str, Any]:
        name, target = operation.name, operation.target
        if name in {"get", "list"}:
            return "GET", f"/{target}", None
        read_only: dict[str, Any] = {"newTransaction": {"readOnly": {}}} if name.endswith("in a transaction") else {}
        if operation.right == "get":
            return "POST", ":batchGet", {"documents": [f"{self._root}/{target}"], **read_only}
        if operation.right not in {"list", "group"}:
            return "POST", ":commit", {"writes": list(self._writes(operation))}
        parent, query = self._query(operation)
        if name.startswith("count"):
            counted = {"structuredQuery": query, "aggregations": [{"alias": "n", "count": {}}]}
            return "POST", f"{parent}:runAggregationQuery", {"structuredAggregationQuery": counted}
        return "POST", f"{parent}:runQuery", {"structuredQuery": query, **read_only}

    def _query(self, operation: Operation) -> tuple[str, dict[str, Any]]:
        one = operation.name == "query one by name"
        collection = operation.target.rpartition("/")[0] if one else operation.target
        parent, _, group = f"/{collection}".rpartition("/")
        query: dict[str, Any] = {"from": [{"collectionId": group, "allDescendants": operation.right == "group"}]}
        if one:
            named = {"field": {"fieldPath": "__name__"}, "op": "EQUAL"}
            query["where"] = {"fieldFilter": {**named, "value": value(ReferenceValue(operation.target), self._root)}}
        if operation.name.startswith("find nearest"):
            near = {"queryVector": _vector(_VECTOR), "distanceMeasure": "COSINE", "limit": 3}
            query["findNearest"] = {"vectorField": {"fieldPath": "embedding"}, **near}
        return parent.removesuffix("/**"), query

    def _writes(self, operation: Operation) -> Iterator[dict[str, Any]]:
        path, data = operation.target, dict(operation.data)
        if operation.right == "delete":
            yield {"delete": f"{self._root}/{path}"}
        elif operation.right == "create":
            yield {**self._write(f"{path}-new", data), "currentDocument": {"exists": False}}
        elif operation.name == "overwrite":
            yield self._write(path, data)
        elif operation.name == "increment the count":
            moves = [{"fieldPath": name, "increment": value(by)} for name, by in data.items()]
            yield {"transform": {"document": f"{self._root}/{path}", "fieldTransforms": moves}}
        elif operation.name == "rename in a batch":
            for name, item in data.items():
                yield {**self._write(path, {name: item}), "updateMask": {"fieldPaths": [name]}}
        else:
            yield {**self._write(path, data), "updateMask": {"fieldPaths": list(data)}}
        if operation.name.endswith("in the same batch"):
            yield self._write(f"{path}-beside", {**data, "archived": False})

    def _write(self, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
        vectors = {name: _vector(item) for name, item in data.items() if isinstance(item, tuple)}
        plain = fields({name: item for name, item in data.items() if name not in vectors}, self._root)
        return {"update": {"name": f"{self._root}/{path}", "fields": plain | vectors}}

    def _send(self, method: str, url: str, body: bytes | None, token: str | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._connection.request(method, url, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _vector(numbers: tuple[float, ...]) -> dict[str, Any]:
    values = {"arrayValue": {"values": [value(number) for number in numbers]}}
    return {"mapValue": {"fields": {"__type__": value("__vector__"), "value": values}}}
