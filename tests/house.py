"""Measure how the repo is built: ``make house`` prints the figures and writes ``build/house.json``.

``files_of_a_message`` and ``files_of_an_upload`` are the files of ``shared/`` that one message, or one upload with its
job, runs code of in a served app with a stub model.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imports
from firelaunch.testing.models import ModelServer
from support import PYTHON, ROOT, Server, copy_template, served

__all__ = ["figures"]

_TRACER = """
import http.client, os, pathlib, socket, sys, threading

seen = set()

def note(frame, event, _argument):
    if event == "call":
        seen.add(frame.f_code.co_filename)

def tell(path):
    server = socket.socket(socket.AF_UNIX)
    pathlib.Path(path).unlink(missing_ok=True)
    server.bind(path)
    server.listen()
    while True:
        asker, _ = server.accept()
        with asker:
            files = sorted(seen)
            seen.clear()
            asker.sendall("\\n".join(files).encode())

def begin():
    sys.setprofile(note)
    threading.setprofile(note)
    threading.Thread(target=tell, args=(os.environ["TRACER"],), daemon=True).start()

if "TRACER" in os.environ:
    os.register_at_fork(after_in_child=begin)
"""


def figures() -> dict[str, Any]:
    """Return what is measured, by name."""
    graph = imports.read()
    sources = {name: ROOT / "shared" / name / "src" for name in imports.DISTRIBUTIONS.values()}
    return {
        "modules_at_top": len(list((sources["firelaunch"] / "firelaunch").glob("*.py"))),
        "floors": len(imports.floors(graph.rooms())),
        "circles": len(imports.circles(graph.files())),
        "lines": {name: _lines(folder) for name, folder in sources.items()} | {"fakes": _lines(ROOT / "tests/fakes")},
        "complex_functions": _complex_functions(),
        **_walks(),
    }


def _lines(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))


def _complex_functions() -> int:
    command = [PYTHON, "-m", "ruff", "check", "--isolated", "--select", "C901", "--ignore-noqa"]
    command += ["--config", "lint.mccabe.max-complexity=10", "--output-format", "json", "shared"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return len(json.loads(done.stdout))


def _walks() -> dict[str, int]:
    with _traced() as (server, trace):
        ada = server.sign_in("ada")
        chat = ada.new_chat()
        ada.send(chat, "The first one loads what is loaded once.")
        trace()
        body, headers = {"text": "Hello"}, {**ada.headers, "Accept": "text/event-stream"}
        with server.client.stream("POST", f"/v1/chats/{chat}/messages", json=body, headers=headers) as answer:
            assert "event: done" in "".join(answer.iter_text())
        message = trace()
        _upload(server, ada.headers, "first.md")
        trace()
        _upload(server, ada.headers, "second.md")
        upload = trace()
    return {"files_of_a_message": len(message), "files_of_an_upload": len(upload)}


def _upload(server: Server, headers: dict[str, str], name: str) -> None:
    file = {"file": (name, f"# Otters\n\n{name} says that otters sleep on their backs.".encode())}
    document = server.client.post("/v1/uploads", files=file, headers=headers).json()["id"]
    give_up = time.monotonic() + 60
    while server.client.get(f"/v1/documents/{document}", headers=headers).json()["status"] != "ready":
        assert time.monotonic() < give_up, "the document was not indexed within a minute"
        time.sleep(0.05)


@contextmanager
def _traced() -> Iterator[tuple[Server, Any]]:
    """A served app, and a function that returns the files run since its last call."""
    with tempfile.TemporaryDirectory() as temporary, ModelServer() as model:
        folder = Path(temporary)
        (folder / "sitecustomize.py").write_text(_TRACER)
        place = str(folder / "tracer")
        environ = {"PYTHONPATH": str(folder), "TRACER": place}
        environ |= {"OPENAI_API_KEY": "test-key", "OPENAI_BASE_URL": model.base_url}

        def trace() -> list[str]:
            with socket.socket(socket.AF_UNIX) as asker:
                asker.connect(place)
                told = b"".join(iter(lambda: asker.recv(65536), b"")).decode()
            return [name for name in told.splitlines() if "/shared/" in name and "<" not in name]

        with served(copy_template(folder / "my-app"), **environ) as server:
            yield server, trace


def main() -> None:
    """Print the figures, and write them."""
    found = figures()
    for name, value in found.items():
        print(f"  {name:20} {value}")  # noqa: T201
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "house.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
