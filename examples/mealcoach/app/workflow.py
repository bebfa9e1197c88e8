"""What happens in one turn: a cheap model says what a message is about, then the answer follows."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Literal

from firelaunch import Chunk, Message, Turn
from pydantic import BaseModel

from .meals import Meal, meals


class Topic(BaseModel):
    """What a message is about: the user's own diary, eating in general, or something else."""

    name: Literal["diary", "advice", "other"]


def answer(turn: Turn) -> Iterator[Chunk]:
    """Answer from the user's diary, with general advice, or say that this is no matter for a coach."""

    def find_meals(first: date, last: date) -> list[str]:
        """List the meals that the user ate from the first day to the last."""
        found = turn.data(meals).list({"day >=": first, "day <=": last}, order="day", limit=100).items
        return [f"{meal.day} {meal.kind}: {meal.name}, {meal.kcal} kcal" for meal in found]

    def keep_meal(name: str, kcal: int, day: date) -> str:
        """Keep a meal in the user's diary.

        Args:
            kcal: the calories of all of it, estimated if the user did not say.
        """
        turn.data(meals).add(Meal(name=name, kcal=kcal, day=day))
        return "kept"

    question: Message = {"role": "user", "content": turn.text}
    instructions: Message = {"role": "system", "content": turn.prompt("topic")}
    topic = turn.llm.extract(Topic, [instructions, question], model="cheap", purpose="topic")
    today = datetime.now(UTC).date().isoformat()
    instructions = {"role": "system", "content": turn.prompt(topic.name, app_name=turn.app.name, today=today)}
    messages = [instructions, *turn.history, question]
    yield from turn.llm.stream(messages, tools=(find_meals, keep_meal) if topic.name == "diary" else ())
