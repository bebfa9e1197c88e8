"""Attempts by calls of the real Python client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as google
from google.cloud import firestore
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.vector import Vector

from .attempts import Operation

__all__ = ["allowed"]


def allowed(client: Any, operation: Operation) -> bool:
    """Whether the rules let ``operation`` through; errors other than a denial come after the rules, or pass through."""
    try:
        _CALLS[operation.name](client, operation)
    except google.PermissionDenied:
        return False
    except (google.NotFound, google.AlreadyExists, google.FailedPrecondition):
        return True
    return True


def _create(client: Any, operation: Operation) -> None:
    client.document(f"{operation.target}-new").create(dict(operation.data))


def _rename_in_a_batch(client: Any, operation: Operation) -> None:
    batch = client.batch()
    for name, item in operation.data:
        batch.update(client.document(operation.target), {name: item})
    batch.commit()


def _get_in_a_transaction(client: Any, operation: Operation) -> None:
    reference = client.document(operation.target)
    firestore.transactional(lambda transaction: reference.get(transaction=transaction))(client.transaction())


def _rename_in_a_transaction(client: Any, operation: Operation) -> None:
    reference = client.document(operation.target)

    def rename(transaction: Any) -> None:
        reference.get(transaction=transaction)
        transaction.update(reference, dict(operation.data))

    firestore.transactional(rename)(client.transaction())


def _find_nearest(client: Any, operation: Operation) -> None:
    near = client.collection(operation.target).find_nearest(
        "embedding", Vector([1.0, 0.0, 0.5]), 3, DistanceMeasure.COSINE
    )
    near.get()


_CALLS: dict[str, Callable[[Any, Operation], object]] = {
    "get": lambda client, operation: client.document(operation.target).get(),
    "get in a transaction": _get_in_a_transaction,
    "create": _create,
    "rename": lambda client, operation: client.document(operation.target).update(dict(operation.data)),
    "rename in a batch": _rename_in_a_batch,
    "rename in a transaction": _rename_in_a_transaction,
    "delete": lambda client, operation: client.document(operation.target).delete(),
    "query": lambda client, operation: client.collection(operation.target).get(),
    "count": lambda client, operation: client.collection(operation.target).count().get(),
    "find nearest": _find_nearest,
    "query the group": lambda client, operation: client.collection_group(operation.target.removeprefix("**/")).get(),
}
