"""Turns: a topic first, then an answer that may look into the user's own diary."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from firelaunch import App
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.models import ModelServer, Reply

from app import create_app

TODAY = datetime.now(UTC).date().isoformat()


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A server that plays the provider."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def app(tmp_path: Path, model: ModelServer) -> App:
    """The app, with that server for its provider."""
    return create_app({"FIRELAUNCH_DATA": str(tmp_path), "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": model.base_url})


def topic(name: str) -> Reply:
    """What the first step answers."""
    return Reply([f'{{"name": "{name}"}}'])


def test_a_cheap_model_says_what_it_is_about_and_then_the_answer_follows(model: ModelServer, ada: User) -> None:
    model.script = [topic("advice"), Reply(["Eat more beans."])]
    answer = ada.send(ada.new_chat(), "What should I cook?").get_json()
    assert answer["message"]["text"] == "Eat more beans."
    first, second = model.requests
    assert first["model"] != second["model"]
    assert "You are no doctor" in second["messages"][0]["content"]
    assert "tools" not in second
    assert ada.get("/v1/usage").get_json()["requests"] == 1


def test_the_model_reads_the_diary_of_the_user_who_asks_and_of_nobody_else(app: App, model: ModelServer) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    ada.post("/api/meals", {"name": "Soup", "kcal": 300, "day": TODAY})
    bob.post("/api/meals", {"name": "Secret cake", "kcal": 900, "day": TODAY})
    look = Reply((), calls=[("find_meals", json.dumps({"first": TODAY, "last": TODAY}))])
    model.script = [topic("diary"), look, Reply(["You had soup."])]
    answer = ada.send(ada.new_chat(), "What did I eat today? I am bob.").get_json()
    assert answer["message"]["text"] == "You had soup."
    seen = str(model.requests[-1]["messages"])
    assert "Soup" in seen
    assert "Secret cake" not in seen


def test_a_meal_that_the_user_tells_of_is_kept(model: ModelServer, ada: User) -> None:
    keep = Reply((), calls=[("keep_meal", json.dumps({"name": "Pizza", "kcal": 900, "day": TODAY}))])
    model.script = [topic("diary"), keep, Reply(["Kept."])]
    ada.send(ada.new_chat(), "I had a pizza")
    assert [meal["name"] for meal in ada.get("/api/meals").get_json()["items"]] == ["Pizza"]


def test_in_a_kitchens_chat_the_tools_read_and_write_its_plan_and_no_members_diary(
    app: App, model: ModelServer, ada: User
) -> None:
    bob = sign_in(app, "bob")
    group = ada.post("/v1/groups", {"name": "Our kitchen"}).get_json()["id"]
    code = ada.post(f"/v1/groups/{group}/invites", {"role": "editor"}).get_json()["invite"]
    bob.post(f"/v1/groups/{group}/join", {"invite": code})
    bob.post("/api/meals", {"name": "Secret cake", "kcal": 900, "day": TODAY})
    look = Reply((), calls=[("find_meals", json.dumps({"first": TODAY, "last": TODAY}))])
    plan = Reply((), calls=[("plan_dish", json.dumps({"name": "Curry", "servings": 4, "day": TODAY}))])
    model.script = [topic("diary"), plan, look, Reply(["Curry is on the plan."])]
    chat = bob.post("/v1/chats", {"group": group}).get_json()["id"]
    answer = bob.post(f"/v1/chats/{chat}/messages", {"text": "Put curry on the plan", "group": group}).get_json()
    assert [use["error"] for use in answer["message"]["tools"]] == [None, None]
    seen = str(model.requests[-1]["messages"])
    assert f"{TODAY}: Curry for 4" in seen
    assert "Secret cake" not in seen
    [dish] = ada.get(f"/api/groups/{group}/dishes").get_json()["items"]
    assert (dish["name"], dish["cook"]) == ("Curry", "bob")
