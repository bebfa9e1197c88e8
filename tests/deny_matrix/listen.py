"""Realtime listeners, through the real Python client: many targets on one stream of each token."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import Any

from google.cloud.firestore_v1 import types

from .attempts import Operation
from .rest import Unclear

__all__ = ["listen"]

_SECONDS = 30.0
_PERMISSION_DENIED = 7
_TARGETS = 100
"""Targets of one stream at most, so that the emulator is not asked for what Firestore would not do."""


def listen(client: Any, operations: Sequence[Operation]) -> list[bool]:
    """Which of ``operations`` the client's listener gets its documents for; the rules end the others.

    Raises:
        Unclear: a target came to another end, or a stream ended before all were decided.
    """
    starts = range(0, len(operations), _TARGETS)
    return [said for start in starts for said in _stream(client, operations[start : start + _TARGETS])]


def _stream(client: Any, operations: Sequence[Operation]) -> list[bool]:
    database = client._database_string
    targets = [_target(database, operation, number) for number, operation in enumerate(operations, 1)]
    decided: dict[int, bool] = {}
    done: queue.Queue[None] = queue.Queue()

    def requests() -> Iterator[types.ListenRequest]:
        for target in targets:
            yield types.ListenRequest(database=database, add_target=target)
        done.get()

    stream = client._firestore_api.listen(requests(), metadata=client._rpc_metadata, timeout=_SECONDS)
    try:
        for response in stream:
            decided |= _decisions(response)
            if len(decided) == len(targets):
                break
    finally:
        done.put(None)
        stream.cancel()
    if len(decided) < len(targets):
        raise Unclear(f"a listener's stream ended with {len(decided)} of {len(targets)} targets decided")
    return [decided[number] for number in range(1, len(targets) + 1)]


def _decisions(response: Any) -> dict[int, bool]:
    change = response.target_change
    kinds = types.TargetChange.TargetChangeType
    if change.target_change_type == kinds.CURRENT:
        return dict.fromkeys(change.target_ids, True)
    if change.target_change_type != kinds.REMOVE:
        return {}
    if change.cause.code != _PERMISSION_DENIED:
        raise Unclear(f"a listener was ended with {change.cause.code}: {change.cause.message}")
    return dict.fromkeys(change.target_ids, False)


def _target(database: str, operation: Operation, number: int) -> types.Target:
    root = f"{database}/documents"
    if operation.right == "get":
        documents = types.Target.DocumentsTarget(documents=[f"{root}/{operation.target}"])
        return types.Target(target_id=number, documents=documents)
    parent, _, collection = f"/{operation.target}".rpartition("/")
    everywhere = operation.right == "group"
    selector = types.StructuredQuery.CollectionSelector(collection_id=collection, all_descendants=everywhere)
    query = types.Target.QueryTarget(
        parent=root + parent.removesuffix("/**"), structured_query=types.StructuredQuery(from_=[selector])
    )
    return types.Target(target_id=number, query=query)
