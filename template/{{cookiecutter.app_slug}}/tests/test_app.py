"""What the app does for those who call it."""

import warnings
from datetime import UTC, datetime
from pathlib import Path

from firelaunch import App, Settings
from firelaunch.testing.apps import User, events, model_warnings, sign_in
from firelaunch.testing.models import ModelServer

from app import ROOT, create_app


def test_a_message_is_answered_kept_and_counted(ada: User) -> None:
    chat = ada.new_chat()
    answer = ada.send(chat, "What is firelaunch?").get_json()
    assert "What is firelaunch?" in answer["message"]["text"]
    kept = ada.get(f"/v1/chats/{chat}").get_json()["messages"]
    assert [m["role"] for m in kept] == ["user", "assistant"]
    assert ada.get("/v1/usage").get_json()["requests"] == 1


def test_a_streamed_answer_comes_in_pieces_and_ends_whole(ada: User) -> None:
    chat = ada.new_chat()
    pieces = list(events(ada.stream(chat, "Tell me more")))
    assert [name for name, _ in pieces][:1] == ["start"]
    assert pieces[-1][0] == "done"
    text = "".join(data["text"] for name, data in pieces if name == "delta")
    assert text == pieces[-1][1]["message"]["text"]


def test_a_chat_is_there_for_its_owner_alone(app: App, ada: User) -> None:
    chat = ada.new_chat()
    bob = sign_in(app, "bob")
    assert bob.get(f"/v1/chats/{chat}").status_code == 404
    assert bob.send(chat, "Let me in").status_code == 404
    assert ada.get(f"/v1/chats/{chat}").status_code == 200


def test_nobody_is_answered_without_signing_in(app: App) -> None:
    assert app.test_client().post("/v1/chats", json={}).status_code == 401


def test_the_model_is_told_its_instructions_what_was_said_and_what_is_asked(tmp_path: Path) -> None:
    with ModelServer() as model:
        app = create_app(
            {"FIRELAUNCH_DATA": str(tmp_path), "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": model.base_url}
        )
        ada = sign_in(app, "ada")
        chat = ada.new_chat()
        for text in ("First question", "Second question"):
            answer = ada.send(chat, text)
            assert answer.status_code == 200, answer.get_json()
    told = model.requests[-1]["messages"]
    assert [m["role"] for m in told] == ["system", "user", "assistant", "user"]
    assert app.info.title in told[0]["content"]
    assert told[1]["content"] == "First question"
    assert told[-1]["content"] == "Second question"


def test_models_that_end_soon_are_named_in_the_summary_and_break_no_build() -> None:
    """It passes whatever is said; pytest shows the warnings in its summary."""
    settings = Settings.load(ROOT / "firelaunch.toml", {})
    for said in model_warnings(settings, datetime.now(UTC).date()):
        warnings.warn(said, stacklevel=1)
