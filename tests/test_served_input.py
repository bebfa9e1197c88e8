"""Requests that no client library would send: real gunicorn, real sockets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Server
from test_hostile_clients import connected, patience

JSON = "Content-Type: application/json"
LENGTH = "Content-Length: 2"
ODD = {
    "two tokens": [JSON, LENGTH, "Authorization: Bearer x"],
    "two keys": [JSON, LENGTH, "Idempotency-Key: a", "Idempotency-Key: b"],
    "two hosts": [JSON, LENGTH, "Host: evil"],
    "two types": [JSON, LENGTH, "Content-Type: text/plain"],
    "two lengths": [JSON, LENGTH, "Content-Length: 3"],
    "a length and chunks": [JSON, LENGTH, "Transfer-Encoding: chunked"],
    "a length that is none": [JSON, "Content-Length: -1"],
    "a length beyond reason": [JSON, "Content-Length: 99999999999999999999"],
    "a coding that is none": [JSON, "Transfer-Encoding: gzip, chunked"],
    "a colon in a name": [JSON, LENGTH, "X:Y: z"],
    "a NUL": [JSON, LENGTH, "X-A: a\x00b"],
    "a folded line": [JSON, LENGTH, "X-A: a\r\n b"],
    "a header of 100 kB": [JSON, LENGTH, "X-A: " + "x" * 100_000],
    "300 headers": [JSON, LENGTH, *(f"X-{n}: x" for n in range(300))],
    "a range": [JSON, LENGTH, "Range: bytes=0-0,-1,9-1", "If-Range: x"],
    "an expectation": [JSON, LENGTH, "Expect: 200-ok"],
    "an event id": [JSON, LENGTH, "Last-Event-ID: \xff", "Accept: text/event-stream"],
}


@pytest.mark.parametrize("path", ["/v1/chats", "/v1/documents", "/mcp"])
def test_odd_heads_are_answered_in_the_form_of_errors_and_harm_nobody(
    app_folder: Path, serve: Callable[..., Server], path: str
) -> None:
    patience(app_folder, 2)
    server = serve(app_folder)
    token = server.sign_in("ada").headers["Authorization"]
    with contextlib.ExitStack() as stack:
        asked = {}
        for name, headers in ODD.items():
            lines = [f"POST {path} HTTP/1.1", "Host: app", "Connection: close", f"Authorization: {token}", *headers]
            asked[name] = stack.enter_context(connected(server))
            head = "\r\n".join(lines)
            asked[name].sendall(f"{head}\r\n\r\n{{}}".encode("latin-1"))
        for name, sock in asked.items():
            seen = b""
            while data := sock.recv(65_536):
                seen += data
            top, _, body = seen.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
            status = int(top.split()[1])
            assert status < 500, (name, seen)
            assert status < 400 or {"code", "message"} <= json.loads(body)["error"].keys(), (name, seen)
    assert server.client.get("/ready").status_code == 200
