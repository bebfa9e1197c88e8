"""Every prompt has its system text first and then the user's and the assistant's messages in turn."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from firelaunch.llm.attachments import Attachment
from firelaunch.llm.conversation import alternating
from firelaunch.llm.types import Message, ToolCall
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.sampled_from(["", " ", "\n", "a", "b", "c", "d"])


@st.composite
def tool_steps(draw: st.DrawFn) -> list[Message]:
    calls = [ToolCall(f"c{number}", "add", "{}") for number in range(draw(st.integers(1, 3)))]
    asked: Message = {"role": "assistant", "content": draw(TEXTS), "calls": calls}
    return [
        asked,
        *({"role": "tool", "content": draw(TEXTS), "call_id": call.id, "name": call.name} for call in calls),
    ]


PLAIN = st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS).map(
    lambda both: [{"role": both[0], "content": both[1]}]
)
PICTURES = st.tuples(TEXTS, st.binary(min_size=1, max_size=2)).map(
    lambda both: [{"role": "user", "content": both[0], "attachments": [Attachment("image/png", both[1])]}]
)
PROMPTS = st.lists(st.one_of(PLAIN, PLAIN, PICTURES, tool_steps())).map(
    lambda lists: [each for inner in lists for each in inner]
)


def images(messages: Any) -> list[Any]:
    return [image for message in messages for image in message.get("attachments", ())]


def texts(messages: Any, role: str) -> list[str]:
    whole = "\n\n".join(message["content"] for message in messages if message["role"] == role)
    return whole.split()


@given(PROMPTS)
def test_roles_alternate_and_no_word_is_lost(prompt: list[Message]) -> None:
    messages = alternating(prompt)
    roles = [message["role"] for message in messages]
    assert roles.count("system") == (1 if any(m["role"] == "system" and m["content"] for m in prompt) else 0)
    spoken = [message for message in messages if message["role"] != "system"]
    assert roles[: len(roles) - len(spoken)] in ([], ["system"])
    assert not spoken or spoken[0]["role"] != "assistant"
    for before, after in pairwise(spoken):
        assert before["role"] != after["role"] or before["role"] == "tool"
        assert bool(before.get("calls")) == (after["role"] == "tool" and before["role"] != "tool")
    assert all(
        message["content"].strip() or message.get("calls") or message.get("attachments")
        for message in spoken
        if message["role"] != "tool"
    )
    assert images(messages) == images(prompt)
    assert texts(messages, "system") == texts(prompt, "system")
    assert texts(messages, "assistant") == texts(prompt, "assistant")
    added = ["(The", "conversation", "begins.)"]
    assert texts(messages, "user") in (texts(prompt, "user"), added + texts(prompt, "user"))
    assert [m for m in messages if m["role"] == "tool"] == [m for m in prompt if m["role"] == "tool"]
    assert [m["calls"] for m in messages if m.get("calls")] == [m["calls"] for m in prompt if m.get("calls")]


@given(PROMPTS)
def test_a_prompt_in_that_form_stays_as_it_is(prompt: list[Message]) -> None:
    once = alternating(prompt)
    assert alternating(once) == once


def test_a_prompt_is_not_changed_in_place() -> None:
    prompt: list[Message] = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert alternating(prompt) == [{"role": "user", "content": "a\n\nb"}]
    assert prompt[0]["content"] == "a"
