"""Start an app for ``firelaunch eval``, upload its ``evals/documents``, and ask its questions."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import click

from ..evals.answers import CheckedAnswer, EvalQuestion, FoundPassage, check_answers, load_questions
from ..evals.judge import Judge
from ..evals.retrieval import Progress
from .apps import load_settings
from .client import Client
from .running import served
from .serve import free_port

__all__ = ["evaluate_answers"]

_READY_SECONDS = 600.0


def evaluate_answers(
    folder: Path, scratch: Path, progress: Progress, repeats: int = 1, judge: Judge | None = None
) -> dict[str, Any]:
    """Ask the app in ``folder`` its questions, and return the report.

    Args:
        scratch: the folder for the app's data meanwhile.
        repeats: how often each question is asked.
        judge: says whether each answer is faithful; None for no verdicts.

    Raises:
        ClickException: the app does not start, or answers with an error.
        CollectionError: its ``evals`` are not valid.
        SettingsError: its settings are not valid.
    """
    questions, documents = load_questions(folder / "evals")
    app_id = load_settings(str(folder)).app.id
    with served(folder, app_id, free_port(None, usual=0), scratch) as (client, _):
        model = client.get("/ready")["model"]
        _upload(client, documents, progress)
        numbers = itertools.count()

        def ask(question: EvalQuestion) -> CheckedAnswer:
            # Each question has its own user, so that no plan's limits get in the way.
            client.token = client.post("/dev/token", {"uid": f"eval-{next(numbers)}"})["token"]
            chat = client.post("/v1/chats", {})["id"]
            for text in (*question.before, question.ask):
                message = client.post(f"/v1/chats/{chat}/messages", {"text": text})["message"]
            return CheckedAnswer(message["text"], [each["title"] for each in message["citations"]])

        def search(text: str) -> list[FoundPassage]:
            passages = client.post("/v1/search", {"query": text})["passages"]
            return [FoundPassage(each["title"], each["text"]) for each in passages]

        return check_answers(
            app_id, model, questions, len(documents), ask, progress, search=search, repeats=repeats, judge=judge
        )


def _upload(client: Client, documents: list[Path], progress: Progress) -> None:
    """Upload the documents into the library, which all users search, and wait until they are ready."""
    client.token = client.post("/dev/token", {"uid": "eval", "role": "admin"})["token"]
    waiting = [client.upload("/v1/uploads", path.name, path.read_bytes(), library="true")["id"] for path in documents]
    give_up = time.monotonic() + _READY_SECONDS
    while waiting:
        state = client.get(f"/v1/documents/{waiting[0]}?library=true")
        if state["status"] == "failed":
            raise click.ClickException(f"{state['name']} could not be read: {state['error']['message']}")
        if state["status"] == "ready":
            waiting.pop(0)
            progress("indexing", len(documents) - len(waiting), len(documents))
        elif time.monotonic() > give_up:
            raise click.ClickException(f"{state['name']} was not ready after {_READY_SECONDS:.0f} s.")
        else:
            time.sleep(0.05)
