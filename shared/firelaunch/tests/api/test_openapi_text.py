"""A citation opened: the passage as its document has it, for those who may read that document and for nobody else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch.rag.chunk import Chunking, chunks
from firelaunch.rag.parse.base import Block, document_text
from firelaunch.rag.pipeline import build, is_entry
from firelaunch.rag.stored_text import read_span, write_blocks
from firelaunch.scope import Scope
from firelaunch.testing.apps import User, sign_in
from hypothesis import given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path) as made:
        yield made


def prose(*subjects: str) -> bytes:
    """A section a subject, with characters that JavaScript and UTF-8 count otherwise than Python."""
    sections = (f"# {name}\n\n" + f"All that is known of {name} is here, 🦭 and é. " * 14 for name in subjects)
    return "\n\n".join(sections).encode()


def put_up(user: User, name: str, content: bytes, **form: str) -> str:
    answer = user.upload(name, content, **form)
    assert answer.status_code in {200, 202}, answer.text
    found: str = user.document(answer.get_json()["id"], library="library" in form)["id"]
    return found


def passages(user: User, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = user.post("/v1/search", {"query": query}).get_json()["passages"]
    return found


def opened(user: User, cited: dict[str, Any], **more: Any) -> Any:
    wanted = {name: cited[name] for name in ("start", "end", "chunk_id")} | more
    library = str(cited["library"]).lower()
    query = "&".join(f"{name}={value}" for name, value in {**wanted, "library": library}.items())
    return user.get(f"/v1/documents/{cited['document_id']}/text?{query}")


def test_every_passage_that_a_search_finds_opens_at_its_place_in_its_document(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    put_up(ada, "animals.md", prose("walruses", "penguins", "otters"))
    found = passages(ada, "walruses penguins otters")
    assert len(found) >= 3
    for cited in found:
        answer = opened(ada, cited, around=30).get_json()
        assert answer["text"].strip() == cited["text"]
        assert [answer[key] for key in ("title", "page", "headings")] == ["animals.md", None, cited["headings"]]
        whole = ada.get(f"/v1/documents/{cited['document_id']}/text").get_json()
        start, end = answer["start"], answer["end"]
        assert (start, end) == (cited["start"], cited["end"])
        assert answer["before"] == whole["text"][max(0, start - 30) : start]
        assert answer["after"] == whole["text"][end : end + 30]
        assert answer["characters"] == whole["characters"] == len(whole["text"]) == whole["end"]


def test_a_passage_of_a_text_that_comes_several_times_opens_at_each_of_its_places(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    document = put_up(ada, "again.md", prose("walruses", "walruses", "walruses"))
    documents = site.services.documents
    version = documents.versions.ensure_state().current
    entries = documents.engine(version).index.read(ADA, version.id, document)
    assert len({entry.text for entry in entries}) < len(entries)
    for entry in entries:
        cited = {"document_id": document, "chunk_id": entry.id, "library": False, **entry.place}
        assert opened(ada, cited).status_code == 200


def test_nobody_else_can_open_a_passage_and_nothing_tells_that_it_is_there(site: Site) -> None:
    ada, bob = sign_in(site.app, "ada"), sign_in(site.app, "bob")
    put_up(ada, "diary.md", prose("secrets"))
    (cited, *_) = passages(ada, "secrets")
    there, not_there = opened(bob, cited), opened(bob, {**cited, "document_id": "d" + "0" * 31})
    assert there.status_code == not_there.status_code == 404
    assert there.get_json()["error"]["message"] == not_there.get_json()["error"]["message"]
    assert opened(bob, {**cited, "library": True}).status_code == 404
    assert opened(ada, {**cited, "library": True}).status_code == 404
    # The same name is the same id: each of the two sees their own.
    put_up(bob, "diary.md", prose("nothing"))
    assert opened(bob, cited).get_json()["error"]["code"] == "passage_changed"
    assert "secrets" in opened(ada, cited).get_json()["text"]


def test_a_passage_of_the_library_opens_for_every_member(site: Site) -> None:
    put_up(sign_in(site.app, "boss", role="admin"), "rules.md", prose("holidays"), library="true")
    ada = sign_in(site.app, "ada")
    (cited, *_) = passages(ada, "holidays")
    assert cited["library"] is True
    assert opened(ada, cited).get_json()["text"].strip() == cited["text"]
    assert opened(ada, {**cited, "library": False}).status_code == 404


def test_a_passage_is_not_shown_for_one_that_was_there_before_it(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    document = put_up(ada, "a.md", prose("walruses", "penguins"))
    cited = passages(ada, "penguins")[0]
    put_up(ada, "a.md", prose("penguins", "walruses"))
    answer = opened(ada, cited)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "passage_changed")
    assert opened(ada, cited, start=cited["start"] + 1).status_code == 409
    assert ada.delete(f"/v1/documents/{document}").status_code == 204
    assert opened(ada, cited).status_code == 404


def test_a_document_that_could_not_be_read_has_no_text(site: Site) -> None:
    ada = sign_in(site.app, "ada")
    document = put_up(ada, "empty.md", b"\n")
    answer = ada.get(f"/v1/documents/{document}/text")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "conflict")


REFUSED = (
    *("start=-1", "start=x", "start=5&end=5", "start=5&end=4", "end=0", "end=20001", "around=5001", "around=-1"),
    *("start=999999", f"start={2**70}", "uid=bob", "chunk_id=" + "a" * 65),
)


@pytest.mark.parametrize("query", REFUSED)
def test_what_is_no_part_of_the_text_is_refused_with_its_name(site: Site, query: str) -> None:
    ada = sign_in(site.app, "ada")
    document = put_up(ada, "a.md", prose("walruses"))
    answer = ada.get(f"/v1/documents/{document}/text?{query}")
    assert answer.status_code == 400, answer.text
    assert query.rpartition("&")[2].partition("=")[0] in answer.get_json()["error"]["message"]


BLOCKS = st.lists(st.tuples(st.text(min_size=1, max_size=40), st.integers(0, 3)), max_size=12)


def blocks_of(parts: list[tuple[str, int]]) -> list[Block]:
    made, at = [], 0
    for number, (text, gap) in enumerate(parts):
        made.append(Block(text, "paragraph", at + gap, number + 1, (f"h{number}",)))
        at += gap + len(text)
    return made


@given(BLOCKS, st.integers(0, 200), st.integers(1, 80), st.integers(0, 50))
def test_a_span_is_the_slice_of_the_text_that_it_names(
    parts: list[tuple[str, int]], start: int, length: int, around: int
) -> None:
    blocks = blocks_of(parts)
    # A lone surrogate is no text that a parser gives: it would not go into a file.
    whole = document_text(blocks).encode("utf-8", "replace").decode()
    blocks = [Block(b.text.encode("utf-8", "replace").decode(), b.kind, b.start, b.page, b.headings) for b in blocks]
    file = io.BytesIO()
    write_blocks(blocks, file)
    file.seek(0)
    span = read_span(file, start, start + length, around)
    if span is None:
        assert start >= len(whole)
        return
    assert span.text == whole[start : start + length]
    assert span.before == whole[max(0, start - around) : start]
    assert span.after == whole[start + length : start + length + around]
    first = next(block for block in blocks if block.end > start)
    assert (span.page, span.headings) == (first.page, first.headings)


class Recorder:
    """An empty index that keeps the ids of what is written to it."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def read(self, *_: Any) -> list[Any]:
        return []

    def upsert(self, _scope: Any, _version: str, entries: Any, _fence: Any = None) -> None:
        self.ids += [entry.id for entry in entries]

    def delete(self, *_: Any, **__: Any) -> None: ...


@given(BLOCKS, st.integers(16, 40))
def test_the_id_of_every_chunk_is_known_from_its_text_and_place_alone(parts: list[tuple[str, int]], size: int) -> None:
    chunking = Chunking(size=size, overlap=size // 4)
    version = type("Version", (), {"id": "v", "chunking": chunking, "language": "auto"})
    index = Recorder()
    engine: Any = type("Engine", (), {"index": index, "version": version})
    blocks = blocks_of(parts)
    list(build(engine, None, "d1", {}, blocks, None))  # type: ignore[arg-type]
    wanted = [chunk for chunk in chunks(blocks, chunking) if chunk.text.strip()]
    assert len(wanted) == len(index.ids)
    for name, chunk in zip(index.ids, wanted, strict=True):
        assert is_entry(name, "d1", chunk)
        assert not is_entry(name, "d2", chunk)
