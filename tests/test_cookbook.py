"""Each recipe of docs/cookbook.md does what it says, as it stands there."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, User, enqueue_job, events, run_jobs, sign_in, write_app
from firelaunch.testing.models import ModelServer, Reply
from support import ROOT

RECIPES = {
    int(number): text
    for number, text in re.findall(
        r"^## (\d+)\. [^\n]*\n(.*?)(?=^## |\Z)",
        (ROOT / "docs" / "cookbook.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
}


def blocks(number: int, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", RECIPES[number], re.MULTILINE | re.DOTALL)


class Recipe:
    """An app with one recipe in it, and a model server that it asks."""

    def __init__(self, number: int, folder: Path, model: ModelServer) -> None:
        module = types.ModuleType(f"recipe_{number}")
        for code in blocks(number, "python"):
            exec(compile(code, f"recipe {number}", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - our own
        self.module: Any = module
        settings = SETTINGS
        for more in blocks(number, "toml"):
            table = more.partition("\n")[0]
            settings = (
                re.sub(rf"^{re.escape(table)}\n.*?(?=^\[|\Z)", "", settings, flags=re.MULTILINE | re.DOTALL) + more
            )
        environ = {"FIRELAUNCH_DATA": str(folder), "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": model.base_url}
        found = list(vars(module).values())
        self.app = App(
            "cookbook",
            routes=[each for each in found if type(each).__name__ == "Routes"],
            collections=[each for each in found if type(each).__name__ == "Collection"],
            jobs=[each for each in found if type(each).__module__.startswith("firelaunch") and hasattr(each, "kind")],
        )
        answer = getattr(module, "answer", None) or answered_by_the_model
        init_app(self.app, build(Settings.load(write_app(folder, settings), environ)), answer)
        self.model = model
        self.ada = sign_in(self.app, "ada")

    def send_http(self, number: int, user: User, **places: str) -> Any:
        """Send the recipe's HTTP request."""
        (text,) = blocks(number, "http")
        head, _, body = text.partition("\n\n")
        first, *lines = head.splitlines()
        method, path = first.split()
        headers = {"Authorization": f"Bearer {user.token}", **dict(line.split(": ", 1) for line in lines)}
        content = {"json": json.loads(body)} if body.strip() else {}
        return user.client.open(path.format(**places), method=method, headers=headers, **content)


def answered_by_the_model(turn: Any) -> Iterator[Any]:
    yield from turn.llm.stream([*turn.history, {"role": "user", "content": turn.text}])


@pytest.fixture
def cook(tmp_path: Path) -> Iterator[Callable[..., Recipe]]:
    """Makes the app of a recipe; the model gives the replies in order."""
    with ModelServer() as model:

        def make(number: int, *replies: Reply) -> Recipe:
            model.script = list(replies)
            return Recipe(number, tmp_path, model)

        yield make


Cook = Callable[..., Recipe]


def text_of(recipe: Recipe, said: str) -> Any:
    answer = recipe.ada.send(recipe.ada.new_chat(), said)
    assert answer.status_code == 200, answer.get_json()
    return answer.get_json()["message"]["text"]


def test_there_are_twenty_recipes() -> None:
    assert sorted(RECIPES) == list(range(1, 21))


def test_1_the_model_is_told_the_day(cook: Cook) -> None:
    recipe = cook(1)
    text_of(recipe, "Hello")
    assert re.search(r"You are Demo\. Today is \d{4}-\d\d-\d\d\.", recipe.model.requests[-1]["messages"][0]["content"])


def test_2_the_model_calls_a_function(cook: Cook) -> None:
    recipe = cook(2, Reply((), calls=[("opening_hours", '{"day": "Sunday"}')]), Reply(["We are closed."]))
    assert text_of(recipe, "Are you open on Sunday?") == "We are closed."
    assert "closed" in recipe.model.requests[-1]["messages"][-1]["content"]


def test_3_the_model_keeps_a_reminder_for_this_user_alone(cook: Cook) -> None:
    recipe = cook(3, Reply((), calls=[("remind", '{"text": "Buy tea"}')]), Reply(["Done."]))
    text_of(recipe, "Remind me to buy tea")
    assert [each["text"] for each in recipe.ada.get("/api/reminders").get_json()["items"]] == ["Buy tea"]
    assert sign_in(recipe.app, "bob").get("/api/reminders").get_json()["items"] == []


def test_4_an_answer_with_a_link_is_withheld(cook: Cook) -> None:
    recipe = cook(4, Reply(["See http://example.com"]), Reply(["No link."]))
    refused = recipe.ada.send(recipe.ada.new_chat(), "Where?")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (502, "answer_withheld")
    assert text_of(recipe, "Again") == "No link."


def test_5_help_costs_nothing(cook: Cook) -> None:
    recipe = cook(5, Reply(["From the model."]))
    assert text_of(recipe, " Help ") == "Ask me about your documents."
    assert recipe.model.requests == []
    assert recipe.ada.get("/v1/usage").get_json()["cost_micro_usd"] == 0
    assert text_of(recipe, "What else?") == "From the model."


def test_6_a_route_greets(cook: Cook) -> None:
    answer = cook(6).ada.post("/api/greetings", {"name": "Bob"})
    assert (answer.status_code, answer.get_json()) == (201, {"text": "Hello, Bob!", "by": "ada"})


def test_7_each_user_has_notes_of_their_own(cook: Cook) -> None:
    recipe = cook(7)
    note = recipe.ada.post("/api/notes", {"text": "Tea"}).get_json()["id"]
    assert recipe.ada.patch(f"/api/notes/{note}", {"text": "Coffee"}).get_json()["text"] == "Coffee"
    assert sign_in(recipe.app, "bob").get(f"/api/notes/{note}").status_code == 404
    assert recipe.ada.delete(f"/api/notes/{note}").status_code == 204


def test_8_open_tasks_are_listed_newest_first(cook: Cook) -> None:
    recipe = cook(8)
    for title, done in (("one", False), ("two", True), ("three", False)):
        assert recipe.ada.post("/api/tasks", {"title": title, "done": done}).status_code == 201
    listed = recipe.ada.get("/api/tasks/open").get_json()["items"]
    assert [task["title"] for task in listed] == ["three", "one"]


def test_9_admins_write_what_all_read(cook: Cook) -> None:
    recipe = cook(9)
    assert recipe.ada.post("/api/menu", {"name": "Soup"}).status_code == 403
    assert sign_in(recipe.app, "root", role="admin").post("/api/menu", {"name": "Soup"}).status_code == 201
    assert [dish["name"] for dish in recipe.ada.get("/api/menu").get_json()["items"]] == ["Soup"]


def test_10_a_file_is_there_for_its_user(cook: Cook) -> None:
    recipe = cook(10)
    assert recipe.ada.put("/api/avatar", b"jpeg", Content_Type="image/jpeg").status_code == 204
    assert recipe.ada.get("/api/avatar").get_data() == b"jpeg"
    assert sign_in(recipe.app, "bob").get("/api/avatar").status_code == 404


def test_11_a_route_is_for_paying_users(cook: Cook) -> None:
    recipe = cook(11)
    refused = recipe.ada.get("/api/report")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "feature_missing")
    assert sign_in(recipe.app, "bob", plan="pro").get("/api/report").get_json() == {"answers": 42}


def test_12_a_job_runs_after_the_request(cook: Cook) -> None:
    recipe = cook(12)
    recipe.ada.new_chat()
    begun = recipe.ada.post("/api/summaries")
    assert begun.status_code in {200, 202}
    run_jobs(recipe.app)
    assert recipe.ada.get(f"/v1/jobs/{begun.get_json()['job']}").get_json()["result"] == {"chats": 1}


def test_13_a_schedule_runs_for_a_user(cook: Cook) -> None:
    recipe = cook(13)
    enqueue_job(recipe.app, "ada", recipe.module.morning)
    assert [job.result for job in run_jobs(recipe.app)] == ['{"greeted":"ada"}']


def test_14_a_job_goes_on_later(cook: Cook) -> None:
    recipe = cook(14)
    enqueue_job(recipe.app, None, recipe.module.fetch_weather)
    assert [job.state for job in run_jobs(recipe.app)] == ["queued"]


def test_15_a_user_costs_no_more_than_their_plan(cook: Cook) -> None:
    recipe = cook(15)
    refused = recipe.ada.send(recipe.ada.new_chat(), "Hello")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "budget_exceeded")
    assert recipe.model.requests == []


def test_16_a_new_chat_gets_a_title(cook: Cook) -> None:
    recipe = cook(16)
    chat = recipe.ada.new_chat()
    recipe.ada.send(chat, "Hello")
    assert {job.kind for job in run_jobs(recipe.app)} >= {"title", "memory"}


def test_17_a_repeated_message_is_paid_once(cook: Cook) -> None:
    recipe = cook(17)
    chat = recipe.ada.new_chat()
    first, second = (recipe.send_http(17, recipe.ada, chat=chat) for _ in range(2))
    assert first.get_json()["message"] == second.get_json()["message"]
    assert len(recipe.model.requests) == 1


def test_18_an_answer_comes_in_pieces(cook: Cook) -> None:
    recipe = cook(18)
    names = [name for name, _ in events(recipe.send_http(18, recipe.ada, chat=recipe.ada.new_chat()))]
    assert (names[0], names[-1]) == ("start", "done")
    assert "delta" in names


def test_19_a_text_becomes_data(cook: Cook) -> None:
    recipe = cook(19, Reply(['{"name": "Ada Lovelace", "year": 1815}']))
    answer = recipe.send_http(19, recipe.ada)
    assert answer.status_code == 200, answer.get_json()
    assert {"name": "Ada Lovelace", "year": 1815} in answer.get_json().values()


def test_20_a_user_deletes_everything(cook: Cook) -> None:
    recipe = cook(20)
    chat = recipe.ada.new_chat()
    assert recipe.send_http(20, recipe.ada).status_code == 202
    run_jobs(recipe.app)
    assert recipe.ada.get(f"/v1/chats/{chat}").status_code == 404
