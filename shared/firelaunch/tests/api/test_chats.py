"""The boring loop over HTTP: chats, messages, answers as JSON and as a stream."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.clocks import half_past_noon
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, User, events, sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply

COST = 10 * 750 + 4 * 4500
"""Micro-dollars a thousand of the model server's default answer: gpt-5.4-mini at $0.75 and $4.50 per million."""


@pytest.fixture
def ada(model_app: App) -> User:
    return sign_in(model_app, "ada")


def texts(user: User, chat: str) -> list[tuple[str, str]]:
    return [(m["role"], m["text"]) for m in user.get(f"/v1/chats/{chat}").get_json()["messages"]]


def usage(user: User) -> dict[str, Any]:
    found: dict[str, Any] = user.get("/v1/usage").get_json()
    return found


def test_a_message_is_answered_stored_and_billed(ada: User, model: ModelServer) -> None:
    chat = ada.new_chat()
    answer = ada.send(chat, "Hello?").get_json()
    assert answer["message"]["text"] == "Hello from the model."
    assert answer["message"]["status"] == "complete"
    assert answer["usage"]["cost_micro_usd"] == -(-COST // 1000)
    assert texts(ada, chat) == [("user", "Hello?"), ("assistant", "Hello from the model.")]
    asked, answered = ada.get(f"/v1/chats/{chat}").get_json()["messages"]
    assert (asked.get("usage"), answered["usage"]) == (None, answer["usage"])
    spent = usage(ada)
    assert (spent["requests"], spent["input_tokens"], spent["output_tokens"]) == (1, 10, 4)
    assert (spent["cost_micro_usd"], spent["reserved_micro_usd"]) == (-(-COST // 1000), 0)
    assert model.authorizations == ["Bearer test-key"]


def test_the_model_is_told_the_prompt_and_what_was_said_before(ada: User, model: ModelServer) -> None:
    chat = ada.new_chat()
    ada.send(chat, "One")
    ada.send(chat, "Two")
    said = [(m["role"], m["content"]) for m in model.requests[1]["messages"]]
    answer = ("assistant", "Hello from the model.")
    assert said == [("system", "You are Demo."), ("user", "One"), answer, ("user", "Two")]
    assert model.requests[1]["max_completion_tokens"] == 100


def test_a_stream_sends_each_piece_and_ends_with_the_stored_answer(ada: User) -> None:
    chat = ada.new_chat()
    response = ada.stream(chat, "Hello?")
    assert response.mimetype == "text/event-stream"
    seen = list(events(response))
    names = [name for name, _ in seen]
    assert (names[0], set(names[1:-1]), names[-1]) == ("start", {"delta"}, "done")
    assert "".join(data["text"] for name, data in seen if name == "delta") == "Hello from the model."
    stored = ada.get(f"/v1/chats/{chat}").get_json()["messages"]
    assert seen[0][1]["user_message"] == stored[0]
    assert seen[-1][1]["message"] == stored[1]
    assert usage(ada)["cost_micro_usd"] == seen[-1][1]["usage"]["cost_micro_usd"] == -(-COST // 1000)


def test_the_first_piece_comes_before_the_model_has_ended(model_app: App, model: ModelServer) -> None:
    ada = sign_in(model_app, "ada")
    model.default = Reply(words=["one", "two"] + ["x"] * 200, pace=0.05)
    stream = events(ada.stream(ada.new_chat(), "Hello?"))
    assert [next(stream)[0] for _ in range(3)] == ["start", "delta", "delta"]
    stream.close()  # type: ignore[attr-defined]


def test_where_the_settings_say_so_a_client_that_leaves_ends_the_model_call_and_keeps_and_pays_what_was_said(
    make_app: Any, model: ModelServer
) -> None:
    settings = SETTINGS.replace("[limits]", '[limits]\non_disconnect = "stop"')
    ada = sign_in(make_app(settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    model.default = Reply(words=["word "] * 400, pace=0.02)
    chat = ada.new_chat()
    response = ada.stream(chat, "Talk")
    stream = events(response)
    for _ in range(4):
        next(stream)
    response.close()
    (_, _), (role, text) = texts(ada, chat)
    assert role == "assistant"
    assert text == "word " * 3
    message = ada.get(f"/v1/chats/{chat}").get_json()["messages"][1]
    assert message["status"] == "incomplete"
    spent = usage(ada)
    assert spent["reserved_micro_usd"] == 0
    assert spent["cost_micro_usd"] > 0
    for _ in range(100):
        if model.hung_up:
            break
        threading.Event().wait(0.02)
    assert model.hung_up == 1


def test_an_answer_whose_client_has_left_is_finished_kept_and_paid(ada: User, model: ModelServer) -> None:
    model.default = Reply(words=["word "] * 20, pace=0.02)
    chat = ada.new_chat()
    response = ada.stream(chat, "Talk")
    stream = events(response)
    for _ in range(4):
        next(stream)
    response.close()
    assert texts(ada, chat)[1] == ("assistant", "word " * 20)
    assert ada.get(f"/v1/chats/{chat}").get_json()["messages"][1]["status"] == "complete"
    spent = usage(ada)
    assert (spent["cost_micro_usd"], spent["reserved_micro_usd"]) == (-(-COST // 1000), 0)
    assert model.hung_up == 0


def test_an_answer_that_fails_after_its_client_has_left_is_kept_and_settled(ada: User, model: ModelServer) -> None:
    model.script = [Reply(words=["word "] * 20, pace=0.02, error_after=6)]
    chat = ada.new_chat()
    response = ada.stream(chat, "Talk")
    stream = events(response)
    for _ in range(3):
        next(stream)
    response.close()
    assert texts(ada, chat)[1] == ("assistant", "word " * 6)
    assert usage(ada)["reserved_micro_usd"] == 0


def test_the_title_is_the_first_message_unless_one_was_given(ada: User) -> None:
    chat = ada.new_chat()
    ada.send(chat, "What is  the\nweather " + "like " * 30)
    title = ada.get(f"/v1/chats/{chat}").get_json()["title"]
    assert title.startswith("What is the weather like")
    assert len(title) <= 60
    named = ada.post("/v1/chats", {"title": "Mine"}).get_json()["id"]
    ada.send(named, "Hello")
    assert ada.get(f"/v1/chats/{named}").get_json()["title"] == "Mine"


def test_chats_are_listed_by_their_latest_message_a_page_at_a_time(ada: User) -> None:
    chats = [ada.new_chat() for _ in range(5)]
    ada.send(chats[1], "Now the first")
    expected = [chats[1], *reversed([c for c in chats if c != chats[1]])]
    seen: list[str] = []
    cursor = ""
    while True:
        page = ada.get(f"/v1/chats?limit=2{cursor}").get_json()
        seen += [chat["id"] for chat in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == expected


def test_a_chat_shows_its_latest_messages_and_leads_to_the_earlier_ones(ada: User) -> None:
    chat = ada.new_chat()
    for number in range(3):
        ada.send(chat, f"message {number}")
    first = ada.get(f"/v1/chats/{chat}?limit=4").get_json()
    assert [m["text"] for m in first["messages"] if m["role"] == "user"] == ["message 1", "message 2"]
    rest = ada.get(f"/v1/chats/{chat}?limit=4&cursor={first['next_cursor']}").get_json()
    assert [m["text"] for m in rest["messages"] if m["role"] == "user"] == ["message 0"]
    assert rest["next_cursor"] is None
    assert first["message_count"] == 6


def test_a_chat_is_renamed_and_archived(ada: User) -> None:
    chat = ada.new_chat()
    assert ada.patch(f"/v1/chats/{chat}", {"title": "New"}).get_json()["title"] == "New"
    changed = ada.patch(f"/v1/chats/{chat}", {"archived": True}).get_json()
    assert (changed["title"], changed["archived"]) == ("New", True)
    assert ada.patch(f"/v1/chats/{chat}", {}).status_code == 400


def test_a_deleted_chat_is_gone_with_its_messages(ada: User, model_app: App) -> None:
    chat = ada.new_chat()
    ada.send(chat, "Hello")
    assert ada.delete(f"/v1/chats/{chat}").status_code == 204
    for response in (ada.get(f"/v1/chats/{chat}"), ada.delete(f"/v1/chats/{chat}"), ada.send(chat, "x")):
        assert response.status_code == 404
    store = model_app.services.store  # type: ignore[attr-defined]
    assert store.delete_tree(store.scope.of("ada").chats()) == 0


def test_another_users_chat_is_not_there_for_any_verb(ada: User, model_app: App) -> None:
    chat = ada.new_chat()
    ada.send(chat, "Secret")
    bob = sign_in(model_app, "bob", role="admin")
    answers = [
        bob.get(f"/v1/chats/{chat}"),
        bob.patch(f"/v1/chats/{chat}", {"title": "Mine"}),
        bob.delete(f"/v1/chats/{chat}"),
        bob.send(chat, "Hello"),
        bob.stream(chat, "Hello"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 5
    assert {answer.get_json()["error"]["code"] for answer in answers} == {"not_found"}
    assert bob.get("/v1/chats").get_json()["items"] == []
    assert len(texts(ada, chat)) == 2


def test_a_repeated_send_gives_the_first_answer_and_bills_once(ada: User, model: ModelServer) -> None:
    chat = ada.new_chat()
    first = ada.send(chat, "Once", Idempotency_Key="key-1").get_json()
    second = ada.send(chat, "Once", Idempotency_Key="key-1").get_json()
    assert first == second
    streamed = list(events(ada.stream(chat, "Once", Idempotency_Key="key-1")))
    assert streamed[-1][1]["message"] == first["message"]
    assert len(model.requests) == 1
    assert len(texts(ada, chat)) == 2
    assert usage(ada)["requests"] == 1


def test_an_idempotency_key_belongs_to_its_body_and_its_user(ada: User, model_app: App) -> None:
    chat = ada.new_chat()
    ada.send(chat, "Once", Idempotency_Key="key-1")
    assert ada.send(chat, "Other", Idempotency_Key="key-1").status_code == 422
    assert ada.send(ada.new_chat(), "Once", Idempotency_Key="key-1").status_code == 422
    bob = sign_in(model_app, "bob")
    assert bob.send(bob.new_chat(), "Other", Idempotency_Key="key-1").status_code == 200
    for key in ("", "x" * 256, "é", "a\tb"):
        assert ada.send(chat, "x", Idempotency_Key=key).status_code == 400


def test_of_many_equal_sends_at_once_one_is_answered_and_billed(model_app: App, model: ModelServer) -> None:
    model.default = Reply(pace=0.05)
    ada = sign_in(model_app, "ada")
    chat = ada.new_chat()
    statuses: list[int] = []

    def send() -> None:
        user = User(model_app.test_client(), ada.token)
        statuses.append(user.send(chat, "Once", Idempotency_Key="key-1").status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(statuses)) in ([200], [200, 409])
    assert len(model.requests) == 1
    assert len(texts(ada, chat)) == 2
    assert usage(ada)["cost_micro_usd"] == -(-COST // 1000)


def test_a_send_that_failed_may_be_repeated_under_its_key_without_a_second_copy(ada: User, model: ModelServer) -> None:
    chat = ada.new_chat()
    model.script = [Fault(400)]
    failed = ada.send(chat, "Try", Idempotency_Key="key-1")
    assert (failed.status_code, failed.get_json()["error"]["code"]) == (502, "model_refused")
    assert texts(ada, chat) == [("user", "Try")]
    assert usage(ada)["reserved_micro_usd"] == 0
    assert ada.send(chat, "Try", Idempotency_Key="key-1").status_code == 200
    assert texts(ada, chat) == [("user", "Try"), ("assistant", "Hello from the model.")]
    assert ada.get(f"/v1/chats/{chat}").get_json()["message_count"] == 2


def test_a_stream_that_breaks_ends_with_an_error_and_keeps_what_was_said(ada: User, model: ModelServer) -> None:
    for reply in (Reply(cut_after=2), Reply(error_after=2)):
        model.script = [reply]
        chat = ada.new_chat()
        seen = list(events(ada.stream(chat, "Hello?")))
        names = [name for name, _ in seen]
        assert (names[0], set(names[1:-1]), names[-1]) == ("start", {"delta"}, "error")
        assert seen[-1][1]["error"]["code"] in {"model_unavailable", "model_failed"}
        assert texts(ada, chat)[1] == ("assistant", "Hello from")
        assert usage(ada)["reserved_micro_usd"] == 0


def test_an_answer_that_no_document_can_hold_is_an_error_and_is_billed(ada: User, model: ModelServer) -> None:
    model.default = Reply(words=["x" * 65_536] * 20)
    chat = ada.new_chat()
    *_, (name, data) = events(ada.stream(chat, "At length"))
    assert (name, data["error"]["code"]) == ("error", "store")
    assert texts(ada, chat) == [("user", "At length")]
    spent = usage(ada)
    assert (spent["reserved_micro_usd"], spent["cost_micro_usd"]) == (0, -(-COST // 1000))
    assert ada.get(f"/v1/chats/{chat}/stream").status_code == 204


def test_a_founders_error_in_the_workflow_is_a_500_that_settles(make_app: Any) -> None:
    def broken(turn: Any) -> Any:
        raise RuntimeError("secret detail")

    ada = sign_in(make_app(answer=broken), "ada")
    chat = ada.new_chat()
    response = ada.send(chat, "Hello")
    assert response.status_code == 500
    assert "secret" not in response.get_data(as_text=True)
    assert [name for name, _ in events(ada.stream(chat, "Hello"))] == ["start", "error"]
    assert usage(ada)["reserved_micro_usd"] == 0
    assert texts(ada, chat) == [("user", "Hello"), ("user", "Hello")]


def test_a_chat_deleted_while_it_is_answered_still_pays(ada: User, model: ModelServer) -> None:
    model.default = Reply(words=["a"] * 20, pace=0.02)
    chat = ada.new_chat()
    stream = events(ada.stream(chat, "Hello"))
    next(stream)
    next(stream)
    ada.delete(f"/v1/chats/{chat}")
    assert list(stream)[-1][0] == "done"
    assert ada.get(f"/v1/chats/{chat}").status_code == 404
    spent = usage(ada)
    assert spent["reserved_micro_usd"] == 0
    assert spent["cost_micro_usd"] > 0


def test_an_answer_follows_its_question_also_where_the_clock_was_set_back_meanwhile(
    make_app: Any, model: ModelServer
) -> None:
    ahead = [timedelta(hours=1)]
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    ada = sign_in(make_app(clock=lambda: datetime.now(UTC) + ahead[0], **environ), "ada")
    model.default = Reply(words=["a"] * 20, pace=0.02)
    chat = ada.new_chat()
    stream = events(ada.stream(chat, "Hello"))
    next(stream)
    next(stream)
    ahead[0] = timedelta()
    assert list(stream)[-1][0] == "done"
    assert texts(ada, chat) == [("user", "Hello"), ("assistant", "a" * 20)]


def test_the_minutes_requests_are_counted_and_then_refused(make_app: Any) -> None:
    ada = sign_in(make_app(SETTINGS.replace("= 1000", "= 3"), clock=half_past_noon), "ada")
    chat = ada.new_chat()
    answers = [ada.send(chat, "x") for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].get_json()["error"]["code"] == "rate_limited"
    assert answers[-1].headers["Retry-After"] == "30"


def test_over_the_soft_cap_the_cheap_model_answers_and_over_the_hard_cap_nobody(
    make_app: Any, model: ModelServer
) -> None:
    settings = SETTINGS.replace('"0.50"', '"0.03"')
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    ada = sign_in(make_app(settings, **environ), "ada")
    model.default = Reply(usage=(20_000, 0, 2_000))
    chat = ada.new_chat()
    first = ada.send(chat, "x").get_json()
    assert first["usage"]["model"] == "gpt-5.4-mini"
    second = ada.send(chat, "x").get_json()
    assert (second["usage"]["model"], second["usage"]["cheaper_model"]) == ("gpt-5.4-nano", True)
    for _ in range(4):
        refused = ada.send(chat, "x")
        if refused.status_code == 429:
            break
    assert refused.get_json()["error"]["code"] == "budget_exceeded"
    assert int(refused.headers["Retry-After"]) <= 86_400
    assert sign_in(ada.client.application, "bob").post("/v1/chats").status_code == 201
