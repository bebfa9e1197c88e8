"""The quirks, what each server sends, and what must become of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from firelaunch.testing.models import Action, Fault, Raw, Reply

__all__ = ["QUIRKS", "TEXT", "Outcome", "Quirk"]

TEXT = "Grüße from 日本."
HEAD = b"HTTP/1.1 200 OK\r\n"
SSE = HEAD + b"Content-Type: text/event-stream\r\n"
CLOSE = b"Connection: close\r\n\r\n"
WORDS = ("Grüße", " from", " 日本", ".")
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a quirk.

    Args:
        text: the answer; None for any.
        code: of the error, if the call fails.
        cities: what the tool ``weather`` was called with.
        usage: the input and output tokens that are booked, where they matter.
        requests: how many requests the server gets, where that matters.
    """

    text: str | None = TEXT
    code: str | None = None
    cities: tuple[str, ...] = ()
    usage: tuple[int, int] | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Quirk:
    """One way of a server.

    Args:
        name: as in the table of docs/providers.md.
        servers: those that have it.
        becomes: what firelaunch makes of it, in the table's words.
        actions: what the server answers, in order, where it is asked for a stream.
        whole: the same where it is asked for an answer in one piece.
        silence: seconds of silence that the call bears.
        more: options of the client: ``query`` of the base URL, ``key_header``.
    """

    name: str
    servers: tuple[str, ...]
    becomes: str
    actions: Sequence[Action] = ()
    whole: Sequence[Action] = ()
    outcome: Outcome = Outcome()
    silence: float = 20.0
    more: dict[str, str] = field(default_factory=dict)


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """An event of a stream."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def words(texts: Sequence[str] = WORDS, **more: Any) -> list[dict[str, Any]]:
    """The events of a text."""
    return [chunk({"content": text}, **more) for text in texts]


FINISH, USED, DONE = chunk({}, "stop"), {"choices": [], "usage": USAGE}, b"[DONE]"


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def stream(*events: Any, head: bytes = SSE + CLOSE, hang: bool = False, end: bytes = b"") -> tuple[Action, ...]:
    """A stream of ``events``: each JSON, or the data as bytes."""
    return (Raw([head, *map(event, events), end], hang=hang),)


def raw(*pieces: bytes, head: bytes = SSE + CLOSE, pace: float = 0.0, hang: bool = False) -> tuple[Action, ...]:
    """A stream of raw bytes."""
    return (Raw([head, *pieces], pace=pace, hang=hang),)


def said(*events: Any, **more: Any) -> tuple[Action, ...]:
    """A stream that ends as it should."""
    return stream(*events, FINISH, USED, DONE, **more)


def answer(message: Any, finish: Any = "stop", **more: Any) -> tuple[Action, ...]:
    """An answer in one piece."""
    body = {"object": "chat.completion", "choices": [{"message": message, "finish_reason": finish}], "usage": USAGE}
    return (Fault(200, body=json.dumps(body | more)),)


def calls(*deltas: Any, finish: str = "tool_calls") -> tuple[Action, ...]:
    """A stream of pieces of tool calls, and then the answer."""
    events = [chunk({"tool_calls": delta if isinstance(delta, list) else [delta]}) for delta in deltas]
    return (*stream(*events, chunk({}, finish), USED, DONE), *said(*words()))


def called(*calls: Any) -> tuple[Action, ...]:
    """The same in one piece."""
    return (*answer({"content": None, "tool_calls": calls}, "tool_calls"), *answer({"content": TEXT}))


def call(index: Any, name: Any, arguments: Any, **more: Any) -> dict[str, Any]:
    """A piece of a tool call."""
    numbered = {} if index == "missing" else {"index": index}
    return {**numbered, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def status(code: int, body: Any, content_type: str = "application/json", **headers: str) -> tuple[Action, ...]:
    """An error with a status, for ever."""
    text = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (Fault(code, named, body=text, content_type=content_type),) * 6


def compressed(data: bytes) -> list[bytes]:
    packed = gzip.compress(data)
    return [packed[:20], packed[20:50], packed[50:]]


OSLO = '{"city": "Oslo"}'
CALLED = Outcome(cities=("Oslo",))
TWICE = Outcome(cities=("Oslo", "Bergen"))
AGAIN = "tried again, then `model_unavailable`"
REFUSED, FAILED, TRIED = (
    Outcome(None, "model_refused"),
    Outcome(None, "model_failed"),
    Outcome(None, "model_unavailable"),
)
ALL = b"".join(map(event, [*words(), FINISH, USED, DONE]))
FILTER = {"hate": {"filtered": False, "severity": "safe"}}
OPTIONS = "Unrecognized request argument supplied: stream_options"


def _framing() -> Iterator[Quirk]:
    yield Quirk("lines end in CRLF", ("servers on Windows", "proxies"), "read", raw(ALL.replace(b"\n", b"\r\n")))
    yield Quirk("lines end in CR", ("proxies",), "read", raw(ALL.replace(b"\n", b"\r")))
    yield Quirk("a byte order mark first", ("proxies on Windows",), "read", raw(b"\xef", b"\xbb\xbf", ALL))
    yield Quirk("`data:` without a space", ("Qwen", "Zhipu"), "read", raw(ALL.replace(b"data: ", b"data:")))
    yield Quirk(
        "one event's JSON on several `data:` lines",
        ("proxies",),
        "joined",
        raw(
            *[
                b"data: " + json.dumps(e, indent=1).encode().replace(b"\n", b"\ndata: ") + b"\n\n"
                for e in [*words(), FINISH]
            ]
        ),
    )
    yield Quirk(
        "`event:`, `id:` and `retry:` lines",
        ("Anthropic", "proxies"),
        "left out",
        raw(*[b"event: message\nid: 7\nretry: 10\n" + event(e) for e in [*words(), FINISH, DONE]]),
    )
    yield Quirk(
        "`event: ping` with data of its own",
        ("Anthropic", "LiteLLM"),
        "left out",
        raw(
            b'event: ping\ndata: {"type": "ping"}\n\n',
            b"event: ping\ndata: 2026-11-29 10:00\n\n",
            b"data: ping\n\n",
            ALL,
        ),
    )
    yield Quirk("empty `data:` lines between events", ("Qwen",), "left out", raw(b"data:\n\n", b"data: \n\n", ALL))
    yield Quirk(
        "comments while the model is not ready yet",
        ("OpenRouter", "DeepSeek"),
        "signs of life",
        raw(*[b": OPENROUTER PROCESSING\n\n"] * 8, ALL, pace=0.1),
        silence=0.4,
    )
    yield Quirk(
        "blank lines while the model is not ready yet",
        ("DeepSeek", "proxies"),
        "signs of life",
        raw(*[b"\n"] * 8, ALL, pace=0.1),
        (Raw([HEAD + b"Content-Type: application/json\r\n" + CLOSE, *[b"\n"] * 8, _whole_body()], pace=0.1),),
        silence=0.4,
    )
    yield Quirk(
        "comments between the words",
        ("OpenRouter",),
        "signs of life",
        raw(event(words()[0]), *[b": keep-alive\n\n"] * 8, *map(event, [*words()[1:], FINISH, DONE]), pace=0.1),
        silence=0.4,
    )
    yield Quirk(
        "comments for ever",
        ("a stuck proxy",),
        "`model_timeout` after `limits.request_seconds`",
        raw(*[b": ping\n\n"] * 200, pace=0.1),
        outcome=Outcome(None, "model_timeout"),
    )
    yield Quirk(
        "characters cut between two packets",
        ("all",),
        "read",
        raw(*[event_bytes[i : i + 7] for event_bytes in [_utf8()] for i in range(0, len(event_bytes), 7)]),
    )
    yield Quirk(
        "chunks of HTTP that cut events",
        ("all",),
        "read",
        raw(
            *[b"%x\r\n%b\r\n" % (len(ALL[i : i + 50]), ALL[i : i + 50]) for i in range(0, len(ALL), 50)],
            b"0\r\n\r\n",
            head=SSE + b"Transfer-Encoding: chunked\r\n\r\n",
        ),
    )


def _utf8() -> bytes:
    return b"".join(
        b"data: " + json.dumps(e, ensure_ascii=False).encode() + b"\n\n" for e in [*words(), FINISH]
    ) + event(DONE)


def _whole_body() -> bytes:
    (fault,) = answer({"role": "assistant", "content": TEXT})
    assert isinstance(fault, Fault)
    return (fault.body or "").encode()


def _http() -> Iterator[Quirk]:
    yield Quirk(
        "events without blank lines between them",
        ("small servers",),
        "told apart",
        raw(*[event(e)[:-1] for e in [*words(), FINISH, USED, DONE]]),
    )
    yield Quirk(
        "lines of JSON, called a stream",
        ("small servers",),
        "read as what they are",
        raw(*[json.dumps(e).encode() + b"\n" for e in [*words(), FINISH, USED]]),
    )
    for content_type in (
        b"text/plain",
        b"application/octet-stream",
        b"application/json",
        b"TEXT/EVENT-STREAM; CHARSET=UTF-8",
    ):
        yield Quirk(
            f"a stream as `{content_type.decode()}`",
            ("proxies", "small servers"),
            "read as what it is",
            raw(ALL, head=HEAD + b"Content-Type: " + content_type + b"\r\n" + CLOSE),
        )
    yield Quirk(
        "a stream without a content type", ("small servers",), "read as what it is", raw(ALL, head=HEAD + CLOSE)
    )
    yield Quirk(
        "lines of JSON as `application/x-ndjson`",
        ("small servers",),
        "read as what it is",
        raw(
            *[json.dumps(e).encode() + b"\n" for e in [*words(), FINISH]],
            head=HEAD + b"Content-Type: application/x-ndjson\r\n" + CLOSE,
        ),
    )
    yield Quirk(
        "an answer in one piece where a stream was asked for",
        ("Text Generation Inference", "caches"),
        "read",
        answer({"role": "assistant", "content": TEXT}),
    )
    yield Quirk("the same, called a stream", ("caches",), "read", raw(_whole_body()))
    yield Quirk(
        "a stream where an answer in one piece was asked for", ("small servers",), "joined", whole=said(*words())
    )
    yield Quirk(
        "HTTP/1.0 without a length",
        ("llama-cpp-python", "small servers"),
        "read",
        raw(ALL, head=b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
    )
    yield Quirk(
        "a stream compressed with gzip, unasked",
        ("proxies",),
        "decompressed",
        raw(*compressed(ALL), head=SSE + b"Content-Encoding: gzip\r\n" + CLOSE),
    )
    yield Quirk(
        "a coding that nobody knows",
        ("proxies",),
        AGAIN,
        raw(b"\x1b\x2f\x00", head=SSE + b"Content-Encoding: br\r\n" + CLOSE) * 6,
        outcome=TRIED,
    )
    yield Quirk(
        "status 201",
        ("gateways",),
        "read",
        raw(ALL, head=b"HTTP/1.1 201 Created\r\nContent-Type: text/event-stream\r\n" + CLOSE),
    )
    yield Quirk(
        "an interim status first",
        ("proxies",),
        "read",
        raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SSE + CLOSE + ALL, head=b""),
    )
    yield Quirk(
        "a redirect",
        ("a moved server", "http for https"),
        "not followed: the key stays; `model_failed`",
        status(308, "", location="https://elsewhere.example/v1"),
        outcome=Outcome(None, "model_failed", requests=2),
    )
    yield Quirk(
        "a page of HTML with status 200",
        ("proxies", "a wrong base URL"),
        AGAIN,
        status(200, "<!doctype html><html>Sign in</html>", "text/html"),
        outcome=TRIED,
    )
    yield Quirk(
        "no answer at all",
        ("a stuck server",),
        "`model_timeout`",
        (Fault(500, wait=30.0),) * 6,
        silence=0.3,
        outcome=Outcome(None, "model_timeout"),
    )


def _ends() -> Iterator[Quirk]:
    yield Quirk(
        "no `[DONE]`", ("Gemini", "Azure", "LiteLLM"), "the reason for the end is enough", stream(*words(), FINISH)
    )
    yield Quirk("no reason for the end", ("OmniRoute", "small servers"), "`[DONE]` is enough", stream(*words(), DONE))
    for reason in ("", None):
        yield Quirk(
            f"`finish_reason` {json.dumps(reason)} with each word",
            ("Ollama",) if reason == "" else ("OpenAI",),
            "no end",
            said(*[chunk({"content": word}, reason) for word in WORDS]),
        )
    yield Quirk(
        '`finish_reason` "stop" with each word',
        ("small servers",),
        "read to the end",
        stream(*[chunk({"content": word}, "stop") for word in WORDS], USED, DONE),
    )
    for reason, servers in (
        ("eos", ("Text Generation Inference", "Together")),
        ("eos_token", ("Text Generation Inference",)),
        ("stop_sequence", ("Text Generation Inference", "Claude by a proxy")),
        ("end_turn", ("Claude by a proxy",)),
        ("COMPLETE", ("Cohere",)),
    ):
        yield Quirk(
            f"`finish_reason` {json.dumps(reason)}",
            servers,
            "an end",
            stream(*words(), chunk({}, reason)),
        )
    yield Quirk(
        "the reason with the last word",
        ("Gemini", "Mistral"),
        "read",
        stream(*words(WORDS[:-1]), chunk({"content": WORDS[-1]}, "stop", usage=USAGE), DONE),
    )
    yield Quirk(
        "a connection that stays open after `[DONE]`",
        ("proxies",),
        "left alone after 0.25 s",
        stream(*words(), FINISH, USED, DONE, hang=True),
    )
    yield Quirk(
        "a connection that stays open after the reason for the end",
        ("proxies",),
        "left alone after 3 s",
        stream(*words(), FINISH, hang=True),
    )
    yield Quirk(
        "comments for ever after the end",
        ("proxies",),
        "left alone after 3 s",
        raw(*map(event, [*words(), FINISH]), *[b": ping\n\n"] * 200, pace=0.1),
    )
    yield Quirk(
        "a connection that breaks after the end",
        ("proxies",),
        "the answer",
        raw(b"%x\r\n%b\r\n" % (len(ALL), ALL), head=SSE + b"Transfer-Encoding: chunked\r\n\r\n"),
    )
    yield Quirk(
        "an error after `[DONE]`", ("LiteLLM",), "the answer", said(*words(), end=event({"error": {"message": "no"}}))
    )
    yield Quirk(
        "an error after the reason for the end",
        ("LiteLLM",),
        "the answer",
        stream(*words(), FINISH, {"error": {"message": "no callback"}}),
    )


def _texts() -> Iterator[Quirk]:
    yield Quirk(
        "a first event without choices",
        ("Azure",),
        "left out",
        said(
            {"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTER}]},
            *words(),
        ),
    )
    yield Quirk(
        "an event about the filter, without a delta",
        ("Azure",),
        "left out",
        stream(
            *words(),
            {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": FILTER}]},
            FINISH,
            USED,
            DONE,
        ),
    )
    yield Quirk(
        "`choices` null, `delta` null",
        ("small servers",),
        "left out",
        said(
            chunk() | {"choices": None},
            {"choices": [{"delta": None, "finish_reason": None}]},
            {"choices": [None]},
            *words(),
        ),
    )
    yield Quirk(
        "the role in every delta",
        ("Ollama", "OpenRouter", "Groq"),
        "left out",
        said(*[chunk({"role": "assistant", "content": word}) for word in WORDS]),
    )
    yield Quirk(
        "`content` null beside other fields",
        ("vLLM", "Fireworks"),
        "left out",
        said(
            chunk({"role": "assistant", "content": None, "refusal": None, "tool_calls": None, "function_call": None}),
            *words(),
        ),
    )
    yield Quirk(
        "the whole `message` once more at the end",
        ("Perplexity", "small servers"),
        "said once",
        stream(
            *words(), {"choices": [{"message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}]}, DONE
        ),
    )
    yield Quirk(
        "`message` in place of `delta` for the last word",
        ("small servers",),
        "read",
        stream(*words(WORDS[:-1]), {"choices": [{"message": {"content": WORDS[-1]}, "finish_reason": "stop"}]}, DONE),
    )
    yield Quirk(
        "`text` in place of a delta",
        ("KoboldCpp", "small servers"),
        "read",
        said(*[{"choices": [{"index": 0, "text": word, "finish_reason": None}]} for word in WORDS]),
    )
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    listed = [{"type": "text", "text": TEXT}, {"type": "reference", "reference_ids": [1]}]
    yield Quirk(
        "`content` as a list, with thoughts in it",
        ("Mistral",),
        "thoughts are told apart",
        said(chunk({"content": thinking}), chunk({"content": listed})),
        answer({"content": thinking + listed}),
    )
    for name, servers in (
        ("reasoning_content", ("DeepSeek", "vLLM", "xAI")),
        ("reasoning", ("OpenRouter", "Ollama", "Groq")),
    ):
        yield Quirk(
            f"thoughts in `{name}`",
            servers,
            "told apart",
            said(chunk({name: "Hm.", "content": ""}), *words()),
            answer({name: "Hm.", "content": TEXT}),
        )
    details = [{"type": "reasoning.text", "text": "Hm."}, {"type": "reasoning.encrypted", "data": "x"}]
    yield Quirk(
        "thoughts in `reasoning_details`",
        ("OpenRouter",),
        "told apart",
        said(chunk({"reasoning_details": details, "content": ""}), *words()),
    )
    yield Quirk(
        "thoughts in the text, in `<think>`",
        ("vLLM", "LM Studio", "Together"),
        "told apart",
        said(*words(("<th", "ink>\nHm", ".</thi", "nk>", "\n\n")), *words()),
        answer({"content": f"<think>\nHm.</think>\n\n{TEXT}"}),
    )
    for name, content in (
        ("half of a surrogate pair", b"\\ud83d"),
        ("a byte that is no UTF-8", b"\xff"),
        ("a NUL byte", b"\x00"),
    ):
        yield Quirk(
            f"{name} in a word",
            ("vLLM", "Ollama", "llama.cpp"),
            "a replacement character",
            raw(
                *map(event, words()),
                event(json.dumps(chunk({"content": "!X"})).encode().replace(b"X", content)),
                *map(event, [FINISH, USED, DONE]),
            ),
            outcome=Outcome(TEXT + "!\N{REPLACEMENT CHARACTER}"),
        )
    yield Quirk(
        "NaN in an event",
        ("llama.cpp",),
        "left out",
        raw(
            *map(event, words()),
            b'data: {"choices": [{"delta": {}, "logprobs": NaN}]}\n\n',
            *map(event, [FINISH, USED, DONE]),
        ),
    )


def _usage() -> Iterator[Quirk]:
    used = Outcome(usage=(10, 4))
    yield Quirk("usage null until the end", ("OpenAI", "Azure"), "exact", said(*words(usage=None)), outcome=used)
    yield Quirk(
        "no usage",
        ("older vLLM", "proxies"),
        "an upper bound is booked",
        stream(*words(), FINISH, DONE),
        answer({"content": TEXT}, usage=None),
    )
    yield Quirk(
        "usage with every event, growing",
        ("vLLM", "Perplexity", "xAI"),
        "the last counts",
        stream(
            *[
                chunk({"content": word}, usage={"prompt_tokens": 10, "completion_tokens": n + 1})
                for n, word in enumerate(WORDS)
            ],
            FINISH,
            DONE,
        ),
        outcome=used,
    )
    yield Quirk(
        "usage as floats",
        ("Gemini by a proxy", "JavaScript gateways"),
        "exact",
        stream(*words(), FINISH, {"choices": [], "usage": {"prompt_tokens": 10.0, "completion_tokens": 4.0}}, DONE),
        outcome=used,
    )
    yield Quirk(
        "negative and null figures",
        ("LM Studio", "small servers"),
        "an upper bound is booked",
        stream(*words(), FINISH, {"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": None}}, DONE),
    )
    yield Quirk(
        "usage in `x_groq`",
        ("Groq",),
        "exact",
        stream(*words(), chunk({}, "stop", x_groq={"id": "req", "usage": USAGE}), DONE),
        outcome=used,
    )
    yield Quirk(
        "usage in the choice",
        ("Moonshot",),
        "exact",
        stream(*words(), {"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]}, DONE),
        outcome=used,
    )
    yield Quirk(
        "usage as `input_tokens` and `output_tokens`",
        ("Claude by a proxy",),
        "exact",
        stream(*words(), FINISH, {"choices": [], "usage": {"input_tokens": 10, "output_tokens": 4}}, DONE),
        outcome=used,
    )


def _calling(
    name: str, servers: tuple[str, ...], becomes: str, *actions: Sequence[Action], outcome: Outcome = CALLED
) -> Quirk:
    """A quirk of tool calls."""
    return Quirk(name, servers, becomes, *actions, outcome=outcome)


def _tools() -> Iterator[Quirk]:
    yield _calling(
        "arguments as an object",
        ("Ollama", "small servers"),
        "read",
        calls(call(0, "weather", {"city": "Oslo"}, id="a")),
        called(call(0, "weather", {"city": "Oslo"}, id="a")),
    )
    yield _calling(
        "arguments encoded twice",
        ("Zhipu", "small servers"),
        "read",
        calls(call(0, "weather", json.dumps(OSLO), id="a")),
        called(call(0, "weather", json.dumps(OSLO), id="a")),
    )
    yield _calling(
        "an empty object before the arguments",
        ("Claude by a proxy",),
        "read",
        calls(call(0, "weather", "{}", id="a"), call(0, None, OSLO)),
    )
    pieces = ["", '{"city"', ': "Oslo', '"}', ""]
    yield _calling(
        "the name with every piece",
        ("MiniMax at NVIDIA", "LM Studio"),
        "said once",
        calls(*[call(0, "weather", piece, id="a") for piece in pieces]),
    )
    yield _calling(
        "the name with every piece, and no number",
        ("small servers",),
        "said once",
        calls(*[call("missing", "weather", piece, id="a") for piece in pieces]),
    )
    yield _calling(
        "a new id with every piece",
        ("older vLLM",),
        "one call",
        calls(call(0, "weather", "", id="a"), *[call(0, None, piece, id=f"b{n}") for n, piece in enumerate(pieces)]),
    )
    yield _calling(
        "the name in pieces",
        ("some Geminis",),
        "joined",
        calls(call(0, "wea", "", id="a"), call(0, "ther", ""), call(0, None, OSLO)),
    )
    yield _calling(
        "the name growing with every piece",
        ("small servers",),
        "said once",
        calls(call(0, "wea", "", id="a"), call(0, "weather", OSLO)),
    )
    two = (OSLO, '{"city": "Bergen"}')
    for name, index in (("no number", "missing"), ("null for a number", None), ("the number 0 for all", 0)):
        yield _calling(
            f"whole calls with {name}",
            ("Gemini", "Ollama", "Mistral"),
            "told apart",
            calls(*[call(index, "weather", text, id=f"call_{n}") for n, text in enumerate(two)]),
            called(*[call(index, "weather", text, id=f"call_{n}") for n, text in enumerate(two)]),
            outcome=TWICE,
        )
    yield _calling(
        "numbers as texts",
        ("small servers",),
        "read",
        calls(call("0", "weather", "", id="a"), call("1", "weather", two[1], id="b"), call("0", None, OSLO)),
        outcome=TWICE,
    )
    for name, ids in (
        ("no ids", {}),
        ("empty ids", {"id": ""}),
        ("ids null", {"id": None}),
        ("one id for all", {"id": "call_0"}),
    ):
        yield _calling(
            f"calls with {name}",
            ("Gemini", "NVIDIA", "StepFun", "Mistral"),
            "each gets an id of its own",
            calls([call(n, "weather", text, **ids) for n, text in enumerate(two)]),
            called(*[call(n, "weather", text, **ids) for n, text in enumerate(two)]),
            outcome=TWICE,
        )
    yield _calling(
        "an id that comes late",
        ("small servers",),
        "one call",
        calls(call(0, "weather", ""), call(0, None, OSLO, id="late")),
    )
    yield _calling(
        "the reason `stop` with calls",
        ("Ollama", "Gemini", "vLLM"),
        "the calls are made",
        calls(call(0, "weather", OSLO, id="a"), finish="stop"),
    )
    yield _calling(
        "calls once more in a last `message`",
        ("small servers",),
        "made once",
        (
            *stream(
                chunk({"tool_calls": [call(0, "weather", OSLO, id="a")]}),
                {
                    "choices": [
                        {"message": {"tool_calls": [call(0, "weather", OSLO, id="a")]}, "finish_reason": "tool_calls"}
                    ]
                },
            ),
            *said(*words()),
        ),
    )
    yield _calling(
        "`function_call` in place of `tool_calls`",
        ("older Azure", "llama-cpp-python"),
        "read",
        (*stream(chunk({"function_call": {"name": "weather", "arguments": OSLO}}, "function_call")), *said(*words())),
        (
            *answer({"content": None, "function_call": {"name": "weather", "arguments": OSLO}}),
            *answer({"content": TEXT}),
        ),
    )


def _errors() -> Iterator[Quirk]:
    error = {"message": "slow down", "type": "requests", "code": "429"}
    yield Quirk(
        'an error in a stream with the code "429"',
        ("OpenRouter", "LiteLLM"),
        AGAIN,
        stream({"error": error}) * 6,
        outcome=TRIED,
    )
    yield Quirk(
        'an error in a stream with the code "400"',
        ("vLLM", "LiteLLM"),
        "`model_refused`",
        stream({"error": error | {"code": "400"}}),
        outcome=REFUSED,
    )
    yield Quirk(
        "an error in a stream with the code 401",
        ("OpenRouter",),
        "`model_failed`",
        stream({"error": error | {"code": 401}}) * 2,
        outcome=FAILED,
    )
    yield Quirk(
        "an error that is a text",
        ("Ollama", "llama.cpp", "LocalAI"),
        AGAIN,
        stream({"error": "an error was encountered while running the model"}) * 6,
        outcome=TRIED,
    )
    yield Quirk(
        "an `error:` line",
        ("llama.cpp",),
        "`model_refused`",
        raw(b'error: {"code": 400, "message": "the request exceeds the context size"}\n\n'),
        outcome=REFUSED,
    )
    filtered = {"message": "filtered", "code": "content_filter", "status": 400, "innererror": {"code": "Policy"}}
    yield Quirk(
        "a prompt that its filter refuses",
        ("Azure",),
        "`model_refused`",
        status(400, {"error": filtered}),
        status(400, {"error": filtered}),
        outcome=REFUSED,
    )
    flat = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}
    yield Quirk(
        "a flat error in a stream", ("vLLM", "Mistral", "Together"), "`model_refused`", stream(flat), outcome=REFUSED
    )
    yield Quirk(
        "`event: error`",
        ("Groq", "Anthropic", "SGLang"),
        "`model_refused`",
        raw(
            b'event: error\ndata: {"error": {"message": "no", "type": "invalid_request_error", "status_code": 400}}\n\n'
        ),
        outcome=REFUSED,
    )
    yield Quirk(
        "`event: error` with plain text",
        ("proxies",),
        AGAIN,
        raw(b"event: error\ndata: upstream gone\n\n") * 6,
        outcome=TRIED,
    )
    yield Quirk(
        "an error beside an empty choice",
        ("OpenRouter",),
        AGAIN,
        stream(chunk({"content": ""}, "error", error={"code": 502, "message": "Provider disconnected"})) * 6,
        outcome=TRIED,
    )
    yield Quirk(
        "an error in the choice",
        ("OpenRouter",),
        AGAIN,
        stream(
            {
                "choices": [
                    {"delta": {"content": ""}, "error": {"code": 502, "message": "down"}, "finish_reason": "error"}
                ]
            }
        )
        * 6,
        outcome=TRIED,
    )
    yield Quirk(
        "an error with status 200",
        ("OpenRouter", "Zhipu", "gateways"),
        "as its code says",
        status(200, {"error": {"code": 400}}),
        status(200, {"error": {"code": 400}}),
        outcome=REFUSED,
    )
    yield Quirk(
        "`errors`, a list",
        ("Cloudflare", "gateways"),
        AGAIN,
        stream({"success": False, "errors": [{"code": 1031, "message": "unknown"}]}) * 6,
        outcome=TRIED,
    )
    yield Quirk(
        "an error of `message` and `code` alone in a stream",
        ("Together", "gateways"),
        "`model_refused`",
        stream({"message": "no", "type": "invalid", "code": "400"}),
        outcome=REFUSED,
    )
    yield Quirk(
        "FastAPI's `detail` in a stream",
        ("SGLang", "small servers"),
        "as its code says",
        stream({"detail": "model not loaded", "status_code": 404}) * 2,
        outcome=FAILED,
    )
    detail = {"detail": [{"loc": ["body", "stream_options"], "msg": "extra fields not permitted"}]}
    for name, servers, code, body in (
        (
            "OpenAI's words",
            ("Azure", "older OpenAI"),
            400,
            {"error": {"message": OPTIONS, "type": "invalid_request_error"}},
        ),
        ("FastAPI's `detail`", ("older vLLM", "Fireworks"), 422, detail),
        (
            "Mistral's `message`",
            ("Mistral",),
            422,
            {"object": "error", "message": detail, "type": "invalid_request_error"},
        ),
        ("a flat error", ("Together", "llama.cpp"), 400, {"message": "unknown field: stream_options", "code": 400}),
        (
            "a list",
            ("Gemini",),
            400,
            [{"error": {"code": 400, "message": 'Unknown name "stream_options"', "status": "INVALID_ARGUMENT"}}],
        ),
    ):
        yield Quirk(
            f"`stream_options` refused in {name}",
            servers,
            "sent again without it",
            (Fault(code, body=json.dumps(body)), *said(*words())),
            outcome=Outcome(requests=2),
        )
    yield Quirk(
        "`stream_options` refused in the stream",
        ("LiteLLM",),
        "sent again without it",
        (*stream(flat | {"message": OPTIONS}), *said(*words())),
        outcome=Outcome(requests=2),
    )
    yield Quirk(
        "`stream_options` refused in the stream, after comments and a role",
        ("OpenRouter",),
        "sent again without it",
        (
            *raw(
                b": OPENROUTER PROCESSING\n\n",
                event(chunk({"role": "assistant", "content": ""})),
                event({"error": {"code": 400, "message": OPTIONS}}),
            ),
            *said(*words()),
        ),
        outcome=Outcome(requests=2),
    )
    for code, servers in (
        (424, ("Text Generation Inference",)),
        (498, ("Groq",)),
        (499, ("nginx",)),
        (520, ("Cloudflare",)),
        (529, ("Anthropic",)),
        (530, ("Cloudflare",)),
    ):
        yield Quirk(f"HTTP {code}", servers, AGAIN, status(code, "<html>", "text/html"), outcome=TRIED)


def _addresses() -> Iterator[Quirk]:
    for name, servers, becomes, more in (
        ("wants `?api-version=`", ("Azure",), "the base URL's query goes along", {"query": "?api-version=2024-10-21"}),
        ("documents its base URL with a slash at the end", ("Gemini", "Azure"), "taken off", {"slash": "/"}),
        ("wants the key in `api-key`", ("Azure",), "`api_key_header` puts it there", {"key_header": "api-key"}),
    ):
        yield Quirk(name, servers, becomes, (Reply(WORDS),), (Reply(WORDS),), more=more)


QUIRKS: Sequence[Quirk] = tuple(
    quirk for part in (_addresses, _framing, _http, _ends, _texts, _usage, _tools, _errors) for quirk in part()
)
