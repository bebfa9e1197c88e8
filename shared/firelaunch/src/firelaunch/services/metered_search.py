"""Search outside a turn. Embedding the question and reranking are reserved, paid and recorded like any model's call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..metering.reservations import Quote, Reservation
from ..scope import Scope
from .bundle import Services

if TYPE_CHECKING:
    from ..rag.retrieve import Retrieved

__all__ = ["search"]


def search(
    services: Services, scope: Scope, query: str, documents: Sequence[str] = (), *, library: bool = True
) -> Retrieved:
    """Return the passages for a question. See :meth:`firelaunch.documents.catalog.Documents.search`.

    A free search (by words alone, or with a model on your own machine) doesn't touch the user's day.

    Args:
        scope: the verified caller's scope. Its documents are searched, and its budget pays.

    Raises:
        BudgetExceeded, Contention: the user's day does not admit the search. Nothing was embedded.
        IndexFailed, ModelError: the search failed. What was called is paid.
    """
    state = services.documents.versions.state()
    max_cost = services.documents.search_cost(query, state)

    def find(reservation: Reservation | None) -> Retrieved:
        spend = reservation.spend if reservation is not None else lambda *_: None
        return services.documents.search(scope, query, documents, library=library, state=state, spend=spend)

    if state is None or max_cost == 0:
        return find(None)
    return services.llm.pay("search", Quote(state.current.model, max_cost), find, scope=scope).data
