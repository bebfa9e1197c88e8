"""Serve OpenAI's chat completions on a real socket, and fail as providers do."""

from __future__ import annotations

import json
import select
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from .chat_rules import chat_problem

__all__ = ["Action", "Fault", "ModelServer", "Raw", "Reply"]


_FOR_EVER = 60.0
"""Seconds that stand for ever, as tests end sooner."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the model.

    Args:
        words: the text, in the pieces that a stream sends.
        usage: (input, cached input, output) tokens; None leaves usage out, as some servers do.
        pace: seconds before each piece.
        cut_after: pieces after which the connection is cut; None for never.
        error_after: pieces after which the stream sends an error object; None for never.
        hang_after: pieces after which the server sends nothing until the client leaves; None for never.
        calls: (name, arguments) of the tools that the model calls after the text.
        finish: the reason why the answer ended, and refusal: whether the text is the model's refusal.
        thoughts: what the model thinks aloud before the text, and thinking_tokens: how many of the output tokens it is.
        audio_tokens: how many of the input tokens are recordings.
    """

    words: Sequence[str] = ("Hello", " from", " the", " model.")
    usage: tuple[int, int, int] | None = (10, 0, 4)
    pace: float = 0.0
    cut_after: int | None = None
    error_after: int | None = None
    hang_after: int | None = None
    calls: Sequence[tuple[str, str]] = ()
    finish: str = "stop"
    refusal: bool = False
    thoughts: str = ""
    thinking_tokens: int = 0
    audio_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in place of an answer.

    Args:
        status: the HTTP status; 0 cuts the connection before any answer.
        wait: seconds before the error.
        body: text or JSON; by default an error object in OpenAI's format.
    """

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    body: str | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Raw:
    """The raw bytes of any answer, from its HTTP head on, after which the connection ends.

    Args:
        pace: seconds before each piece.
        hang: keep the connection open in silence after the bytes, until the client leaves.
    """

    pieces: Sequence[bytes]
    pace: float = 0.0
    hang: bool = False


Action = Reply | Fault | Raw


class ModelServer:
    """A model server, as a context manager. Set OPENAI_BASE_URL to its ``base_url``.

    Attributes:
        script: the next answers, in order; after them the server answers with ``default``.
        requests: the bodies received, in order.
        authorizations: the Authorization header of each request.
        paths, headers: the target and the headers of each request, the headers' names in lower case.
        hung_up: the number of clients that left before their answer had ended.
        flagged: words for which ``/moderations`` flags a text.
        moderated: the texts sent to ``/moderations``.
        moderation: a raw answer of ``/moderations`` that replaces its own answers.
        refusal: returns the message and the parameter of a further refusal, or None;
            :func:`.chat_rules.openai_refusal` has OpenAI's rules.
    """

    def __init__(
        self, default: Action = Reply(), host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.default = default
        self.script: list[Action] = []
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.hung_up = 0
        self.flagged: set[str] = set()
        self.moderated: list[str] = []
        self.moderation: str | None = None
        self.refusal: Callable[[dict[str, Any]], tuple[str, str | None] | None] = lambda _: None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server = _Server((host, port), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.base_url = f"{'https' if tls else 'http'}://{host}:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def models_called(self) -> list[str]:
        """Return the model of each request, in order."""
        return [request["model"] for request in self.requests]

    def _note(self, path: str, headers: dict[str, str]) -> None:
        with self._lock:
            self.paths.append(path)
            self.headers.append(headers)

    def _next(self, request: dict[str, Any], authorization: str) -> Action:
        with self._lock:
            self.requests.append(request)
            self.authorizations.append(authorization)
            return self.script.pop(0) if self.script else self.default


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that leave: tests make them leave on purpose."""


def _handler(owner: ModelServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a server's handler, with its routes in it
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = json.loads(body)
            if self.path.endswith("/moderations"):
                self._moderate(request["input"])
                return
            owner._note(self.path, {name.lower(): value for name, value in self.headers.items()})
            action = owner._next(request, self.headers.get("Authorization", ""))
            refused = None if isinstance(action, Raw) else chat_problem(request) or owner.refusal(request)
            if refused is not None:
                message, parameter = refused if isinstance(refused, tuple) else (refused, None)
                error = {"message": message, "type": "invalid_request_error", "param": parameter, "code": None}
                self._fail(Fault(400, body=json.dumps({"error": error})))
            elif isinstance(action, Raw):
                self._raw(action)
            elif isinstance(action, Fault):
                self._fail(action)
            elif request.get("stream"):
                self._stream(request, action)
            else:
                self._whole(request, action)

        def _moderate(self, text: str) -> None:
            owner.moderated.append(text)
            if isinstance(owner.default, Fault):
                self._fail(owner.default)
                return
            flagged = any(word in text for word in owner.flagged)
            result = {
                "flagged": flagged,
                "categories": {"harassment": flagged, "violence": False},
                "category_scores": {"harassment": float(flagged), "violence": 0.0},
                "category_applied_input_types": {"harassment": ["text"], "violence": ["text"]},
            }
            answer = {"id": "modr-test", "model": "omni-moderation-latest", "results": [result]}
            body = json.dumps(answer) if owner.moderation is None else owner.moderation
            self._send(200, body, "application/json", {})

        def _fail(self, fault: Fault) -> None:
            if self._left_within(fault.wait):
                return
            if fault.status == 0:
                self.close_connection = True
                return
            error = {"error": {"message": "scripted", "type": "server_error", "code": None}}
            self._send(fault.status, fault.body or json.dumps(error), fault.content_type, fault.headers)

        def _raw(self, raw: Raw) -> None:
            self.close_connection = True
            for piece in raw.pieces:
                if self._left_within(raw.pace):
                    return
                try:
                    self.wfile.write(piece)
                except OSError:
                    owner.hung_up += 1
                    return
            if raw.hang:
                self._left_within(_FOR_EVER)

        def _whole(self, request: dict[str, Any], reply: Reply) -> None:
            for _ in reply.words:
                if self._left_within(reply.pace):
                    return
            if reply.hang_after is not None:
                self._left_within(_FOR_EVER)
                return
            if reply.cut_after is not None:
                self.close_connection = True
                return
            text = "".join(reply.words)
            message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
            if reply.refusal:
                message = {"role": "assistant", "content": None, "refusal": text}
            if reply.thoughts:
                message["reasoning_content"] = reply.thoughts
            if reply.calls:
                message["tool_calls"] = [_call(*call, number) for number, call in enumerate(reply.calls)]
            answer = {
                "id": "chatcmpl-test",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": None}],
            }
            if reply.usage is not None:
                answer["usage"] = _usage(reply)
            self._send(200, json.dumps(answer), "application/json", {})

        def _send(self, status: int, body: str, content_type: str, headers: Mapping[str, str]) -> None:
            raw = body.encode()
            self.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def _stream(self, request: dict[str, Any], reply: Reply) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for count, chunk in enumerate(_chunks(request, reply)):
                if reply.hang_after == count:
                    self._left_within(_FOR_EVER)
                    return
                if reply.cut_after == count:
                    return
                if self._left_within(reply.pace):
                    return
                if reply.error_after == count:
                    chunk = {"error": {"message": "scripted", "type": "server_error", "code": None}}
                try:
                    if not count:
                        self.wfile.write(b"data: " + json.dumps(_role(request)).encode() + b"\n\n")
                    self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                except OSError:
                    owner.hung_up += 1
                    return
            with suppress(OSError):
                self.wfile.write(b"data: [DONE]\n\n")

        def _left_within(self, seconds: float) -> bool:
            """Wait, and return whether the client closed its connection meanwhile, as a real server would notice."""
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0 and not owner._stopped.is_set():
                poll = select.poll()  # select.select takes no file descriptor over 1023
                poll.register(self.connection, select.POLLIN)
                if poll.poll(1000 * min(left, 0.05)) and self._is_gone():
                    owner.hung_up += 1
                    self.close_connection = True
                    return True
            return False

        def _is_gone(self) -> bool:
            try:
                return not self.connection.recv(1, 0x02)  # MSG_PEEK
            except OSError:  # a reset: the client closed with unread data
                return True

        def log_message(self, *_: Any) -> None:
            """Log nothing, to keep the tests' output clean."""

    return Handler


def _head(request: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 0, "model": request["model"]}


def _role(request: dict[str, Any]) -> dict[str, Any]:
    """Return the event without text with which OpenAI begins every stream."""
    delta = {"role": "assistant", "content": "", "refusal": None}
    return {**_head(request), "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}


def _chunks(request: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    head = _head(request)
    for delta in _deltas(reply):
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}
    finish = "tool_calls" if reply.calls else reply.finish
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": None}
    if reply.usage is not None and request.get("stream_options", {}).get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(reply)}


def _deltas(reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.thoughts:
        yield {"reasoning_content": reply.thoughts}
    for word in reply.words:
        yield {"refusal" if reply.refusal else "content": word}
    for number, (name, arguments) in enumerate(reply.calls):
        first_piece = _call(name, "", number)
        yield {"tool_calls": [{**first_piece, "index": number}]}
        for start in range(0, len(arguments), 3):
            yield {"tool_calls": [{"index": number, "function": {"arguments": arguments[start : start + 3]}}]}


def _call(name: str, arguments: str, number: int) -> dict[str, Any]:
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _usage(reply: Reply) -> dict[str, Any]:
    prompt_tokens, cached_tokens, answer_tokens = reply.usage or (0, 0, 0)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer_tokens,
        "total_tokens": prompt_tokens + answer_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": reply.audio_tokens},
        "completion_tokens_details": {"reasoning_tokens": reply.thinking_tokens},
    }
