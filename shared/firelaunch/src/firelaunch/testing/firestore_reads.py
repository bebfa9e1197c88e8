"""Count the reads that Firestore would bill, on the emulator, which bills nothing."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["FirestoreReads"]


class FirestoreReads:
    """A counter of one client's reads from now on, for use from many threads.

    The rules are those of https://firebase.google.com/docs/firestore/pricing: a read for each document that a query
    returns or that is asked for by name, one for a query that returns none, one for each 1,000 entries that a count
    goes through, and for a vector query one for each 100 entries of the vector index, which are all that its filters
    leave.

    Args:
        client: a ``google.cloud.firestore.Client``.
        vectors: returns the number of vectors for a vector query with this parent and this structured query.

    Attributes:
        documents: documents read.
        entries: reads billed for index entries.
    """

    def __init__(self, client: Any, vectors: Callable[[str, Any], int] = lambda *_: 0) -> None:
        self._api = client._firestore_api
        self._vectors = vectors
        self._lock = threading.Lock()
        self.documents = self.entries = 0
        client._firestore_api_internal = self

    def reset(self) -> None:
        """Set the counters to zero."""
        self.documents = self.entries = 0

    @property
    def billed(self) -> int:
        """The number of billed reads."""
        return self.documents + self.entries

    def run_query(self, request: Any, **more: Any) -> Iterator[Any]:
        """Run the client's query and count its reads."""
        query = request["structured_query"]
        if query.find_nearest.limit:
            self._count(entries=math.ceil(self._vectors(request["parent"], query) / 100))
        returned = 0
        for response in self._api.run_query(request=request, **more):
            returned += bool(response.document.name)
            yield response
        self._count(documents=max(1, returned))

    def batch_get_documents(self, request: Any, **more: Any) -> Iterator[Any]:
        """Get the documents and count them."""
        self._count(documents=len(request["documents"]))
        return iter(self._api.batch_get_documents(request=request, **more))

    def run_aggregation_query(self, request: Any, **more: Any) -> Iterator[Any]:
        """Run the aggregation and count the index entries that it goes through."""
        for response in self._api.run_aggregation_query(request=request, **more):
            counted = max((value.integer_value for value in response.result.aggregate_fields.values()), default=0)
            self._count(entries=max(1, math.ceil(counted / 1_000)))
            yield response

    def _count(self, documents: int = 0, entries: int = 0) -> None:
        with self._lock:
            self.documents += documents
            self.entries += entries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)
