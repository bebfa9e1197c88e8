"""No citation of an answer is a link, whatever a model was talked into, and however its answer is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch.rag.citation_links import LinkBreaker
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

COMMONMARK = MarkdownIt("commonmark", {"html": True})
EVIL = "https://evil.example"


def shown(*pieces: str) -> str:
    breaker = LinkBreaker()
    return "".join(breaker.feed(piece) for piece in pieces) + breaker.end()


def links(text: str) -> Iterator[str]:
    """What a reader can click on or has loaded, as CommonMark renders it: texts of links, alternatives of images."""
    for token in COMMONMARK.parse(text):
        if token.type == "html_block" and re.search(r"<a[\s/>]", token.content, re.IGNORECASE):
            yield "<a>"
        yield from _links(token.children or [])


def _links(tokens: list[Any]) -> Iterator[str]:
    texts: list[str] = []
    for token in tokens:
        if token.type == "link_open":
            texts.append("")
        elif token.type == "link_close":
            yield texts.pop()
        elif token.type == "image":
            yield token.content
        elif token.type == "html_inline" and re.match(r"<a[\s/>]", token.content, re.IGNORECASE):
            yield "<a>"
        if texts:
            texts[-1] += token.content or " "


def cites(link: str) -> bool:
    return link == "<a>" or link.strip().isdigit() or re.search(r"\[\d+\]", link) is not None


ATTACKS = [
    f"[1]({EVIL})",
    f"[1](<{EVIL}>)",
    f"![1]({EVIL}/x.png)",
    f"It is so [1].\n\n[1]: {EVIL}",
    f"It is so [1].\n\n> [ 1 ]: {EVIL}",
    f"It is so [1].\n\n[\n1\n]: {EVIL}",
    f"[1][x]\n\n[x]: {EVIL}",
    f"[1][]\n\n[1]: {EVIL}",
    f"[1][2]\n\n[2]: {EVIL}",
    f"[see [1]]({EVIL})",
    f"[**1**]({EVIL})",
    f"[\\[1\\]]({EVIL})",
    f"[x \\[ [1]]({EVIL})",
    f"[x \\] [1]]({EVIL})",
    f"[![1](x)]({EVIL})",
    f"a ` [1]({EVIL})",
    f"a ``` [1]({EVIL})",
    f"- ```\n  x\n  ```\n[1]({EVIL})",
    f"<div>\n```\n\n[1]({EVIL})",
    f"<!--\n```\n-->\n[1]({EVIL})",
    f"{'[' * 40}1]({EVIL})",
    f"[x <b title=']'> [1]]({EVIL})",
    f"<a href={EVIL}>[1]</a>",
    f"<A\nhref={EVIL}>[1]</A>",
    f"[x\r\n[1]]({EVIL})",
]


@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
def test_a_citation_stays_text_and_nothing_of_the_answer_is_lost(text: str) -> None:
    assert any(map(cites, links(text))), "without us it is a link"
    assert not any(map(cites, links(shown(text))))
    assert shown(text).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        f"See [the docs]({EVIL}) [1] and [theirs]({EVIL}) [2][3].",
        "As [1]: the river is long. (See [2].)",
        f"[note]: {EVIL}",
        "It is so [1] (and so on) [2]\n(at least).",
        "```js\nhandlers[0](event)[1]\n[1]: x\n<a href>\n```\nSo [1].",
        "~~~\nm[0](x)\n~~~",
        "1 <article>, <abbr>, x<y",
        "",
    ],
)
def test_what_is_no_link_of_a_citation_is_left_as_it_is(text: str) -> None:
    assert shown(text) == text


FRAGMENTS = st.sampled_from(
    [
        *("[1]", "[2]", "[1][2]", "[ 1 ]", "[\n1\n]", "[^1]", "[x]", "[1][x]", "[" * 20, "[", "]", "(", ":", "!"),
        *(f"({EVIL})", f"(<{EVIL}>)", f"[x]({EVIL})", f"]({EVIL})", f"[x]: {EVIL}", f"[1]: {EVIL}"),
        *("\\", "`", "``", "```", "\n```\n", "```js\n", "~~~", "\n", "\n\n", "\r\n", "\r", " ", "    ", "\t"),
        *("> ", "- ", "1. ", "word", "**", "*", "_", '"', "&#91;"),
        *(f"<a href={EVIL}>", f"<A\thref={EVIL}>", "</a>", "<", "a", "<div>", "<pre>", "</pre>", "<!--", "-->"),
        "<b title=']'>",
    ]
)


@given(fragments=st.lists(FRAGMENTS, max_size=16), cuts=st.lists(st.integers(1, 5), max_size=40))
@settings(max_examples=600)
@example(fragments=["[1]", f"({EVIL})"], cuts=[1] * 40)
@example(fragments=[f"<A\thref={EVIL}>", "[1]"], cuts=[1] * 40)
def test_no_answer_makes_a_link_of_a_citation_and_pieces_change_nothing(fragments: list[str], cuts: list[int]) -> None:
    text = rest = "".join(fragments)
    whole = shown(text)
    assert not any(map(cites, links(whole))), whole
    pieces = []
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert shown(*pieces, rest) == whole


@pytest.mark.parametrize("text", ["[" * 30_000, "[" * 15_000 + "[1]" * 5_000, "]" * 30_000, "<" * 30_000])
def test_a_long_answer_of_brackets_is_held_in_bounds(text: str) -> None:
    breaker = LinkBreaker()
    breaker.feed(text)
    assert len(breaker._open) <= 16
    assert all(len(bracket.text) < 300 for bracket in breaker._open)
