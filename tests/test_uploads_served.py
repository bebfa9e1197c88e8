"""Many uploads at once, against real gunicorn: what is refused is never read, and what is taken fills no memory."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import Server, User
from test_hostile_clients import connected
from test_relay import wait_until

MB = 1 << 20
MANY = 40
FILE = b"The harbour of Cesme freezes in no winter. " * (20 * MB // 43 - 1_000)
BEGIN = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s.csv"\r\n\r\n'
"""The ending is not a plain text's, which is refused while it arrives if it has too many characters."""

END = b"\r\n--b--\r\n"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the server has for temporary files."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


class Watch:
    """The most that a server's processes and their temporary files took while the block ran, over what they had."""

    def __init__(self, server: Server, spool: Path) -> None:
        self._server, self._spool = server, spool
        self.memory = self.files = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._before = self._resident()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.memory = max(self.memory, self._resident() - self._before)
            self.files = max(self.files, self._spooled())

    def _resident(self) -> int:
        return sum(_resident(pid) for pid in processes(self._server.process.pid))

    def _spooled(self) -> int:
        """Bytes of files in the folder, also of those that have no name any more."""
        found = 0
        for pid in processes(self._server.process.pid):
            for fd in _listed(Path(f"/proc/{pid}/fd")):
                try:
                    if str(self._spool) in str(fd.readlink()):
                        found += fd.stat().st_size
                except OSError:
                    continue
        return found


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:
        return


def processes(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in processes(int(child)))]


def _resident(pid: int) -> int:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def upload(
    server: Server, token: str, name: str, *, chunked: bool = False, content: bytes = FILE
) -> tuple[int, dict[str, str], int]:
    """Status, headers, and how many bytes were sent until the answer came."""
    begin = BEGIN % name.encode()
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(begin) + len(content) + len(END)}"
    head = f"POST /v1/uploads HTTP/1.1\r\nHost: app\r\nAuthorization: {token}\r\n{length}\r\n"
    head += "Connection: close\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    sent = 0
    with connected(server) as sock:
        sock.sendall(head.encode())
        try:
            for at in range(0, len(content), 65_536):
                piece = content[at : at + 65_536]
                piece = begin + piece if at == 0 else piece
                piece = piece + END if at + 65_536 >= len(content) else piece
                sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                sent += len(piece)
            if chunked:
                sock.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # refused in the middle of it
        seen = b""
        try:
            while data := sock.recv(65_536):
                seen += data
        except OSError:
            pass
    if not seen:
        return 0, {}, sent
    lines = seen.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), sent


def many(server: Server, token: str, name: str, *, chunked: bool = False) -> list[tuple[int, dict[str, str], int]]:
    found: list[tuple[int, dict[str, str], int]] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(upload(server, token, f"{name} {n}", chunked=chunked)))
        for n in range(MANY)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def settings(folder: Path, old: str, new: str) -> None:
    toml = folder / "firelaunch.toml"
    assert old in toml.read_text()
    toml.write_text(toml.read_text().replace(old, new))


@pytest.mark.parametrize("chunked", [False, True], ids=["of a length", "in chunks"])
def test_uploads_that_are_refused_are_not_read_and_those_that_are_taken_fill_no_memory(
    app_folder: Path, serve: Callable[..., Server], spool: Path, chunked: bool
) -> None:
    settings(
        app_folder, "requests_per_minute = 20", "requests_per_minute = 20\ndocuments = 6\nuploads_per_minute = 500"
    )
    server = serve(app_folder)
    ada = server.sign_in("ada").headers["Authorization"]
    assert upload(server, ada, "first", content=b"walruses")[0] == 202
    most = {"no token": 30, "valid": 200, "over the plan": 60}
    seen = {}
    for case, token in (("no token", "Bearer nobody"), ("valid", ada), ("over the plan", ada)):
        if case == "over the plan":
            for number in range(6):
                upload(server, ada, f"small {number}", content=b"walruses")
        with Watch(server, spool) as watch:
            answers = many(server, token, case, chunked=chunked)
        seen[case] = Counter(status for status, _, _ in answers)
        assert all(headers["Retry-After"] for status, headers, _ in answers if status in {429, 503})
        sys.stdout.write(f"{case}: {watch.memory / MB:.1f} MB, {watch.files} bytes in files, {dict(seen[case])}\n")
        assert watch.files < MB  # the jobs of what was taken have some, packed
        assert watch.memory < most[case] * MB
    # 0: the answer was lost, as the connection was closed while more of the file came.
    assert seen["no token"].keys() <= {401, 0}
    assert seen["valid"][202] >= 4
    assert seen["valid"].keys() <= {202, 409, 429, 0}
    assert seen["over the plan"].keys() <= {409, 429, 0}
    wait_until(lambda: incoming(app_folder) == [])


def test_all_users_together_have_a_quarter_of_an_instances_places_and_the_rest_is_told_when_to_come_back(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    settings(app_folder, "[cloud]", "[cloud]\nconcurrency = 8")
    server = serve(app_folder, CONCURRENCY="8")
    with contextlib.ExitStack() as stack:
        for uid in ("ada", "bob"):
            stack.enter_context(begun(server, server.sign_in(uid)))
        wait_until(lambda: len(incoming(app_folder)) == 2)
        status, headers, _ = upload(server, server.sign_in("eve").headers["Authorization"], "a", content=b"x" * 100)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert server.client.get("/readyz").status_code == 200
    eve = server.sign_in("eve").headers["Authorization"]
    wait_until(lambda: upload(server, eve, "a", content=b"x" * 100)[0] == 202)


def test_what_a_client_breaks_off_is_gone_at_once_and_what_a_kill_leaves_goes_with_a_later_upload(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder)
    with begun(server, server.sign_in("ada")):
        wait_until(lambda: len(incoming(app_folder)) == 1)
    wait_until(lambda: incoming(app_folder) == [])
    with begun(server, server.sign_in("ada")):
        wait_until(lambda: len(incoming(app_folder)) == 1)
        server.kill()
    (left,) = incoming(app_folder)
    server = serve(app_folder)
    ada = server.sign_in("ada").headers["Authorization"]
    assert upload(server, ada, "a", content=b"walruses")[0] == 202
    assert incoming(app_folder) == [left], "it may be another instance's"
    server.kill()
    # As if it had been left yesterday: its name says when it was begun.
    left.rename(left.with_name(re.sub(r"\d{10}", lambda found: str(int(found[0]) - 86_400), left.name, count=1)))
    server = serve(app_folder)
    assert upload(server, server.sign_in("bob").headers["Authorization"], "a", content=b"walruses")[0] == 202
    assert incoming(app_folder) == []


@contextlib.contextmanager
def begun(server: Server, user: User) -> Iterator[socket.socket]:
    """An upload that has come half way."""
    begin = BEGIN % b"half"
    head = f"POST /v1/documents HTTP/1.1\r\nHost: app\r\nAuthorization: {user.headers['Authorization']}\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {4 * MB}\r\n\r\n"
    with connected(server) as sock:
        sock.sendall(head.encode() + begin + b"x" * MB)
        yield sock


def incoming(folder: Path) -> list[Path]:
    """Files that are on their way to the app."""
    from firelaunch.rag.files import LocalFiles, incoming_folder
    from firelaunch.scope import Scope
    from firelaunch.settings.app import Settings

    app = Settings.load(folder / "firelaunch.toml", {}).app.id
    return list(_listed(LocalFiles(folder / ".firelaunch" / "files")._folder_of(incoming_folder(Scope(app)))))


@pytest.mark.parametrize("path", ["files", "text"])
def test_a_body_in_chunks_has_the_limits_of_one_that_tells_its_length(
    app_folder: Path, serve: Callable[..., Server], path: str
) -> None:
    server = serve(app_folder)
    ada = server.sign_in("ada")
    chat = ada.new_chat()
    url = "data:image/png;base64," + b64encode(b"\x89PNG\r\n\x1a\n" + bytes(2_000_000)).decode()
    large = {"text": "What is this?", "files": [{"url": url}]} if path == "files" else {"title": "x" * 400_000}
    small = {"text": "Hello"} if path == "files" else {"title": "Hello"}
    to = f"/v1/chats/{chat}/messages" if path == "files" else "/v1/chats"

    def sent(body: object) -> int:
        raw = json.dumps(body).encode()
        pieces = (raw[at : at + 50_000] for at in range(0, len(raw), 50_000))
        headers = {**ada.headers, "Content-Type": "application/json"}
        return server.client.post(to, content=pieces, headers=headers).status_code

    assert sent(small) in {200, 201}
    assert sent(large) == (200 if path == "files" else 413)
    if path == "files":
        assert sent({"text": "x", "files": [{"url": url}] * 9}) == 413
        assert sent(small) == 200
