"""What indexes the queries in a Python file need, read from its source."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from firelaunch.errors import ScopeViolation
from firelaunch.scope import Scope
from firelaunch.store.base import Filter, Op, Order
from firelaunch.store.indexes import needed_index

__all__ = ["Need", "Unreadable", "composite_index", "queries"]

_SCOPES = (Scope("demo", "ada"), Scope("demo").of_group("g0123456789abcdef01234567"))


class Unreadable(Exception):
    """A query is not written so that its collection, filters and order can be told from the source."""


@dataclass(frozen=True, slots=True)
class Need:
    """One query: the id of its collection, filters as (field, operator), order as (field, descending)."""

    collection: str
    where: tuple[tuple[str, str], ...] = ()
    order: tuple[tuple[str, bool], ...] = ()

    @property
    def fields(self) -> set[str]:
        """Every field that is filtered or sorted by."""
        return {name for name, _ in (*self.where, *self.order)}


def composite_index(need: Need) -> str | None:
    """The index that Firestore does not make by itself, as firestore.indexes.json has it; None where none is needed."""
    where = [Filter(name, cast("Op", sign), None) for name, sign in need.where]
    needed = needed_index(need.collection, where, [Order(name, descending) for name, descending in need.order])
    return None if needed is None else json.dumps(needed[0].definition())


def queries(path: Path) -> Iterator[Need]:
    """Every ``Query(...)`` of the store's port in a file.

    Raises:
        Unreadable: one is there that cannot be read.
    """
    tree = ast.parse(path.read_text())
    names = _assigned(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "Query":
            try:
                yield _need(node, names)
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise Unreadable(f"{path}:{node.lineno}: write this query's parts as literals ({error!r})") from error


def _need(call: ast.Call, names: dict[str, ast.expr]) -> Need:
    given = dict(zip(("collection", "where", "order", "limit", "after"), call.args, strict=False))
    given |= {str(keyword.arg): keyword.value for keyword in call.keywords}
    if unknown := set(given) - {"collection", "where", "order", "limit", "after", "indexes"}:
        raise ValueError(unknown)
    where = []
    for item in _items(given.get("where"), names, "Filter"):
        field, sign = (_literal(part) for part in _arguments(item, ("field", "op"))[:2])
        where.append((field, sign))
    order = []
    for item in _items(given.get("order"), names, "Order"):
        field, *down = (_literal(part) for part in _arguments(item, ("field", "descending")))
        order.append((field, bool(down and down[0])))
    return Need(_collection(given["collection"], names), tuple(where), tuple(order))


def _collection(node: ast.expr, names: dict[str, ast.expr]) -> str:
    if isinstance(node, ast.Name):
        return _collection(names[node.id], names)
    if isinstance(node, ast.Constant):
        return str(node.value).rpartition("/")[2]
    if isinstance(node, ast.JoinedStr):
        last = node.values[-1]
        if isinstance(last, ast.Constant) and "/" in str(last.value):
            return str(last.value).rpartition("/")[2]
        raise ValueError("a collection's id that is put in")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        for scope in _SCOPES:
            with suppress(ScopeViolation):  # users have paths that groups have not, and the other way around
                path: str = getattr(scope, node.func.attr)(*["2026-01-31"] * len(node.args))
                if len(path.split("/")) % 2:
                    return path.rpartition("/")[2]
    raise ValueError(ast.unparse(node))


def _items(node: ast.expr | None, names: dict[str, ast.expr], kind: str) -> Iterator[ast.Call]:
    if isinstance(node, ast.Name):
        node = names[node.id]
    for item in [] if node is None else node.elts if isinstance(node, ast.Tuple | ast.List) else [node]:
        if not isinstance(item, ast.Call) or _name(item.func) != kind:
            raise ValueError(ast.unparse(item))
        yield item


def _arguments(call: ast.Call, order: tuple[str, ...]) -> list[ast.expr]:
    given = dict(zip(order, call.args, strict=False)) | {str(k.arg): k.value for k in call.keywords}
    return [given[name] for name in order if name in given]


def _literal(node: ast.expr) -> Any:
    return ast.literal_eval(node)


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that are given a value once in a file; others could mean two things."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
