"""Documents from upload to passage: what becomes of a file, whose it is, and what it costs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.documents import views
from firelaunch.documents.catalog import DocumentSource
from firelaunch.errors import InvalidId, ScopeViolation
from firelaunch.rag.files import LocalFiles, ScopedFiles, upload_path
from firelaunch.rag.parse import Block
from firelaunch.rag.versions import READER, Version
from firelaunch.rag.web.fetch import Fetcher, FetchLimits
from firelaunch.scope import Scope
from firelaunch.store.base import Query, Update
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from firelaunch.testing.sites import Site as WebSite
from firelaunch.testing.sites import SiteReply
from firelaunch.worker.tasks import ingestion

ADA = Scope("demo", "ada")
EMBEDDED = (
    JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.50"\ndocuments = 20')
    + """
[index]
embedder = "openai"

[prices."text-embedding-3-small"]
input = "20"
output = "0"
"""
)
"""A thousand times the real price, so that a paragraph costs something."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path) as made:
        yield made


@pytest.fixture
def embedder() -> Iterator[OpenAIEmbeddingServer]:
    with OpenAIEmbeddingServer() as server:
        yield server


@pytest.fixture
def embedding_site(tmp_path: Path, embedder: OpenAIEmbeddingServer) -> Iterator[Site]:
    with embedded_site(tmp_path, settings=EMBEDDED, OPENAI_API_KEY="k", OPENAI_BASE_URL=embedder.base_url) as made:
        yield made


def prose(*subjects: str) -> bytes:
    """A section a subject, each a chunk of its own."""
    return "\n\n".join(f"# {s}\n\n" + f"All that there is to know about {s} is here. " * 14 for s in subjects).encode()


def ready(user: User, name: str, content: bytes, **form: str) -> dict[str, Any]:
    answer = user.upload(name, content, **form)
    assert answer.status_code in {200, 202}, answer.text
    return user.document(answer.get_json()["id"], library="library" in form)


def found(user: User, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = user.post("/v1/search", {"query": query, **more})
    assert answer.status_code == 200, answer.text
    passages: list[dict[str, Any]] = answer.get_json()["passages"]
    return passages


def entries(site: Site, scope: Scope, document: str) -> list[Any]:
    documents = site.services.documents
    state = documents.versions.ensure_state()
    return documents.engine(state.current).index.read(scope, state.current.id, document)


def texts_sent(embedder: OpenAIEmbeddingServer) -> list[str]:
    return [text for _, body in embedder.requests for text in body["input"]]


def test_an_uploaded_file_is_found_at_its_place_and_the_search_says_that_it_was_by_words(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    content = prose("walruses", "penguins")
    document = ready(ada, "animals.md", content)
    assert (document["status"], document["progress"], document["error"]) == ("ready", 1.0, None)
    assert document["chunks"] == len(entries(site, ADA, document["id"]))
    answer = ada.post("/v1/search", {"query": "penguins"}).get_json()
    best = answer["passages"][0]
    assert answer["mode"] == "lexical"
    assert "words alone" in answer["note"]
    assert (best["document_id"], best["title"], best["headings"]) == (document["id"], "animals.md", ["penguins"])
    assert content.decode()[best["start"] : best["end"]].strip() == best["text"]


def test_the_same_content_again_is_not_indexed_again(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    first = ready(ada, "a.md", prose("walruses"))
    again = ada.upload("a.md", prose("walruses"))
    assert again.status_code == 200
    assert again.get_json()["job_id"] == first["job_id"]


def test_the_same_file_is_read_anew_after_an_upgrade_of_the_parsers_and_its_document_says_so_before(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = sign_in(site.app, "ada")
    first = ready(ada, "a.md", prose("walruses"))
    assert first["warnings"] == []
    monkeypatch.setattr(views, "READER", READER + 1)
    monkeypatch.setattr(ingestion, "READER", READER + 1)
    path = f"/v1/documents/{first['id']}"
    assert [each["code"] for each in ada.get(path).get_json()["warnings"]] == ["read_earlier"]
    monkeypatch.setattr(ingestion, "parse", lambda *_, **__: iter([Block("Walruses and seals.", "paragraph", 0)]))
    again = ready(ada, "a.md", prose("walruses"))
    assert again["job_id"] != first["job_id"]
    assert again["warnings"] == []
    assert [passage["text"] for passage in found(ada, "walruses")] == ["Walruses and seals."]
    assert ada.upload("a.md", prose("walruses")).get_json()["job_id"] == again["job_id"]


def test_a_changed_document_has_only_its_changed_chunks_embedded(
    embedding_site: Site, embedder: OpenAIEmbeddingServer
) -> None:
    ada = sign_in(embedding_site.app, "ada")
    document = ready(ada, "a.md", prose("walruses", "penguins", "otters"))
    before = texts_sent(embedder)
    assert len(before) == document["chunks"] > 2
    embedder.requests.clear()
    ready(ada, "a.md", prose("whales", "walruses", "otters"))
    sent = texts_sent(embedder)
    assert sent
    assert all("whales" in text for text in sent)
    titles = {entry.place["headings"][0] for entry in entries(embedding_site, ADA, document["id"])}
    assert titles == {"whales", "walruses", "otters"}, "what the earlier content left behind is gone"


def test_the_same_content_under_another_name_is_not_embedded_again(
    embedding_site: Site, embedder: OpenAIEmbeddingServer
) -> None:
    ada = sign_in(embedding_site.app, "ada")
    ready(ada, "a.md", prose("walruses", "penguins"))
    embedder.requests.clear()
    copy = ready(ada, "b.md", prose("walruses", "penguins"))
    assert copy["status"] == "ready"
    assert texts_sent(embedder) == []
    assert all(entry.vector is not None for entry in entries(embedding_site, ADA, copy["id"]))


def test_embedding_is_paid_from_the_users_day_and_nothing_stays_reserved(
    embedding_site: Site, embedder: OpenAIEmbeddingServer
) -> None:
    ada = sign_in(embedding_site.app, "ada")
    document = ready(ada, "a.md", prose("walruses"))
    tokens = sum(len(text.split()) for text in texts_sent(embedder))
    usage = ada.get("/v1/usage").get_json()
    assert document["cost_micro_usd"] == usage["cost_micro_usd"] == 20 * tokens
    (day,) = embedding_site.services.store.query(Query("apps/demo/users/ada/usage"))
    assert day.data["reservations"] == {}
    assert usage["requests"] == 0, "a job's steps are none of the minute's requests"


def test_a_document_that_the_day_does_not_cover_fails_and_says_so(
    tmp_path: Path, embedder: OpenAIEmbeddingServer
) -> None:
    settings = EMBEDDED.replace('daily_usd = "0.50"', 'daily_usd = "0.000100"')
    with embedded_site(tmp_path, settings=settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=embedder.base_url) as site:
        document = ready(sign_in(site.app, "ada"), "a.md", prose("walruses", "penguins"))
        assert document["status"] == "failed"
        assert document["error"]["problem"] == "budget_exceeded"
        assert "tomorrow" in document["error"]["message"]
        assert embedder.requests == []


def test_a_deleted_document_leaves_no_passage_no_file_and_no_record(site: Site, tmp_path: Path) -> None:
    ada = sign_in(site.app, "ada")
    document = ready(ada, "a.md", prose("walruses"))
    assert [path for path in (tmp_path / ".firelaunch" / "files").rglob("*") if path.is_file()]
    assert ada.delete(f"/v1/documents/{document['id']}").status_code == 204
    assert found(ada, "walruses") == []
    assert entries(site, ADA, document["id"]) == []
    assert ada.get(f"/v1/documents/{document['id']}").status_code == 404
    assert not [path for path in (tmp_path / ".firelaunch" / "files").rglob("*") if path.is_file()]
    assert site.services.store.query(Query("apps/demo/sources")) == []


HOSTILE = {
    "empty.pdf": (b"\n", "empty"),
    "cut.pdf": (b"%PDF-1.7\n1 0 obj <<", "damaged"),
    "image.png": (b"\x89PNG\r\n\x1a\n" + bytes(200), "picture"),
    "word.docx": (b"PK\x03\x04" + bytes(300), "damaged"),
    "deep.json": (b"[" * 100_000, "too_deep"),
}


def test_what_cannot_be_read_fails_with_a_reason_and_the_worker_goes_on(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    for name, (content, _) in HOSTILE.items():
        document = ready(ada, name, content)
        assert document["status"] == "failed", name
        assert document["error"]["problem"] in {HOSTILE[name][1], "unsupported"}, name
        assert document["error"]["message"].endswith((".", "CSV, JSON.")), name
        assert entries(site, ADA, document["id"]) == []
    line = ready(ada, "line.txt", b"walrus " * 300_000)
    assert line["status"] == "ready"
    assert ready(ada, "good.md", prose("walruses"))["status"] == "ready"


def test_a_file_that_failed_can_be_replaced(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    assert ready(ada, "a.md", b" \n")["status"] == "failed"
    assert ready(ada, "a.md", prose("walruses"))["status"] == "ready"
    assert ready(ada, "a.md", b" \n")["status"] == "failed"
    assert found(ada, "walruses") == [], "a document that failed is not searched"


def test_a_file_over_the_limit_and_one_document_too_many_are_refused(tmp_path: Path) -> None:
    settings = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.50"\ndocuments = 1')
    with embedded_site(tmp_path, settings=settings + "\n[documents]\nfile_bytes = 20000\n") as site:
        ada = sign_in(site.app, "ada")
        assert ada.upload("a.md", b"x" * 20_001).status_code == 413
        assert "at most 20 KB." in ada.upload("a.md", b"x" * 200_000).get_json()["error"]["message"]
        assert ada.upload("a.md", b"x" * 200_000).status_code == 413
        assert ada.upload("a.md", prose("walruses")).status_code == 202
        refused = ada.upload("b.md", prose("walruses"))
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "too_many_documents")
        assert "fields" not in refused.get_json()["error"]["message"], (
            "a user cannot choose the order of a form's fields"
        )
        assert ada.upload("a.md", prose("otters")).status_code == 202, "one that is there may be replaced"


def test_an_empty_file_is_refused_at_once_and_leaves_nothing(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    refused = ada.upload("a.md", b"")
    assert (refused.status_code, refused.get_json()["error"]["message"].split(".")[0]) == (400, "This file is empty")
    assert ada.get("/v1/documents").get_json()["items"] == []


def test_a_document_that_failed_counts_toward_the_plans_documents(tmp_path: Path) -> None:
    settings = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.50"\ndocuments = 1')
    with embedded_site(tmp_path, settings=settings) as site:
        ada = sign_in(site.app, "ada")
        assert ready(ada, "a.md", b" \n")["status"] == "failed"
        assert ada.upload("b.md", prose("walruses")).status_code == 409


def test_the_library_is_changed_by_admins_and_searched_by_all(site: Site) -> None:
    ada, root = sign_in(site.app, "ada"), sign_in(site.app, "root", "admin")
    assert ada.upload("rules.md", prose("walruses"), library="true").status_code == 403
    rules = ready(root, "rules.md", prose("walruses"), library="true")
    assert [hit["library"] for hit in found(ada, "walruses")] == [True] * rules["chunks"]
    assert found(ada, "walruses", library=False) == []
    assert [d["id"] for d in ada.get("/v1/documents?library=true").get_json()["items"]] == [rules["id"]]
    assert ada.get("/v1/documents").get_json()["items"] == []
    assert ada.delete(f"/v1/documents/{rules['id']}?library=true").status_code == 403
    assert root.delete(f"/v1/documents/{rules['id']}?library=true").status_code == 204
    assert found(ada, "walruses") == []


def test_no_search_of_two_apps_and_two_users_in_one_index_gives_what_is_anothers(tmp_path: Path) -> None:
    """Every user has the same words; only the owner's name in the text tells whose a passage is."""
    names = ["ada", "bob"]
    with (
        embedded_site(tmp_path) as one,
        embedded_site(tmp_path, settings=JOB_SETTINGS.replace('id = "demo"', 'id = "other"')) as two,
    ):
        users = {
            (app, name): sign_in(site.app, name) for app, site in (("demo", one), ("other", two)) for name in names
        }
        documents = {}
        for (app, name), user in users.items():
            text = f"# Secrets of {app}{name}\n\n" + "The common words are here for all to search. " * 30
            documents[app, name] = ready(user, f"{app}{name}.md", text.encode())["id"]
        pick = random.Random(5)  # noqa: S311 - the same choices each time
        for _ in range(200):
            (app, name), user = pick.choice(list(users.items()))
            other = pick.choice(list(documents.values()))
            query = pick.choice(["common words", "secrets", "demoada otherbob demobob otherada"])
            only = pick.choice([{}, {"documents": [other]}])
            for passage in found(user, query, **only):
                assert passage["document_id"] == documents[app, name]
            seen = user.get(f"/v1/documents/{other}").status_code
            assert seen == (200 if other == documents[app, name] else 404)
            if other != documents[app, name]:
                assert user.delete(f"/v1/documents/{other}").status_code == 404


def test_a_page_and_a_site_are_taken_in_by_their_address(tmp_path: Path) -> None:
    def page(subject: str, *links: str) -> SiteReply:
        anchors = "".join(f'<a href="{link}">next</a>' for link in links)
        return SiteReply(f"<main><h1>{subject}</h1><p>{f'All about {subject}. ' * 20}</p>{anchors}</main>".encode())

    pages = {"/": page("walruses", "/b", "/none"), "/b": page("penguins", "/")}
    with WebSite(pages) as web:
        fetcher = Fetcher(FetchLimits(ports=frozenset({web.port})), allow=lambda _: True)
        with embedded_site(tmp_path, fetcher=fetcher) as site:
            ada = sign_in(site.app, "ada")
            answer = ada.post("/v1/documents", {"url": f"{web.url}/b"})
            assert answer.status_code == 202, answer.text
            assert ada.document(answer.get_json()["id"])["status"] == "ready"
            assert found(ada, "penguins")[0]["url"] == f"{web.url}/b"
            missing = ada.post("/v1/documents", {"url": f"{web.url}/gone"}).get_json()
            assert ada.document(missing["id"])["error"]["problem"] == "status"
            job = ada.post("/v1/crawls", {"url": f"{web.url}/", "depth": 1, "pages": 9}).get_json()
            crawled = site.finished(site.job(ADA, job["id"]))
            assert '"pages":2' in (crawled.result or "")
            assert ada.document(DocumentSource("url", "", f"{web.url}/").id)["status"] == "ready"
            assert {hit["url"] for hit in found(ada, "walruses")} == {f"{web.url}/"}


def test_an_address_that_is_not_public_is_refused(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    for url in ("file:///etc/passwd", "http://127.1/", "http://user@example.com/", "ftp://example.com/"):
        assert ada.post("/v1/documents", {"url": url}).status_code == 422, url
        assert ada.post("/v1/crawls", {"url": url}).status_code == 422, url
    answer = ada.post("/v1/documents", {"url": "http://127.0.0.1/"})
    assert ada.document(answer.get_json()["id"])["error"]["problem"] == "private_address"


def test_a_file_of_the_users_uploads_is_taken_in_by_its_name(site: Site, tmp_path: Path) -> None:
    ada, bob = sign_in(site.app, "ada"), sign_in(site.app, "bob")
    source = tmp_path / "a.md"
    source.write_bytes(prose("walruses"))
    files = LocalFiles(tmp_path / ".firelaunch" / "files")
    with source.open("rb") as file:
        files.put(upload_path(ADA, "a.md"), file)
    for user, status in ((ada, "ready"), (bob, "failed")):
        answer = user.post("/v1/documents", {"upload": "a.md"})
        assert user.document(answer.get_json()["id"])["status"] == status


def form(*parts: tuple[str, str, str]) -> dict[str, Any]:
    """A multipart body of parts in their order: name, file name ("" for a field), content."""
    lines = []
    for name, filename, content in parts:
        named = f'; filename="{filename}"' if filename else ""
        lines += ["--b", f'Content-Disposition: form-data; name="{name}"{named}', "", content]
    body = "\r\n".join([*lines, "--b--", ""]).encode()
    return {"data": body, "content_type": "multipart/form-data; boundary=b"}


def sent(user: User, *parts: tuple[str, str, str]) -> Any:
    return user.client.post("/v1/documents", headers={"Authorization": f"Bearer {user.token}"}, **form(*parts))


FILE, NAME = ("file", "a.md", "walruses"), ("name", "", "b.md")


@pytest.mark.parametrize("parts", [(NAME, FILE), (FILE, NAME), (("other", "x.bin", "x"), FILE, NAME)], ids=len)
def test_a_forms_fields_may_come_before_and_after_its_file(site: Site, parts: Any) -> None:
    ada = sign_in(site.app, "ada")
    answer = sent(ada, *parts)
    assert (answer.status_code, answer.get_json()["name"], answer.get_json()["bytes"]) == (202, "b.md", 8)
    assert ada.document(answer.get_json()["id"])["status"] == "ready"
    root = sign_in(site.app, "root", role="admin")
    for order in ((FILE, ("library", "", "true")), (("library", "", "true"), FILE)):
        assert sent(root, *order).status_code in (200, 202)
        assert sent(ada, *order).status_code == 403
    assert len(root.get("/v1/documents?library=true").get_json()["items"]) == 1


@pytest.mark.parametrize(
    "parts", [(), (NAME,), (("file", "", "no file"),), (FILE, FILE), (FILE, ("library", "", "maybe"))], ids=range(5)
)
def test_a_form_that_is_no_upload_leaves_nothing(site: Site, tmp_path: Path, parts: Any) -> None:
    ada = sign_in(site.app, "ada")
    assert sent(ada, *parts).status_code == 400
    assert ada.get("/v1/documents").get_json()["items"] == []
    assert [path for path in (tmp_path / ".firelaunch" / "files").rglob("*") if path.is_file()] == []


def test_a_form_with_too_much_beside_its_file_is_refused(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    for parts in ((("x", "", "x" * 70_000), FILE), (FILE, ("x", "", "x" * 70_000)), *((FILE, *[NAME] * 30),)):
        assert sent(ada, *parts).status_code in (400, 413)
    assert ada.get("/v1/documents").get_json()["items"] == []


def test_where_the_plan_is_full_a_document_that_is_there_is_still_replaced(tmp_path: Path) -> None:
    limited = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.50"\ndocuments = 1')
    with embedded_site(tmp_path, settings=limited, started=False) as site:
        ada = sign_in(site.app, "ada")
        assert sent(ada, FILE).status_code == 202
        other = sent(ada, ("file", "c.md", "whales"))
        assert (other.status_code, other.get_json()["error"]["code"]) == (409, "too_many_documents")
        assert sent(ada, ("file", "a.md", "whales")).status_code == 202
        assert sent(ada, ("name", "", "a.md"), ("file", "c.md", "seals")).status_code == 202
        assert sent(ada, ("file", "c.md", "seals"), ("name", "", "a.md")).status_code == 409


def test_uploads_are_limited_by_the_minute_apart_from_messages(tmp_path: Path) -> None:
    limited = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.50"\nuploads_per_minute = 2')
    clock = [datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)]
    with embedded_site(tmp_path, settings=limited, started=False, clock=lambda: clock[0]) as site:
        ada, bob = sign_in(site.app, "ada"), sign_in(site.app, "bob")
        assert [sent(ada, FILE).status_code, ada.post("/v1/documents", {"upload": "x"}).status_code] == [202, 202]
        assert ada.send(ada.new_chat(), "hello").status_code == 200
        refused = sent(ada, FILE)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "rate_limited")
        assert refused.headers["Retry-After"] == "30"
        assert ada.post("/v1/documents", {"url": "https://example.com/"}).status_code == 429
        assert sent(bob, FILE).status_code == 202
        clock[0] += timedelta(seconds=30)
        assert ada.send(ada.new_chat(), "hello").status_code == 200
        assert sent(ada, FILE).status_code in (200, 202)


NO_FILE_NAMES = [
    *("", ".", "..", "...", " ", "/", "a/b", "../bob/a.md", "__x__", "a.", "a ", "x" * 201),
    *("a\nb", "a\rb", "a\tb", "a\x00b", "\x7f", "a\u200bb", "\u202ea", "\ud800"),
]


@pytest.mark.parametrize("name", NO_FILE_NAMES, ids=ascii)
def test_a_name_that_is_no_uploads_is_refused_before_anything_is_made(site: Site, name: str) -> None:
    ada = sign_in(site.app, "ada")
    answer = ada.post("/v1/documents", {"upload": name})
    assert (answer.status_code, answer.get_json()["error"]["code"] in {"invalid_id", "invalid_request"}) == (400, True)
    assert ada.get("/v1/documents").get_json()["items"] == []
    assert ada.get("/v1/jobs").get_json()["items"] == []


def test_an_upload_whose_whole_name_is_longer_than_cloud_storage_takes_is_refused(site: Site) -> None:
    short, long = sign_in(site.app, "ada"), sign_in(site.app, "\u00e4" * 128)
    name = "\U0001f600" * 200
    assert short.post("/v1/documents", {"upload": name}).status_code == 202
    answer = long.post("/v1/documents", {"upload": name})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_id")


@pytest.mark.parametrize("name", ["", ".", "..", ". .", "x" * 201, "a\u200bb"], ids=ascii)
def test_a_file_whose_name_says_nothing_is_refused(site: Site, name: str) -> None:
    ada = sign_in(site.app, "ada")
    assert ada.upload(name or " ", b"walruses").status_code == 400
    assert ada.get("/v1/documents").get_json()["items"] == []


def test_a_document_lands_in_the_version_that_is_built_beside_the_one_in_use(site: Site) -> None:
    ada, documents = sign_in(site.app, "ada"), site.services.documents
    old = ready(ada, "old.md", prose("walruses"))
    state = documents.versions.ensure_state()
    parts = {name: value for name, value in asdict(state.current).items() if name != "id"}
    second = Version.of_parts(**{**parts, "chunk_tokens": 64, "chunk_overlap": 10})
    path = site.services.store.scope.index_state()
    site.services.store.commit([Update(path, {"building": asdict(second)}, if_updated_at=state.update_time)])
    new = ready(ada, "new.md", prose("penguins"))
    index = documents.engine(second).index
    assert index.count(ADA, second.id) > new["chunks"]
    assert len(entries(site, ADA, new["id"])) == new["chunks"], "and in the one in use"
    assert index.read(ADA, second.id, old["id"]) == []
    assert all("penguins" not in p["text"] or p["end"] - p["start"] > 400 for p in found(ada, "penguins"))
    ada.delete(f"/v1/documents/{new['id']}")
    assert index.count(ADA, second.id) == 0


def test_settings_that_change_leave_what_is_searched_alone(tmp_path: Path) -> None:
    with embedded_site(tmp_path) as site:
        ready(sign_in(site.app, "ada"), "a.md", prose("walruses"))
        before = site.services.documents.versions.ensure_state().current
    with embedded_site(tmp_path, settings=JOB_SETTINGS + '\n[index]\nlanguage = "german"\nchunk_tokens = 90\n') as site:
        assert site.services.documents.versions.configured != before
        assert site.services.documents.versions.ensure_state().current == before
        ada = sign_in(site.app, "ada")
        assert found(ada, "walruses")
        (document,) = ada.get("/v1/documents").get_json()["items"]
        assert [each["code"] for each in document["warnings"]] == ["indexed_earlier"]


def test_a_job_reaches_the_documents_and_files_of_its_own_scope_alone(site: Site, tmp_path: Path) -> None:
    documents = site.services.documents.within(ADA)
    for other in (Scope("demo", "bob"), Scope("demo"), Scope("other", "ada")):
        for reach in (
            lambda: documents.get(other, "d1"),  # noqa: B023
            lambda: documents.delete(other, "d1"),  # noqa: B023
            lambda: documents.page(other, 10, None),  # noqa: B023
            lambda: documents.search(other, "x", state=None, spend=print),  # noqa: B023
            lambda: documents.files(other),  # noqa: B023
            lambda: documents.add(other, DocumentSource("file", "a")),  # noqa: B023
            lambda: documents.crawl(other, "https://example.com/", 1, 1),  # noqa: B023
            lambda: documents.wipe(other, "d1"),  # noqa: B023
        ):
            with pytest.raises(ScopeViolation):
                reach()
    files = ScopedFiles(LocalFiles(tmp_path), ADA)
    for path in ("apps/demo/users/bob/documents/d/x", "apps/demo/users/ada/../bob/x", "apps/demo/users/adam/x", "/x"):
        for touch in (files.open, files.delete):
            with pytest.raises(ScopeViolation):
                touch(path)
    with pytest.raises(InvalidId):
        upload_path(replace(ADA, uid=None), "a")


def test_work_that_was_given_up_shows_as_failed(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    document = ready(ada, "a.md", prose("walruses"))
    record = site.services.documents.record(ADA, document["id"])
    site.finished(site.job(ADA, record.data["job"]))
    site.services.store.commit([Update(record.path, {"status": "embedding"})])
    shown = ada.get(f"/v1/documents/{document['id']}").get_json()
    assert (shown["status"], shown["error"]["problem"]) == ("failed", "stopped")
