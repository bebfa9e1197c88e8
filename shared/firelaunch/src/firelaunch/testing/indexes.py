"""Name the composite indexes that an app's queries need and its collections do not declare, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FirelaunchError
from ..records.collection import Collection
from ..records.queries import check_index

__all__ = ["missing_indexes"]

_QUERIES = {"list", "count"}


def missing_indexes(folder: Path, collections: Sequence[Collection[Any]]) -> list[str]:
    """Return a line for each query in an app's Python files that needs an index which its collection does not declare.

    It reads calls such as ``data(meals).list(where={"kind": kind}, order="-eaten_at")``: the keys of ``where`` and the
    ``order`` have to be written there. It skips others; those fail in your tests when they run.

    Args:
        folder: the app's package, or the folder around it.
        collections: those of ``App(collections=...)``.
    """
    files = {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}
    by_name = {collection.name: collection for collection in collections}
    variables = {
        variable: by_name[name]
        for tree in files.values()
        for variable, name in _assigned_collections(tree)
        if name in by_name
    }
    return [line for path, tree in files.items() for line in _faults(path.relative_to(folder), tree, variables)]


def _faults(path: Path, tree: ast.Module, variables: Mapping[str, Collection[Any]]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _QUERIES:
            collection = variables.get(_variable(node.func.value))
            try:
                if collection is not None:
                    check_index(collection, *_keys_and_order(node))
            except ValueError:
                continue  # written elsewhere
            except FirelaunchError as error:
                yield f"{path}:{node.lineno}: {error.message}"


def _keys_and_order(call: ast.Call) -> tuple[list[str], Any]:
    """Return the keys of a call's ``where``, and its ``order``.

    Raises:
        ValueError: they are not written in the call.
    """
    given = dict(zip(("where", "order"), call.args, strict=False)) | {
        str(each.arg): each.value for each in call.keywords
    }
    where = given.get("where", ast.Constant(None))
    if isinstance(where, ast.Dict):
        keys = ast.literal_eval(ast.List([key for key in where.keys if key is not None], ast.Load()))
    elif ast.literal_eval(where) is None:
        keys = []
    else:
        raise ValueError("no dict")
    return keys, ast.literal_eval(given.get("order", ast.Constant(None)))


def _variable(receiver: ast.expr) -> str:
    """Return the name of the collection's variable in ``data(meals)``, ``run.data(module.meals)`` and the like."""
    argument = receiver.args[0] if isinstance(receiver, ast.Call) and receiver.args else None
    return _last_name(argument)


def _last_name(node: ast.expr | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _assigned_collections(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of variables that are assigned collections, each with its collection's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(value, ast.Call) and _last_name(value.func) == "Collection" and value.args:
            name = value.args[0]
            if isinstance(target, ast.Name) and isinstance(name, ast.Constant):
                yield target.id, str(name.value)
