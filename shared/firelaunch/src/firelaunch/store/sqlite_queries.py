"""Translate Firestore's queries to SQL over the embedded store's one table of JSON documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from ..errors import StoreError
from .base import Filter, Query, ordering
from .indexes import missing_index
from .limits import check_query
from .sqlite_values import bounds, encode_scalar

__all__ = ["COLUMNS", "INDEXED", "index", "select", "type_of", "value_of"]

COLUMNS = "path, data, created, updated"

INDEXED = ("created_at", "updated_at", "due_at")
"""The fields that most queries order by. The store has an index of each from the start, with the documents that have
the field."""

_FIELD = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_DIRECTIONS = {False: "ASC", True: "DESC"}
_OPERATORS = {"==": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def value_of(field: str) -> str:
    """Return SQL for a field's value.

    Raises:
        StoreError: ``field`` is no path of plain identifiers.
    """
    return f"json_extract(data, '$.{_checked(field)}')"


def type_of(field: str) -> str:
    """Return SQL for the JSON type of a field's value, NULL if there is no such field. Raises as :func:`value_of`."""
    return f"json_type(data, '$.{_checked(field)}')"


def _checked(field: str) -> str:
    if type(field) is not str or not _FIELD.fullmatch(field):
        raise StoreError(reason=f"{field!r} is no field path of plain identifiers")
    return field


def index(query: Query) -> str | None:
    """Return SQL that makes the index by which a page of a collection is found; None if none is needed.

    Firestore has such an index of each field, and of those that are declared.
    """
    orders = ordering(query)
    filtered = sorted({item.field for item in query.where if item.op == "=="} - {order.field for order in orders})
    if not filtered and (not orders or (len(orders) == 1 and orders[0].field in INDEXED)):
        return None
    keys = [value_of(field) for field in filtered]
    keys += [f"{value_of(order.field)} {_DIRECTIONS[order.descending]}" for order in orders]
    keys.append(f"id {_DIRECTIONS[bool(orders) and orders[-1].descending]}")
    has = " AND ".join(f"{type_of(field)} IS NOT NULL" for field in [*filtered, *(order.field for order in orders)])
    name = sha256("|".join(keys).encode()).hexdigest()[:16]
    return f"CREATE INDEX IF NOT EXISTS own_{name} ON documents (collection, {', '.join(keys)}) WHERE {has}"


def select(query: Query) -> tuple[str, list[Any]]:
    """Return SQL for the documents of a query, and its parameters.

    Raises:
        StoreError: Firestore does not run such a query, or the store does not support a field or a value of it.
    """
    check_query(query)
    missing = missing_index(query)
    if missing is not None:
        raise StoreError(
            reason=f"a query of {missing.collection!r} needs a composite index, which Firestore has only if it is "
            f"declared: add {missing.fields!r} to the collection's queries=[...]"
        )
    where = ["collection = ?"]
    values: list[Any] = [query.collection]
    orders = ordering(query)
    for item in query.where:
        condition, parameters = _condition(item)
        where.append(condition)
        values += parameters
        if item.op == "==":
            where.append(f"{type_of(item.field)} IS NOT NULL")  # so that SQLite uses the index, which is partial
    keys = [(value_of(order.field), order.descending) for order in orders]
    where += [f"{type_of(order.field)} IS NOT NULL" for order in orders]
    keys.append(("id", bool(orders) and orders[-1].descending))
    by = [f"{sql} {_DIRECTIONS[descending]}" for sql, descending in keys]
    places = [("", [], 0)] if query.after is None else _after(keys, query.after)
    parts = [
        f"SELECT {COLUMNS} FROM documents WHERE {' AND '.join(where)}{place} ORDER BY {', '.join(by[equal:])}"  # noqa: S608
        for place, _, equal in places
    ]
    sql = parts[0] if len(parts) == 1 else " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)  # noqa: S608
    parameters = [each for _, more, _ in places for each in (*values, *more)]
    return (sql, parameters) if query.limit is None else (f"{sql} LIMIT ?", [*parameters, query.limit])


def _condition(item: Filter) -> tuple[str, list[Any]]:
    if item.op == "array_contains":
        same, parameters = _comparison(Filter(item.field, "==", item.value), "item.value", "item.type")
        items = f"json_each(data, '$.{_checked(item.field)}')"
        return f"({type_of(item.field)} = 'array' AND EXISTS (SELECT 1 FROM {items} AS item WHERE {same}))", parameters  # noqa: S608
    return _comparison(item, value_of(item.field), type_of(item.field))


def _comparison(item: Filter, value: str, kind: str) -> tuple[str, list[Any]]:
    """Return the condition that a filter is for a value, of which ``kind`` is the JSON type, both as SQL."""
    if item.op == "in":
        # Null is equal to no value of a list, as in SQL.
        parts = [
            _comparison(Filter(item.field, "==", choice), value, kind) for choice in item.value if choice is not None
        ]
        return "(" + (" OR ".join(sql for sql, _ in parts) or "0") + ")", [
            v for _, parameters in parts for v in parameters
        ]
    if item.op == "!=":
        same, parameters = _comparison(Filter(item.field, "==", item.value), value, kind)
        return f"({kind} IS NOT NULL AND {kind} <> 'null' AND NOT ({same}))", parameters
    if item.op == "==" and isinstance(item.value, str | bytes | datetime):
        return f"({value} = ?)", [encode_scalar(item.value)]  # no value of another kind is written in the same way
    sql, parameters = bounds(item.value)
    sql = sql.format(value, kind)
    if item.value is None:
        return sql, parameters
    operator = _OPERATORS.get(item.op)
    if operator is None:
        raise StoreError(reason=f"{item.op!r} is no comparison")
    return f"({sql} AND {value} {operator} ?)", [*parameters, encode_scalar(item.value)]


def _after(keys: list[tuple[str, bool]], position: Sequence[Any]) -> list[tuple[str, list[Any], int]]:
    """Return the stretches of documents after a position, which follow each other in order.

    With (a, b) after (x, y) these are a = x AND b > y, then a > x. An index has the documents of each side by side, so
    a late page costs no more than an early one, however many documents have the same values.

    Returns:
        the condition of each stretch, its parameters, and how many of the first keys have one value in it.
    """
    if len(position) != len(keys):
        raise StoreError(reason=f"a position has {len(keys)} values here, not {len(position)}")
    at = [*map(encode_scalar, position[:-1]), position[-1]]
    stretches = []
    for equal in reversed(range(len(keys))):
        same = [f"{sql} IS ?" for sql, _ in keys[:equal]]
        for beyond, its_values, more in _beyond(*keys[equal], at[equal]):
            condition = "".join(f" AND {each}" for each in (*same, beyond))
            stretches.append((condition, [*at[:equal], *its_values], equal + more))
    return stretches


def _beyond(sql: str, descending: bool, value: Any) -> Iterator[tuple[str, list[Any], int]]:
    """Yield the conditions of a key beyond a value, their parameters, and 1 where the key has one value there.

    Nulls come before all other values, and SQLite compares none with them. An id is never null.
    """
    if value is not None:
        yield (f"{sql} < ?" if descending else f"{sql} > ?"), [value], 0
        if descending and sql != "id":
            yield f"{sql} IS NULL", [], 1
    elif not descending:
        yield f"{sql} IS NOT NULL", [], 0
