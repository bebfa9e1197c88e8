"""Ratings: kept with the answer, found by admins without texts, and gone with their user."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from firelaunch.server.app import App
from firelaunch.store.base import Delete
from firelaunch.testing.apps import User, events, sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.worker.tasks.erase import erasure_of

DOWN = {"value": "down", "reason": "incorrect", "text": "The Volga is longer."}


@pytest.fixture
def ada(model_app: App) -> User:
    return sign_in(model_app, "ada")


@pytest.fixture
def root(model_app: App) -> User:
    return sign_in(model_app, "root", "admin")


def answered(user: User, text: str = "Hello?") -> tuple[str, dict[str, Any]]:
    """The path of the rating of a new answer, and the answer."""
    chat = user.new_chat()
    message = user.send(chat, text).get_json()["message"]
    return f"/v1/chats/{chat}/messages/{message['id']}/rating", message


def shown(user: User, path: str) -> Any:
    """The rating as a client gets it, which is the same from both routes that read a chat."""
    chat = path.split("/")[3]
    message = user.get(f"/v1/chats/{chat}").get_json()["messages"][-1]
    metadata = user.get(f"/v1/chat/{chat}").get_json()["messages"][-1]["metadata"]
    assert message.get("rating") == metadata.get("rating")
    return message.get("rating")


def listed(root: User, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = root.get(f"/v1/ops/ratings{query}").get_json()["items"]
    return items


def test_a_rating_is_kept_with_its_answer_replaced_by_the_next_one_and_taken_back(ada: User, root: User) -> None:
    path, message = answered(ada)
    assert shown(ada, path) is None
    stored = ada.put(path, DOWN).get_json()
    assert stored == {**DOWN, "rated_at": stored["rated_at"]} == shown(ada, path)
    assert ada.put(path, {"value": "up"}).status_code == 200
    assert (shown(ada, path)["value"], shown(ada, path)["reason"], shown(ada, path)["text"]) == ("up", None, "")
    (item,) = listed(root)
    assert (item["rating"], item["request_id"], item["uid"]) == ("up", message["request_id"], "ada")
    assert [ada.delete(path).status_code for _ in range(2)] == [204, 204]
    assert (shown(ada, path), listed(root)) == (None, [])


def test_admins_get_ids_prompt_and_model_and_texts_only_if_they_ask_for_them(ada: User, root: User) -> None:
    path, message = answered(ada, "A secret question")
    ada.put(path, DOWN)
    (item,) = listed(root)
    assert (item["reason"], item["prompt"], item["model"]) == ("incorrect", "chat@1", message["model"])
    assert item["message_id"] == message["id"]
    assert item["cost_micro_usd"] == message["usage"]["cost_micro_usd"]
    everything = json.dumps(item)
    assert not [text for text in ("secret", message["text"], DOWN["text"]) if text in everything]
    (item,) = listed(root, "?contents=true")
    assert (item["question"], item["answer"], item["text"]) == ("A secret question", message["text"], DOWN["text"])


def test_the_list_comes_latest_first_by_pages_and_by_value(ada: User, root: User) -> None:
    values = ["down", "up", "down", "down"]
    requests = []
    for value in values:
        path, message = answered(ada)
        ada.put(path, {"value": value})
        requests.insert(0, message["request_id"])
    first = root.get("/v1/ops/ratings?limit=3").get_json()
    rest = root.get(f"/v1/ops/ratings?limit=3&cursor={first['next_cursor']}").get_json()
    assert [item["request_id"] for item in first["items"] + rest["items"]] == requests
    assert rest["next_cursor"] is None
    assert [item["rating"] for item in listed(root, "?rating=down")] == ["down"] * 3
    assert (first["up"], first["down"]) == (1, 3)


def test_the_list_and_its_counts_are_of_the_time_that_is_asked_for(ada: User, root: User) -> None:
    path, _ = answered(ada)
    at = ada.put(path, DOWN).get_json()["rated_at"]
    for query, found in ((f"from={at}", 1), (f"to={at}", 0), (f"from={at}&to={at}", 0), ("to=2099-01-01", 1)):
        for verdict in ("", "&rating=down"):
            page = root.get(f"/v1/ops/ratings?{query}{verdict}").get_json()
            assert (len(page["items"]), page["up"], page["down"]) == (found, 0, found)
    assert root.get("/v1/ops/ratings?from=yesterday").status_code == 400


def test_members_and_other_apps_admins_get_no_ratings_and_nobody_rates_anothers_answer(
    ada: User, model_app: App, root: User
) -> None:
    path, message = answered(ada)
    ada.put(path, DOWN)
    assert ada.get("/v1/ops/ratings").status_code == 403
    bob = sign_in(model_app, "bob")
    assert [bob.put(path, DOWN).status_code, bob.delete(path).status_code] == [404, 404]
    assert root.put(path, {"value": "up"}).status_code == 404
    assert shown(ada, path)["value"] == "down"
    assert ada.put(path.replace(message["id"], "nobody"), DOWN).status_code == 404
    assert ada.put(path.replace(message["id"], message["id"][:-1] + "u"), DOWN).status_code == 409, "a user's message"


@pytest.mark.parametrize(
    "body",
    [{}, {"value": "meh"}, {"value": "down", "reason": "rude"}, {"value": "up", "reason": "incorrect"}, {"value": 1},
     {"value": "down", "text": "x" * 1_001}, {"value": "down", "uid": "bob"}, [], None],
)  # fmt: skip
def test_what_is_no_rating_is_refused_and_changes_nothing(ada: User, body: Any) -> None:
    path, _ = answered(ada)
    ada.put(path, DOWN)
    assert ada.put(path, body).status_code in {400, 413}
    assert shown(ada, path)["text"] == DOWN["text"]


def test_an_answer_that_goes_on_keeps_a_rating_given_before_and_meanwhile(
    ada: User, root: User, model: ModelServer
) -> None:
    model.script.append(Reply(words=["It", " is"], finish="length"))
    path, message = answered(ada)
    assert message["finish"] == "length"
    chat = path.split("/")[3]
    ada.put(path, {"value": "up"})
    model.script.append(Reply(words=[" the", " Volga", "."]))
    response = ada.post(f"/v1/chats/{chat}/messages", {"continues": message["id"]}, Accept="text/event-stream")
    stream = events(response)
    assert next(stream)[0] == "start"
    ada.put(path, DOWN)
    list(stream)
    assert shown(ada, path)["value"] == "down"
    assert ada.get(f"/v1/chats/{chat}").get_json()["messages"][-1]["text"].endswith("Volga.")


def test_a_new_answer_in_an_answers_place_has_no_rating_and_the_old_one_keeps_its_own(ada: User, root: User) -> None:
    path, message = answered(ada)
    ada.put(path, DOWN)
    chat = path.split("/")[3]
    ada.post(f"/v1/chats/{chat}/messages", {"replaces": message["id"][:-1] + "u"})
    assert shown(ada, path) is None
    everything = ada.get(f"/v1/chats/{chat}?replaced=true").get_json()["messages"]
    assert [each["rating"]["value"] for each in everything if each.get("rating")] == ["down"]
    (item,) = listed(root, "?contents=true")
    assert item["request_id"] == message["request_id"]
    assert (item["question"], item["answer"], item["text"]) == (None, None, None), "not the new answer's"


def test_an_answer_whose_record_has_expired_is_rated_all_the_same(ada: User, root: User, model_app: App) -> None:
    path, message = answered(ada)
    store = model_app.services.store  # type: ignore[attr-defined]
    store.commit([Delete(store.scope.request(message["request_id"]))])
    assert ada.put(path, DOWN).status_code == 200
    assert (shown(ada, path)["value"], listed(root)) == ("down", [])


def test_of_ratings_at_once_the_message_and_the_list_hold_the_same_one(ada: User, root: User) -> None:
    path, _ = answered(ada)
    barrier = threading.Barrier(8)

    def vote(number: int) -> None:
        barrier.wait()
        if number % 3:
            assert ada.put(path, {"value": ("up", "down")[number % 2]}).status_code == 200
        else:
            assert ada.delete(path).status_code == 204

    threads = [threading.Thread(target=vote, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = shown(ada, path)
    assert [item["rating"] for item in listed(root)] == ([] if kept is None else [kept["value"]])


def test_an_erased_users_ratings_are_gone_from_the_list_and_others_stay(ada: User, root: User, model_app: App) -> None:
    for user in (ada, sign_in(model_app, "bob")):
        path, _ = answered(user)
        user.put(path, DOWN)
    erasure_of(model_app.services).run("ada")  # type: ignore[attr-defined]
    assert [item["uid"] for item in listed(root)] == ["bob"]
