"""An app's own routes, one of each kind, for the tests that serve a whole app. It becomes ``app/meals.py`` there."""

from datetime import datetime
from typing import Any, Literal

from firelaunch import Body, Collection, NotFound, Page, PageQuery, Path, Record, Routes, caller, crud, data, example
from pydantic import BaseModel, Field


class Meal(Record):
    """Something eaten."""

    model_config = example({"name": "Soup", "kcal": 300, "eaten_at": "2026-03-01T12:00:00Z"})
    name: str = Field(min_length=1, max_length=200)
    kcal: int = Field(ge=0, le=100_000)
    kind: Literal["lunch", "dinner", "other"] = "other"
    eaten_at: datetime


class Recipe(Record):
    """How to make a meal."""

    model_config = example({"title": "Soup"})
    title: str = Field(max_length=200)
    steps: list[str] = Field(default_factory=list, max_length=20)


class Portion(Body):
    """How much of a meal to eat."""

    model_config = example({"percent": 50})
    percent: int = Field(ge=1, le=100)


class Eaten(BaseModel):
    """What was eaten."""

    model_config = example({"kcal": 150, "by": "ada"})
    kcal: int
    by: str


meals = Collection("meals", Meal, owner="user", queries=[("kind", "-eaten_at")])
recipes = Collection("recipes", Recipe, owner="app")
routes = crud(meals)
recipe_routes = crud(recipes)
menu_routes = Routes("menu", public=True)


@routes.get("/lunches", summary="Lunches, the latest first")
def lunches(query: PageQuery) -> Page[Meal]:
    """List lunches."""
    return data(meals).list({"kind": "lunch"}, "-eaten_at", query.limit, query.cursor)


@routes.post("/meals/<id>/portions", status=201)
def eat(path: Path, body: Portion) -> Eaten:
    """Eat a portion of a meal."""
    meal = data(meals).get(path.id)
    return Eaten(kcal=meal.kcal * body.percent // 100, by=caller().uid)


@routes.get("/diary", feature="diary")
def diary() -> dict[str, Any]:
    """Read the diary."""
    return {"of": caller().uid}


@menu_routes.get("/menu")
def menu() -> list[Recipe]:
    """Read the menu."""
    return data(recipes).list(limit=20).items


@menu_routes.get("/menu/<id>")
def dish(path: Path) -> Recipe:
    """Read one of the menu."""
    found = data(recipes).find(path.id)
    if found is None:
        raise NotFound("The menu has no such dish.")
    return found
