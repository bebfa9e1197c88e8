"""A document's file opens by a short-lived link, for those who may read the document, and never runs as a page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.errors import NotFound, TooLarge
from firelaunch.scope import Scope
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.documents import lines_of, pdf
from firelaunch.worker.tasks.erase import erasure_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
PAGE = b"<html><body><h1>Terms</h1><script>alert(document.domain)</script><p>Parcels leave.</p></body></html>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path) as made:
        yield made


def put_up(user: User, name: str, content: bytes, **form: str) -> str:
    answer = user.upload(name, content, **form)
    assert answer.status_code in {200, 202}, answer.text
    return str(user.document(answer.get_json()["id"], library="library" in form)["id"])


def link(user: User, document: str, query: str = "") -> str:
    answer = user.get(f"/v1/documents/{document}/file{query}")
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["url"])


def nobody_is_a_member(_group: Scope, _uid: str) -> None:
    raise NotFound


def fetch(site: Site, url: str, **headers: str) -> Any:
    """Fetch a link as anybody, without a token."""
    return site.app.test_client().get(url, headers={name.title(): value for name, value in headers.items()})


def test_a_link_gives_the_very_file_and_parts_of_it_to_whoever_has_it(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    content = pdf([lines_of("# Terms\n\nParcels leave.")])
    url = link(ada, put_up(ada, "Büro & co.pdf", content))
    whole = fetch(site, url)
    assert (whole.status_code, whole.data, whole.content_type) == (200, content, "application/pdf")
    assert whole.headers["Content-Disposition"].startswith("inline; ")
    assert "filename*=UTF-8''B%C3%BCro%20%26%20co.pdf" in whole.headers["Content-Disposition"]
    part = fetch(site, url, range="bytes=5-14")
    assert (part.status_code, part.data) == (206, content[5:15])
    assert part.headers["Content-Range"] == f"bytes 5-14/{len(content)}"
    assert fetch(site, url, range="bytes=999999999-").status_code in {200, 416}
    again = fetch(site, url, **{"if-none-match": whole.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("name", ["a.html", "a.pdf", "a.svg"])
def test_an_uploaded_page_is_downloaded_and_cannot_run(site: Site, name: str) -> None:
    ada = sign_in(site.app, "ada")
    answer = fetch(site, link(ada, put_up(ada, name, PAGE)))
    assert answer.data == PAGE
    assert answer.content_type == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_nobody_else_gets_a_link_and_a_changed_link_opens_nothing(site: Site) -> None:
    ada, bob = sign_in(site.app, "ada"), sign_in(site.app, "bob")
    document, own = put_up(ada, "a.txt", b"Ada's text."), put_up(bob, "b.txt", b"Bob's text.")
    assert bob.get(f"/v1/documents/{document}/file").status_code == 404
    assert bob.get(f"/v1/documents/{document}/file?library=true").status_code == 404
    assert site.app.test_client().get(f"/v1/documents/{document}/file").status_code == 401
    url = link(ada, document)
    about, _, signature = url.rpartition(".")
    for changed in (
        f"{about}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{about[:-2]}AA.{signature}",
        f"{about}.",
        url.replace(document, own),
        url.replace(url.partition("key=")[2], ""),
    ):
        assert fetch(site, changed).status_code in {400, 404}, changed
    # A link of another's document does not open by the key that one's own document has.
    assert fetch(site, link(bob, own).replace(own, document)).status_code == 404


def test_no_change_of_a_links_characters_opens_a_file(tmp_path: Path) -> None:
    with embedded_site(tmp_path) as site:
        ada = sign_in(site.app, "ada")
        document = put_up(ada, "a.txt", b"Ada's text.")
        key = link(ada, document).partition("key=")[2]
        documents = site.services.documents
        assert documents.file_of_link(document, key, nobody_is_a_member)[0].id == document

        @settings(deadline=None)
        @given(changed_texts(key))
        def check(changed: str) -> None:
            with pytest.raises(NotFound):
                documents.file_of_link(document, changed, nobody_is_a_member)

        check()


@st.composite
def changed_texts(draw: st.DrawFn, text: str) -> str:
    """A text with one to three changes: a character or more replaced, removed, added, repeated, or in another case."""
    letters = st.sampled_from("".join(sorted(set(text))) + "-_=+/. %~\x00\u0661é")
    changed = text
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(changed)))
        end = draw(st.integers(start, min(start + 3, len(changed))))
        new = draw(st.one_of(st.text(letters, max_size=3), st.just(changed[start:end].swapcase() * 2)))
        changed = changed[:start] + new + changed[end:]
    assume(changed != text)
    return changed


def test_a_link_of_an_erased_user_opens_nothing_and_others_go_on(site: Site) -> None:
    ada, bob = sign_in(site.app, "ada"), sign_in(site.app, "bob")
    urls = [
        link(user, put_up(user, "a.txt", f"{name}'s text.".encode())) for user, name in ((ada, "Ada"), (bob, "Bob"))
    ]
    assert [fetch(site, url).data for url in urls] == [b"Ada's text.", b"Bob's text."]
    erasure_of(site.services).run("ada")
    assert fetch(site, urls[0]).status_code == 404
    assert fetch(site, urls[1]).data == b"Bob's text."


def test_a_link_opens_no_file_of_another_app_in_the_same_database(tmp_path: Path) -> None:
    """Users, names, contents and ids are the same; the keys of the links are not."""
    with ExitStack() as stack:
        store = stack.enter_context(closing(SQLiteStore(tmp_path / "both.db")))
        sites = [
            stack.enter_context(
                embedded_site(tmp_path / app, store, settings=JOB_SETTINGS.replace('"demo"', f'"{app}"'))
            )
            for app in ("one", "two")
        ]
        users = [sign_in(site.app, "ada") for site in sites]
        documents = [put_up(user, "a.txt", b"The text.") for user in users]
        urls = [link(user, document) for user, document in zip(users, documents, strict=True)]
        assert documents[0] == documents[1]
        assert [[fetch(site, url).status_code for url in urls] for site in sites] == [[200, 404], [404, 200]]


def test_members_read_the_text_and_the_file_of_a_document_of_the_library(site: Site) -> None:
    admin, ada = sign_in(site.app, "root", role="admin"), sign_in(site.app, "ada")
    document = put_up(admin, "rules.txt", b"Everybody's rules.", library="true")
    assert ada.get(f"/v1/documents/{document}/text?library=true").get_json()["text"] == "Everybody's rules."
    assert fetch(site, link(ada, document, "?library=true")).data == b"Everybody's rules."
    assert ada.get(f"/v1/documents/{document}/file").status_code == 404


def test_a_passage_over_two_pages_names_both(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    document = put_up(ada, "a.pdf", pdf([lines_of("Walruses rest on"), lines_of("the ice in May.")]))
    (found,) = ada.post("/v1/search", {"query": "walruses"}).get_json()["passages"]
    assert (found["page"], found["last_page"]) == (1, 2)
    query = f"start={found['start']}&end={found['end']}&chunk_id={found['chunk_id']}"
    opened = ada.get(f"/v1/documents/{document}/text?{query}").get_json()
    assert (opened["page"], opened["last_page"]) == (1, 2)
    first = ada.get(f"/v1/documents/{document}/text?start=0&end=5").get_json()
    assert (first["page"], first["last_page"]) == (1, 1)


def test_a_link_ends_with_its_document_its_content_and_its_time(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    document = put_up(ada, "a.txt", b"The first text.")
    first = link(ada, document)
    put_up(ada, "a.txt", b"The second text.")
    second = link(ada, document)
    assert (fetch(site, first).status_code, fetch(site, second).data) == (404, b"The second text.")
    ada.delete(f"/v1/documents/{document}")
    assert fetch(site, second).status_code == 404
    assert ada.get(f"/v1/documents/{document}/file").status_code == 404


def test_a_text_with_too_many_characters_is_refused_while_it_arrives(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    limits = ada.get("/v1/uploads").get_json()
    assert set(limits) == {"request_bytes", "file_bytes", "text_characters"}
    documents = site.services.documents
    most = limits["text_characters"]
    read = 0

    class Endless(io.RawIOBase):
        """A text that never ends."""

        def read(self, _size: int = -1) -> bytes:
            nonlocal read
            read += 65_520
            return b"words of a long text " * 3_120

    with pytest.raises(TooLarge, match=f"{most:,} characters"), documents.received(ADA, Endless(), "a.txt"):  # type: ignore[arg-type]
        pass
    assert read < most + 200_000


@pytest.mark.parametrize("beginning", [rb"% a letter", rb"\documentclass{article}", b"Notes\n\n\\section{One}"])
def test_a_text_that_is_read_as_tex_is_not_measured_by_the_characters_of_its_file(
    tmp_path: Path, beginning: bytes
) -> None:
    settings = JOB_SETTINGS + "\n[documents]\ntext_characters = 1000\n"
    with embedded_site(tmp_path, settings=settings, started=False) as site:
        source = beginning + b" % a long comment" * 100
        with site.services.documents.received(ADA, io.BytesIO(source), "a.txt") as received:
            assert received.size == len(source)
