"""What of a file is not in its text is said, in words that hold nothing from the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fakes.jobs import embedded_site
from firelaunch.rag.parse import Omission
from firelaunch.rag.parse.omissions import MESSAGES
from firelaunch.testing.apps import sign_in
from firelaunch.testing.documents import lines_of, pdf

TEXT = lines_of("A page of text about walruses and their long teeth.")
Omitted = Callable[[str, bytes], list[Omission]]


def test_pages_that_are_pictures_in_a_pdf_with_text_are_counted(omitted: Omitted) -> None:
    assert omitted("a.pdf", pdf([TEXT, None, None, None])) == [Omission("picture_pages", 3, 4)]
    assert omitted("a.pdf", pdf([TEXT, [("7", 11)], []])) == []


def test_each_message_is_a_sentence_for_one_and_for_several() -> None:
    assert Omission("picture_pages", 3, 4).message.startswith("3 of 4 pages are pictures.")
    assert Omission("picture_pages", 1, 4).message.startswith("1 of 4 pages is a picture.")
    assert all(Omission(code, count, 1_234).message.endswith(".") for code in MESSAGES for count in (1, 2))


def test_a_document_has_its_warnings_until_its_content_is_replaced(tmp_path: Path) -> None:
    with embedded_site(tmp_path) as site:
        ada = sign_in(site.app, "ada")
        first = ada.upload("scan.pdf", pdf([TEXT, None])).get_json()["id"]
        message = Omission("picture_pages", 1, 2).message
        assert ada.document(first)["warnings"] == [{"code": "picture_pages", "message": message}]
        listed = ada.get("/v1/documents").get_json()["items"]
        assert listed[0]["warnings"] == ada.document(first)["warnings"]
        ada.upload("scan.pdf", pdf([TEXT, TEXT]))
        assert ada.document(first)["warnings"] == []
