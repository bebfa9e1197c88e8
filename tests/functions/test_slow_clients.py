"""Functions whose callers are slow, silent, or nobody who may call: real functions-framework processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from firelaunch.testing.apps import SETTINGS, write_app
from support import served_function
from test_hostile_clients import UNFINISHED, connected_to, read_until

CASES = {
    "erasure": ("app_functions", "/erase_user/apps/demo/erasures/ada", 200),
    "Stripe": ("stripe_webhook", "/", 400),
    "joining": ("membership", "/apps/demo/join", 401),
}

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    write_app(tmp_path, SETTINGS)
    environ = {
        "GOOGLE_CLOUD_PROJECT": "demo-project",
        "APPS": str(tmp_path),
        "FUNCTIONS": "erase_user",
        "THREADS": "4",
    }
    stripe = {"BILLING_APPS": "demo", "STRIPE_API_KEY": "sk_test_key", "STRIPE_WEBHOOK_SECRET": "whsec_of_a_test"}
    with ExitStack() as stack:
        more = {"stripe_webhook": stripe}
        yield lambda name: stack.enter_context(served_function(name, tmp_path, **environ | more.get(name, {})))


@pytest.mark.parametrize("case", CASES)
def test_strangers_who_send_one_byte_of_a_body_silence_no_function(start: Start, case: str) -> None:
    name, path, status = CASES[case]
    url = start(name)
    with ExitStack() as open_ones:
        for number in range(60):
            sock = open_ones.enter_context(connected_to(url))
            if number % 2:
                sock.sendall(UNFINISHED % path.encode())
            else:
                length = b"Content-Length: 100000" if number % 4 else b"Transfer-Encoding: chunked"
                sock.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n{" % (path.encode(), length))
        for _ in range(3):
            answer = httpx.post(url + path, json={"dry_run": True}, trust_env=False, timeout=8)
            assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [("membership", "/apps/demo/join", b"401"), ("app_functions", "/nothing", b"404")],
)
def test_who_is_refused_by_a_function_is_told_so_before_their_body_has_come(
    start: Start, name: str, path: str, status: bytes
) -> None:
    url = start(name)
    with connected_to(url) as sock:
        sock.settimeout(8)
        sock.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{" % path.encode())
        head = read_until(sock, b"\r\n\r\n")
    assert head[9:12] == status
    assert b"\r\nConnection: close\r\n" in head
