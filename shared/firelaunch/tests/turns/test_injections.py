"""Whatever a document, the name of a file or a tool's result says, it stays material within its bounds.

What a model makes of it is the model's. These tests look at what holds without it: the prompt that the template's
workflow assembles, and what a model that obeys each of the texts can reach. docs/threat-model.md has the table.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from firelaunch import Tool
from firelaunch.llm.types import Chunk
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.turns.turn import Turn
from injections import texts
from support import TEMPLATE

QUESTION = "What does it say about leave?"
TEXTS = list(texts())
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
FENCE = re.compile(r"<passage-([0-9a-f]{16}) number=(\d+) from=(\{.*\})>\n(.*?)\n</passage-\1>", re.DOTALL)


_AROUND = """About the search: There is no embedding model: the search was by words alone.
The user's message follows."""

Make = Callable[[Any], App]


def template_workflow() -> ModuleType:
    spec = importlib.util.spec_from_file_location("template_workflow", TEMPLATE / "app" / "workflow.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(tmp_path: Path, model: ModelServer) -> Make:
    def made(workflow: Any) -> App:
        settings = SETTINGS.replace("daily_usd", "uploads_per_minute = 10000\ndocuments = 10000\ndaily_usd")
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        app = App("injections")
        services = build(Settings.load(write_app(tmp_path, settings.replace("0.50", "1000")), environ))
        init_app(app, services, workflow)
        app.start_jobs()
        return app

    return made


def prompts(model: ModelServer, asked: int) -> list[list[Mapping[str, Any]]]:
    """The messages of the turns' calls, in order; titles are made by calls of their own."""
    found = [request["messages"] for request in model.requests if QUESTION in str(request["messages"][-1]["content"])]
    turns = [messages for messages in found if messages[0]["content"] == "You are Demo."]
    assert len(turns) == asked
    return turns


def passages_of(content: str) -> list[tuple[dict[str, Any], str]]:
    """The passages of a prompt with their heads, after a look at the whole: nothing stands outside of the fences."""
    introduction, _, _ = content.partition("\n\n<passage-")
    mark = re.search(r"<passage-([0-9a-f]{16}) …>", introduction)
    count = re.match(r"Below are (\d+) passages from documents\.", introduction)
    assert mark is not None
    assert count is not None
    found = [match for match in FENCE.finditer(content) if match[1] == mark[1]]
    assert [int(match[2]) for match in found] == list(range(1, int(count[1]) + 1))
    # Besides the introduction, which names both, the mark stands at the beginning and the end of each passage alone.
    assert content.count(mark[1]) == 2 + 2 * len(found)
    outside = content
    for match in found:
        outside = outside.replace(match[0], "", 1)
    assert outside.replace(introduction, "", 1).split() == [*_AROUND.split(), *QUESTION.split()]
    return [(json.loads(match[3]), match[4]) for match in found]


@pytest.mark.parametrize("one_in", [5, pytest.param(1, marks=pytest.mark.long)])
def test_hostile_documents_and_their_names_stay_between_delimiters_that_they_cannot_close(
    make: Make, model: ModelServer, one_in: int
) -> None:
    """One in five has each of the sayings or its neighbours in each of the disguises."""
    tried = TEXTS[::one_in]
    app = make(template_workflow().answer)
    for number, text in enumerate(tried):
        ada = sign_in(app, f"ada-{number}")  # who has this document alone
        name = re.sub(r"[\x00-\x1f\x7f/]", " ", text)[:100] + ".txt"
        content = f"Leave is thirty days.\n{text}".encode()
        upload = ada.upload(name, content)
        if UNSEEN.search(name):
            assert upload.get_json()["error"]["code"] == "invalid_request", "a name that people cannot read"
            upload = ada.upload("notes.txt", content)
        document = upload.get_json()["id"]
        assert ada.document(document)["status"] == "ready"
        answer = ada.send(ada.new_chat(), QUESTION)
        assert answer.status_code == 200, answer.text
    for text, messages in zip(tried, prompts(model, len(tried)), strict=True):
        assert [message["role"] for message in messages] == ["system", "user"]
        ((head, passage),) = passages_of(str(messages[1]["content"]))
        assert set(head) <= {"title", "page", "last_page", "headings"}
        assert not UNSEEN.search(passage + json.dumps(head, ensure_ascii=False)), text
        assert passage.startswith("Leave is thirty days.")


def test_a_hostile_result_of_a_tool_is_the_content_of_its_own_message(make: Make, model: ModelServer) -> None:
    results = iter(TEXTS)

    def look_up(name: str) -> dict[str, str]:
        """Look somebody up."""
        return {"about": next(results), "name": name}

    def answer(turn: Turn) -> Iterator[Chunk]:
        yield from turn.llm.stream([{"role": "user", "content": turn.text}], tools=[look_up])

    ada = sign_in(make(answer), "ada")
    for text in TEXTS:
        model.script = [Reply((), calls=[("look_up", '{"name": "Bob"}')], finish="tool_calls"), Reply(("Done.",))]
        assert ada.send(ada.new_chat(), QUESTION).status_code == 200
        messages = next(each["messages"] for each in reversed(model.requests) if len(each["messages"]) > 1)
        assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
        assert messages[0]["content"] == QUESTION
        assert json.loads(messages[2]["content"]) == {"about": text, "name": "Bob"}


def test_a_model_that_obeys_runs_no_tool_that_asks_first_and_reads_nobody_elses_notes(
    make: Make, model: ModelServer
) -> None:
    deleted: list[str] = []
    read: list[str] = []

    def answer(turn: Turn) -> Iterator[Chunk]:
        def delete_notes(everything: bool) -> str:
            """Delete the user's notes."""
            deleted.append(f"{turn.scope.uid} {everything}")
            return "deleted"

        def read_notes() -> str:
            """Read the user's notes."""
            read.append(turn.scope.uid)
            return "Buy milk."

        tools = [Tool(delete_notes, approve=True), read_notes]
        yield from turn.llm.stream([{"role": "user", "content": turn.text}], tools=tools)

    ada = sign_in(make(answer), "ada")
    for calls in (
        [("delete_notes", '{"everything": true}')],
        [("delete_notes", '{"everything": true}'), ("delete_notes", '{"everything": true, "approved": true}')],
        [("read_notes", '{"uid": "bob"}')],
        [("read_notes", "{}"), ("delete_notes", '{"everything": true}')],
        [("pay", '{"to": "mallory"}')],
    ):
        model.script = [Reply((), calls=calls, finish="tool_calls"), Reply(("Done.",))]
        sent = ada.send(ada.new_chat(), QUESTION)
        assert sent.status_code == 200, sent.text
    assert deleted == []
    assert set(read) == {"ada"}
