"""The diary: what a user ate, typed in or taken from a sentence."""

from datetime import date
from typing import Literal

from firelaunch import Body, Collection, Record, caller_services, crud, data, example
from pydantic import BaseModel, Field

KINDS = Literal["breakfast", "lunch", "dinner", "snack"]


class Meal(Record):
    """Something that a user ate."""

    model_config = example({"name": "Tomato soup", "kcal": 310, "kind": "lunch", "day": "2026-03-02"})
    name: str = Field(min_length=1, max_length=200)
    kcal: int = Field(ge=0, le=10_000)
    kind: KINDS = "snack"
    day: date


meals = Collection("meals", Meal, owner="user", queries=[("kind", "-day")])
routes = crud(meals)


class Sentence(Body):
    """A meal in the user's own words."""

    model_config = example({"text": "A bowl of tomato soup for lunch", "day": "2026-03-02"})
    text: str = Field(min_length=1, max_length=2_000)
    day: date


class Estimate(BaseModel):
    """What a model makes of a sentence."""

    name: str
    kcal: int = Field(description="The calories of the whole meal, estimated where they are not given.")
    kind: KINDS


@routes.post("/meals/from-text", status=201, calls_model=True)
def from_text(body: Sentence) -> Meal:
    """Keep the meal that a sentence describes."""
    estimate = caller_services().llm.extract(Estimate, body.text, purpose="meal").data
    return data(meals).add(Meal(name=estimate.name, kcal=estimate.kcal, kind=estimate.kind, day=body.day))
