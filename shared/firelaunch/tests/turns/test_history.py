"""The history that a model is shown: the latest messages, beginning alike from turn to turn."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from firelaunch.testing.apps import SETTINGS, sign_in
from firelaunch.testing.models import ModelServer


@pytest.mark.parametrize("most", [0, 1, 2, 7, 12])
def test_a_long_chats_prompts_begin_alike_and_hold_the_latest_messages(
    make_app: Any, model: ModelServer, most: int
) -> None:
    settings = SETTINGS.replace("[limits]", f"[limits]\nhistory_messages = {most}")
    ada = sign_in(make_app(settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chat = ada.new_chat()
    said: list[str] = []
    for number in range(20):
        ada.send(chat, f"Question {number}")
        history = [message["content"] for message in model.requests[-1]["messages"][1:-1]]
        assert len(history) <= most
        assert history == said[len(said) - len(history) :]
        assert len(history) >= min(len(said), most - most // 2 - 1)
        assert not history or history[0].startswith("Question")
        said += [f"Question {number}", "Hello from the model."]
    prompts = [request["messages"] for request in model.requests]
    alike = [later[: len(earlier)] == earlier for earlier, later in pairwise(prompts)]
    if most == 12:
        assert alike.count(True) >= len(alike) * 2 // 3
