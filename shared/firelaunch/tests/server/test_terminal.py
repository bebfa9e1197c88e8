"""Sentences fit a terminal, and stay whole elsewhere."""

from __future__ import annotations

import io

import pytest
from firelaunch.server.terminal import line_width, wrapped

LONG = "firelaunch.toml: cloud.regoin is not a setting; did you mean cloud.region? Correct it, and start the app again."


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_sentence_is_broken_at_spaces_and_each_line_fits() -> None:
    text = wrapped(LONG, 40, first="app | ", rest="    | ")
    lines = text.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert lines[0].startswith("app | firelaunch.toml:")
    assert {line[:6] for line in lines[1:]} == {"    | "}
    assert "".join(line[6:] + " " for line in lines).strip() == LONG


def test_words_and_indented_lines_stay_whole() -> None:
    path = "/home/ada/" + "x" * 90
    code = '    raise ValueError("' + "x" * 90 + '")'
    assert path in wrapped(f"It is in {path} now.", 40).splitlines()
    assert code in wrapped(f"It failed:\n{code}", 40).splitlines()


def test_elsewhere_a_line_stays_whole_unless_columns_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert line_width(io.StringIO()) == 0
    assert wrapped(LONG, 0) == LONG
    assert line_width(Terminal()) > 0
    monkeypatch.setenv("COLUMNS", "72")
    assert line_width(io.StringIO()) == 72
    monkeypatch.setenv("COLUMNS", "500")
    assert line_width(Terminal()) == 100
