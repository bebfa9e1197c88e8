"""Whatever became of a chat's earlier turns, its next prompt has the user's and the assistant's messages in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from firelaunch.llm.types import Chunk, Message
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.chat_rules import template_refusal
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn
from hypothesis import given, settings
from hypothesis import strategies as st

OUTCOMES: dict[str, Any] = {
    "answered": Reply(),
    "cut": Reply(("Hello", " from"), finish="length"),
    "broken off": Reply(cut_after=2),
    "filtered": Reply((), finish="content_filter"),
    "empty": Reply((), finish="length"),
    "refused": Fault(400),
    "unusable": Fault(401),
}


def fails_seldom(outcomes: list[str]) -> bool:
    """Whether the provider fails less often than the gateway takes before it leaves the model alone."""
    return sum(outcome in {"broken off", "unusable"} for outcome in outcomes) < 5


def answer(turn: Turn) -> Iterator[Chunk]:
    messages: list[Message] = [
        {"role": "system", "content": "You are Demo."},
        *turn.history,
        {"role": "user", "content": turn.text},
    ]
    yield from turn.llm.stream(messages)


def greeting(turn: Turn) -> Iterator[Chunk]:
    turn.history.insert(0, {"role": "assistant", "content": "How can I help?"})
    yield from answer(turn)


@settings(max_examples=25)
@given(
    outcomes=st.lists(st.sampled_from(list(OUTCOMES)), max_size=8).filter(fails_seldom),
    most=st.integers(0, 6),
    greets=st.booleans(),
)
def test_a_server_whose_template_insists_on_turns_takes_the_next_prompt(
    outcomes: list[str], most: int, *, greets: bool
) -> None:
    with TemporaryDirectory() as folder, ModelServer() as model:
        toml = SETTINGS.replace("[limits]", f"[limits]\nhistory_messages = {most}").replace(
            'fallback = ["gpt-5-mini"]', "fallback = []"
        )
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        services = build(Settings.load(write_app(Path(folder), toml), environ))
        app = App("test")
        init_app(app, services, greeting if greets else answer)
        ada = sign_in(app, "ada")
        chat = ada.new_chat()
        model.refusal = template_refusal
        for number, outcome in enumerate(outcomes):
            model.script = [OUTCOMES[outcome]]
            ada.send(chat, f"Question {number}")
        assert ada.send(chat, "And now?").status_code == 200
        (system, *spoken) = model.requests[-1]["messages"]
        assert system == {"role": "system", "content": "You are Demo."}
        assert spoken[-1]["content"].endswith("And now?")
        services.store.close()


@pytest.mark.parametrize("roles", ["user user", "assistant user", "user assistant", "user system user"])
def test_that_servers_template_refuses_what_is_not_in_turn(roles: str) -> None:
    request = {"messages": [{"role": role, "content": "x"} for role in roles.split()]}
    assert template_refusal(request) is not None
