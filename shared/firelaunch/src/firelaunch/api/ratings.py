"""Let users rate the answers they got, and admins list the ratings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from ..errors import Conflict, Contention, InvalidCursor, TooLarge
from ..metering.call_records import RECORD_DAYS
from ..services.audit_log import tell
from ..services.chat_places import chat_place
from ..turns.ratings import RATING_CHARACTERS, Rating, Reason, Verdict, rate, rated_requests, rating_counts
from .base import (
    OF_A_GROUP,
    Body,
    GroupQuery,
    OptionalGroup,
    PageQuery,
    Path,
    Time,
    admins_only,
    caller,
    example,
    services,
)
from .examples import CHAT, REPLY, REQUEST
from .ops_sums import Moment
from .refusals import OF_A_CHAT, errors
from .routes import Routes

__all__ = ["RatingAnswer", "api"]

_RATING = {"value": "down", "reason": "incorrect", "text": "The Volga is longer.", "rated_at": CHAT["updated_at"]}
_RATED = {
    "request_id": REQUEST,
    "uid": "ada",
    "chat_id": CHAT["id"],
    "message_id": REPLY["id"],
    "rating": "down",
    "reason": "incorrect",
    "model": REPLY["model"],
    "prompt": "chat@1",
    "cost_micro_usd": 50,
    "rated_at": CHAT["updated_at"],
}


class RatingBody(Body):
    """A rating of an answer, with its reason."""

    model_config = example({"value": "down", "reason": "incorrect", "text": _RATING["text"]})
    value: Verdict
    reason: Reason | None = Field(default=None, description='Why; of "down" alone.')
    text: str = Field(default="", max_length=RATING_CHARACTERS, description="In the user's own words.")
    group: OptionalGroup = Field(default=None, description=OF_A_GROUP)

    @model_validator(mode="after")
    def _of_down(self) -> Self:
        if self.reason is not None and self.value == "up":
            raise ValueError('A reason goes with "down".')
        return self


class RatingAnswer(BaseModel):
    """A user's rating of an answer."""

    model_config = example(_RATING)
    value: str = Field(description='"up" or "down".')
    reason: str | None = Field(description="As it was given.")
    text: str
    rated_at: Time
    by: str | None = Field(default=None, description="In a group's chat: the member who gave it.")


class MessagePath(Path):
    """A path's parameters."""

    message: str = Field(description="The answer's id.", json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"})


class RatingsQuery(PageQuery):
    """The filter and the page of ratings."""

    rating: Verdict | None = Field(default=None, description="These alone.")
    start: Moment | None = Field(
        default=None, alias="from", description="Given at this time or later; else in the last 30 days."
    )
    end: Moment | None = Field(default=None, alias="to", description="Given before this time.")
    contents: bool = Field(default=False, description="Add `question`, `answer`, `cited` and `text`.")


class OpsRating(BaseModel):
    """A rating, with the request whose answer it is of."""

    model_config = example(_RATED)
    request_id: str
    uid: str
    chat_id: str
    message_id: str
    rating: Verdict
    reason: Reason | None
    model: str | None
    prompt: str | None = Field(description="The prompt that the model last had, as `name@version`.")
    cost_micro_usd: int | None = Field(description="Of the whole request, in millionths of a dollar.")
    rated_at: Time
    question: str | None = Field(
        default=None, description="With `contents`: what the user asked; null if the answer is gone or was replaced."
    )
    answer: str | None = Field(default=None, description="With `contents`: the answer.")
    cited: list[str] | None = Field(default=None, description="With `contents`: the titles of what it cites.")
    text: str | None = Field(default=None, description="With `contents`: the user's own words on it.")


class OpsRatingPage(BaseModel):
    """Ratings, the latest first."""

    model_config = example({"items": [_RATED], "next_cursor": None, "up": 9, "down": 1})
    items: list[OpsRating]
    next_cursor: str | None
    up: int = Field(description="How many were rated up in this time, whatever `rating` says; 10,000 at most.")
    down: int = Field(description="How many were rated down.")


api = Routes("ratings", "chats", prefix="/v1", guests=True)


@api.put(
    "/chats/<id>/messages/<message>/rating",
    rate="ratings",
    responses={200: RatingAnswer, **errors(*OF_A_CHAT, TooLarge, Conflict, Contention)},
    operation_id="rateAnswer",
    summary="Rate an answer",
    description="Replaces an earlier rating. The answer's message has it from then on, as does useChat's metadata.",
)
def put(path: MessagePath, body: RatingBody) -> dict[str, Any] | None:
    """Rate an answer."""
    rating = Rating(body.value, body.reason, body.text)
    place = chat_place(services(), caller(), body.group, writes=True)
    return rate(services().store, services().clock, place, path.id, path.message, rating)


@api.delete(
    "/chats/<id>/messages/<message>/rating",
    rate="ratings",
    responses={204: None, **errors(*OF_A_CHAT, Conflict, Contention)},
    operation_id="unrateAnswer",
    summary="Take a rating back",
)
def delete(path: MessagePath, query: GroupQuery) -> tuple[str, int]:
    """Take a rating back."""
    place = chat_place(services(), caller(), query.group, writes=True)
    rate(services().store, services().clock, place, path.id, path.message, None)
    return "", 204


@api.get(
    "/ops/ratings",
    rate="ops",
    guests=False,
    responses={200: OpsRatingPage, **errors(InvalidCursor)},
    operation_id="listRatings",
    summary="List the ratings of answers (admins)",
    description="Without texts, unless `contents` asks for them.",
)
def index(query: RatingsQuery) -> dict[str, Any]:
    """List the ratings of answers (admins)."""
    admins_only()
    store, now = services().store, services().clock()
    times = (query.start or now - timedelta(days=RECORD_DAYS + 1), query.end or now + timedelta(days=1))
    if query.contents:
        tell(services(), "ratings.exported", caller().uid, {"limit": query.limit, "rating": query.rating})
    page = rated_requests(store, store.scope, query.limit, query.cursor, query.rating, times, contents=query.contents)
    return {"items": page.items, "next_cursor": page.next_cursor, **rating_counts(store, store.scope, times)}
