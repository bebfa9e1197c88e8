"""Each file has a process of its own, whose server keeps nothing of any file and outlives none of its callers."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from firelaunch.rag.parse import ParseLimits, fork_server
from firelaunch.rag.parse.parsing_processes import ForkServer, _request

LIMITS = ParseLimits()
MARK = "walrus" + "zeppelin"


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server._forget()


def answer(server: ForkServer, text: str, format_name: str = "any") -> str:
    """What a process writes about a text; it has ended well."""
    with TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        with closing(server.start(format_name, "txt", LIMITS, file)) as process:
            with os.fdopen(os.dup(process.output), "rb") as output:
                written = output.read().decode()
            assert process.wait() == 0
    return written


def process_of(server: ForkServer) -> int:
    assert server._server is not None
    return server._server[1].pid


def memory(process: int) -> bytes:
    """All that a process holds in memory and may write to."""
    held = io.BytesIO()
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if rights.startswith("rw"):
                begin, end = (int(part, 16) for part in place.split("-"))
                file.seek(begin)
                held.write(file.read(end - begin))
    return held.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="it reads another process's memory")
def test_the_server_holds_nothing_of_a_file_or_of_the_app(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", MARK[::-1])
    assert MARK in answer(server, f"The {MARK} of another user.")
    held = memory(process_of(server))
    assert b"firelaunch.rag.parse.text" in held, "the search finds what is there"
    assert MARK.encode() not in held
    assert MARK[::-1].encode() not in held


def test_files_read_at_once_come_whole_and_each_to_its_caller(server: ForkServer) -> None:
    texts = [f"File {number} says {number * 7}." for number in range(24)]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda text: answer(server, text), texts))
    for text, written in zip(texts, answers, strict=True):
        assert text in written
        assert written.count("File") == 1


def test_a_file_after_the_servers_death_is_read_by_another_server(server: ForkServer) -> None:
    answer(server, "One.")
    first = process_of(server)
    os.kill(first, signal.SIGKILL)
    assert "Two." in answer(server, "Two.")
    assert process_of(server) != first


def test_a_process_of_the_app_that_was_forked_has_a_server_of_its_own(server: ForkServer) -> None:
    answer(server, "One.")
    _, theirs, control = server._server or (0, None, None)
    assert theirs is not None
    assert control is not None
    server._server = (os.getpid() + 1, theirs, control)  # as a fork finds what its parent began
    assert "Two." in answer(server, "Two.")
    assert process_of(server) != theirs.pid
    control.close()
    assert theirs.wait(10) == 0, "and the first one ends when its own app lets go of it"


@contextmanager
def run_by(code: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A server that runs ``code`` before it serves, and the app's end of its socket."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    script = f"from firelaunch.rag.parse import child, fork_server, sniff\n{textwrap.dedent(code)}\nfork_server.main()"
    with theirs:
        server = subprocess.Popen([sys.executable, "-c", script], stdin=theirs)
    with server, ours:
        yield server, ours


def test_a_server_without_work_ends() -> None:
    with run_by("fork_server.IDLE_SECONDS = 0.05") as (server, control):
        assert control.recv(1) == b""
        assert server.wait(10) == 0


def test_a_server_ends_after_its_number_of_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("One.")
    with run_by("fork_server.MOST_FORKS = 1") as (server, control), (tmp_path / "a").open("rb") as file:
        with closing(_request(control, b'["any", "", {}]\n', file)) as process:
            assert process.wait() == 0
        assert server.wait(10) == 0


def test_a_parser_holds_no_descriptor_but_the_file_and_its_answer(tmp_path: Path) -> None:
    """A file that takes its process over finds no way to the server, to other files or to the app."""
    code = """
        import os
        def _held(file, limits, progress):
            open_ones = []
            for descriptor in range(256):
                try:
                    os.fstat(descriptor)
                except OSError:
                    continue
                open_ones.append(str(descriptor))
            yield child.Draft(" ".join(open_ones))
        from firelaunch.rag.parse.base import Draft
        child.Draft, child._held = Draft, _held
        sniff.FORMATS["held"] = "child:_held"
    """
    (tmp_path / "a").write_text("One.")
    with (
        run_by(code) as (_, control),
        (tmp_path / "a").open("rb") as file,
        closing(_request(control, b'["held", "", {}]\n', file)) as process,
    ):
        with os.fdopen(os.dup(process.output), "rb") as output:
            written = output.read().decode()
        assert process.wait() == 0
    assert '"0 1 2"' in written


def test_no_library_that_the_server_imports_starts_a_thread() -> None:
    """A fork has one thread, and waits for ever for a lock that another one held."""
    names = sorted({library for libraries in fork_server._LIBRARIES.values() for library in libraries})
    script = f"""
        import importlib, sys, threading
        from pathlib import Path
        for name in [*{names!r}, *{list(fork_server._ALWAYS)!r}]:
            importlib.import_module(name)
        tasks = Path("/proc/self/task")
        print(len(list(tasks.iterdir())) if tasks.exists() else threading.active_count(), "numpy" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.stdout == "1 False\n", done.stderr
