"""The file that says who may do what: users, documents that are there, and cases (docs/test-rules.md)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .client import OPERATIONS, Operation
from .values import SERVER_TIME, Reference, value

__all__ = ["Case", "CaseError", "Suite", "load_suite"]

_KEYS = {"name", "as", "expect", "data", "where", "order", "limit", *OPERATIONS}
_TOP = {"users", "documents", "cases"}


class CaseError(Exception):
    """The file of cases cannot be used; the message says where and what to mend."""


@dataclass(frozen=True)
class Case:
    """One request of one user, and whether the rules should let it through."""

    name: str
    user: str
    claims: Mapping[str, Any] | None
    operation: Operation
    allow: bool

    def __str__(self) -> str:
        verdict = "may" if self.allow else "may not"
        return f"{self.name}: {self.user} {verdict} {self.operation.kind} {self.operation.path}"


@dataclass(frozen=True)
class Suite:
    """All cases of a file, and the documents that are there before each of them."""

    documents: Mapping[str, Mapping[str, Any]]
    cases: tuple[Case, ...]


class _Loader(yaml.SafeLoader):
    """YAML with Firestore's own: ``!server_time``, ``!ref <path>`` and ``!bytes <base64>``."""


_Loader.add_constructor("!server_time", lambda *_: SERVER_TIME)
_Loader.add_constructor("!ref", lambda _, node: Reference(str(node.value).strip("/")))
_Loader.add_constructor("!bytes", lambda _, node: base64.b64decode(node.value, validate=True))


def load_suite(path: Path) -> Suite:
    """Read a file of cases.

    Raises:
        CaseError: it is not there, no YAML, or not of the form; the message names the case.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a subclass of the safe loader
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CaseError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("cases"), list) or not data["cases"]:
        raise CaseError(f"{path} has no list of cases under 'cases:'.")
    if unknown := set(data) - _TOP:
        raise CaseError(f"{path}: {sorted(unknown)[0]!r} is none of {', '.join(sorted(_TOP))}.")
    users = _users(path, data.get("users") or {})
    documents = _documents(path, data.get("documents") or {})
    cases: list[Case] = []
    for number, raw in enumerate(data["cases"], 1):
        try:
            cases += _expanded(raw, number, users)
        except (ValueError, TypeError, KeyError) as error:
            raise CaseError(f"{path}: case {number}: {error}") from None
    return Suite(documents, tuple(cases))


def _users(path: Path, raw: Any) -> dict[str, Mapping[str, Any] | None]:
    if not isinstance(raw, dict):
        raise CaseError(f"{path}: 'users' is not a map of names to claims.")
    users: dict[str, Mapping[str, Any] | None] = {}
    for name, claims in raw.items():
        if claims is None:
            users[str(name)] = None
            continue
        if not isinstance(claims, dict):
            raise CaseError(f"{path}: user {name!r} is not a map of claims (or null, for nobody).")
        users[str(name)] = {"sub": str(claims.get("uid", name)), **{k: v for k, v in claims.items() if k != "uid"}}
    return users


def _documents(path: Path, raw: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(raw, dict):
        raise CaseError(f"{path}: 'documents' is not a map of paths to fields.")
    for name, data in raw.items():
        if len(str(name).strip("/").split("/")) % 2 or not isinstance(data or {}, dict):
            raise CaseError(f"{path}: document {name!r} is not a document's path with a map of fields.")
    return {str(name).strip("/"): data or {} for name, data in raw.items()}


def _expanded(raw: Any, number: int, users: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Case]:
    if not isinstance(raw, dict):
        raise ValueError("it is not a map")
    if unknown := set(raw) - _KEYS:
        raise ValueError(f"{sorted(map(str, unknown))[0]!r} is no key of a case; there are: {', '.join(sorted(_KEYS))}")
    if raw.get("expect") not in {"allow", "deny"}:
        raise ValueError("'expect' is neither allow nor deny")
    kinds = [kind for kind in OPERATIONS if kind in raw]
    if not kinds:
        raise ValueError(f"it names no operation; there are: {', '.join(OPERATIONS)}")
    for user in _list(raw.get("as")):
        if user not in users:
            raise ValueError(f"user {user!r} is not under 'users'; there are: {', '.join(users) or 'none'}")
        for kind in kinds:
            for path in _list(raw[kind]):
                operation = _operation(kind, str(path).strip("/"), raw)
                name = str(raw.get("name") or f"case {number}")
                yield Case(name, user, users[user], operation, raw["expect"] == "allow")


def _operation(kind: Any, path: str, raw: Mapping[str, Any]) -> Operation:
    document = len(path.split("/")) % 2 == 0
    if kind == "group":
        if "/" in path:
            raise ValueError(f"'group' takes a collection's id, and {path!r} is a path")
    elif document is (kind in {"list", "count"}):
        raise ValueError(f"{kind!r} takes a {'collection' if document else 'document'}'s path, and {path!r} is none")
    data = raw.get("data") or {}
    if not isinstance(data, dict):
        raise ValueError("'data' is not a map of fields")
    if kind == "update" and not data:
        raise ValueError("an update has 'data'")
    for item in data.values():
        if item is not SERVER_TIME:
            value(item)
    where = [tuple(item) for item in raw.get("where") or []]
    if any(len(item) != 3 for item in where):
        raise ValueError("each of 'where' is [field, operator, value]")
    return Operation(kind, path, data, where, [str(o) for o in raw.get("order") or []], raw.get("limit"))


def _list(item: Any) -> list[Any]:
    if item is None:
        raise ValueError("'as' names no user")
    return item if isinstance(item, list) else [item]
