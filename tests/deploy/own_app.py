"""An app that declares collections, routes, jobs, schedules and handlers of its own."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SCHEDULES", "declare"]

_MEALS = '''"""What people eat."""

from datetime import datetime

from firelaunch import App, Collection, JobRun, Record, Routes, UploadEvent, WriteEvent, job, on_upload, on_write


class Meal(Record):
    kind: str = "other"
    eaten_at: datetime


class Recipe(Record):
    name: str
    kcal: int


meals = Collection("meals", Meal, queries=[("kind", "-eaten_at")])
recipes = Collection("recipes", Recipe, owner="app", queries=[("name", "kcal")])
routes = Routes("menu", public=True)


@routes.get("/menu", summary="The menu")
def menu() -> dict[str, str]:
    return {"soup": "of the day"}


@job("weekly_summary")
def weekly_summary(run: JobRun) -> None:
    return None


@on_write("meals/{meal}")
def meal_written(event: WriteEvent) -> None:
    return None


@on_write("recipes/{recipe}")
def recipe_written(event: WriteEvent) -> None:
    return None


@on_upload("pictures/{name}")
def picture_stored(event: UploadEvent) -> None:
    return None


def declared(name: str) -> App:
    return App(
        name,
        routes=[routes],
        collections=[meals, recipes],
        jobs=[weekly_summary],
        events=[meal_written, recipe_written, picture_stored],
    )
'''

SCHEDULES = """
[schedules]
weekly_summary = { cron = "0 7 * * 1", zone = "Europe/Berlin", each = "user" }
"""


def declare(folder: Path) -> Path:
    """Have the template's app in ``folder`` declare things of its own."""
    (folder / "app" / "meals.py").write_text(_MEALS)
    start = folder / "app" / "__init__.py"
    text = start.read_text()
    assert "    app = App(__name__)\n" in text
    text = text.replace("    app = App(__name__)\n", "    app = meals.declared(__name__)\n")
    start.write_text(text.replace("from . import workflow\n", "from . import meals, workflow\n"))
    settings = folder / "firelaunch.toml"
    settings.write_text(settings.read_text() + SCHEDULES)
    return folder
