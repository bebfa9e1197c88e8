"""Kitchens: groups of users who plan meals together."""

from datetime import date

from firelaunch import Collection, Record, UserId, crud, example
from pydantic import Field


class Dish(Record):
    """A meal that a kitchen plans. ``cook`` is the member who put it on the plan."""

    model_config = example({"name": "Lentil curry", "servings": 4, "day": "2026-03-02"})
    name: str = Field(min_length=1, max_length=200)
    servings: int = Field(ge=1, le=100)
    day: date
    cook: UserId | None = None


dishes = Collection(
    "dishes",
    Dish,
    owner="group",
    written_by="cook",
    on_erase="anonymize",
    queries=[("cook", "-day")],
    searchable=["name"],
)
routes = crud(dishes)
