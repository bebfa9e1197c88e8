"""Each day's calories, up to date whoever writes a meal: a route, a tool of the chat, another device."""

from datetime import date
from functools import partial

from firelaunch import Collection, Record, RecordsTransaction, WriteEvent, crud, on_write

from .meals import meals


class Day(Record):
    """A day's meals, counted. Its id is the date."""

    kcal: int = 0
    meals: int = 0


days = Collection("days", Day, owner="user")
routes = crud(days, only=("list", "get"))


@on_write("meals/{meal}")
def meal_written(event: WriteEvent) -> None:
    """Count the days that a meal was on before and is on now.

    Events come late, repeatedly and in any order. So this counts what is stored now, in the transaction that keeps it.
    """
    for day in {fields["day"] for fields in (event.before, event.after) if fields}:
        event.data(days).transaction(partial(_count, day=day))


def _count(tx: RecordsTransaction[Day], day: str) -> None:
    eaten, counted = tx.of(meals).list({"day": date.fromisoformat(day)}, limit=1_000), tx.find(day)
    total = counted or Day()
    total.kcal, total.meals = sum(meal.kcal for meal in eaten), len(eaten)
    if counted:
        tx.update(total)
    else:
        tx.add(total, id=day)
