"""What happens in one turn: a cheap model says what a message is about, then the answer follows."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Literal

from firelaunch import Chunk, Message, Turn
from pydantic import BaseModel

from .kitchen import Dish, dishes
from .meals import Meal, meals


class Topic(BaseModel):
    """What a message is about: the user's own diary, eating in general, or something else."""

    name: Literal["diary", "advice", "other"]


def answer(turn: Turn) -> Iterator[Chunk]:
    """Answer from the user's diary, or in a kitchen's chat from its plan, with advice, or say that it is no matter."""

    def find_meals(first: date, last: date) -> list[str]:
        """List the meals of the user's diary, or of the kitchen's plan, from the first day to the last."""
        days = {"day >=": first, "day <=": last}
        if turn.scope.group is not None:
            plan = turn.data(dishes).list(days, order="day", limit=100).items
            return [f"{dish.day}: {dish.name} for {dish.servings}" for dish in plan]
        diary = turn.data(meals).list(days, order="day", limit=100).items
        return [f"{meal.day} {meal.kind}: {meal.name}, {meal.kcal} kcal" for meal in diary]

    def keep_meal(name: str, kcal: int, day: date) -> str:
        """Keep a meal in the user's diary.

        Args:
            kcal: the calories of all of it, estimated if the user did not say.
        """
        turn.data(meals).add(Meal(name=name, kcal=kcal, day=day))
        return "kept"

    def plan_dish(name: str, servings: int, day: date) -> str:
        """Put a dish on the kitchen's plan.

        Args:
            servings: for how many it is cooked.
        """
        turn.data(dishes).add(Dish(name=name, servings=servings, day=day))
        return "planned"

    question: Message = {"role": "user", "content": turn.text}
    instructions: Message = {"role": "system", "content": turn.prompt("topic")}
    topic = turn.llm.extract(Topic, [instructions, question], model="cheap", purpose="topic")
    today = datetime.now(UTC).date().isoformat()
    of_diary = topic.name == "diary"
    in_kitchen = turn.scope.group is not None
    prompt = "kitchen" if of_diary and in_kitchen else topic.name
    instructions = {"role": "system", "content": turn.prompt(prompt, app_name=turn.app.name, today=today)}
    messages = [instructions, *turn.history, question]
    tools = (find_meals, plan_dish if in_kitchen else keep_meal)
    yield from turn.llm.stream(messages, tools=tools if of_diary else ())
