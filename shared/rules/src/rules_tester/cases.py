"""Load the file that says who may do what: users, existing documents, and cases (docs/test-rules.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .case_yaml import Lines, read
from .client import OPERATIONS, OPERATORS, WRITES, Operation
from .values import DELETE_FIELD, Transform, value

__all__ = ["Case", "CaseError", "Suite", "load_suite"]

_SHORT = ("read", "write")
"""Keys that stand for several operations."""
_KEYS = {"name", "as", "expect", "data", "where", "order", "limit", "documents", *OPERATIONS, *_SHORT}
_NOBODY = "nobody"
"""The user who is not signed in, in every file."""
_TOP = {"users", "documents", "cases"}


_World = Mapping[str, Mapping[str, Any] | None]
"""Documents of one case: their fields, or None for one that is not there."""


class CaseError(Exception):
    """The file of cases is not usable. The message says where, and what to correct."""


@dataclass(frozen=True)
class Case:
    """A request of a user, and whether the rules should allow it."""

    name: str
    user: str
    claims: Mapping[str, Any] | None
    operation: Operation
    allow: bool
    documents: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Documents of this case alone; None for one that is not there."""

    def __str__(self) -> str:
        verdict = "may" if self.allow else "may not"
        return f"{self.name}: {self.user} {verdict} {self.operation.kind} {self.operation.path}"


@dataclass(frozen=True)
class Suite:
    """All cases of a file, and the documents that exist before each case."""

    documents: Mapping[str, Mapping[str, Any]]
    cases: tuple[Case, ...]
    users: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)


def load_suite(path: Path) -> Suite:
    """Read a file of cases.

    Raises:
        CaseError: the file is missing, not YAML, or not in the right format. The message names the case.
    """
    try:
        data = read(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CaseError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise CaseError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, Lines) or not isinstance(data.get("cases"), list) or not data["cases"]:
        raise CaseError(f"{path} has no list of cases under 'cases:'.")
    if unknown := sorted(map(str, set(data) - _TOP)):
        raise CaseError(f"{path}:{data.of.get(unknown[0], 1)}: {unknown[0]!r} is none of {', '.join(sorted(_TOP))}.")
    users = _users(path, data.get("users"))
    documents = _documents(path, data.get("documents"))
    cases: list[Case] = []
    for number, raw in enumerate(data["cases"], 1):
        line = raw.line if isinstance(raw, Lines) else data.of["cases"]
        try:
            cases += _expanded(raw, f"case {number} (line {line})", users, documents)
        except (ValueError, TypeError, KeyError) as error:
            raise CaseError(f"{path}:{line}: case {number}: {error}.") from None
    if not cases:
        raise CaseError(f"{path} has no case that tries anything: 'as' and the paths are empty lists.")
    return Suite(documents, tuple(cases), users)


def _users(path: Path, raw: Any) -> dict[str, Mapping[str, Any] | None]:
    if not isinstance(raw, Lines | None):
        raise CaseError(f"{path}: 'users' is not a map of names to claims.")
    users: dict[str, Mapping[str, Any] | None] = {_NOBODY: None}
    for name, claims in (raw or {}).items():
        if claims is None:
            users[str(name)] = None
            continue
        if not isinstance(claims, dict):
            raise CaseError(f"{path}:{_line(raw, name)}: user {name!r} is not a map of claims (or null, for nobody).")
        try:
            json.dumps(claims)
        except (TypeError, ValueError) as error:
            raise CaseError(f"{path}:{_line(raw, name)}: claims of {name!r} are JSON: {error}.") from None
        users[str(name)] = {"sub": str(claims.get("uid", name)), **{k: v for k, v in claims.items() if k != "uid"}}
    return users


def _documents(path: Path, raw: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(raw, Lines | None):
        raise CaseError(f"{path}: 'documents' is not a map of paths to fields.")
    documents: dict[str, Mapping[str, Any]] = {}
    for name, data in (raw or {}).items():
        try:
            documents[_path("document", str(name), document=True)] = _fields(data)
        except ValueError as error:
            raise CaseError(f"{path}:{_line(raw, name)}: document {name!r}: {error}.") from None
    return documents


def _line(raw: Any, key: Any) -> int:
    return int(raw.of.get(str(key), raw.line))


def _expanded(
    raw: Any,
    name: str,
    users: Mapping[str, Mapping[str, Any] | None],
    documents: Mapping[str, Mapping[str, Any]],
) -> Iterator[Case]:
    if not isinstance(raw, dict):
        raise ValueError("it is not a map")
    if unknown := set(raw) - _KEYS:
        raise ValueError(f"{sorted(map(str, unknown))[0]!r} is no key of a case; there are: {', '.join(sorted(_KEYS))}")
    if raw.get("expect") not in {"allow", "deny"}:
        raise ValueError("'expect' is neither allow nor deny")
    if "as" not in raw:
        raise ValueError(f"'as' names no user; there are: {', '.join(users)}")
    own = _own_documents(raw.get("documents"))
    operations: list[tuple[Operation, _World]] = [(operation, own) for operation in _operations(raw)]
    operations += _short(raw, own, {*documents, *own})
    if not operations:
        raise ValueError(f"it names no operation; there are: {', '.join([*OPERATIONS, *_SHORT])}")
    for user in _list(raw["as"]):
        if str(user) not in users:
            raise ValueError(f"user {user!r} is not under 'users'; there are: {', '.join(users)}")
        for operation, world in operations:
            case_name = str(raw.get("name") or name)
            yield Case(case_name, str(user), users[str(user)], operation, raw["expect"] == "allow", world)


def _own_documents(raw: Any) -> _World:
    if not isinstance(raw, dict | None):
        raise ValueError("'documents' is not a map of paths to fields")
    return {
        _path("documents", str(name), document=True): None if data is None else _fields(data)
        for name, data in (raw or {}).items()
    }


def _operations(raw: Mapping[str, Any]) -> Iterator[Operation]:
    for kind in OPERATIONS:
        if kind == "batch" and kind in raw:
            yield _batch(raw[kind])
        elif kind in raw:
            for path in _list(raw[kind]):
                yield _operation(kind, str(path), raw)


def _short(raw: Mapping[str, Any], own: _World, there: set[str]) -> Iterator[tuple[Operation, _World]]:
    """Yield the operations that ``read`` and ``write`` stand for, each with the documents of its own."""
    for path in map(str, _list(raw.get("read", []))):
        collection = path.strip("/")
        if len(collection.split("/")) % 2 == 0:
            yield _operation("get", path, {}), own
            collection = collection.rpartition("/")[0]
        yield _operation("list", collection, raw), own
    for path in map(str, _list(raw.get("write", []))):
        if not raw.get("data"):
            raise ValueError("a write has 'data', for its create and its update")
        create = _operation("create", path, raw)
        # A document can be created only where there is none.
        yield create, {**own, create.path: None} if create.path in there else own
        yield _operation("update", path, raw), own
        yield _operation("delete", path, raw), own


def _batch(raw: Any) -> Operation:
    parts: list[Operation] = []
    for number, write in enumerate(_list(raw), 1):
        kinds = set(write) & WRITES if isinstance(write, dict) else set()
        if len(kinds) != 1 or set(write) - {*kinds, "data"}:
            raise ValueError(f"write {number} of the batch is not one of {', '.join(sorted(WRITES))} with its 'data'")
        parts += _operations(write)
    if len({part.path for part in parts}) < len(parts) or not parts:
        raise ValueError("a batch writes each document once, and one at least")
    return Operation("batch", ", ".join(f"{part.kind} {part.path}" for part in parts), parts=tuple(parts))


def _operation(kind: Any, path: str, raw: Mapping[str, Any]) -> Operation:
    if kind == "group":
        if "/" in path:
            raise ValueError(f"'group' takes a collection's id, and {path!r} is a path")
    else:
        path = _path(kind, path, document=kind not in {"list", "count"})
    data = _fields(raw.get("data"), written=kind)
    if kind == "update" and not data:
        raise ValueError("an update has 'data'")
    limit = raw.get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"'limit' is a number from 1 on, and not {limit!r}")
    return Operation(kind, path, data, _where(raw.get("where")), [str(o) for o in _list(raw.get("order") or [])], limit)


def _path(kind: str, path: str, *, document: bool) -> str:
    segments = path.strip("/").split("/")
    if (len(segments) % 2 == 0) is not document or "" in segments:
        other = "collection" if document else "document"
        odd = f"and {path!r} is {'none' if '' in segments else f'a {other}' + chr(39) + 's'}"
        raise ValueError(f"{kind!r} takes a {'document' if document else 'collection'}'s path, {odd}")
    return "/".join(segments)


def _fields(data: Any, written: str = "") -> Mapping[str, Any]:
    """Check fields; of those that a write sends, ``written`` is its kind."""
    if not isinstance(data, dict | None):
        raise ValueError("'data' is not a map of fields")
    for item in (data or {}).values():
        if item is DELETE_FIELD and written not in {"update", "delete"}:
            raise ValueError("!delete takes a field out of a document that is there, so it stands in an update alone")
        if not written or not isinstance(item, Transform):
            _check_value(item, written=bool(written))
    return data or {}


def _check_value(item: Any, *, written: bool) -> None:
    if written and isinstance(item, dict):
        for inner in item.values():
            if inner is DELETE_FIELD:
                raise ValueError("!delete stands at a field's own path, as in 'address.city: !delete'")
            if not isinstance(inner, Transform):
                _check_value(inner, written=True)
    else:
        value(item)


def _where(raw: Any) -> list[tuple[Any, ...]]:
    conditions = [] if raw is None else raw
    for item in conditions:
        if not isinstance(item, list) or len(item) != 3 or item[1] not in OPERATORS:
            signs = ", ".join(OPERATORS)
            raise ValueError(
                f"each of 'where' is [field, operator, value], as in [[owner, ==, ann]]; there are: {signs}"
            )
        value(item[2])
    return [tuple(item) for item in conditions]


def _list(item: Any) -> list[Any]:
    return item if isinstance(item, list) else [item]
