"""A full disk, a disk that takes no writes and a process without descriptors are told to clients as what they are."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firelaunch import Chunk, Turn
from firelaunch.errors import StoreUnavailable
from firelaunch.store.machine_faults import machine_fault
from firelaunch.testing.apps import SETTINGS, sign_in

_PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.llm.types import Chunk
from firelaunch.testing.apps import SETTINGS, sign_in, write_app

folder = Path(sys.argv[1])
services = build(Settings.load(write_app(folder, SETTINGS), {}))
app = App("faults")
init_app(app, services, lambda _: [Chunk("Yes.")])
ada = sign_in(app, "ada")
chat = ada.new_chat()
assert ada.send(chat, "before").status_code == 200
document = ada.upload("before.txt", b"words").get_json()["id"]
document = ada.get(f"/v1/documents/{document}/file").get_json()["url"]
document = document[document.index("/v1/") :]


def told(answer):
    error = (answer.get_json(silent=True) or {}).get("error", {})
    print(answer.status_code, error.get("code"), answer.headers.get("Retry-After"))


def limit(kind, most):
    resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
"""


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PRELUDE + script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def played(folder: Path, script: str) -> list[str]:
    """What an app in a process of its own told its client, one line for each ``told``."""
    return run(folder, script).stdout.splitlines()


UNAVAILABLE = "503 store_unavailable 10"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_without_a_byte_left_is_503_for_writes_until_there_is_room(small_disk: Path) -> None:
    script = """
ballast = open(folder / "ballast", "wb", buffering=0)
try:
    while True:
        ballast.write(b"0" * 4096)
except OSError:
    pass
told(ada.post("/v1/chats", {"title": "x" * 80}))
told(ada.send(chat, "x" * 4000))
told(ada.upload("a.txt", b"words " * 5000))
told(ada.get("/v1/chats"))
os.unlink(folder / "ballast")
ballast.close()
told(ada.post("/v1/chats", {}))
"""
    *refused, read, later = played(small_disk, script)
    assert refused == [UNAVAILABLE] * 3
    assert (read, later) == ("200 None None", "201 None None")


def test_a_disk_that_takes_no_writes_is_503_for_writes_and_reads_go_on(small_disk: Path) -> None:
    script = """
import subprocess
services.store.close()
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
again = build(Settings.load(folder / "firelaunch.toml", {}))
app = App("again")
init_app(app, again, lambda _: [Chunk("Yes.")])
ada = sign_in(app, "ada")
told(ada.post("/v1/chats", {}))
told(ada.upload("a.txt", b"words"))
"""
    assert played(small_disk, script) == [UNAVAILABLE] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="/proc counts the descriptors")
def test_a_process_without_descriptors_is_503_and_says_of_no_file_that_it_is_not_there(tmp_path: Path) -> None:
    script = """
told(ada.get(document))
again = App("again")
init_app(again, build(Settings.load(folder / "firelaunch.toml", {})), lambda _: [Chunk("Yes.")])
bob = sign_in(again, "bob")
before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
limit(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) - 1)
told(bob.post("/v1/chats", {}))  # its database is not open yet
told(ada.get(document))  # its database is, and the file is not
limit(resource.RLIMIT_NOFILE, before)
told(ada.get(document))
told(bob.post("/v1/chats", {}))
"""
    first, *refused, later, last = played(tmp_path, script)
    assert refused == [UNAVAILABLE] * 2
    assert (first, later, last) == ("200 None None", "200 None None", "201 None None")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_a_file_that_may_not_grow_is_503(tmp_path: Path) -> None:
    """As where a quota is used up."""
    script = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit(resource.RLIMIT_FSIZE, 1024)
told(ada.post("/v1/chats", {}))
told(ada.upload("a.txt", b"words " * 5000))
"""
    assert played(tmp_path, script) == [UNAVAILABLE] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_the_log_says_in_one_line_what_the_machine_said_of_a_store_or_a_view(tmp_path: Path) -> None:
    script = """
import errno
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def full():
    raise OSError(errno.ENOSPC, "No space left on device")


endpoints = {rule.rule: rule.endpoint for rule in app.url_map.iter_rules()}
app.view_functions[endpoints["/v1/usage"]] = full
print("from here", file=sys.stderr)
told(ada.get("/v1/usage"))
limit(resource.RLIMIT_FSIZE, 1024)
told(ada.post("/v1/chats", {"title": "x" * 80}))
"""
    done = run(tmp_path, script)
    assert done.stdout.splitlines() == [UNAVAILABLE] * 2
    log = done.stderr.partition("from here")[2]
    errors = [line for line in log.splitlines() if "store_unavailable: " in line]
    assert len(errors) == 2
    assert "No space left on device" in errors[0]
    assert "disk I/O error" in errors[1]
    assert "Traceback" not in log


def test_a_workflow_that_meets_a_fault_of_the_machine_is_503_and_leaves_no_traceback(
    make_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Turn) -> Iterator[Chunk]:
        raise OSError(errno.ENOSPC, "No space left on device")

    ada = sign_in(make_app(SETTINGS, answer=full), "ada")
    answered = ada.send(ada.new_chat(), "Hello")
    assert (answered.status_code, answered.get_json()["error"]["code"]) == (503, "store_unavailable")
    failed = [record for record in caplog.records if "No space left on device" in record.getMessage()]
    assert any("the app's workflow failed in request" in record.getMessage() for record in failed)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ECONNREFUSED, errno.ENAMETOOLONG, None])
def test_other_errors_are_not_the_machines(number: int | None) -> None:
    assert machine_fault(OSError(number, "no") if number else ValueError("no")) is None


def test_the_machines_own_words_are_for_the_log_alone() -> None:
    fault = machine_fault(OSError(errno.ENOSPC, "No space left on device", "/data/secret"))
    assert isinstance(fault, StoreUnavailable)
    assert "/data/secret" in str(fault)
    assert fault.for_client == ("store_unavailable", StoreUnavailable.message)
