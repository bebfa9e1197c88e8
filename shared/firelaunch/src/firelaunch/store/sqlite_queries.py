"""Translate Firestore's queries to SQL over the embedded store's one table of JSON documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import StoreError
from .base import Filter, Query, ordering
from .sqlite_values import bounds, encode_scalar

__all__ = ["COLUMNS", "select", "type_of", "value_of"]

COLUMNS = "path, data, created, updated"

_FIELD = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
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


def select(query: Query) -> tuple[str, list[Any]]:
    """Return SQL for the documents of a query, and its parameters.

    Raises:
        StoreError: the store does not support a field, a value or a comparison of the query.
    """
    where = ["collection = ?"]
    values: list[Any] = [query.collection]
    orders = ordering(query)
    for item in query.where:
        condition, parameters = _condition(item)
        where.append(condition)
        values += parameters
    keys = [(value_of(order.field), order.descending) for order in orders]
    where += [f"{type_of(order.field)} IS NOT NULL" for order in orders]
    keys.append(("id", bool(orders) and orders[-1].descending))
    if query.after is not None:
        condition, parameters = _after(keys, query.after)
        where.append(condition)
        values += parameters
    by = ", ".join(f"{sql} {'DESC' if descending else 'ASC'}" for sql, descending in keys)
    sql = f"SELECT {COLUMNS} FROM documents WHERE {' AND '.join(where)} ORDER BY {by}"  # noqa: S608
    if query.limit is not None:
        sql += " LIMIT ?"
        values.append(query.limit)
    return sql, values


def _condition(item: Filter) -> tuple[str, list[Any]]:
    value, kind = value_of(item.field), type_of(item.field)
    if item.op == "in":
        parts = [_condition(Filter(item.field, "==", choice)) for choice in item.value]
        return "(" + (" OR ".join(sql for sql, _ in parts) or "0") + ")", [
            v for _, parameters in parts for v in parameters
        ]
    if item.op == "!=":
        same, parameters = _condition(Filter(item.field, "==", item.value))
        return f"({kind} IS NOT NULL AND {kind} <> 'null' AND NOT ({same}))", parameters
    sql, parameters = bounds(item.value)
    sql = sql.format(value, kind)
    if item.value is None:
        return sql, parameters
    operator = _OPERATORS.get(item.op)
    if operator is None:
        raise StoreError(reason=f"{item.op!r} is no comparison")
    return f"({sql} AND {value} {operator} ?)", [*parameters, encode_scalar(item.value)]


def _after(keys: list[tuple[str, bool]], position: Sequence[Any]) -> tuple[str, list[Any]]:
    if len(position) != len(keys):
        raise StoreError(reason=f"a position has {len(keys)} values here, not {len(position)}")
    at = [*map(encode_scalar, position[:-1]), position[-1]]
    # (a, b) > (x, y) spelt out, because the directions may differ: a > x OR (a = x AND b > y)
    options: list[str] = []
    values: list[Any] = []
    for count, (sql, descending) in enumerate(keys):
        equal = [f"{earlier} = ?" for earlier, _ in keys[:count]]
        options.append(" AND ".join([*equal, f"{sql} {'<' if descending else '>'} ?"]))
        values += at[: count + 1]
    return "(" + " OR ".join(f"({option})" for option in options) + ")", values
