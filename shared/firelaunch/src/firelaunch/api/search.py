"""Search documents for the passages that match a question."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import (
    AppBudgetExceeded,
    BudgetExceeded,
    CreditExceeded,
    InvalidId,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NotFound,
    PreconditionFailed,
    TooLarge,
)
from ..identity import Caller
from ..services.bundle import Services
from ..services.metered_search import search as paid_search
from .base import Body, OptionalGroup, caller, example, services
from .refusals import OF_THE_INDEX, errors
from .routes import Routes

__all__ = ["Question", "SearchAnswer", "SourceAnswer", "api", "searched"]

_SOURCE = {
    "number": 1,
    "document_id": "d0123456789abcdef0123456789abcdef",
    "chunk_id": "0123456789abcdef0123456789abcdef",
    "library": False,
    "title": "handbook.pdf",
    "url": None,
    "record": None,
    "page": 3,
    "last_page": 4,
    "headings": ["Leave"],
    "start": 5_210,
    "end": 5_904,
}


class Question(Body):
    """What to look for."""

    model_config = ConfigDict(**Body.model_config, **example({"query": "How many days of leave are there?"}))
    query: str = Field(min_length=1, max_length=4_000)
    documents: list[str] = Field(default=[], max_length=1_000, description="Ids: look in these alone.")
    library: bool = Field(default=True, description="Whether the app's library is looked in, too.")
    group: OptionalGroup = Field(
        default=None,
        description="Look in this group's documents, and not in the caller's own. For its members; its plan pays.",
    )


class RecordSource(BaseModel):
    """A record of one of the app's own collections."""

    collection: str
    id: str


class SourceAnswer(BaseModel):
    """Where a passage is from; ``start`` and ``end`` are characters of its document's text."""

    model_config = example(_SOURCE)
    number: int
    document_id: str
    chunk_id: str
    library: bool
    title: str
    url: str | None
    record: RecordSource | None = Field(
        default=None, description="The record whose text it is: the caller's own, or with `library` the app's."
    )
    page: int | None = Field(description="Page, slide or sheet on which it begins, counted from 1.")
    last_page: int | None = Field(default=None, description="That on which it ends.")
    headings: list[str]
    start: int
    end: int


class PassageAnswer(SourceAnswer):
    """A passage. ``score`` orders those of one search, and means no more."""

    model_config = example({**_SOURCE, "text": "There are 30 days of leave a year.", "score": 0.03})
    text: str
    score: float


class SearchAnswer(BaseModel):
    """What was found, best first."""

    model_config = example(
        {
            "mode": "lexical",
            "note": "There is no embedding model: the search was by words alone.",
            "passages": [{**_SOURCE, "text": "There are 30 days of leave a year.", "score": 7.1}],
        }
    )
    mode: str = Field(description='"hybrid" (words and vectors), "vector" or "lexical" (words alone).')
    note: str = Field(description="Why it was not by all means there are; empty where it was.")
    passages: list[PassageAnswer]


_OF_EMBEDDING = (
    *(ModelError, ModelRefused, ModelTimeout, ModelUnavailable),
    *(BudgetExceeded, AppBudgetExceeded, CreditExceeded, PreconditionFailed),
)


api = Routes("search", "documents", prefix="/v1", guests=True)


@api.post(
    "/search",
    rate="search",
    responses={200: SearchAnswer, **errors(TooLarge, InvalidId, NotFound, *OF_THE_INDEX, *_OF_EMBEDDING)},
    operation_id="searchDocuments",
    summary="Search in documents",
)
def search(body: Question) -> dict[str, Any]:
    """Search in documents."""
    return searched(services(), caller(), body)


def searched(services: Services, user: Caller, question: Question) -> dict[str, Any]:
    """Run a search for a user and return its answer.

    Raises:
        NotFound: the user is no member of the group.
    """
    from ..rag.passages import own_text, source_view

    scope = user.scope
    if question.group:
        from ..services.groups import check_member  # an app without groups starts without it

        scope = user.scope.of_group(question.group)
        check_member(services.store, scope, user.uid)  # before anything is spent from the group's budget
    result = paid_search(services, scope, question.query, question.documents, library=question.library)
    passages = [
        {**source_view(passage), "text": own_text(passage.hit.entry), "score": round(passage.hit.score, 6)}
        for passage in result.passages
    ]
    return {"mode": result.mode, "note": result.note, "passages": passages}
