"""Show an app's admins what was said in one request. Every other route for admins leaves contents out."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from ..errors import InvalidId, NotFound
from ..services.audit_log import tell
from ..turns.contents import contents_of
from .base import Path, admins_only, caller, example, services
from .examples import QUESTION, REPLY, REQUEST
from .ratings import RatingAnswer
from .refusals import errors
from .routes import Routes

__all__ = ["api"]


_SAID = {
    "request_id": REQUEST,
    "question": QUESTION["text"],
    "answer": REPLY["text"],
    "passages": [
        {
            "number": 1,
            "title": "rivers.md",
            "page": None,
            "library": False,
            "document_id": "d0123456789abcdef0123456789abcdef",
            "text": "The Volga has 3,531 km.",
        }
    ],
    "rating": None,
}


class CitedPassage(BaseModel):
    """A passage that an answer cites."""

    number: int
    title: str | None
    page: int | None
    library: bool
    document_id: str
    text: str | None = Field(description="Null if the document was changed or deleted since.")


class OpsContents(BaseModel):
    """The texts of a request."""

    model_config = example(_SAID)
    request_id: str
    question: str | None = Field(description="Null if it was deleted since, or its answer was replaced.")
    answer: str | None
    passages: list[CitedPassage]
    rating: RatingAnswer | None


api = Routes("ops_contents", "ops", prefix="/v1")


@api.get(
    "/ops/requests/<id>/contents",
    rate="ops",
    responses={200: OpsContents, **errors(InvalidId, NotFound)},
    operation_id="getRequestContents",
    summary="Read what was said in a request (admins)",
    description="The user's words and the model's. The audit log says who read them.",
)
def contents(path: Path) -> dict[str, Any]:
    """Read what was said in a request (admins)."""
    admins_only()
    own = services()
    said = contents_of(own, own.store.scope, path.id)
    tell(own, "contents.read", caller().uid, {"request": said["request_id"]})
    return said
