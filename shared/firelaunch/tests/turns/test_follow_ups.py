"""What follows an answer: titles, summaries and notes, none of which an answer waits for or fails by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import ScopeViolation
from firelaunch.llm.types import Chunk, ModelCall, TokenCounts
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Delete, Set
from firelaunch.testing.apps import SETTINGS, User, sign_in, write_app
from firelaunch.turns.follow_ups import MEMORY, AnsweredChat

ADA = Scope("demo", "ada")


class Model:
    """A provider that answers turns with a word, and what follows them with ``said``, by what it is told to do."""

    name = "openai"

    def __init__(self) -> None:
        self.said = {
            "title": '"Cats and dogs."',
            "Summarize": "They spoke of cats.",
            "notes": "- Likes cats\n2. Is nine",
        }
        self.calls: list[ModelCall] = []
        self.during: Any = lambda: None

    def complete(self, call: ModelCall) -> Chunk:
        self.calls.append(call)
        told = call.messages[0]["content"]
        for word, answer in self.said.items():
            if f"{word} " in told and "material to read" in told:
                self.during()
                return Chunk(answer, TokenCounts(input=50, output=5), "stop")
        return Chunk("Well.", TokenCounts(input=10, output=2), "stop")

    def stream(self, call: ModelCall) -> Iterator[Chunk]:
        yield self.complete(call)


class Site:
    """An app whose jobs run when the test says so."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.model = Model()
        self.services = build(Settings.load(write_app(folder, settings), {"OPENAI_API_KEY": "k"}), provider=self.model)
        self.app = App("test")
        self.turns: list[Any] = []

        def answer(turn: Any) -> Iterator[Chunk]:
            self.turns.append(turn)
            yield from turn.llm.stream([{"role": "user", "content": turn.text}])

        init_app(self.app, self.services, answer)
        self.ada: User = sign_in(self.app, "ada")

    def run_jobs(self) -> list[str]:
        """The kinds of the jobs that were due, each run once."""
        kinds = []
        for name in self.services.jobs.due(50):
            job = self.services.jobs.find(name)
            assert job is not None
            kinds.append(job.kind)
            assert self.app.runner is not None
            self.app.runner.run(name)
            ended = self.services.jobs.find(name)
            assert ended is not None
            assert ended.state == "succeeded", ended.error
        return sorted(kinds)

    def chat(self, chat_id: str) -> Any:
        found = self.services.store.get(ADA.chat(chat_id))
        assert found is not None
        return found.data


@contextmanager
def site(folder: Path, *on: str) -> Iterator[Site]:
    settings = SETTINGS.replace("[limits]", "[limits]\nhistory_messages = 4")
    made = Site(folder, settings + "\n[after_turn]\n" + "".join(f"{name} = true\n" for name in on))
    yield made
    made.services.store.close()


def test_nothing_follows_unless_the_settings_say_so(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        chat = here.ada.new_chat()
        here.ada.send(chat, "Tell me of cats")
        assert here.run_jobs() == []
        assert here.chat(chat)["title"] == "Tell me of cats"
        assert len(here.model.calls) == 1


def test_the_first_answer_comes_under_the_plain_title_and_a_cheap_models_takes_its_place(tmp_path: Path) -> None:
    with site(tmp_path, "titles") as here:
        chat = here.ada.new_chat()
        assert here.ada.send(chat, "Tell me of cats").status_code == 200
        assert here.chat(chat)["title"] == "Tell me of cats"
        before = here.chat(chat)["updated_at"]
        used = here.ada.get("/v1/usage").get_json()
        assert here.run_jobs() == ["title"]
        assert here.chat(chat)["title"] == "Cats and dogs"
        assert here.chat(chat)["updated_at"] == before, "its place in the list stays"
        assert here.model.calls[-1].model == "gpt-5.4-nano"
        after = here.ada.get("/v1/usage").get_json()
        assert (after["requests"], after["reserved_micro_usd"]) == (used["requests"], 0)
        assert after["cost_micro_usd"] > used["cost_micro_usd"]
        here.ada.send(chat, "And of dogs")
        assert here.run_jobs() == []


def test_a_title_that_the_user_gave_stays_also_if_it_is_given_while_the_model_thinks(tmp_path: Path) -> None:
    with site(tmp_path, "titles") as here:
        own = here.ada.post("/v1/chats", {"title": "Mine"}).get_json()["id"]
        here.ada.send(own, "Hello")
        assert here.run_jobs() == []
        chat = here.ada.new_chat()
        here.ada.send(chat, "Tell me of cats")
        here.model.during = lambda: here.ada.patch(f"/v1/chats/{chat}", {"title": "Renamed"})
        here.run_jobs()
        assert here.chat(chat)["title"] == "Renamed"
        gone = here.ada.new_chat()
        here.ada.send(gone, "Tell me of cats")
        here.ada.delete(f"/v1/chats/{gone}")
        here.run_jobs()
        assert here.services.store.get(ADA.chat(gone)) is None


def test_where_the_offline_model_answers_titles_stay_plain(tmp_path: Path) -> None:
    path = write_app(tmp_path, SETTINGS + "\n[after_turn]\ntitles = true\n")
    services = build(Settings.load(path, {}))
    app = App("test")
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    ada = sign_in(app, "ada")
    ada.send(ada.new_chat(), "Hello")
    assert services.jobs.due(10) == []
    services.store.close()


def test_without_a_days_budget_nothing_is_written_and_nothing_is_tried_again(tmp_path: Path) -> None:
    with site(tmp_path, "titles", "memory") as here:
        chat = here.ada.new_chat()
        here.ada.send(chat, "Tell me of cats")
        day = here.services.metering.today()
        here.services.store.commit([Set(ADA.usage(day), {"cost_micro_usd": 10_000_000}, merge=True)])
        calls = len(here.model.calls)
        assert here.run_jobs() == ["memory", "title"]
        assert here.chat(chat)["title"] == "Tell me of cats"
        assert len(here.model.calls) == calls


def test_a_long_chat_is_summarized_and_the_workflow_is_told(tmp_path: Path) -> None:
    with site(tmp_path, "summaries") as here:
        chat = here.ada.new_chat()
        for number in range(2):
            here.ada.send(chat, f"Message {number}")
            assert here.run_jobs() == []
        here.ada.send(chat, "Message 2")
        assert here.run_jobs() == ["summary"]
        asked = here.model.calls[-1].messages[1]["content"]
        assert [f"User: Message {n}" in asked for n in range(3)] == [True] * 3
        assert asked.index("Message 0") < asked.index("Message 2")
        here.ada.send(chat, "Message 3")
        assert here.turns[-1].summary == "They spoke of cats."
        assert here.run_jobs() == ["summary"]
        asked = here.model.calls[-1].messages[1]["content"]
        assert asked.startswith("Summary so far: They spoke of cats.")
        assert "Message 2" not in asked
        assert here.turns[0].summary == ""


def test_notes_are_kept_on_the_user_across_chats_and_are_the_users_to_forget(tmp_path: Path) -> None:
    with site(tmp_path, "memory") as here:
        here.ada.send(here.ada.new_chat(), "I like cats")
        assert here.turns[-1].memory == ()
        assert here.run_jobs() == ["memory"]
        here.ada.send(here.ada.new_chat(), "Hello")
        assert here.turns[-1].memory == ("Likes cats", "Is nine")
        assert here.ada.get("/v1/memory").get_json()["notes"] == ["Likes cats", "Is nine"]
        bob = sign_in(here.app, "bob")
        bob.send(bob.new_chat(), "Hello")
        assert here.turns[-1].memory == ()
        assert bob.get("/v1/memory").get_json() == {"notes": [], "updated_at": None}
        here.model.said["notes"] = "NONE"
        here.run_jobs()
        assert here.ada.get("/v1/memory").get_json()["notes"] == ["Likes cats", "Is nine"]
        assert here.ada.delete("/v1/memory").status_code == 204
        here.ada.send(here.ada.new_chat(), "Hello")
        assert here.turns[-1].memory == ()


def test_what_was_forgotten_while_the_model_thought_does_not_come_back(tmp_path: Path) -> None:
    with site(tmp_path, "memory") as here:
        store, chat = here.services.store, here.ada.new_chat()
        store.commit([Set(ADA.memory(), {"notes": ["Likes cats"]})])
        here.ada.send(chat, "I am nine")
        here.model.during = lambda: store.commit([Delete(ADA.memory())])
        here.run_jobs()
        assert here.ada.get("/v1/memory").get_json()["notes"] == ["Is nine"]


def test_two_chats_at_once_lose_no_note(tmp_path: Path) -> None:
    with site(tmp_path, "memory") as here:
        here.ada.send(here.ada.new_chat(), "I am nine")
        here.model.during = lambda: here.services.store.commit([Set(ADA.memory(), {"notes": ["Sings"]})])
        here.run_jobs()
        assert here.ada.get("/v1/memory").get_json()["notes"] == ["Sings", "Likes cats", "Is nine"]


def test_a_job_of_the_app_is_none_of_these(tmp_path: Path) -> None:
    with site(tmp_path, "memory") as here:
        job = here.services.jobs.enqueue(Scope("demo"), MEMORY, AnsweredChat(chat_id="c", question="r-u", answer="r-a"))
        assert here.app.runner is not None
        here.app.runner.run(job.id)
        ended = here.services.jobs.find(job.id)
        assert ended is not None
        assert ended.state == "dead"


@pytest.mark.parametrize("said", ["", "   ", '""'])
def test_a_title_of_nothing_is_none(tmp_path: Path, said: str) -> None:
    with site(tmp_path, "titles") as here:
        here.model.said["title"] = said
        chat = here.ada.new_chat()
        here.ada.send(chat, "Tell me of cats")
        here.run_jobs()
        assert here.chat(chat)["title"] == "Tell me of cats"


def test_a_jobs_model_calls_are_paid_by_its_own_user_alone(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        own = here.services.within(ADA).llm
        assert own.complete([{"role": "user", "content": "x"}], scope=ADA).data == "Well."
        with pytest.raises(ScopeViolation):
            own.complete([{"role": "user", "content": "x"}], scope=Scope("demo", "bob"))


def test_an_answer_that_is_made_anew_is_followed_like_the_first(tmp_path: Path) -> None:
    with site(tmp_path, "memory") as here:
        message = {"id": "q1", "role": "user", "parts": [{"type": "text", "text": "I like cats"}]}
        body = {"id": "chat1", "messages": [message], "trigger": "submit-message"}
        assert here.ada.post("/v1/chat", body).status_code == 200
        assert here.run_jobs() == ["memory"]
        again = here.ada.post("/v1/chat", {**body, "trigger": "regenerate-message"})
        assert again.status_code == 200
        again.get_data()
        assert here.run_jobs() == ["memory"]
        assert "User: I like cats" in here.model.calls[-1].messages[1]["content"]
