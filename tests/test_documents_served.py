"""Documents in a served app that is killed, and that is sent files meant to harm it."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firelaunch.rag.chunk import Chunking, chunks
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.parse import parse
from firelaunch.rag.pipeline import WINDOW
from firelaunch.scope import Scope
from firelaunch.testing.documents import lines_of, pdf
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from support import User, copy_template, served

ADA = Scope("my-app", "ada")


class StallingServer(OpenAIEmbeddingServer):
    """Embeds the first ``free`` requests, and then none until ``go`` is set."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self._free = free
        self.go = threading.Event()
        self.stalled = threading.Event()

    def answer(self, path: str, body: Any) -> Any:
        self._free -= 1
        if self._free < 0 and not self.go.is_set():
            self.stalled.set()
            self.go.wait(60)
        return super().answer(path, body)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    app = copy_template(tmp_path / "my-app")
    settings = app / "firelaunch.toml"
    text = settings.read_text().replace('backend = "firestore"', 'backend = "firestore"\nembedder = "openai"')
    settings.write_text(text + "\n[jobs]\nlease_seconds = 2\nbackoff_seconds = 0.1\n")
    return app


def put_up(user: User, name: str, content: bytes) -> str:
    answer = user.client.post("/v1/uploads", headers=user.headers, files={"file": (name, content)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ended(user: User, document: str) -> dict[str, Any]:
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        found: dict[str, Any] = user.call("GET", f"/v1/documents/{document}").json()
        if found["status"] in {"ready", "failed"}:
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_a_kill_in_the_middle_of_embedding_loses_and_doubles_no_chunk(folder: Path) -> None:
    content = "\n\n".join(" ".join(f"Word {n} comes before word {k}." for k in range(20)) for n in range(400))
    with StallingServer(free=2) as embedder:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": embedder.base_url}
        with served(folder, **environ) as server:
            document = put_up(server.sign_in("ada"), "long.txt", content.encode())
            assert embedder.stalled.wait(60)
            server.kill()
        embedder.go.set()
        with served(folder, **environ) as server:
            state = ended(server.sign_in("ada"), document)
        sent = Counter(text for _, body in embedder.requests for text in body["input"])
    assert state["status"] == "ready", state
    path = folder / "long.txt"
    path.write_text(content)
    with path.open("rb") as file:
        wanted = Counter(chunk.embedded_text for chunk in chunks(parse(file, "long.txt"), Chunking()))
    index = EmbeddedIndex(folder / ".firelaunch" / "index")
    (version,) = (path.name for path in (folder / ".firelaunch" / "index" / "my-app").iterdir())
    there = [hit.entry for hit in index.read(ADA, version, document)]
    index.close()
    assert sum(wanted.values()) == state["chunks"] > 3 * WINDOW
    assert Counter(entry.text for entry in there) == wanted
    assert all(entry.vector is not None for entry in there)
    again = sum(sent.values()) - sum(wanted.values())
    assert again == WINDOW, "embedded twice is the one window that was under way"


def bomb(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, content)
    return out.getvalue()


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "' + b"ha" * 50_000 + b'">]><x>' + b"&a;" * 50_000 + b"</x>"

HOSTILE = {
    "nothing.txt": b"\n",
    "cut.pdf": pdf([lines_of("Some text.")])[:200],
    "locked.pdf": pdf([lines_of("Some text.")], protected=True),
    "zip-bomb.docx": bomb("word/document.xml", bytes(400 * 2**20)),
    "entities.docx": bomb("word/document.xml", ENTITIES),
    "picture.md": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "deep.json": b"[" * 500_000,
}
READABLE = {
    "line.txt": b"one line without an end " * 440_000,
    "wrong.docx": pdf([lines_of("A PDF by another name, that says walrus.")]),
    "mixed.txt": "Ärger, 漢字かな, مرحبا, שלום. ".encode() * 50 + b"\xe4\xf6\xfc",
    "many.pdf": pdf([lines_of(f"# Page {n}\n\nThis is page {n}.") for n in range(300)]),
}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Any]:
    with served(copy_template(tmp_path / "my-app")) as server:
        yield server


def test_hostile_files_end_with_a_reason_and_the_worker_lives(plain: Any) -> None:
    ada = plain.sign_in("ada")
    documents = {name: put_up(ada, name, content) for name, content in {**HOSTILE, **READABLE}.items()}
    for name, document in documents.items():
        found = ended(ada, document)
        if name in HOSTILE:
            assert found["status"] == "failed", name
            assert len(found["error"]["message"]) > 20, name
        else:
            assert found["status"] == "ready", (name, found["error"])
            assert found["chunks"], name
    assert plain.process.poll() is None
    hits = ada.call("POST", "/v1/search", {"query": "walrus"}).json()["passages"]
    assert [hit["title"] for hit in hits] == ["wrong.docx"]
