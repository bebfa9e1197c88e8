"""Thoughts that a server leaves in the text are told from the answer, wherever the text is cut."""

from __future__ import annotations

import pytest
from firelaunch.llm.wire.think_tags import ThinkTags
from hypothesis import given
from hypothesis import strategies as st


def split(text: str, sizes: list[int]) -> tuple[str, str]:
    """The thoughts and the answer in ``text``, taken in pieces of ``sizes`` characters."""
    tags, thoughts, answer = ThinkTags(), "", ""
    for size in [*sizes, len(text) + 1]:
        piece, text = text[:size], text[size:]
        thought, said = tags.split(piece)
        thoughts, answer = thoughts + thought, answer + said
    return thoughts, answer + tags.end()


@pytest.mark.parametrize(
    ("text", "thoughts", "answer"),
    [
        ("<think>\nHm.</think>\n\nYes.", "\nHm.", "Yes."),
        (" \n<think></think>Yes. </think>", "", "Yes. </think>"),
        ("<thinking>a < b</thinking>\n<think>", "a < b", "<think>"),
        ("<think>Hm. </thi", "Hm. </thi", ""),
        ("Yes: <think>no</think>", "", "Yes: <think>no</think>"),
        ("<b>Yes</b>", "", "<b>Yes</b>"),
        ("\n <thin", "", "\n <thin"),
        ("", "", ""),
    ],
)
@given(sizes=st.lists(st.integers(1, 6), max_size=20))
def test_thoughts_at_the_beginning_are_told_from_the_answer(
    text: str, thoughts: str, answer: str, sizes: list[int]
) -> None:
    said = split(text, sizes)
    assert said[1] == answer
    assert said[0] in {thoughts, thoughts.removesuffix("</thi")}  # half of an end is no thought yet


@given(st.text(st.sampled_from("<think>/ a")), st.lists(st.integers(1, 6), max_size=20))
def test_no_text_without_a_tag_at_its_beginning_is_changed(text: str, sizes: list[int]) -> None:
    if not text.lstrip().startswith(("<think>", "<thinking>", "<thought>")):
        assert split(text, sizes) == ("", text)
