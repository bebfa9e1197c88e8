"""Bytes from a provider: cut anywhere, in any of their spellings, they are the same answer; and none makes us crash."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from firelaunch.errors import ModelError, ModelTimeout, ModelUnavailable
from firelaunch.llm.deadline import Deadline
from firelaunch.llm.providers.openai_compatible import _parse_answer, _parse_event
from firelaunch.llm.types import CallPart, TokenCounts
from firelaunch.llm.wire.http import Transport
from firelaunch.llm.wire.relay import relay
from firelaunch.llm.wire.sse import Decoder
from firelaunch.testing.models import ModelServer, Raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
SOCKETS = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """``data`` in pieces that end at ``places``."""
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)] or [b""]


def by_the_standard(data: bytes) -> list[bytes]:
    """The events' data, read line by line as the HTML standard says, from all of the bytes at once.

    But for one thing: a line of a whole JSON object is an event by itself if another follows without a blank line.
    """
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    found, collected, since = [], [], 0
    for line in lines:
        name, _, value = line.partition(b":")
        is_data = name == b"data" and b":" in line
        if collected and (not line or (is_data and since == 1 and is_object(collected[0]))):
            found.append(b"\n".join(collected))
            collected, since = [], 0
        if line and is_data:
            collected.append(value.removeprefix(b" "))
        since = since + 1 if line else 0
    return found


def is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


lines = st.one_of(
    st.just(b""),
    st.sampled_from(
        [b"data: {}", b"data:x", b"data:", b": comment", b"event: x", b"id", b"datax: 1", b"data :y", b"retry: 3"]
    ),
    st.binary(max_size=8).filter(lambda b: b"\r" not in b and b"\n" not in b),
    st.text(max_size=8).map(lambda t: b"data: " + t.encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"")),
)


def events(pieces: Sequence[bytes], *, ended: bool = False) -> list[bytes]:
    decoder = Decoder()
    found = []
    for piece in pieces:
        decoder.feed(piece)
        found += iter(decoder.event, None)
    if ended:
        decoder.end()
        found += iter(decoder.event, None)
    assert not decoder.has_event
    return found


@given(st.lists(st.tuples(lines, ENDS), max_size=20), st.lists(st.integers(0, 400), max_size=20))
def test_any_chunking_of_a_stream_gives_the_events_of_the_standard(spelt: Any, places: list[int]) -> None:
    data = b"".join(line + end for line, end in spelt) + b"\n\n"
    assert events(cut(data, places)) == by_the_standard(data)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_any_bytes_cut_anywhere_give_what_they_give_uncut(data: bytes, places: list[int]) -> None:
    assert events(cut(data, places), ended=True) == events([data], ended=True)


def test_an_event_that_does_not_end_is_given_up_on() -> None:
    decoder = Decoder()
    with pytest.raises(ModelUnavailable):
        deque((decoder.feed(b"data: " + b"x" * 100_000) for _ in range(100)), maxlen=0)


@st.composite
def answers(draw: Any) -> tuple[str, list[CallPart], bytes]:
    """A stream of a provider's, its text, and the pieces of its tool calls."""
    text, parts, out = "", [], []
    end = draw(ENDS)

    def event(data: Any) -> None:
        encoded = json.dumps(data, ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")
        out.extend([b"data: " + encoded, b""])

    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["text", "refusal", "role", "comment", "empty", "usage", "call", "null"]))
        if kind in {"text", "refusal"}:
            word = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
            text += word
            event({"choices": [{"delta": {"content" if kind == "text" else "refusal": word}, "finish_reason": None}]})
        elif kind == "call":
            part = CallPart(draw(st.integers(0, 1)), "", draw(st.sampled_from(["", "f"])), draw(st.text(max_size=3)))
            parts.append(CallPart(part.index, "", part.name, part.arguments.encode("utf-8", "replace").decode()))
            function = {"name": part.name or None, "arguments": parts[-1].arguments}
            event({"choices": [{"delta": {"tool_calls": [{"index": part.index, "function": function}]}}]})
        elif kind == "comment":
            out += [b": still here", b""]
        else:
            event(
                {
                    "role": {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
                    "empty": {"choices": []},
                    "usage": {"choices": [], "usage": USAGE},
                    "null": {"choices": [{"delta": None, "finish_reason": None}], "usage": None, "error": None},
                }[kind]
            )
    event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    event({"choices": [], "usage": USAGE})
    out += [b"data: [DONE]", b""]
    return text, parts, end.join([*out, b""])


def patience(**more: Any) -> Deadline:
    return Deadline(time.monotonic() + 20, 20, 20, **more)


def heard(server: ModelServer) -> tuple[str, list[CallPart], TokenCounts | None, str | None]:
    transport = Transport(server.base_url)
    found = list(
        relay(transport, "/chat/completions", {}, b'{"messages": []}', patience(), _parse_event, _parse_answer)
    )
    transport.close()
    tokens = next((chunk.tokens for chunk in reversed(found) if chunk.tokens), None)
    finish = next((chunk.finish for chunk in reversed(found) if chunk.finish), None)
    return "".join(c.text for c in found), [part for c in found for part in c.parts], tokens, finish


@SOCKETS
@given(answers(), st.lists(st.integers(0, 3000), max_size=12), st.booleans())
def test_an_answer_cut_anywhere_on_its_way_through_a_socket_is_the_same_answer(
    model: ModelServer, answer: tuple[str, list[CallPart], bytes], places: list[int], chunked: bool
) -> None:
    text, parts, body = answer
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    if chunked:
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut(body, places) if piece) + b"0\r\n\r\n"
        sent = head + b"Transfer-Encoding: chunked\r\n\r\n" + framed
    else:
        sent = head + b"Connection: close\r\n\r\n" + body
    model.script = [Raw(cut(sent, places))]
    assert heard(model) == (text, parts, TokenCounts(7, 2, 3), "stop")


@SOCKETS
@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_whatever_a_provider_sends_is_an_answer_or_a_models_error(
    model: ModelServer, pieces: list[bytes], headed: bool
) -> None:
    head = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"] if headed else []
    model.script = [Raw([*head, *pieces])]
    try:
        said = heard(model)
    except ModelError:
        return
    assert (said[0], b"[DONE]" in b"".join(pieces)) == ("", True)  # an answer that says nothing


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 99), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "usage", "prompt_tokens", "error", "tool_calls", "index"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@SOCKETS
@given(st.lists(json_values, min_size=1, max_size=4))
def test_json_of_another_form_is_an_answer_or_a_models_error(model: ModelServer, events: list[Any]) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    model.script = [Raw([head, *[b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]])]
    with pytest.raises(ModelError):
        heard(model)


def test_a_slow_drip_is_heard_to_its_end(model: ModelServer) -> None:
    body = (
        b'data: {"choices": [{"delta": {"content": "\xf0\x9f\x8c\x8d"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    model.script = [
        Raw([head[i : i + 1] for i in range(len(head))] + [body[i : i + 1] for i in range(len(body))], 0.001)
    ]
    assert heard(model)[0] == "\U0001f30d"


def test_a_head_that_does_not_end_and_a_drip_beyond_the_requests_time_are_given_up_on(model: ModelServer) -> None:
    model.script = [Raw([b"HTTP/1.1 200 OK\r\n"] + [b"X-%d: y\r\n" % n * 10 for n in range(2000)])]
    with pytest.raises(ModelUnavailable):
        heard(model)
    model.script = [Raw([b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"] + [b": x\n\n"] * 500, 0.01)]
    transport = Transport(model.base_url)
    until = Deadline(time.monotonic() + 0.3, 20, 20)
    with pytest.raises(ModelTimeout):
        list(relay(transport, "/chat/completions", {}, b'{"messages": []}', until, _parse_event, _parse_answer))


def test_a_connection_that_its_provider_let_go_of_is_replaced_and_the_request_is_sent_once(model: ModelServer) -> None:
    transport = Transport(model.base_url)
    with socket.create_connection(("127.0.0.1", transport._port)) as idle:
        transport._keep(idle)
        idle.shutdown(socket.SHUT_RDWR)
        answer = transport.post("/chat/completions", {}, b'{"model": "m", "messages": []}', patience())
        assert (answer.status, len(model.requests)) == (200, 1)
        answer.close()


def test_a_request_that_the_provider_does_not_read_ends_with_the_requests_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = Transport(f"http://127.0.0.1:{server.getsockname()[1]}")
        until = Deadline(time.monotonic() + 0.3, 20, 20)
        with pytest.raises(ModelTimeout):
            transport.post("/", {}, b"x" * 50_000_000, until)
        assert not until.sent


def test_a_body_longer_than_a_socket_takes_at_once_arrives_whole() -> None:
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while b"the end" not in (got[-1] if got else b""):
                    select.select([connection], [], [], 5)
                    got.append(connection.recv(1_000_000))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        transport = Transport(f"http://127.0.0.1:{server.getsockname()[1]}")
        call = patience()
        assert transport.post("/", {}, b"x" * 20_000_000 + b"the end", call).text() == "ok"
        thread.join()
    assert call.sent
    assert len(b"".join(got)) > 20_000_000


def test_a_connection_is_nobody_elses_before_its_answer_was_let_go_of() -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 11\r\n\r\ndata: {}\n\n\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = Transport(f"http://127.0.0.1:{server.getsockname()[1]}")
        accepted: list[socket.socket] = []

        def serve() -> None:
            accepted.append(server.accept()[0])
            accepted[0].sendall(body)

        threading.Thread(target=serve, daemon=True).start()
        answer = transport.post("/", {}, b"", patience())
        assert b"".join(filter(None, answer.pieces())) == b"data: {}\n\n\n"
        assert transport._take_idle() is None
        answer.close()
        kept = transport._take_idle()
        assert kept is not None
        kept.close()
        accepted[0].close()
