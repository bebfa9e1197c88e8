"""Send requests to a Firestore emulator as a user, over its REST API, and report whether the rules allow them.

REST serves better than the Python client here: one connection lasts for thousands of requests, and the requests are
easy to inspect.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from .values import Transform, fields, value

__all__ = ["OPERATIONS", "OPERATORS", "WRITES", "Operation", "RestClient", "UnexpectedAnswer"]

Kind = Literal["get", "list", "group", "count", "create", "set", "update", "delete", "batch"]
OPERATIONS: tuple[Kind, ...] = ("get", "list", "group", "count", "create", "set", "update", "delete", "batch")
WRITES = {"create", "set", "update", "delete"}
_SECONDS = 30.0
OPERATORS = {
    "==": "EQUAL", "!=": "NOT_EQUAL", "<": "LESS_THAN", "<=": "LESS_THAN_OR_EQUAL", ">": "GREATER_THAN",
    ">=": "GREATER_THAN_OR_EQUAL", "in": "IN", "not-in": "NOT_IN", "array-contains": "ARRAY_CONTAINS",
    "array-contains-any": "ARRAY_CONTAINS_ANY",
}  # fmt: skip


class UnexpectedAnswer(Exception):
    """The emulator neither allowed nor denied, because the request is invalid or the emulator failed."""


@dataclass(frozen=True)
class Operation:
    """A request.

    Args:
        path: the path of a document, for list and count that of a collection, for group the collection's id.
        data: the fields of a create, a set or an update. An update changes only these fields.
        where: a query's conditions, each (field, operator, value).
        order: a query's order, each "field" or "field desc".
        limit: a query's limit; None for no limit.
        parts: the writes of a batch, of which all or none take effect.
    """

    kind: Kind
    path: str
    data: Mapping[str, Any] = field(default_factory=dict)
    where: Sequence[Sequence[Any]] = ()
    order: Sequence[str] = ()
    limit: int | None = None
    parts: tuple[Operation, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """The paths of the documents that the request changes if it is allowed."""
        if self.kind == "batch":
            return tuple(part.path for part in self.parts)
        return (self.path,) if self.kind in WRITES else ()


class RestClient:
    """A persistent connection to one database of an emulator, for use by one thread at a time.

    Args:
        host: the emulator's address, such as "127.0.0.1:8080".
    """

    def __init__(self, host: str, project: str, database: str = "(default)") -> None:
        self._connection = http.client.HTTPConnection(host, timeout=_SECONDS)
        self._root = f"projects/{project}/databases/{database}/documents"

    def allowed(self, operation: Operation, token: str | None) -> bool:
        """Return whether the rules allow ``operation``.

        Args:
            token: an ID token; None sends none. The emulator itself, and no rule, allows everything to "owner".

        Raises:
            UnexpectedAnswer: the emulator answered neither yes nor no, or not at all.
        """
        method, path, body = self._request(operation)
        status, answer_text = self._send(method, path, body, token)
        if status == 200:
            return True
        if status == 403:
            return False
        # The rules allowed the request, but the database found no document, or found one in the way.
        if status in {404, 409} or (status == 400 and "FAILED_PRECONDITION" in answer_text):
            return True
        raise UnexpectedAnswer(f"{operation.kind} {operation.path}: {status} {answer_text[:300]}")

    def put(self, documents: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Write documents regardless of the rules. None removes a document.

        Raises:
            UnexpectedAnswer: the emulator refused.
        """
        writes = [
            {"delete": self._name(path)} if data is None else self._write(path, data, None)
            for path, data in documents.items()
        ]
        status, answer_text = self._send("POST", f"/v1/{quote(self._root)}:commit", {"writes": writes}, "owner")
        if status != 200:
            raise UnexpectedAnswer(f"the documents could not be written: {status} {answer_text[:300]}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _name(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _request(self, operation: Operation) -> tuple[str, str, Any]:
        root = f"/v1/{quote(self._root)}"
        if operation.kind == "get":
            return "GET", f"{root}/{quote(operation.path, safe='/')}", None
        if operation.changed:
            return "POST", f"{root}:commit", {"writes": [self._change(part) for part in operation.parts or [operation]]}
        parent, _, collection = operation.path.rpartition("/")
        parent_url = f"{root}/{quote(parent, safe='/')}" if parent else root
        query = {"structuredQuery": _query(operation, collection, self._root)}
        if operation.kind == "count":
            count_query = {"structuredAggregationQuery": {**query, "aggregations": [{"alias": "n", "count": {}}]}}
            return "POST", f"{parent_url}:runAggregationQuery", count_query
        return "POST", f"{parent_url}:runQuery", query

    def _change(self, operation: Operation) -> dict[str, Any]:
        if operation.kind == "delete":
            return {"delete": self._name(operation.path)}
        mask = list(operation.data) if operation.kind == "update" else None
        write = self._write(operation.path, operation.data, mask)
        if operation.kind != "set":
            write["currentDocument"] = {"exists": operation.kind == "update"}
        return write

    def _write(self, path: str, data: Mapping[str, Any], mask: list[str] | None) -> dict[str, Any]:
        nested = data if mask is None else _unfolded(data)
        write: dict[str, Any] = {"update": {"name": self._name(path), "fields": fields(nested, self._root)}}
        transforms = {".".join(map(_quoted, place)): item for place, item in _transforms(nested)}
        set_by_server = {name: item for name, item in transforms.items() if item.kind != "delete"}
        if mask is not None:
            write["updateMask"] = {"fieldPaths": [name for name in map(_dotted, mask) if name not in set_by_server]}
        if set_by_server:
            write["updateTransforms"] = [
                {"fieldPath": name, **item.encoded(self._root)} for name, item in set_by_server.items()
            ]
        return write

    def _send(self, method: str, path: str, body: Any, token: str | None) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        for last in (False, True):
            try:
                self._connection.request(method, path, data, headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                # The emulator may have closed an idle connection. The next request opens a new one.
                self._connection.close()
                if last or isinstance(error, TimeoutError):
                    raise UnexpectedAnswer(f"the emulator did not answer: {error or type(error).__name__}") from error
        raise AssertionError("unreachable")


def _query(operation: Operation, collection: str, root: str) -> dict[str, Any]:
    query: dict[str, Any] = {"from": [{"collectionId": collection, "allDescendants": operation.kind == "group"}]}
    filters = [_filter(name, sign, item, root) for name, sign, item in operation.where]
    if filters:
        query["where"] = {"compositeFilter": {"op": "AND", "filters": filters}}
    if operation.order:
        query["orderBy"] = [
            {"field": {"fieldPath": _dotted(name)}, "direction": "DESCENDING" if direction == "desc" else "ASCENDING"}
            for name, _, direction in (item.partition(" ") for item in operation.order)
        ]
    if operation.limit is not None:
        query["limit"] = operation.limit
    return query


def _filter(name: str, sign: str, item: Any, root: str) -> dict[str, Any]:
    field_ = {"fieldPath": _dotted(name)}
    if item is None and sign in {"==", "!="}:
        return {"unaryFilter": {"field": field_, "op": "IS_NULL" if sign == "==" else "IS_NOT_NULL"}}
    return {"fieldFilter": {"field": field_, "op": OPERATORS[sign], "value": value(item, root)}}


def _unfolded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Turn an update's fields into nested maps: "address.city" is the city in the address."""
    nested: dict[str, Any] = {}
    for name, item in data.items():
        *parents, last = str(name).split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = item
    return nested


def _transforms(data: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Transform]]:
    """Yield the paths of the fields that are not plainly set, and what is done to them."""
    for name, item in data.items():
        if isinstance(item, Transform):
            yield (*above, str(name)), item
        elif isinstance(item, Mapping):
            yield from _transforms(item, (*above, str(name)))


def _dotted(field_path: str) -> str:
    return ".".join(map(_quoted, str(field_path).split(".")))


def _quoted(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else f"`{name}`"
