"""A search that is no turn's: embedding its question is reserved for, paid and recorded as any model's call is."""

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
    """The passages for a question; see :meth:`firelaunch.documents.catalog.Documents.search`.

    A search that costs nothing (by words alone, or by a model of one's own machine) leaves the user's day alone.

    Args:
        scope: whose documents, and whose budget: the verified caller's.

    Raises:
        BudgetExceeded, Contention: the user's day does not admit it; nothing was embedded.
        IndexFailed, ModelError: the search failed. What was embedded is paid.
    """
    state = services.documents.versions.state()
    most = services.documents.question_cost(query, state)

    def find(reservation: Reservation | None) -> Retrieved:
        spend = reservation.spend if reservation is not None else lambda *_: None
        return services.documents.search(scope, query, documents, library=library, state=state, spend=spend)

    if state is None or most == 0:
        return find(None)
    return services.llm.pay("search", Quote(state.current.model, most), find, scope=scope).data
