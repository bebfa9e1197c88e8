"""The composite indexes that queries need, and those that firelaunch's own queries have (``firestore.indexes.json``).

Firestore makes an index of each single field by itself, and joins those for filters by equality. All other queries need
a composite index that is declared and deployed
(https://firebase.google.com/docs/firestore/query-data/index-overview). The emulator and SQLite would run them without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .base import EQUALITIES, Filter, Order, Query

__all__ = ["OWN_INDEXES", "CompositeIndex", "missing_index", "needed_index"]


@dataclass(frozen=True, slots=True)
class CompositeIndex:
    """One composite index: the id of its collections, and its fields, with "-" before those that descend."""

    collection: str
    fields: tuple[str, ...]

    def serves(self, need: CompositeIndex, equal: int) -> bool:
        """Return whether this index serves a query that needs ``need``.

        Args:
            equal: the number of fields at the beginning that may be in any order.
        """
        if self.collection != need.collection or len(self.fields) != len(need.fields):
            return False
        filtered = {name.removeprefix("-") for name in self.fields[:equal]}
        return filtered == set(need.fields[:equal]) and self.fields[equal:] == need.fields[equal:]

    def definition(self) -> dict[str, Any]:
        """Return the index as ``firestore.indexes.json`` has it."""
        return {
            "collectionGroup": self.collection,
            "queryScope": "COLLECTION",
            "fields": [
                {
                    "fieldPath": name.removeprefix("-"),
                    "order": "DESCENDING" if name.startswith("-") else "ASCENDING",
                }
                for name in self.fields
            ],
        }


OWN_INDEXES: Final = (
    CompositeIndex("audit", ("whom", "-at")),
    CompositeIndex("calls", ("uid", "-finished_at")),
    CompositeIndex("user_sums", ("period", "-cost_micro_usd")),
    CompositeIndex("requests", ("day", "-total_ms")),
    CompositeIndex("requests", ("day", "-usage.cost_micro_usd")),
    CompositeIndex("requests", ("day", "-settled_at")),
    CompositeIndex("requests", ("day", "outcome", "-settled_at")),
    CompositeIndex("jobs", ("uid", "-created_at")),
    CompositeIndex("jobs", ("state", "-created_at")),
    CompositeIndex("requests", ("rating", "-rated_at")),
)
"""The indexes of firelaunch's own queries, which each deploy makes."""


def needed_index(collection: str, where: Sequence[Filter], order: Sequence[Order]) -> tuple[CompositeIndex, int] | None:
    """Return the index that a query of a collection needs, and the number of its fields that are filtered by equality.

    Args:
        collection: the collection's id, which is the last one of its path.

    Returns:
        None if Firestore's own indexes serve the query.
    """
    equal = sorted({item.field for item in where if item.op in EQUALITIES})
    unequal = [item.field for item in where if item.op not in EQUALITIES]
    orders = list(order) or [Order(field) for field in unequal[:1]]
    sorted_by = {each.field: each.descending for each in orders if each.field not in equal}
    for field in unequal:
        if field not in equal:
            sorted_by.setdefault(field, False)
    if not sorted_by or len(equal) + len(sorted_by) < 2:
        return None
    fields = (*equal, *(f"-{field}" if descending else field for field, descending in sorted_by.items()))
    return CompositeIndex(collection, fields), len(equal)


def missing_index(query: Query) -> CompositeIndex | None:
    """Return the index that a query needs and that is neither declared with it nor firelaunch's own; else None."""
    need = needed_index(query.collection.rpartition("/")[2], query.where, query.order)
    if need is None:
        return None
    index, equal = need
    available = (*OWN_INDEXES, *(CompositeIndex(index.collection, fields) for fields in query.indexes))
    return None if any(each.serves(index, equal) for each in available) else index
