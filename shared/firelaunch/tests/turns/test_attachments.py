"""Images in messages: kept with the user, shown to the model in this turn and the next ones, and gone with the chat."""

from __future__ import annotations

import base64
import gc
import struct
import zlib
from typing import Any

import pytest
from firelaunch.llm.attachments import IMAGE_TOKENS
from firelaunch.testing.apps import SETTINGS, User, events, sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.turns.attachments import AttachmentRoom
from firelaunch.turns.turn import Turn

HELLO = "Hello from the model."


def png(shade: int = 0) -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, shade]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def files(*datas: bytes) -> list[dict[str, str]]:
    return [{"url": data_url(data), "filename": f"{number}.png"} for number, data in enumerate(datas)]


def ask(user: User, chat: str, body: Any, **headers: str) -> Any:
    return user.post(f"/v1/chats/{chat}/messages", body, **headers)


def shown(model: ModelServer) -> list[tuple[str, list[bytes]]]:
    """The text and the images of each of the user's messages that the model was shown last."""
    return [_content(message["content"]) for message in model.requests[-1]["messages"] if message["role"] == "user"]


def _content(content: Any) -> tuple[str, list[bytes]]:
    if isinstance(content, str):
        return content, []
    text = "".join(part["text"] for part in content if part["type"] == "text")
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return text, [base64.b64decode(url.partition(",")[2]) for url in urls]


SETTINGS_RICH = SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "50"')


@pytest.fixture
def rich(make_app: Any, model: ModelServer) -> tuple[Any, User]:
    app = make_app(SETTINGS_RICH, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    return app, sign_in(app, "ada")


def test_the_model_sees_the_images_in_this_turn_and_in_the_next(rich: tuple[Any, User], model: ModelServer) -> None:
    _, ada = rich
    chat = ada.new_chat()
    answer = ask(ada, chat, {"text": "What is this?", "files": files(png(1), png(2))})
    assert answer.status_code == 200
    assert shown(model) == [("What is this?", [png(1), png(2)])]
    ask(ada, chat, {"text": "And now?"})
    assert shown(model) == [("What is this?", [png(1), png(2)]), ("And now?", [])]
    stored = ada.get(f"/v1/chats/{chat}").get_json()["messages"][0]
    assert [(image["media_type"], image["name"]) for image in stored["files"]] == [
        ("image/png", "0.png"),
        ("image/png", "1.png"),
    ]


def test_an_image_alone_is_a_message_and_its_user_alone_can_fetch_it(
    rich: tuple[Any, User], model: ModelServer
) -> None:
    app, ada = rich
    chat = ada.new_chat()
    assert ask(ada, chat, {"files": files(png(1))}).status_code == 200
    assert shown(model) == [("", [png(1)])]
    image = ada.get(f"/v1/chats/{chat}").get_json()["messages"][0]["files"][0]["id"]
    path = f"/v1/chats/{chat}/files/{image}"
    fetched = ada.get(path)
    assert (fetched.data, fetched.content_type) == (png(1), "image/png")
    bob = sign_in(app, "bob")
    assert bob.get(path).status_code == 404
    assert ask(bob, bob.new_chat(), {"text": "x", "files": [{"url": image}]}).status_code == 404
    app.services.files.within(app.services.store.scope.of("ada")).put("avatar", b"secret", "image/png")
    assert ada.get(f"/v1/chats/{chat}/files/avatar").status_code == 404


def test_an_image_of_another_chat_is_unknown_and_deleting_a_chat_leaves_others_images(rich: tuple[Any, User]) -> None:
    _, ada = rich
    first, second = ada.new_chat(), ada.new_chat()
    ask(ada, first, {"text": "x", "files": files(png(1))})
    image = ada.get(f"/v1/chats/{first}").get_json()["messages"][0]["files"][0]["id"]
    assert ask(ada, second, {"text": "x", "files": [{"url": image}]}).status_code == 404
    assert ada.get(f"/v1/chats/{second}/files/{image}").status_code == 404
    ada.delete(f"/v1/chats/{second}")
    assert ada.get(f"/v1/chats/{first}/files/{image}").data == png(1)


def test_a_message_that_is_not_admitted_stores_no_image(make_app: Any, model: ModelServer) -> None:
    settings = SETTINGS.replace("requests_per_minute = 1000", "requests_per_minute = 1")
    app = make_app(settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    assert ask(ada, "nosuchchat", {"text": "x", "files": files(png(1))}).status_code == 404
    assert ask(ada, chat, {"text": "x"}).status_code == 200
    assert ask(ada, chat, {"text": "x", "files": files(png(2))}).status_code == 429
    assert app.services.files.within(app.services.store.scope.of("ada")).list().items == []


def test_a_chat_that_is_deleted_while_it_answers_leaves_no_image(make_app: Any, model: ModelServer) -> None:
    def answer(turn: Turn) -> Any:
        ada.delete(f"/v1/chats/{chats[0]}")
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])

    app = make_app(SETTINGS_RICH, answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chats = [ada.new_chat()]
    ask(ada, chats[0], {"text": "x", "files": files(png(1))})
    assert app.services.files.within(app.services.store.scope.of("ada")).list().items == []


def test_an_edit_of_the_image_alone_keeps_the_old_one_with_what_it_replaced(rich: tuple[Any, User]) -> None:
    _, ada = rich
    chat = ada.new_chat()
    ask(ada, chat, {"text": "x", "files": files(png(1))})
    question = ada.get(f"/v1/chats/{chat}").get_json()["messages"][0]
    ask(ada, chat, {"replaces": question["id"], "text": "x", "files": files(png(2))})
    everything = ada.get(f"/v1/chats/{chat}?replaced=true").get_json()["messages"]
    assert sorted(len(each.get("files", ())) for each in everything) == [0, 0, 1, 1]


def test_images_take_a_bounded_part_of_the_memory(make_app: Any, model: ModelServer) -> None:
    held: list[Turn] = []

    def answer(turn: Turn) -> Any:
        held.append(turn)
        yield from turn.llm.stream([*turn.history, {"role": "user", "content": turn.text}])

    app = make_app(SETTINGS_RICH, answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    app.extensions["firelaunch"].turns.attachment_room = AttachmentRoom(1_000)
    ada = sign_in(app, "ada")
    chat, body = ada.new_chat(), {"text": "x", "files": files(png(1) + bytes(300), png(2) + bytes(300))}
    assert ask(ada, chat, body).status_code == 200
    refused = ask(ada, ada.new_chat(), body)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (503, "no_upload_room")
    assert ask(ada, chat, {"text": "And now?"}).status_code == 200  # without the images of before
    assert [len(images) for _, images in shown(model)] == [0, 0]
    held.clear()
    gc.collect()
    assert ask(ada, ada.new_chat(), body).status_code == 200


def test_what_is_no_image_is_refused_and_nothing_is_kept(rich: tuple[Any, User], model: ModelServer) -> None:
    app, ada = rich
    chat = ada.new_chat()
    refused = {
        "https://example.com/a.png": 400,
        data_url(b"MZ", "application/x-msdownload"): 415,
        data_url(b"<svg/>", "image/svg+xml"): 415,
        data_url(b"GIF89a", "image/gif"): 415,
        data_url(b"not a picture"): 400,
        "data:image/png;base64,%%%": 400,
        "data:image/png,abc": 400,
        data_url(png() + bytes(3_500_000)): 413,
        "file_" + "0" * 48: 404,
    }
    for url, status in refused.items():
        assert ask(ada, chat, {"text": "x", "files": [{"url": url}]}).status_code == status, url[:60]
    assert ask(ada, chat, {"text": "x", "files": files(*[png(n) for n in range(5)])}).status_code == 400
    assert model.requests == []
    assert app.services.files.within(app.services.store.scope.of("ada")).list().items == []


def test_a_body_with_images_may_be_larger_than_others_and_not_boundless(rich: tuple[Any, User]) -> None:
    _, ada = rich
    chat = ada.new_chat()
    large = png() + bytes(400_000)
    assert ask(ada, chat, {"text": "x", "files": files(large, large)}).status_code == 200
    assert ask(ada, chat, {"text": "x" * 400_000}).status_code == 413
    assert ada.post("/v1/chats", {"title": "x" * 400_000}).status_code == 413
    assert ada.post(f"/v1/chats/{chat}/messages", b"x" * 25_000_000).status_code == 413


def test_an_image_is_covered_by_the_reservation(make_app: Any, model: ModelServer) -> None:
    reserved = []

    def answer(turn: Turn) -> Any:
        reserved.append(turn.llm.meter.reserved)  # type: ignore[attr-defined]
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])

    app = make_app(SETTINGS_RICH, answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    ask(ada, chat, {"text": "x"})
    ask(ada, ada.new_chat(), {"text": "x", "files": files(png())})
    worst = app.services.gateway.worst_case
    price = worst("gpt-5.4-mini", IMAGE_TOKENS) - worst("gpt-5.4-mini", 0)
    assert reserved[1] - reserved[0] >= price > 0


def test_without_a_report_of_the_provider_an_image_is_paid_by_its_bound(
    rich: tuple[Any, User], model: ModelServer
) -> None:
    _, ada = rich
    model.script = [Reply(usage=None)]
    answer = ask(ada, ada.new_chat(), {"text": "x", "files": files(png())}).get_json()
    assert answer["usage"]["estimated"] is True
    assert answer["usage"]["input_tokens"] >= IMAGE_TOKENS


def test_regenerating_continuing_and_editing_keep_the_images(rich: tuple[Any, User], model: ModelServer) -> None:
    _, ada = rich
    chat = ada.new_chat()
    model.script = [Reply(("Half",), finish="length")]
    cut = ask(ada, chat, {"text": "One", "files": files(png(1))}).get_json()["message"]
    ask(ada, chat, {"continues": cut["id"]})
    assert shown(model)[0] == ("One", [png(1)])
    question = ada.get(f"/v1/chats/{chat}").get_json()["messages"][0]
    ask(ada, chat, {"replaces": question["id"]})
    assert shown(model) == [("One", [png(1)])]
    ask(ada, chat, {"replaces": question["id"], "text": "Two", "files": [{"url": question["files"][0]["id"]}]})
    assert shown(model) == [("Two", [png(1)])]
    ask(ada, chat, {"replaces": question["id"], "text": "Three"})
    assert shown(model) == [("Three", [])]


def test_a_repeated_send_is_known_by_its_images_too(rich: tuple[Any, User], model: ModelServer) -> None:
    _, ada = rich
    chat = ada.new_chat()
    body = {"text": "x", "files": files(png(1))}
    first = ask(ada, chat, body, Idempotency_Key="k").get_json()
    assert ask(ada, chat, body, Idempotency_Key="k").get_json() == first
    other = ask(ada, chat, {"text": "x", "files": files(png(2))}, Idempotency_Key="k")
    assert other.status_code == 422
    assert len(model.requests) == 1


def test_a_deleted_chat_takes_its_images_along(rich: tuple[Any, User]) -> None:
    app, ada = rich
    chat, other = ada.new_chat(), ada.new_chat()
    for each in (chat, other):
        ask(ada, each, {"text": "x", "files": files(png(1))})
    ada.delete(f"/v1/chats/{chat}")
    kept = app.services.files.within(app.services.store.scope.of("ada"))
    assert len(kept.list().items) == 1
    image = ada.get(f"/v1/chats/{other}").get_json()["messages"][0]["files"][0]["id"]
    assert ada.get(f"/v1/chats/{other}/files/{image}").data == png(1)


def test_use_chat_sends_and_reloads_files(rich: tuple[Any, User], model: ModelServer) -> None:
    _, ada = rich
    parts = [
        {"type": "file", "mediaType": "image/png", "filename": "a.png", "url": data_url(png(1))},
        {"type": "text", "text": "What is this?"},
    ]
    message = {"id": "m1", "role": "user", "parts": parts}
    assert "[DONE]" in ada.post("/v1/chat", {"id": "c1", "message": message}).get_data(as_text=True)
    assert shown(model) == [("What is this?", [png(1)])]
    loaded = ada.get("/v1/chat/c1").get_json()["messages"][0]
    assert [part["type"] for part in loaded["parts"]] == ["file", "text"]
    assert ada.get(loaded["parts"][0]["url"]).data == png(1)
    loaded["parts"][1]["text"] = "And this?"
    edited = ada.post("/v1/chat", {"id": "c1", "messages": [loaded], "messageId": loaded["id"]})
    assert "[DONE]" in edited.get_data(as_text=True)
    assert shown(model) == [("And this?", [png(1)])]


def test_old_images_are_left_out_of_the_prompt_when_there_are_many(rich: tuple[Any, User], model: ModelServer) -> None:
    _, ada = rich
    chat = ada.new_chat()
    for turn in range(3):
        ask(ada, chat, {"text": str(turn), "files": files(*[png(4 * turn + n) for n in range(4)])})
    assert [len(images) for _, images in shown(model)] == [0, 4, 4]
    list(events(ada.stream(chat, "now")))
    assert [len(images) for _, images in shown(model)] == [0, 4, 4, 0]
