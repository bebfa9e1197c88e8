"""Read the filters and the order of a list, and refuse those that Firestore would not run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from ..errors import BadRequest, SettingsError, StoreError
from ..store.base import EQUALITIES, Filter, Op, Order, Query
from ..store.indexes import missing_index
from ..store.limits import check_query
from .collection import Collection
from .fields import compared_value, field_type, item_type
from .values import is_sortable

__all__ = ["check_index", "query_of"]

_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)(?: +(==|!=|<=|>=|<|>|in|contains))?")
_OPS: Mapping[str, Op] = {"contains": "array_contains"}
"""The names of operators that Firestore calls otherwise."""


def query_of(
    collection: Collection[Any], path: str, where: Mapping[str, Any] | None, order: str | Sequence[str] | None
) -> Query:
    """Return the query for filters and an order as an app writes them.

    Raises:
        BadRequest: a field does not exist, a value is of another type than its field, or Firestore compares no such
            values.
        SettingsError: the query needs a composite index that ``collection.queries`` does not declare.
    """
    filters = [_filter(collection, key, value) for key, value in (where or {}).items()]
    query = Query(path, filters, _orders(collection, filters, order), indexes=collection.indexes)
    try:
        check_query(query)
    except StoreError as error:
        raise BadRequest(f"where: {error.reason}.") from None
    _check_index(collection, query)
    return query


def check_index(collection: Collection[Any], keys: Iterable[str], order: str | Sequence[str] | None) -> None:
    """Refuse a query that needs an index which the collection does not declare. Its values do not matter.

    Args:
        keys: the keys of its ``where``.

    Raises:
        BadRequest, SettingsError: as :func:`query_of`.
    """
    filters = [Filter(*_field_and_operator(collection, key), None) for key in keys]
    orders = _orders(collection, filters, order)
    _check_index(collection, Query(collection.name, filters, orders, indexes=collection.indexes))


def _check_index(collection: Collection[Any], query: Query) -> None:
    missing = missing_index(query)
    if missing is not None:
        raise SettingsError(
            f"collection {collection.name!r}: this query needs an index: add {missing.fields!r} to its queries=[...]."
        )


def _field_and_operator(collection: Collection[Any], key: str) -> tuple[str, Op]:
    parts = _KEY.fullmatch(key)
    if parts is None:
        raise BadRequest(
            f"where: write {key!r} as a field's name, or as a name and one of == != < <= > >= in contains."
        )
    name, written = parts[1], parts[2] or "=="
    op = _OPS.get(written) or cast("Op", written)
    annotation = _type(collection, name, "where")
    if op == "array_contains":
        if item_type(annotation) is None:
            raise BadRequest(f"where: {name} contains: only lists and sets of plain values contain one.")
        return name, op
    if op not in {"==", "!=", "in"} and not is_sortable(annotation):
        raise BadRequest(f"where: {name}: such values are not kept in their order; compare them with == alone.")
    return name, op


def _filter(collection: Collection[Any], key: str, value: Any) -> Filter:
    name, op = _field_and_operator(collection, key)
    if op == "array_contains":
        stored = compared_value(collection.model, name, value, item=True)
    elif op != "in":
        stored = compared_value(collection.model, name, value)
    elif isinstance(value, list | tuple | set | frozenset):
        stored = [compared_value(collection.model, name, item) for item in value]
        if None in stored:
            raise BadRequest(f"where: {name} in: null is equal to no value of a list; ask for it by itself.")
    else:
        raise BadRequest(f"where: {name} in: give a list of values.")
    if any(isinstance(item, list | dict) for item in (stored if op == "in" else [stored])):
        raise BadRequest(f"where: {name}: a list or a model cannot be compared; compare one of the model's fields.")
    return Filter(name, op, stored)


def _orders(
    collection: Collection[Any], filters: Sequence[Filter], order: str | Sequence[str] | None
) -> tuple[Order, ...]:
    names = [order] if isinstance(order, str) else list(order or ())
    orders = {name.removeprefix("-"): name.startswith("-") for name in names}
    for name in orders:
        if not is_sortable(_type(collection, name, "order")):
            raise BadRequest(f"order: {name}: such values are not kept in their order.")
    # Firestore sorts by the fields of inequalities too, after the others. Written out, the position of a page has them.
    descending = bool(orders) and list(orders.values())[-1]
    for each in sorted(item.field for item in filters if item.op not in EQUALITIES):
        orders.setdefault(each, descending)
    return tuple(Order(name, descending) for name, descending in orders.items())


def _type(collection: Collection[Any], name: str, where: str) -> Any:
    annotation = field_type(collection.model, name)
    if annotation is None:
        raise BadRequest(f"{where}: {collection.model.__name__} has no field {name!r}.")
    return annotation
