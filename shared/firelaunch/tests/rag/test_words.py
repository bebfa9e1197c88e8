"""How texts become terms."""

from __future__ import annotations

import re

import pytest
from firelaunch.rag.index import words
from firelaunch.rag.index.languages import detect
from firelaunch.rag.index.words import QUERY_TERMS, Analyzer, QueryPart, chosen
from hypothesis import given
from hypothesis import strategies as st

ENGLISH = Analyzer("english")
TYPED_CODE = re.compile(r"[^\W\d_]{1,12}\d+[a-z]?|\d+[^\W\d_]{1,12}")
"""A code that a question joins although the text, in small letters, may mean two words: "xr 500", "10 km"."""


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
        ("parseHttpResponse(raw)", "parse http response"),
        ("parseHttpResponse(raw)", "parsehttpresponse"),
        ("parse_http_response(raw)", "parsehttpresponse"),
        ("the XR-500 amplifier", "xr500"),
        ("the XR500 amplifier", "XR 500"),
        ("room AB 1234", "ab1234"),
        ("screws M8", "m8"),
        ("an e-mail", "email"),
        ("costs 1,299.00 euros", "1299"),
        ("costs 1.299,00 euros", "1299"),
        ("in the year \u0661\u0662\u0663\u0664", "1234"),
        ("漢語學習", "汉语"),
        ("ผู้ใช้สามารถขอคืนเงินได้", "คืนเงิน"),
    ],
)
def test_a_query_finds_the_text_in_any_script_case_or_ending(text: str, query: str) -> None:
    wanted = ENGLISH.query(query)
    assert wanted
    assert set(wanted) <= set(ENGLISH.terms(text))


@pytest.mark.parametrize(
    ("text", "query", "number"), [("costs 1299 euros", "1,299.00", "1299"), ("a load of 12.50", "12.5", "12\ue0015")]
)
def test_a_number_is_one_term_however_its_marks_and_zeros_are_typed(text: str, query: str, number: str) -> None:
    assert number in ENGLISH.query(query)
    assert number in ENGLISH.terms(text)


@pytest.mark.parametrize(("text", "query"), [("東京都の天気", "天東"), ("हिन्दी", "हिन्द"), ("off", "office")])
def test_what_is_another_word_is_not_found(text: str, query: str) -> None:
    assert not set(ENGLISH.query(query)) & set(ENGLISH.terms(text))


def test_words_that_say_nothing_are_left_out_and_only_in_their_own_language() -> None:
    assert ENGLISH.terms("What is it, and whose?") == []
    assert Analyzer("german").terms("What is it") != []


def test_terms_are_counted_in_a_text_and_asked_for_once_in_a_query() -> None:
    assert ENGLISH.terms("wing wings") == ["wing", "wing"]
    assert ENGLISH.query("wing wings") == ["wing"]


@pytest.mark.parametrize("analyzer", [ENGLISH, Analyzer(), Analyzer("german"), Analyzer("none")], ids=lambda a: a.id)
@given(text=st.text())
def test_any_text_can_be_read_and_each_word_of_it_finds_it(analyzer: Analyzer, text: str) -> None:
    analyzed = analyzer.analyze(text)
    terms = set(analyzed.terms)
    for word in analyzer.question(text, {analyzed.language}):
        assert set(word.fragments) <= terms
        assert set(word.forms) & terms or all(map(TYPED_CODE.fullmatch, word.forms))


GERMAN = "Die Rückgabefrist beträgt vierzehn Tage, danach ist keine Rückgabe mehr möglich."


@pytest.mark.parametrize("query", ["Frist der Rückgabe", "rueckgabefristen", "ruckgabe", "Fristen"])
def test_german_is_found_by_parts_of_its_words_and_however_its_umlauts_are_written(query: str) -> None:
    analyzed = Analyzer().analyze(GERMAN)
    assert analyzed.language == "german"
    assert set(Analyzer().query(query, {"german", "english"})) & set(analyzed.terms)


def test_a_question_in_a_known_language_prefers_texts_of_it_and_finds_its_words_in_others() -> None:
    word = Analyzer().question("Welche Rückgabefristen gelten hier bei Ihnen", {"german", "french"})[1]
    french, german = word.parts
    assert (french.languages, french.fragments) == (("french",), ())
    assert german.languages == ("german",)
    assert "\ue000gabe" in german.fragments
    assert german.weight > french.weight


def test_a_word_that_may_be_in_several_languages_has_the_form_of_each() -> None:
    (word,) = Analyzer().question("Nationalities", {"english", "german", "french"})
    forms = {language: part.forms for part in word.parts for language in part.languages}
    assert forms == {"english": ("nation",), "german": ("nationaliti",), "french": ("nationalit",)}


ENGLISH_PROSE = "The goods are yours to return within a fortnight, and we will pay the money back to you. " * 3
PYTHON = "def refund(order):\n    amount = order.total\n    return pay(order.user, amount)\n"
TABLE = "SKU 8847 | 450 | A-12\nSKU 8848 | 289 | B-07\nSKU 8849 | 23 | C-11\n"


@pytest.mark.skipif(detect(GERMAN)[0] == "", reason="the detector has no wheel here")
def test_a_documents_chunks_share_its_language_unless_it_is_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table tells no language, and source code has its own. Few chunks are looked at, however many there are."""
    looked: list[str] = []
    monkeypatch.setattr(words, "detect", lambda text: looked.append(text) or detect(text))  # type: ignore[func-returns-value]
    chunks = [GERMAN, TABLE, PYTHON, *[GERMAN] * 60]
    assert Analyzer().languages(chunks) == ["german", "german", "code", *["german"] * 60]
    assert 0 < len(looked) <= 8
    assert Analyzer().languages([TABLE]) == ["english"]
    assert Analyzer().languages([GERMAN, ENGLISH_PROSE, TABLE, GERMAN]) == ["german", "english", "german", "german"]
    assert Analyzer("french").languages([GERMAN, PYTHON]) == ["french", "french"]


def test_a_language_that_is_told_is_not_detected() -> None:
    assert Analyzer().analyze(GERMAN, language="french").language == "french"


def test_source_code_is_found_by_the_names_it_defines_and_by_words_that_it_shortens() -> None:
    code = "def load_config(path):\n    with open(path) as file:\n        return json.load(file)\n"
    analyzed = Analyzer().analyze(code)
    assert analyzed.language == "code"
    assert analyzed.terms.count("config") > analyzed.terms.count("path")
    assert "\ue000conf" in analyzed.terms
    assert "\ue000conf" in Analyzer().query("where is the configuration read", {"english", "code"})


def test_of_a_long_message_the_rarest_words_that_are_found_are_searched_and_its_last_sentence() -> None:
    names = ["word" + chr(97 + n // 26) + chr(97 + n % 26) for n in range(300)]
    counts = {name: n for n, name in enumerate(names) if n >= 100}
    text = " ".join(names) + ". How long is the refund period?"
    words = chosen(text, Analyzer("none"), None, lambda _: counts)
    asked = ["how", "long", "is", "the", "refund", "period"]
    assert [word.forms[0] for word in words] == asked + names[100 : 100 + QUERY_TERMS - len(asked)]
    assert [word.parts[0].weight for word in words[: len(asked) + 1]] == [3] * len(asked) + [1]


@given(fragments=st.sets(st.text("abc", min_size=1), max_size=60), weight=st.integers(1, 5))
def test_a_word_and_its_fragments_together_count_as_much_as_a_word_that_has_none(
    fragments: set[str], weight: int
) -> None:
    part = QueryPart((), ("word",), tuple(fragments), weight)
    assert sum(part.weights.values()) == pytest.approx(sum(QueryPart((), ("word",), (), weight).weights.values()))
    assert all(part.weights["word"] >= 4 * part.weights[fragment] * (1 - 1e-9) for fragment in fragments)
