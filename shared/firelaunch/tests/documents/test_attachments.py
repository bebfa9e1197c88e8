"""A mail's attachments are documents of their own, which live and go with their mail."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch.testing.apps import User, sign_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path) as made:
        yield made


def mail(subject: str, files: dict[str, bytes], *attached: EmailMessage) -> EmailMessage:
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = subject, "ann@example.com", "bob@example.com"
    made.set_content(f"The text of {subject}.")
    for name, content in files.items():
        made.add_attachment(content, "application", "octet-stream", filename=name)
    for inner in attached:
        made.add_attachment(inner)
    return made


def put_up(user: User, name: str, content: bytes) -> dict[str, Any]:
    answer = user.upload(name, content)
    assert answer.status_code in {200, 202}, answer.text
    return dict(user.document(answer.get_json()["id"]))


def listed(user: User) -> dict[str, dict[str, Any]]:
    """Return the user's documents by name, once none is worked on."""
    items = user.get("/v1/documents?limit=100").get_json()["items"]
    for item in items:
        user.document(item["id"])
    again = user.get("/v1/documents?limit=100").get_json()["items"]
    return {item["name"]: item for item in again} if len(again) == len(items) else listed(user)


def titles(user: User, query: str) -> set[str]:
    return {found["title"] for found in user.post("/v1/search", {"query": query}).get_json()["passages"]}


def test_attachments_are_found_by_their_own_names_and_go_with_their_mail(site: Site) -> None:
    ada, bob = sign_in(site.app, "ada"), sign_in(site.app, "bob")
    inner = mail("walrus news", {"deep.txt": b"Narwhals live deep."})
    sent = mail("offer", {"prices.csv": b"item,price\npenguin,12\notter,7\n", "logo.png": b"\x89PNG\r\n\x1a\n0"}, inner)
    document = put_up(ada, "offer.eml", sent.as_bytes())
    assert [warning["code"] for warning in document["warnings"]] == ["attachments"]
    assert document["warnings"][0]["message"].startswith("1 of 3 attachments was not read.")
    found = listed(ada)
    assert set(found) == {"offer.eml", "prices.csv", "walrus news.eml", "deep.txt"}
    assert {item["status"] for item in found.values()} == {"ready"}
    assert found["prices.csv"]["part_of"] == found["walrus news.eml"]["part_of"] == document["id"]
    assert found["deep.txt"]["part_of"] == found["walrus news.eml"]["id"]
    assert titles(ada, "narwhals") == {"deep.txt"}
    assert "prices.csv" in titles(ada, "penguin")
    assert listed(bob) == {}
    assert ada.delete(f"/v1/documents/{document['id']}").status_code == 204
    assert listed(ada) == {}
    assert titles(ada, "narwhals penguin") == set()


def test_a_replaced_mail_keeps_the_attachments_that_it_still_has_alone(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    put_up(ada, "a.eml", mail("one", {"a.txt": b"Walruses.", "b.txt": b"Penguins."}).as_bytes())
    before = listed(ada)
    put_up(ada, "a.eml", mail("two", {"b.txt": b"Penguins.", "c.txt": b"Otters."}).as_bytes())
    after = listed(ada)
    assert set(after) == {"a.eml", "b.txt", "c.txt"}
    assert after["b.txt"]["id"] == before["b.txt"]["id"]
    assert titles(ada, "walruses penguins otters") >= {"b.txt", "c.txt"}
    assert "a.txt" not in titles(ada, "walruses")


def test_an_attachment_is_no_document_of_the_same_name(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    put_up(ada, "notes.txt", b"Ada's own notes on seals.")
    put_up(ada, "a.eml", mail("one", {"notes.txt": b"Attached notes on gulls."}).as_bytes())
    items = ada.get("/v1/documents").get_json()["items"]
    assert sorted(item["name"] for item in items) == ["a.eml", "notes.txt", "notes.txt"]
    assert titles(ada, "seals") == {"notes.txt"}
