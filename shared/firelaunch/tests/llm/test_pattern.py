"""Events that are read by their pattern say what they say when they are parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from firelaunch.llm.providers.openai_compatible import _parse_event as openai
from firelaunch.llm.types import Chunk, ToolChunk
from firelaunch.llm.wire.event_template import Pattern
from firelaunch.llm.wire.sse import Decoder
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json


def of_openai(delta: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "stop", "choices": [choice], "usage": None, **more}


TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(["", "stop", "content", '"', "\\", "\n", "é", "\u2028", "1"]))
DELTAS = st.one_of(
    TEXTS.map(lambda text: {"content": text}),
    TEXTS.map(lambda text: {"role": "assistant", "content": text}),
    TEXTS.map(lambda text: {"reasoning_content": text}),
    st.tuples(TEXTS, TEXTS).map(lambda both: {"content": both[0], "refusal": both[1]}),
    st.tuples(TEXTS, TEXTS).map(lambda both: {"content": both[0], "reasoning_content": both[1]}),
    st.just({"content": "", "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}),
    st.just({}),
    st.just({"content": 1}),
)
PADDED = st.sampled_from([{}, {}, {"obfuscation": "aB3"}, {"obfuscation": "x"}, {"obfuscation": "", "usage": None}])
EVENTS = st.builds(
    lambda delta, finish, more: of_openai(delta, finish, **more), DELTAS, st.sampled_from([None, None, "stop"]), PADDED
)
STYLES = st.sampled_from([{}, {"separators": (",", ":")}, {"ensure_ascii": False, "separators": (",", ":")}])
FRAMINGS = st.sampled_from([b"data: ", b"data:", b"id: 1\ndata: ", b": ping\n\ndata: "])
BYTES = st.lists(st.sampled_from([b'"', b"\\", b"a", b",", b"}", b"\n", b"\xff", b'"content":', b"1"]), max_size=6)


def parsed(event: bytes) -> Chunk | None:
    try:
        return openai(from_json(event))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


@pytest.mark.parametrize("thoughts", [False, True])
@given(st.lists(EVENTS, min_size=1, max_size=12), STYLES, FRAMINGS, st.lists(BYTES, max_size=4), st.data())
@example([of_openai({"content": text, "refusal": "0"}) for text in ("a", "")], {}, b"data: ", [], None)
@example([of_openai({"content": "a"})] * 2, {}, b"data: ", [[b'"', b",", b'"content":', b'"', b"a", b'"']], None)
def test_what_is_read_by_the_pattern_is_what_parsing_gives(
    thoughts: bool,
    said: list[dict[str, Any]],
    style: dict[str, Any],
    framing: bytes,
    odd: list[list[bytes]],
    data: Any,
) -> None:
    def read(chunk: Chunk) -> str:
        """Return the chunk's text, or "?" if the chunk says anything else."""
        text = chunk.thought if thoughts else chunk.text
        return text if chunk == (ToolChunk(thought=text) if thoughts and text else Chunk(text)) else "?"

    sent = [json.dumps(event, **style).encode() for event in said]
    for pieces in odd:
        # Anything at all where the text is, or at a place chosen from the whole event.
        whole = sent[0]
        mark = json.dumps(said[0]["choices"][0]["delta"].get("content", ""), **style).encode()
        at = whole.find(mark) if data is None else data.draw(st.integers(0, len(whole)))
        sent.append(whole[:at] + b"".join(pieces) + whole[at + (len(mark) if data is None else 0) :])
    pattern = Pattern(openai, thoughts=thoughts)
    decoder = Decoder()
    decoder.feed(b"".join(framing + event + b"\n\n" for event in sent))
    while decoder.at < len(decoder.buffer):
        before = decoder.at
        text, after = pattern.run(decoder.buffer, before)
        if after > before:
            chunks = [parsed(event) for event in events(decoder.buffer[before:after])]
            assert text == "".join(read(chunk) for chunk in filter(None, chunks))
            assert None not in chunks
            decoder.at = after
            continue
        event = decoder.event()
        if event is None:
            return  # what was put into it has no more events
        chunk = parsed(event)
        if chunk is not None:
            pattern.learn(decoder.block, event, chunk)


def events(data: bytes) -> list[bytes]:
    decoder = Decoder()
    decoder.feed(data)
    found = [*iter(decoder.event, None)]
    assert decoder.at == len(data), "what is read ends with an event"
    return found


def test_from_the_second_thought_on_they_are_read_by_their_form_and_texts_are_not() -> None:
    pattern = Pattern(openai, thoughts=True)
    for number, text in enumerate(["stop", "a", "\n", "naïve", '"']):
        event = json.dumps(of_openai({"reasoning_content": text})).encode()
        sent = b"data: " + event + b"\n\n"
        assert pattern.run(sent, 0) == ((text, len(sent)) if number > 1 else ("", 0))  # "stop" is there twice
        pattern.learn(b"data: " + event, event, openai(from_json(event)))
    said = b"data: " + json.dumps(of_openai({"content": "a"})).encode()
    assert pattern.run(said + b"\n\n", 0) == ("", 0)
    pattern.learn(said, said[6:], openai(from_json(said[6:])))
    assert pattern.run(said + b"\n\n", 0) == ("", 0), "a text is no thought, and none is learned of it"


@pytest.mark.parametrize(
    ("style", "more"), [({}, {}), ({"ensure_ascii": False}, {}), ({"separators": (",", ":")}, {"obfuscation": "aB3"})]
)
def test_from_the_second_event_on_a_stream_of_openais_form_is_read_by_it(
    style: dict[str, Any], more: dict[str, str]
) -> None:
    pattern = Pattern(openai)
    for number, text in enumerate(["stop", "a", "\n", "naïve", "\u2028", '"', "é"]):
        padding = {key: value * number for key, value in more.items()}
        event = json.dumps(of_openai({"content": text}, **padding), **style).encode()
        block = b"data: " + event
        sent = (block + b"\n\n") * 3
        one = len(sent) // 3
        assert pattern.run(sent, one) == ((text * 2, len(sent)) if number > 1 else ("", one))  # "stop" is there twice
        pattern.learn(block, event, openai(from_json(event)))


def test_a_stream_whose_events_have_nothing_in_common_is_soon_only_parsed() -> None:
    asked: list[dict[str, Any]] = []

    def parse(event: dict[str, Any]) -> Chunk:
        asked.append(event)
        return openai(event)

    pattern = Pattern(parse)
    for number in range(100):
        event = json.dumps({"number": number, **of_openai({"content": f"word {number}"})}).encode()
        assert pattern.run(event + b"\n\n", 0) == ("", 0)
        pattern.learn(event, event, openai(from_json(event)))
    assert len(asked) < 20


@pytest.mark.parametrize("end", [b'a\\"}', b'a"]}', b'a" }', b'a","usage":{}}', b'a"', b"", b'a"}}', b'a\n"}"}'])
def test_what_does_not_end_as_the_padding_did_is_parsed(end: bytes) -> None:
    pattern = Pattern(openai)
    event = json.dumps(of_openai({"content": "Hello"}, obfuscation="aB3"), separators=(",", ":")).encode()
    pattern.learn(event, event, openai(from_json(event)))
    assert pattern.run(event + b"\n\n", 0) == ("Hello", len(event) + 2)
    assert pattern.run(event.removesuffix(b'aB3"}') + end + b"\n\n", 0) == ("", 0)
