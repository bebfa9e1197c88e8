"""A workflow that gives something else than chunks fails with an error that names it, and the mend."""

from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch import Chunk, Turn
from firelaunch.testing.apps import SETTINGS, sign_in


def yields_text(turn: Turn) -> Iterator[Any]:
    yield Chunk("I say ")
    yield "hello, secretly"


def returns_text(turn: Turn) -> Any:
    return "hello, secretly"


def returns_nothing(turn: Turn) -> Any:
    """Lacks a yield."""


CASES = [
    (yields_text, "yielded a value of type str"),
    (returns_text, "returned a value of type str"),
    (returns_nothing, "returned None"),
]
MORE = {"": SETTINGS, "logged": SETTINGS + "\n[logs]\ncontent = true\n"}


@pytest.mark.parametrize(("workflow", "did"), CASES, ids=lambda case: getattr(case, "__name__", ""))
@pytest.mark.parametrize("settings", MORE.values(), ids=MORE)
def test_what_is_no_chunk_is_an_error_that_names_the_workflow_and_the_mend(
    make_app: Any, workflow: Any, did: str, settings: str, caplog: pytest.LogCaptureFixture
) -> None:
    ada = sign_in(make_app(settings, answer=workflow), "ada")
    answered = ada.send(ada.new_chat(), "Hello")
    assert (answered.status_code, answered.get_json()["error"]["code"]) == (500, "internal")
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    [said] = [str(error) for error in errors if type(error) is TypeError]
    assert said.startswith(f"the workflow {workflow.__name__}, turns/test_chunks.py, line ")
    assert said.endswith(f"{did}: yield the answer in chunks, as in yield Chunk(text)")
    assert "secretly" not in said
