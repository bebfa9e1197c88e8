"""Members of one group, and of several, who use ids, keys and files of one place in another."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in
from firelaunch.testing.models import ModelServer, Reply

MakeApp = Callable[..., App]

FILE = {"url": "data:text/plain;base64,SGVsbG8=", "filename": "a.txt"}


def settings(paid_by: str, more: str = "") -> str:
    groups = f'groups = 5\n\n[groups]\nchats_paid_by = "{paid_by}"\nchats_on_erase = "anonymize"\n'
    return SETTINGS + groups + more


@pytest.fixture(params=["writer", "group"])
def paid_by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def new_group(owner: User, **members: User) -> str:
    """Make a group whose members have the roles that they are given by."""
    group: str = owner.post("/v1/groups", {"name": "Family", "member_name": "Ada"}).get_json()["id"]
    for role, user in members.items():
        code = owner.post(f"/v1/groups/{group}/invites", {"role": role}).get_json()["invite"]
        assert user.post(f"/v1/groups/{group}/join", {"invite": code, "name": role.title()}).status_code == 200
    return group


@dataclass
class Place:
    """The chats of a group, or (without one) a user's own, as one user's requests name them."""

    user: User
    group: str | None = None

    @property
    def body(self) -> dict[str, str]:
        return {} if self.group is None else {"group": self.group}

    @property
    def query(self) -> str:
        return "" if self.group is None else f"?group={self.group}"

    def say(self, chat: str, message: str, text: str) -> Any:
        """Send a message as useChat does, whose client chooses the ids."""
        parts = [{"type": "text", "text": text}]
        return self.user.post(
            "/v1/chat", {"id": chat, "message": {"id": message, "role": "user", "parts": parts}, **self.body}
        )

    def ask(self, chat: str, body: dict[str, Any], **headers: str) -> Any:
        return self.user.post(f"/v1/chats/{chat}/messages", {**body, **self.body}, **headers)

    def messages(self, chat: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.user.get(f"/v1/chats/{chat}{self.query}").get_json()["messages"]
        return found


@pytest.fixture
def app(make_app: MakeApp, model: ModelServer, paid_by: str) -> App:
    return make_app(settings(paid_by), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)


def test_equal_ids_of_chats_and_messages_meet_nowhere(app: App, model: ModelServer) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    first, second = new_group(ada, editor=bob), new_group(ada)
    places = [Place(ada), Place(ada, first), Place(ada, second), Place(bob), Place(bob, first)]
    for number, place in enumerate(places):
        model.default = Reply(words=[f"Answer {number}"])
        assert f"Answer {number}" in place.say("c1", "m1", f"Text {number}").get_data(as_text=True)
    texts = [[each["text"] for each in place.messages("c1")] for place in places[:4]]
    assert texts[0] == ["Text 0", "Answer 0"]
    assert texts[1] == ["Text 1", "Answer 1", "Text 4", "Answer 4"]
    assert texts[2:] == [["Text 2", "Answer 2"], ["Text 3", "Answer 3"]]


def attempts(chat: str, question: str, answer: str) -> Iterator[Callable[[Place], Any]]:
    """Yield what an editor may do with a message and its answer."""
    yield lambda place: place.ask(chat, {"continues": answer})
    yield lambda place: place.ask(chat, {"continues": answer, "approvals": [{"id": "c1", "approved": True}]})
    yield lambda place: place.ask(chat, {"replaces": question})
    yield lambda place: place.ask(chat, {"replaces": question, "text": "Mine"})
    yield lambda place: place.say(chat, question, "Mine")
    rating = f"/v1/chats/{chat}/messages/{answer}/rating"
    yield lambda place: place.user.put(rating, {"value": "down", **place.body})
    yield lambda place: place.user.delete(rating + place.query)


def test_messages_of_a_group_are_reached_from_no_other_place_though_it_has_a_chat_of_the_same_id(app: App) -> None:
    """Bob reads them as a viewer, so he knows the ids."""
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group, others = new_group(ada, viewer=bob), new_group(bob)
    place = Place(ada, group)
    place.say("c1", "m1", "Hello")
    before = place.messages("c1")
    question, answer = (each["id"] for each in before)
    for elsewhere in (Place(bob), Place(bob, others)):
        assert elsewhere.say("c1", "m1", "Own").status_code == 200
        own = elsewhere.messages("c1")
        for number, attempt in enumerate(attempts("c1", question, answer)):
            refused = attempt(elsewhere)
            assert refused.status_code in {400, 404, 409}, (number, refused.status_code, refused.data)
            assert b"Hello" not in refused.data
        assert elsewhere.messages("c1") == own
    for number, attempt in enumerate(attempts("c1", question, answer)):
        assert attempt(Place(bob, group)).status_code == 403, number
    assert place.messages("c1") == before


def test_nobody_is_taken_for_the_writer_of_anothers_message_by_sending_its_id_again(app: App) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group = new_group(ada, editor=bob)
    Place(ada, group).say("c1", "m1", "Hello")
    question = Place(ada, group).messages("c1")[0]["id"]
    for text in ("Hello", "Other"):
        assert Place(bob, group).say("c1", question, text).status_code == 422
    store = app.services.store  # type: ignore[attr-defined]
    (record,) = [path for path in store.tree("apps/demo/requests") if path.endswith(question[:-2])]
    store.delete_tree(record)  # as after thirty days
    assert Place(bob, group).say("c1", question, "Other").status_code == 422
    Place(bob, group).say("c1", question, "Hello")
    asked = Place(ada, group).messages("c1")[0]
    assert (asked["text"], asked["written_by"]) == ("Hello", "ada")


def put_up(user: User, data: bytes, name: str) -> str:
    headers = {"Authorization": f"Bearer {user.token}"}
    answer = user.client.post("/v1/files", data={"file": (io.BytesIO(data), name)}, headers=headers)
    assert answer.status_code == 201, answer.get_json()
    upload: str = answer.get_json()["id"]
    return upload


def test_an_upload_is_sent_in_a_groups_chat_by_its_user_alone_and_members_read_the_groups_copy(
    app: App, model: ModelServer
) -> None:
    ada, bob, cat, eve = (sign_in(app, uid) for uid in ("ada", "bob", "cat", "eve"))
    group = new_group(ada, editor=bob, viewer=cat)
    chat = ada.post("/v1/chats", {"group": group}).get_json()["id"]
    upload = put_up(ada, b"The attic holds figs.", "attic.txt")
    files = {"text": "What is it?", "files": [{"url": upload, "filename": "attic.txt"}]}
    asked = len(model.requests)
    assert Place(bob, group).ask(chat, files).status_code == 404
    assert Place(cat, group).ask(chat, files).status_code == 403
    assert len(model.requests) == asked
    assert Place(ada, group).ask(chat, files).status_code == 200
    assert "The attic holds figs." in str(model.requests[-1])
    (file,) = Place(ada, group).messages(chat)[0]["files"]
    path = f"/v1/chats/{chat}/files/{file['id']}?group={group}"
    assert [user.get(path).data for user in (ada, bob, cat)] == [b"The attic holds figs."] * 3
    assert [eve.get(path).status_code, ada.get(path.partition("?")[0]).status_code] == [404, 404]
    store = app.services.store  # type: ignore[attr-defined]
    kept = [path for path in store.tree("apps/demo") if "/kept_files/" in path]
    assert sorted(path.split("/")[2:4] for path in kept) == [["groups", group], ["users", "ada"]]
    assert Place(bob, group).ask(chat, {"text": "Again", "files": [{"url": file["id"]}]}).status_code == 200
    ada.delete(f"/v1/groups/{group}/members/bob")
    assert Place(bob, group).ask(chat, {"text": "Again", "files": [{"url": file["id"]}]}).status_code == 404
    assert bob.get(path).status_code == 404


def test_a_file_of_a_groups_chat_is_sent_in_no_other_place_though_it_has_a_chat_of_the_same_id(app: App) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group, others = new_group(ada, viewer=bob), new_group(bob)
    Place(ada, group).say("c1", "m1", "Hello")
    assert Place(ada, group).ask("c1", {"text": "See", "files": [FILE]}).status_code == 200
    (file,) = Place(ada, group).messages("c1")[2]["files"]
    for elsewhere in (Place(bob), Place(bob, others)):
        elsewhere.say("c1", "m1", "Own")
        sent = elsewhere.ask("c1", {"text": "Mine", "files": [{"url": file["id"]}]})
        assert sent.status_code == 404
        assert elsewhere.user.get(f"/v1/chats/c1/files/{file['id']}{elsewhere.query}").status_code == 404


def test_a_summary_is_paid_as_the_answers_are_also_after_its_writer_was_removed(
    make_app: MakeApp, model: ModelServer, paid_by: str
) -> None:
    text = settings(paid_by, "\n[after_turn]\nsummaries = true\n").replace("[limits]", "[limits]\nhistory_messages = 2")
    app = make_app(text, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group = new_group(ada, editor=bob)
    chat = bob.post("/v1/chats", {"group": group}).get_json()["id"]
    answers = [Place(bob, group).ask(chat, {"text": "Hello"}).get_json() for _ in range(2)]
    ada.delete(f"/v1/groups/{group}/members/bob")
    model.default = Reply(words=["Secret summary"])
    (job,) = run_jobs(app)
    store = app.services.store  # type: ignore[attr-defined]
    assert store.get(f"apps/demo/groups/{group}/chats/{chat}").data["summary"] == "Secret summary"
    spent = {
        "writer": bob.get("/v1/usage").get_json()["cost_micro_usd"],
        "group": ada.get(f"/v1/usage?group={group}").get_json()["cost_micro_usd"],
    }
    assert spent.pop(paid_by) > sum(each["usage"]["cost_micro_usd"] for each in answers)
    assert list(spent.values()) == [0]
    assert "Secret" not in bob.get(f"/v1/jobs/{job.id}").get_data(as_text=True)
