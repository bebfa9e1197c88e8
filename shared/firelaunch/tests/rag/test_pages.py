"""HTML: what a reader sees or can open, the numbers of lists, and tables by row and column."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from firelaunch.rag.parse import Block, Omission

Read = Callable[..., list[Block]]
Omitted = Callable[[str, bytes], list[Omission]]


LONG = "Words that nobody sees. " * 12


def text_of(read: Read, body: str) -> str:
    return "\n".join(block.text for block in read("page.html", f"<!doctype html><body>{body}".encode()))


def test_a_page_within_a_form_is_read_without_its_controls(read: Read) -> None:
    form = (
        '<form id="aspnetForm"><h1>Opening hours</h1><div><p>Open on <b>Sundays</b>.</p></div>'
        "<select><option>Monday</option></select><textarea>draft</textarea><button>Send</button></form>"
    )
    assert text_of(read, form) == "Opening hours\nOpen on Sundays."


@pytest.mark.parametrize(
    "answer",
    [
        "<h2>Who pays?</h2><div hidden>We pay.</div>",
        '<h2>Who pays?</h2><div class="answer" style="display: none"><p>We pay.</p></div>',
        "<details><summary>Who pays?</summary><p>We pay.</p></details>",
        '<h2><button aria-expanded="false" aria-controls="a1">Who pays?</button></h2><div id="a1" hidden>We pay.</div>',
        '<button data-bs-toggle="collapse" data-bs-target="#a">Who pays?</button><p>x</p><p id="a" hidden>We pay.</p>',
        '<a data-toggle="collapse" href="#a">Who pays?</a><p>x</p><div id="a" style="display:none">We pay.</div>',
        '<p>Who pays?</p><div aria-hidden="true">We pay.</div>',
        '<div>x</div><div hidden="until-found">Who pays? We pay.</div>',
        '<button role="tab">Who pays?</button><p>x</p><div role="tabpanel" hidden>We pay.</div>',
        "<dl><dt>Who pays?</dt><dd hidden>We pay.</dd></dl>",
    ],
)
def test_a_collapsed_answer_is_read(read: Read, answer: str) -> None:
    text = text_of(read, answer)
    assert "Who pays?" in text
    assert "We pay." in text


@pytest.mark.parametrize(
    "hidden",
    [
        f'<div class="cookie-banner" style="display:none">{LONG}</div>',
        f'<h2>Shop</h2><div class="modal" hidden>{LONG}</div>',
        f'<p>Shown.</p><div style="visibility:hidden">{LONG}</div>',
    ],
)
def test_other_hidden_text_is_left_out_and_said(read: Read, omitted: Omitted, hidden: str) -> None:
    assert "nobody" not in text_of(read, f"<p>Text.</p>{hidden}")
    assert omitted("page.html", f"<!doctype html><p>Text.</p>{hidden}".encode()) == [Omission("hidden_text", 1)]


def test_a_hidden_menu_is_left_out_without_a_word(read: Read, omitted: Omitted) -> None:
    menu = "<h2>Menu</h2><ul hidden>" + '<li><a href="/">A page of the site</a></li>' * 20 + "</ul><p>Text.</p>"
    assert text_of(read, menu) == "Menu\nText."
    assert omitted("page.html", f"<!doctype html>{menu}".encode()) == []


def test_ordered_lists_have_the_numbers_that_a_browser_shows(read: Read) -> None:
    page = (
        '<ol start="3"><li>three</li><li><p>four</p><ol type="a"><li>a</li><li>b</li></ol></li>'
        '<li value="9">nine</li><li>ten</li></ol>'
        '<ol type="I" start="4"><li>four</li></ol><ol reversed><li>two</li><li>one</li></ol>'
        '<ul><li>point<ol><li>first</li></ol></li></ul><ol style="list-style:none"><li>plain</li></ol>'
    )
    assert text_of(read, page).split("\n") == [
        "3. three", "4. four", "  a. a", "  b. b", "9. nine", "10. ten", "IV. four", "2. two", "1. one",
        "- point", "  1. first", "- plain",
    ]  # fmt: skip


def test_cells_that_span_stand_in_their_columns(read: Read) -> None:
    page = (
        "<table><thead><tr><th rowspan=2>Region<th colspan=2>2023<th colspan=2>2024"
        "<tr><th>Q1<th>Q2<th>Q1<th>Q2</thead>"
        "<tr><td rowspan=2>North<td>1<td><td>3<td>4<tr><td>5<td colspan=2>6<td>8</table>"
    )
    assert text_of(read, page).split("\n") == [
        "Region | 2023 Q1 | 2023 Q2 | 2024 Q1 | 2024 Q2",
        "North | 1 |  | 3 | 4",
        "North | 5 | 6 |  | 8",
    ]


def test_a_table_says_by_its_marks_what_its_header_is(read: Read) -> None:
    rows = "".join(f"<tr><th>Row {n}</th><td>{'word ' * 20}</td></tr>" for n in range(20))
    blocks = read("page.html", f"<!doctype html><table>{rows}</table>".encode())
    assert [block.text.count("Row 0 |") for block in blocks] == [1, *[0] * (len(blocks) - 1)]
    named = f"<tr><th>Name</th><th>Text</th></tr>{rows}"
    blocks = read("page.html", f"<!doctype html><table>{named}</table>".encode())
    assert all(block.text.startswith("Name | Text\n") for block in blocks)


def test_a_table_made_of_roles_is_a_table(read: Read) -> None:
    row = '<div role="row"><span role="{0}">{1}</span><span role="{0}">{2}</span></div>'
    body = row.format("columnheader", "Name", "Age") + row.format("cell", "Ann", "30")
    assert text_of(read, f'<div role="table">{body}</div>') == "Name | Age\nAnn | 30"
