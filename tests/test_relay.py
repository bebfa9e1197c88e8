"""Streams of a served app: real gunicorn, real sockets, and clients and models that misbehave."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import NameOID
from firelaunch.llm.types import text_bound
from firelaunch.testing.models import ModelServer, Raw, Reply
from support import Server, User

WORDS = ["word "] * 40
LONG = Reply(words=["word "] * 4000, pace=0.02)

LOOPS = """
def answer(turn):
    for chunk in turn.llm.stream([{"role": "user", "content": turn.text}]):
        yield Chunk(chunk.text.upper(), chunk.tokens, chunk.finish)
"""
GOES_ON = """
def answer(turn):
    yield from turn.llm.stream([{"role": "user", "content": turn.text}])
    import threading
    yield Chunk("in " + threading.current_thread().name)
"""

ENDS = """
def answer(turn):
    try:
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])
    finally:
        import pathlib, threading
        pathlib.Path("ended-in").write_text(threading.current_thread().name)
"""

BOTH = """
def answer(turn):
    asked = [{"role": "user", "content": turn.text}]
    yield from turn.llm.stream(asked)
    for chunk in turn.llm.stream(asked):
        yield Chunk(chunk.text.upper(), chunk.tokens, chunk.finish)
"""

TWICE = """
def answer(turn):
    asked = [{"role": "user", "content": turn.text}]
    yield from turn.llm.stream(asked)
    yield from turn.llm.stream(asked)
"""

GATHERS_FOR_EVER = """
import firelaunch.server.stream_loop

firelaunch.server.stream_loop._GATHER_SECONDS = ((0, 3600.0),)
"""

SLOW_TO_LET_GO = """
import time
from firelaunch.server.stream_loop import StreamLoop

_add = StreamLoop.add


def _slow(stream_loop, served):
    _add(stream_loop, served)
    time.sleep(0.5)


StreamLoop.add = _slow
"""
"""A machine under load: the thread that handed a stream over gets no time until the stream is long back."""


def change_workflow(folder: Path, code: str) -> None:
    path = folder / "app" / "workflow.py"
    path.write_text(path.read_text().partition("def answer(")[0] + code)


def start(serve: Callable[..., Server], folder: Path, model: ModelServer, **environ: str) -> tuple[Server, User, str]:
    server = serve(folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url, **environ)
    ada = server.sign_in("ada")
    return server, ada, ada.new_chat()


@contextmanager
def asked(server: Server, user: User, chat: str, text: str = "Hello") -> Iterator[socket.socket]:
    """The bare connection of a client that has asked for a stream."""
    at = urlsplit(server.url)
    body = json.dumps({"text": text})
    head = [f"POST /v1/chats/{chat}/messages HTTP/1.1", "Host: app", "Accept: text/event-stream"]
    head += [f"Authorization: {user.headers['Authorization']}", f"Content-Length: {len(body)}"]
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=30) as sock:
        sock.sendall("\r\n".join([*head, "Content-Type: application/json", "", body]).encode())
        yield sock


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        data = sock.recv(65_536)
        assert data, seen[-2000:]
        seen += data
    return seen


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def told(seen: bytes) -> str:
    """The text that the deltas of a chunked stream told."""
    seen = re.sub(rb"\r\n[0-9a-fA-F]+\r\n", b"", seen)
    return "".join(json.loads(data)["text"] for data in re.findall(rb"event: delta\ndata: (.*)\n", seen))


def last_message(user: User, chat: str) -> dict[str, str]:
    message: dict[str, str] = user.call("GET", f"/v1/chats/{chat}").json()["messages"][-1]
    return message


@pytest.mark.parametrize("pace", [0.0, 0.03])
def test_a_stream_tells_all_of_the_answer_in_order_and_its_connection_serves_the_next(
    app_folder: Path, serve: Callable[..., Server], pace: float
) -> None:
    words = [f"w{number} " for number in range(60)]
    with ModelServer(Reply(words=words, pace=pace, usage=(10, 0, 60))) as model:
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as sock:
            seen = read_until(sock, b"\r\n0\r\n\r\n")
            text = "".join(words)
            assert told(seen) == text
            assert json.loads(seen.partition(b"event: done\ndata: ")[2].partition(b"\n")[0])["message"]["text"] == text
            sock.sendall(b"GET /live HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in read_until(sock, b"\r\n\r\n")
        assert last_message(ada, chat)["text"] == text


@pytest.mark.parametrize("words", [0, 1, 30], ids=["before the first word", "after it", "in the middle"])
def test_where_the_settings_say_so_a_client_that_leaves_ends_the_models_work_and_what_was_said_is_kept(
    app_folder: Path, serve: Callable[..., Server], words: int
) -> None:
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", '[limits]\non_disconnect = "stop"'))
    silent = Reply(words=["late"], pace=60)
    with ModelServer(LONG if words else silent) as model:
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as sock:
            seen = read_until(sock, b"event: start")
            wait_until(lambda: bool(model.requests))
            while seen.count(b"word") < words:
                seen += sock.recv(65_536)
        wait_until(lambda: ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
        wait_until(lambda: model.hung_up == 1)
        if words:
            kept = last_message(ada, chat)
            assert kept["status"] == "incomplete"
            assert kept["text"].startswith("word " * words)


def test_a_client_that_reads_nothing_slows_its_model_down_and_nobody_else(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    with ModelServer() as model:
        server, ada, chat = start(serve, app_folder, model)
        bob = server.sign_in("bob")
        bob.send(bob.new_chat(), "Hello")  # so that all that is imported is there
        model.default = Reply(words=["x" * 50_000] * 2_000)
        with asked(server, ada, chat) as lazy:
            read_until(lazy, b"event: delta")
            model.default = Reply()
            before = memory(server)
            for _ in range(5):
                assert bob.send(bob.new_chat(), "Hello").json()["message"]["text"] == "Hello from the model."
            assert memory(server) - before < 20_000_000, "the answer has 100 MB"


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, which only those trust who are told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "model")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "model.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + made.public_bytes(Encoding.PEM))
    return path


def test_over_tls_nothing_that_has_come_waits_for_what_comes_next(
    app_folder: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    pem = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    words = [*WORDS[:10], "x" * 100_000, *WORDS[:10]]
    with ModelServer(Reply(words=words, pace=0.03), tls=tls) as model:
        server, ada, chat = start(serve, app_folder, model, SSL_CERT_FILE=str(pem))
        with asked(server, ada, chat) as sock:
            seen = read_until(sock, b"\r\n0\r\n\r\n")
        assert b"event: done" in seen
        assert last_message(ada, chat)["text"] == "".join(words)


def memory(server: Server) -> int:
    """Bytes of memory of the app's worker."""
    (worker,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * 4096


def test_a_stream_that_breaks_off_tells_so_and_keeps_what_was_said(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    with ModelServer(Reply(words=WORDS, pace=0.03, cut_after=20)) as model:
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as sock:
            seen = read_until(sock, b"\r\n0\r\n\r\n")
        assert b"event: error" in seen
        assert b"model_unavailable" in seen
        assert last_message(ada, chat)["text"] == "word " * 20


def test_silence_between_two_words_ends_a_stream(app_folder: Path, serve: Callable[..., Server]) -> None:
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", "[limits]\nbetween_tokens_seconds = 1"))
    with ModelServer(Reply(words=["soon "], pace=0.2)) as model:
        model.default = Reply(words=["soon ", "never"], pace=2.5)
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as sock:
            seen = read_until(sock, b"\r\n0\r\n\r\n")
        assert b"model_timeout" in seen
        assert last_message(ada, chat)["text"] == "soon "


@pytest.mark.parametrize(("code", "end"), [(LOOPS, "WORD "), (GOES_ON, "in ThreadPoolExecutor-0_"), (BOTH, "WORD ")])
def test_a_workflows_own_code_never_runs_where_all_streams_wait(
    app_folder: Path, serve: Callable[..., Server], code: str, end: str
) -> None:
    change_workflow(app_folder, code)
    with ModelServer(Reply(words=WORDS, pace=0.02)) as model:
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as sock:
            read_until(sock, b"\r\n0\r\n\r\n")
        text = last_message(ada, chat)["text"]
    assert text[200:].startswith(end) or text.endswith(end)


def test_a_request_whose_time_is_used_up_is_settled_where_no_other_stream_waits(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    change_workflow(app_folder, ENDS)
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", "[limits]\nrequest_seconds = 1"))
    with ModelServer(Reply(words=["word "] * 400, pace=0.01)) as model:
        server, ada, chat = start(serve, app_folder, model)
        for _ in range(3):
            with asked(server, ada, chat) as sock:
                assert b"model_timeout" in read_until(sock, b"\r\n0\r\n\r\n")
            assert (app_folder / "ended-in").read_text().startswith("ThreadPoolExecutor")


@pytest.mark.parametrize(
    ("limit", "reply"),
    [
        ("request_seconds = 2", Reply(words=["word "] * 4000, pace=0.01)),
        ("between_tokens_seconds = 1", Reply(words=["word "] * 4000, pace=0.01, hang_after=100)),
        ("", Reply(words=["word "] * 4000, pace=0.01, error_after=100)),
        ("", Reply(words=["word "] * 4000, pace=0.01, cut_after=100)),
    ],
    ids=["out of time", "silent", "an error among its words", "cut"],
)
def test_all_that_was_shown_of_an_answer_that_failed_is_kept_and_paid_and_nothing_after_its_error(
    app_folder: Path, serve: Callable[..., Server], limit: str, reply: Reply
) -> None:
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[limits]", f"[limits]\n{limit}"))
    with ModelServer(reply) as model:
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as sock:
            seen = read_until(sock, b"\r\n0\r\n\r\n")
        assert b"event: error" in seen
        text = last_message(ada, chat)["text"]
        assert told(seen) == text
        assert ada.call("GET", "/v1/usage").json()["output_tokens"] == text_bound(text)
        if not limit:
            assert text == "word " * 100


def test_a_stream_may_be_back_before_the_thread_that_handed_it_over_has_ended(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    change_workflow(app_folder, TWICE + SLOW_TO_LET_GO)
    with ModelServer(Reply(words=["word "] * 10, pace=0.04)) as model:
        server, ada, chat = start(serve, app_folder, model)
        with asked(server, ada, chat) as sock:
            read_until(sock, b"\r\n0\r\n\r\n")
        assert last_message(ada, chat)["text"] == "word " * 20
    assert ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0


def test_many_streams_need_few_threads(app_folder: Path, serve: Callable[..., Server]) -> None:
    with ModelServer(Reply(words=WORDS, pace=0.1)) as model:
        server, ada, _ = start(serve, app_folder, model, CONCURRENCY="4")
        users = [server.sign_in(f"user{number}") for number in range(30)]
        texts: list[str] = []

        def send(user: User) -> None:
            chat = user.new_chat()
            with asked(server, user, chat) as sock:
                texts.append(read_until(sock, b"\r\n0\r\n\r\n").decode())

        threads = [threading.Thread(target=send, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(model.requests) == len(users))
        assert ada.call("GET", "/v1/me").status_code == 200
        assert not texts, "the request waited for a stream to end"
        for thread in threads:
            thread.join()
    assert len(texts) == len(users)
    assert all("event: done" in text for text in texts)


def test_the_first_text_does_not_wait_though_a_role_came_before_it(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    """OpenAI begins with an event that names the role, and holds no text."""
    change_workflow(app_folder, GOES_ON + GATHERS_FOR_EVER)
    role = (
        b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}\n\n'
    )
    word = b'data: {"choices": [{"index": 0, "delta": {"content": "%b "}, "finish_reason": null}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with ModelServer(Reply(words=["many "], hang_after=1)) as model, ExitStack() as clients:
        server, _, _ = start(serve, app_folder, model)

        def begun(text: bytes) -> socket.socket:
            user = server.sign_in(f"user{len(model.requests)}")
            sock = clients.enter_context(asked(server, user, user.new_chat()))
            read_until(sock, text)
            return sock

        for _ in range(20):
            begun(b"many ")
        # Each comes after the thread that asked has left the wait to the hub, which gathers for an hour.
        model.script = [Raw([head + role, role, word % b"first", word % b"second"], pace=0.3, hang=True)]
        sock = begun(b"first ")
        sock.settimeout(0.8)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        server.kill()


def test_thoughts_gather_but_for_the_first_of_an_answer(app_folder: Path, serve: Callable[..., Server]) -> None:
    change_workflow(app_folder, GOES_ON + GATHERS_FOR_EVER)
    toml = app_folder / "firelaunch.toml"
    toml.write_text(toml.read_text().replace("[models.openai]", "[models.openai]\nshow_thinking = true"))
    thought = b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "%b"}, "finish_reason": null}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with ModelServer(Reply(words=["many "], hang_after=1)) as model, ExitStack() as clients:
        server, _, _ = start(serve, app_folder, model)

        def begun(text: bytes) -> socket.socket:
            user = server.sign_in(f"user{len(model.requests)}")
            sock = clients.enter_context(asked(server, user, user.new_chat()))
            read_until(sock, text)
            return sock

        for _ in range(20):
            begun(b"many ")
        model.script = [Raw([head + thought % b"first", thought % b"second"], pace=0.3, hang=True)]
        sock = begun(b"first")
        sock.settimeout(0.8)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        server.kill()


def test_the_first_words_of_an_answer_do_not_wait_until_more_has_gathered(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    change_workflow(app_folder, GOES_ON + GATHERS_FOR_EVER)
    with ModelServer(Reply(words=["many "], hang_after=1)) as model, ExitStack() as clients:
        server, _, _ = start(serve, app_folder, model)

        def begun(word: bytes) -> socket.socket:
            user = server.sign_in(f"user{len(model.requests)}")
            sock = clients.enter_context(asked(server, user, user.new_chat()))
            read_until(sock, word)
            return sock

        for _ in range(20):
            begun(b"many ")
        model.script = [Reply(words=["first ", "second "], pace=0.3), Reply(words=["third "], pace=0.6)]
        first = begun(b"first ")
        begun(b"third ")
        first.setblocking(False)
        with pytest.raises(BlockingIOError):  # "second" was sent long ago, and gathers
            first.recv(1)
        server.kill()  # it would gather on
