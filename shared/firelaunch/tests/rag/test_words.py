"""How texts become terms."""

from __future__ import annotations

import pytest
from firelaunch.rag.index.words import Analyzer
from hypothesis import given
from hypothesis import strategies as st

ENGLISH = Analyzer()


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The aeroelastic models of heated wings", "model wing"),
        ("Café Zürich", "cafe zurich"),
        ("STRASSE", "straße"),
        ("東京都の天気", "天気"),
        ("東京都の天気", "京"),
        ("대한민국의 수도", "수도"),
        ("שָׁלוֹם עולם", "שלום"),
        ("مَرْحَبًا بالعالم", "مرحبا"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("H2O at 10km", "h2o 10km"),
        ("\uff26\uff55\uff4c\uff4c width", "full"),
        ("mixed日本text", "日本 mixed text"),
    ],
)
def test_a_query_finds_the_text_in_any_script_case_or_ending(text: str, query: str) -> None:
    wanted = ENGLISH.query(query)
    assert wanted
    assert set(wanted) <= set(ENGLISH.terms(text))


@pytest.mark.parametrize(("text", "query"), [("東京都の天気", "天東"), ("हिन्दी", "हिन्द"), ("off", "office")])
def test_what_is_another_word_is_not_found(text: str, query: str) -> None:
    assert not set(ENGLISH.query(query)) & set(ENGLISH.terms(text))


def test_words_that_say_nothing_are_left_out_and_only_in_their_own_language() -> None:
    assert ENGLISH.terms("What is it, and whose?") == []
    assert Analyzer("german").terms("What is it") != []


def test_terms_are_counted_in_a_text_and_asked_for_once_in_a_query() -> None:
    assert ENGLISH.terms("wing wings") == ["wing", "wing"]
    assert ENGLISH.query("wing wings") == ["wing"]


@given(st.text())
def test_any_text_can_be_read_and_its_query_finds_it(text: str) -> None:
    assert set(ENGLISH.query(text)) <= set(ENGLISH.terms(text))
