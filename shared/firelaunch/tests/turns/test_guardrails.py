"""Guardrails: what is refused before a model is asked, what is withheld after, and what neither errors nor logs say."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch.errors import ContentRefused, SettingsError
from firelaunch.llm.types import Chunk
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.telemetry import CONTENT, configure_logs
from firelaunch.testing.apps import SETTINGS, User, events, sign_in, write_app
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.guardrails import checked, no_email, no_secret, not_quoting
from firelaunch.turns.turn import Turn
from hypothesis import given
from hypothesis import strategies as st

MODERATED = SETTINGS + '\n[guardrails]\nmoderation = "openai"\n'
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def used(user: User) -> tuple[int, int, int]:
    usage = user.get("/v1/usage").get_json()
    return usage["requests"], usage["cost_micro_usd"], usage["reserved_micro_usd"]


def test_a_message_that_moderation_flags_reaches_no_model_and_costs_nothing(make_app: Any, model: ModelServer) -> None:
    model.flagged = {"hateful"}
    ada = sign_in(make_app(MODERATED, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chat = ada.new_chat()
    assert code(ada.send(chat, "something hateful")) == (422, "content_refused")
    *_, (name, data) = events(ada.stream(chat, "hateful again"))
    assert (name, data["error"]["code"]) == ("error", "content_refused")
    told = {"type": "object", "properties": {"a": {"type": "string", "description": "a hateful poem"}}}
    for body in ({"text": "hateful", "schema": SCHEMA}, {"text": "Hello", "schema": told}):
        assert code(ada.post("/v1/extract", body)) == (422, "content_refused")
    text = "data:text/plain;base64," + b64encode(b"a hateful file").decode()
    hidden = {"text": "Hello", "files": [{"url": text}]}
    assert code(ada.post(f"/v1/chats/{ada.new_chat()}/messages", hidden)) == (422, "content_refused")
    assert model.requests == []
    assert used(ada) == (5, 0, 0)
    assert ada.send(chat, "Hello").status_code == 200
    assert [text.splitlines()[0] for text in model.moderated] == [
        "something hateful", "hateful again", "hateful", "Hello", "Hello", "Hello",
    ]  # fmt: skip


def test_what_cannot_be_moderated_does_not_pass(make_app: Any, model: ModelServer) -> None:
    model.default = Fault(500)
    ada = sign_in(make_app(MODERATED, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    assert code(ada.send(ada.new_chat(), "Hello")) == (503, "model_unavailable")
    model.default = Fault(200, body='{"results": []}')
    assert code(ada.send(ada.new_chat(), "Hello")) == (503, "model_unavailable")
    assert model.requests == []


def test_in_the_cloud_moderation_without_a_key_does_not_start_and_on_a_laptop_nobody_is_asked(
    make_app: Any, tmp_path: Any
) -> None:
    vertex = MODERATED.replace('provider = "openai"', 'provider = "vertex"').replace(
        "[models.openai]", "[models.vertex]"
    )
    path = write_app(tmp_path / "other", vertex)
    with pytest.raises(SettingsError, match=r"guardrails\.moderation"):
        Settings.load(path, {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345"})
    ada = sign_in(make_app(MODERATED), "ada")
    assert ada.send(ada.new_chat(), "Hello").status_code == 200


def test_an_app_may_bring_its_own_moderation(tmp_path: Any, model: ModelServer) -> None:
    def moderate(text: str) -> None:
        if "tea" not in text:
            raise ContentRefused("We talk about tea alone.")

    chosen = Settings.load(write_app(tmp_path), {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url})
    services = build(chosen, moderate=moderate)
    app = App("test")
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    refused = ada.send(chat, "coffee?")
    assert code(refused) == (422, "content_refused")
    assert refused.get_json()["error"]["message"] == "We talk about tea alone."
    assert ada.send(chat, "tea?").status_code == 200
    services.store.close()


INSTRUCTIONS = "You are Demo, the assistant of a shop. Never tell anyone the wholesale price, which is 12 euros a box."


def careful(turn: Turn) -> Iterator[Chunk]:
    messages: Any = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": turn.text}]
    yield from checked(turn.llm.stream(messages), no_email, no_secret, not_quoting(INSTRUCTIONS))


@pytest.mark.parametrize(
    "said",
    [
        ["Write to ", "ada@exam", "ple.com."],
        ["The key is ", "sk-", "abcdefgh12345678"],
        [
            "I was told: ",
            "the assistant of a SHOP.\nNever tell anyone the wholesale price,",
            " which is 12 euros a box",
        ],
    ],
)
def test_an_answer_that_a_check_finds_fault_with_is_paid_and_shown_to_nobody(
    make_app: Any, model: ModelServer, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(answer=careful, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    model.default = Reply(said)
    whole = ada.send(chat, "Hello")
    assert code(whole) == (502, "answer_withheld")
    streamed = list(events(ada.stream(chat, "Hello")))
    assert [name for name, _ in streamed] == ["start", "error"]
    kept = ada.get(f"/v1/chats/{chat}").get_json()["messages"]
    assert [message["role"] for message in kept] == ["user", "user"]
    assert used(ada)[1] > 0
    log = capsys.readouterr().err
    for piece in said:
        assert piece.strip() not in whole.get_data(as_text=True) + str(streamed) + str(kept) + log


def test_an_answer_that_passes_its_checks_comes_whole(make_app: Any, model: ModelServer) -> None:
    app = make_app(answer=careful, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    streamed = list(events(ada.stream(ada.new_chat(), "Hello")))
    assert "".join(data["text"] for name, data in streamed if name == "delta") == "Hello from the model."


@given(text=st.text(alphabet="abc .,", max_size=200), prompt=st.text(alphabet="abc .,", min_size=3, max_size=120))
def test_an_answer_that_holds_the_whole_prompt_is_always_found(text: str, prompt: str) -> None:
    if prompt.strip(" .,"):
        assert not_quoting(prompt)(f"{text} {prompt} {text}") is not None


SECRETS = [
    "my private words",
    "ada.lovelace@example.com",
    "system words of ours",
    "provider words",
    "sk-very-secret-key",
]
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
ECHO = json.dumps({"error": {"message": " ".join(SECRETS), "type": "x", "param": "messages", "code": "bad_thing"}})


def provoke(app: Any, model: ModelServer) -> str:
    """Everything that goes wrong, with private words in each place; returns what the client was answered."""
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    text = f"{SECRETS[0]} {SECRETS[1]} {TOKEN}"
    told = []
    for action in (
        Reply(["An answer."]), Reply(["An answer."], finish="length"),
        Fault(400, body=ECHO), Fault(401, body=ECHO), Fault(500, body=ECHO), Fault(200, body=ECHO), Fault(0),
        Fault(200, body="provider words", content_type="text/html"), Reply(cut_after=1), Reply(error_after=1),
    ):  # fmt: skip
        model.default = action
        told += [ada.send(chat, text).get_data(as_text=True), ada.stream(chat, text).get_data(as_text=True)]
        told.append(ada.post("/v1/extract", {"text": text, "schema": SCHEMA}).get_data(as_text=True))
    ada.get(f"/v1/chats/{SECRETS[1]}")
    ada.client.get("/v1/me", headers={"Authorization": f"Bearer {TOKEN}"})
    return "".join(told)


def broken(turn: Turn) -> Iterator[Chunk]:
    system = turn.prompt("chat", app_name=turn.app.name)
    messages: Any = [{"role": "system", "content": system}, {"role": "user", "content": turn.text}]
    yield from turn.llm.stream(messages)
    try:
        raise KeyError(turn.text)
    except KeyError as error:
        raise ValueError(f"{system} {turn.text}") from error


def secretive(make_app: Any, model: ModelServer, tmp_path: Any, more: str = "") -> Any:
    write_app(tmp_path / "app")
    settings = SETTINGS.replace("chat = 1", "chat = 2").replace("[limits]", "[limits]\nrequest_seconds = 1") + more
    (tmp_path / "app" / "app" / "prompts" / "chat@2.md").write_text("system words of ours, ${app_name}")
    return make_app(settings, answer=broken, OPENAI_API_KEY="sk-very-secret-key", OPENAI_BASE_URL=model.base_url)


def test_neither_logs_nor_errors_hold_contents_addresses_keys_tokens_or_the_prompt(
    make_app: Any, model: ModelServer, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    app = secretive(make_app, model, tmp_path)
    configure_logs(structured=False)  # as it is deployed: a laptop's log has what mistakes in code say
    told = provoke(app, model)
    log = capsys.readouterr().err
    assert "bad_thing" in log  # the provider's code is there
    assert "ValueError" in log  # a traceback names the type of each exception, and says nothing of its text
    assert "The above exception was the direct cause of the following exception:" in log
    for secret in (*SECRETS, TOKEN, TOKEN.split(".")[1]):
        assert secret not in log, secret
    for secret in SECRETS[2:]:
        assert secret not in told, secret


def test_contents_are_logged_where_the_settings_say_so_and_keys_even_then_are_not(
    make_app: Any, model: ModelServer, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    app = secretive(make_app, model, tmp_path, "\n[logs]\ncontent = true\n")
    provoke(app, model)
    log = capsys.readouterr().err
    for content in SECRETS[:4]:
        assert content in log, content
    for secret in (SECRETS[4], TOKEN, TOKEN.split(".")[1]):
        assert secret not in log, secret


def test_a_prompt_that_cannot_be_filled_in_is_not_told_to_clients(
    make_app: Any, model: ModelServer, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_app(tmp_path / "app")
    (tmp_path / "app" / "app" / "prompts" / "chat@2.md").write_text("system words of ours, ${secret_place}")
    settings = SETTINGS.replace("chat = 1", "chat = 2")
    app = make_app(settings, answer=broken, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    told = ada.send(chat, "Hi").get_data(as_text=True) + ada.stream(chat, "Hi").get_data(as_text=True)
    assert "secret_place" not in told
    assert "chat@2" not in told
    assert "secret_place" in capsys.readouterr().err


@pytest.mark.parametrize("structured", [False, True])
def test_what_looks_like_a_key_or_an_address_is_taken_out_of_any_line(
    structured: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(structured=structured, project="p")
    log = logging.getLogger("firelaunch.server.app")
    made_up = [
        "sk-proj-abcdefgh12345678", "sk_live_abcdefgh12345678", "AIzaSyA1234567890abcdefghij", "ya29.a0AfH6SMB-x.y",
        "Bearer abcdefgh.ijkl==", TOKEN, "someone+x@mail.example.com",
    ]  # fmt: skip
    log.info("seen: %s", " | ".join(made_up))
    try:
        raise RuntimeError(" ".join(made_up))
    except RuntimeError:
        log.exception("broke")
    CONTENT.info("content")
    said = capsys.readouterr().err
    for secret in made_up:
        assert secret not in said
    assert "RuntimeError" in said
    assert "content" not in said
