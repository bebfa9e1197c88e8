"""Turn text into the terms that lexical search counts.

A word becomes its stem, by the language of the text. Scripts without spaces become pairs or triples of characters.
Identifiers, codes and numbers also become the forms that people type for them. Where a language builds long words,
*fragments* of a word are terms too; a fragment begins with a mark. A question's word has forms for texts of each
language, so that stems of one language are not looked for in texts of another.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Final

from .languages import COMPOUNDING, STEMMED, detect, stemmer

__all__ = [
    "CODE",
    "K1",
    "MARK",
    "QUERY_TERMS",
    "Analyzed",
    "Analyzer",
    "B",
    "QueryPart",
    "QueryWord",
    "chosen",
    "flat",
    "is_word",
    "mark_of",
    "parts_of",
]

QUERY_TERMS: Final = 64
"""The most words of a query; a pasted page would otherwise read the whole index."""

_CACHED_WORDS = 20_000
"""Words whose terms are kept, at some 300 bytes each. Five times as many spare 1% of the time of analyzing 6 MB of the
Python library's code and of these documents."""

_TERM_CHARACTERS = 64
"""The most characters of a term; nobody searches for longer words."""

_FRAGMENT: Final = "\ue000"
"""Begins a fragment. Texts cannot make such a term, since private-use characters are no letters."""

_POINT: Final = "\ue001"
"""The decimal point of a number."""

_GRAM = 5
_COMPOUND_GRAM = 4
"""Letters of a fragment. Measured on 14 languages (docs/adr/0042)."""

_WORD_FRAGMENTS: Final = 4
"""How many of its fragments a word counts as much as. It was measured (docs/adr/0072)."""

K1: Final = 1.2
B: Final = 0.75
"""BM25's parameters, the same in each index that ranks words itself. They are those of SQLite's bm25
(https://sqlite.org/fts5.html#the_bm25_function), from whose scores counts are read."""

MARK: Final = "\ue002"
"""Begins the term that says in which language a text is."""

_TOLD_WEIGHT, _OTHER_WEIGHT = 3, 2
"""The weights of texts in the language that a question is surely in, and of texts in other languages."""

_SURE = 0.95
"""The least probability of a question's detected language."""

_TEXT_SURE = 0.7
"""The same for a text, which may be partly English: a manual whose translation is not complete."""

_TOLD_WORDS = 3
"""A question of fewer words may be in any of the languages of the texts."""

_TEXT_LETTERS = 40
_ENGLISH_SHARE = 0.3
"""The share of English filler words from which a text is English. Portuguese, with "a", "do" and "as", has 0.1."""

_PROSE_LETTERS = 0.7
"""The share of letters, marks and digits aside, below which a text is a table or code and its language a guess."""

_DETECTED_CHARACTERS = 1_000
_TELLING = 4
"""Chunks that tell the language of those around them."""

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\uaa60-\uaa7f"
"""Thai, Lao, Burmese and Khmer."""

# Most vowel signs from Devanagari to Sinhala are marks, not letters, but belong to the word.
_RUN = re.compile(rf"[\w\u0900-\u0963\u0966-\u0dff{_UNSPACED}]+")
_SCRIPTS = re.compile(rf"([{_CJK}]+|[{_UNSPACED}]+)")
_IS_CJK = re.compile(rf"[{_CJK}]")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")

CODE: Final = "code"
"""The language of source code: English words, whose first letters are fragments ("config", "configuration")."""

_CODE_MARKS = re.compile(r"[(){}\[\]=;_<>]")
_CODE_WORDS = re.compile(r"\b(?:def|class|function|func|fn|return|import|const|let|var|struct|public|private|void)\b")
_CODE_SHARE = 0.03
_CODE_PREFIX = 4
_DEFINED = re.compile(r"\b(?:def|class|function|func|fn|interface|struct|enum|trait|type)\s+(\w+)")
_NAME_TIMES = 3
"""A chunk of code is about the names that it defines: they are its titles."""

_NUMBER = re.compile(
    r"(?<![\w.,])\d{1,3}(?:([.,'\u2019\u00a0\u202f\u2009 ])\d{3}(?:\1\d{3})*)(?:[.,]\d{1,4})?(?![\w])"
    r"|(?<![\w.,])\d+[.,]\d{1,4}(?![\w]|[.,]\d)"
)
_CODE = re.compile(
    r"(?<![\w-])(?:[A-Za-z]{1,5}[-\u2010\u2011]\d+[A-Za-z]?|[A-Z]{1,4} \d+[A-Za-z]?|[A-Za-z]-[A-Za-z]+)(?![\w-])"
)
_TYPED_CODE = re.compile(r"(?<![\w-])(?=([^\W\d_]{1,4} \d+[A-Za-z]?|\d+ [^\W\d_]{1,4})(?!\w))")
"""Codes that people type with a space, in any case: "xr 500", "10 km"."""

_ACCENTS = re.compile("(?<![\u0400-\u052f])[\u0300-\u036f]|[\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0640]")
"""Not after Cyrillic letters: there they make other letters, on which endings depend."""

_PLAIN_LETTERS = str.maketrans(
    {"\u0131": "i", "\u0142": "l", "\u00f8": "o", "\u0111": "d", "\u00e6": "ae", "\u0153": "oe", "\u0451": "\u0435"}
)
_WRITTEN_OUT = re.compile(r"(?<![aeq])([aou])e")
_WRITES_OUT = frozenset({"german", "danish", "norwegian", "swedish"})
"""Languages in which "ae", "oe" and "ue" may stand for letters with an umlaut."""

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+|(?:(?![A-Z\d])[^\W_])+")
_MOST_PARTS = 6
_SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f\u061f\u0964]\s+|\n+")
_LAST_WORDS = 24

_ENGLISH = frozenset(
    """
    a about above across after again against all almost along already also although always am among an and another any
    anything are around as at be became because become becomes been before behind being below beside besides between
    beyond both but by can cannot could did do does doing done down due during each either else enough etc even ever
    every everything except few find for from further get give given go had has have having he hence her here hers
    herself him himself his how however i if in indeed instead into is it its itself just less made make many may me
    might mine more moreover most much must my myself namely neither nevertheless next no nor not nothing now of off
    often on once one only onto or other others otherwise our ours ourselves out over own per perhaps rather same say
    see seem seemed seems several she should show since so some something still such take than that the their theirs
    them themselves then there thereby therefore these they thing this those though through throughout thus to together
    too toward towards under until up upon us very via was we well were what whatever when where whereas whereby whether
    which while who whole whom whose why will with within without would yet you your yours yourself
    """.split()  # noqa: SIM905 - a list of words reads as text
)


@dataclass(frozen=True, slots=True)
class Analyzed:
    """The terms of a text, in order and as often as they occur, and its language."""

    terms: list[str]
    language: str

    @property
    def columns(self) -> tuple[list[str], list[str], list[str]]:
        """The terms that are no fragments, the fragments, and the mark of its language."""
        words = [term for term in self.terms if term[0] != _FRAGMENT]
        fragments = [term for term in self.terms if term[0] == _FRAGMENT] if len(words) < len(self.terms) else []
        return words, fragments, [mark_of(self.language)]

    @property
    def length(self) -> int:
        """The number of its terms, and of its mark."""
        return len(self.terms) + 1


@dataclass(frozen=True, slots=True)
class QueryPart:
    """What a word of a query is in texts of some languages; in all texts if it names none.

    ``weight`` is how often all of it counts.
    """

    languages: tuple[str, ...]
    forms: tuple[str, ...]
    fragments: tuple[str, ...] = ()
    weight: int = 1

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term. A form and all fragments together weigh as much as a word that has no fragments."""
        whole = _WORD_FRAGMENTS + len(self.fragments)
        form, fragment = self.weight * _WORD_FRAGMENTS / whole, self.weight / whole
        return dict.fromkeys(self.fragments, fragment) | dict.fromkeys(self.forms, form)


@dataclass(frozen=True, slots=True)
class QueryWord:
    """A word of a query, as texts of each language have it."""

    parts: tuple[QueryPart, ...]

    @property
    def forms(self) -> tuple[str, ...]:
        """Its forms in all languages, each once."""
        return tuple(dict.fromkeys(form for part in self.parts for form in part.forms))

    @property
    def fragments(self) -> tuple[str, ...]:
        """Its fragments in all languages, each once."""
        return tuple(dict.fromkeys(fragment for part in self.parts for fragment in part.fragments))

    def plain(self, weight: int = 1) -> QueryWord:
        """Return the word without fragments, and with a weight."""
        return QueryWord(tuple(QueryPart(part.languages, part.forms, (), weight) for part in self.parts))


class Analyzer:
    """The rules that turn text into terms.

    Texts and queries need the same analyzer, so its ``id`` is part of an index's version.

    Args:
        language: "auto" to detect each text's; or one of Snowball's stemmers
            (https://snowballstem.org/algorithms/) for all; "none" leaves words unchanged.
    """

    def __init__(self, language: str = "auto") -> None:
        self.id = f"words1-{language}"
        self._detects = language == "auto"
        self._default = "english" if self._detects else language
        stemmer(self._default)  # raises for a language that does not exist

    def languages(self, texts: Sequence[str]) -> list[str]:
        """Return the languages of consecutive chunks of one document.

        A few of them tell it for all. Only if these differ, and for source code, does each chunk tell its own.
        """
        if not self._detects:
            return [self._default] * len(texts)
        prose = [text for text in texts if not _is_code(text)]
        told = [self._told(text) for text in prose[:: max(1, len(prose) // _TELLING)]]
        counts = Counter(filter(None, told))
        usual = counts.most_common(1)[0][0] if counts else self._default
        if len(counts) > 1:
            return [self._told(text) or usual for text in texts]
        return [CODE if _is_code(text) else usual for text in texts]

    def analyze(self, text: str, title: str = "", language: str = "") -> Analyzed:
        """Return the terms of a text and of its title, which may be the name of a file.

        Args:
            language: of the text; "" to detect it.
        """
        language = self._language(text) if not language or not self._detects else language
        terms = _terms_of(language, _normalized(text))
        if title:
            terms += _terms_of(language, _normalized(_bare(title)))
        if language == CODE:
            terms += _NAME_TIMES * _terms_of(language, _normalized(" ".join(_DEFINED.findall(text))))
        return Analyzed(terms, language)

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text, in order and as often as they occur."""
        return self.analyze(text).terms

    def question(self, text: str, languages: Collection[str] | None = None) -> list[QueryWord]:
        """Return the words to search for, each once; none if there are only filler words ("what is it").

        Args:
            languages: those of the texts that are searched; None if they are not known.
        """
        tried, told = self._tried(text, languages)
        plain = _normalized(text)
        words: dict[tuple[str, ...], QueryWord] = {}
        for run in _RUN.findall(plain):
            for word in _query_words({language: _terms(language, run, query=True) for language in tried}, told):
                words.setdefault(word.forms, word)
        weight = _TOLD_WEIGHT if told else 1
        for joined in [*_joined(plain), *map(_squeezed, _TYPED_CODE.findall(plain))]:
            words.setdefault((joined,), QueryWord((QueryPart((), (joined,), (), weight),)))
        return list(words.values())

    def query(self, text: str, languages: Collection[str] | None = None) -> list[str]:
        """Return the terms of :meth:`question`, each once."""
        return flat(self.question(text, languages))

    def words(self, text: str) -> list[str]:
        """Return the words of :meth:`query` as they are written, for a service that makes its own terms."""
        runs = (run for text_run in _RUN.findall(_normalized(text)) for run in _split(text_run.lower()))
        return [run for run in dict.fromkeys(runs) if self._default != "english" or run not in _ENGLISH]

    def _language(self, text: str) -> str:
        """Return the language of a text, or the default if it cannot be told."""
        return (self._told(text) if self._detects else "") or self._default

    def _told(self, text: str) -> str:
        """Return the language of a text, or "" if the text is too short or looks like no prose."""
        if len(text) < _TEXT_LETTERS:
            return ""
        if _is_code(text):
            return CODE
        if _is_english(text):
            return self._default
        start = "".join(text[:_DETECTED_CHARACTERS].split())
        if sum(map(str.isalpha, start)) < _PROSE_LETTERS * len(start):
            return ""
        language, probability = detect(text)
        return language if probability >= _TEXT_SURE else ""

    def _tried(self, text: str, languages: Collection[str] | None) -> tuple[list[str], str]:
        """Return the languages whose forms a query's words take, and the one that the query is surely in, or ""."""
        if not self._detects:
            return [self._default], ""
        if languages is not None and len(languages) < 2:
            return [*(languages or [self._default])], ""
        present = list(STEMMED.values()) if languages is None else sorted(languages)
        words = text.split()
        if len(words) > 1 and _is_english(text):
            told = self._default
        else:
            language, probability = detect(text) if len(words) >= _TOLD_WORDS else ("", 0.0)
            told = language if probability >= _SURE else ""
        if languages is None and told:
            return list(dict.fromkeys([told, self._default])), ""
        return present, told if told in present else ""


def _is_code(text: str) -> bool:
    """Return whether a text is source code: it has marks that prose has not, and says what it defines or returns."""
    start = text[:_DETECTED_CHARACTERS]
    return len(_CODE_MARKS.findall(start)) >= _CODE_SHARE * len(start) and _CODE_WORDS.search(start) is not None


def _is_english(text: str) -> bool:
    words = text.lower().split()
    return sum(word in _ENGLISH for word in words) >= _ENGLISH_SHARE * len(words)


def _query_words(analyzed: Mapping[str, Sequence[str]], told: str) -> Iterator[QueryWord]:
    """Yield the words of one run of a query.

    The parts of an identifier, and the pairs of a script without spaces, are words of their own.

    Args:
        analyzed: the run's terms in each language.
        told: the language of the query. Only in it, fragments are searched; "" if it is not known.
    """
    groups: dict[tuple[tuple[str, ...], tuple[str, ...], int], list[str]] = {}
    for language, terms in analyzed.items():
        forms = tuple(dict.fromkeys(filter(is_word, terms)))
        fragments = tuple(dict.fromkeys(term for term in terms if not is_word(term)))
        is_told = language == told or (language == CODE and told == "english")
        weight = 1 if not told else _TOLD_WEIGHT if is_told else _OTHER_WEIGHT
        if forms:
            key = (forms, fragments if is_told or not told else (), weight)
            groups.setdefault(key, []).append(language)
    everywhere = len(groups) == 1 and len(analyzed) == sum(map(len, groups.values()))
    parts = [
        QueryPart(() if everywhere else tuple(languages), forms, fragments, weight)
        for (forms, fragments, weight), languages in groups.items()
    ]
    if all(len(part.forms) == 1 for part in parts):
        if parts:
            yield QueryWord(tuple(parts))
        return
    for form in dict.fromkeys(form for part in parts for form in part.forms):
        yield QueryWord(
            tuple(
                QueryPart(part.languages, (form,), part.fragments if form == part.forms[0] else (), part.weight)
                for part in parts
                if form in part.forms
            )
        )


def mark_of(language: str) -> str:
    """Return the mark of texts in a language."""
    return MARK + language


def is_word(term: str) -> bool:
    """Return whether a term is no fragment."""
    return not term.startswith(_FRAGMENT)


def flat(words: Iterable[QueryWord]) -> list[str]:
    """Return the terms of query words, each once: forms first, then fragments."""
    listed = list(words)
    forms = [form for word in listed for form in word.forms]
    return list(dict.fromkeys([*forms, *(fragment for word in listed for fragment in word.fragments)]))


def parts_of(words: Sequence[QueryWord]) -> list[QueryPart]:
    """Return the parts of query words; there are fragments only for short queries."""
    short = len(words) <= QUERY_TERMS // 4
    return [part if short else replace(part, fragments=()) for word in words for part in word.parts]


def chosen(
    text: str,
    analyzer: Analyzer,
    languages: Collection[str] | None,
    counts: Callable[[Sequence[str]], Mapping[str, int]],
) -> list[QueryWord]:
    """Return the words of a query, of a long one the rarest ``QUERY_TERMS`` that are found, and its last sentence.

    Args:
        counts: returns how many texts have each term, as nearly as it can be told; called only for long queries.
    """
    words = analyzer.question(text, languages)
    if len(words) <= QUERY_TERMS:
        return words
    asked = {word.forms for word in analyzer.question(_last_sentence(text), languages)[-_LAST_WORDS:]}
    found = counts([form for word in words for form in word.forms])
    rarity = {word.forms: sum(found.get(form, 0) for form in word.forms) for word in words}
    last = [word.plain(3) for word in words if word.forms in asked]
    rest = [word.plain() for word in words if word.forms not in asked and rarity[word.forms]]
    return [*last, *sorted(rest, key=lambda word: rarity[word.forms])[: QUERY_TERMS - len(last)]]


def _last_sentence(text: str) -> str:
    """Return the last sentence that has letters."""
    return next((part for part in reversed(_SENTENCE.split(text)) if any(map(str.isalpha, part))), "")


def _bare(title: str) -> str:
    """Return a title without the ending of a file's name."""
    name, dot, ending = title.rpartition(".")
    return name if dot and name and ending.isalnum() and len(ending) <= 5 else title


def _terms_of(language: str, text: str) -> list[str]:
    """Return the terms of a normalized text, and the ones that people also write as one: "XR-500", "AB 1234"."""
    return [*(term for run in _RUN.findall(text) for term in _terms(language, run)), *_joined(text)]


def _joined(text: str) -> Iterator[str]:
    """Yield numbers without the marks between their thousands, and codes without their space or hyphen."""
    for match in _NUMBER.finditer(text):
        yield from _number(match.group(), match.group(1) or "")
    yield from map(_squeezed, _CODE.findall(text))


def _squeezed(code: str) -> str:
    return re.sub(r"\W", "", _folded(code))


def _split(run: str) -> list[str]:
    """Return the parts of a run that are of one script, and the words between underscores."""
    parts = [run] if run.isascii() else _SCRIPTS.split(run)
    return [word for part in parts for word in part.split("_") if word]


@lru_cache(_CACHED_WORDS)
def _cached_terms(language: str, run: str, query: bool) -> tuple[str, ...]:
    if run.isalpha() and run.islower() and run.isascii():
        return _word(language, run)
    parts = _split(run)
    terms = [term for part in parts for term in _part_terms(language, part, query=query)]
    if 2 <= len(parts) <= _MOST_PARTS and "_" in run:
        terms.append(stemmer(language)(_folded("".join(parts))[:_TERM_CHARACTERS]))
    return tuple(terms)


def _terms(language: str, run: str, *, query: bool = False) -> tuple[str, ...]:
    """Return the terms of one run."""
    if len(run) > _TERM_CHARACTERS:
        return _cached_terms.__wrapped__(language, run, query)
    return _cached_terms(language, run, query)


def _part_terms(language: str, run: str, *, query: bool) -> tuple[str, ...]:
    """Return the terms of a run of one script."""
    if _IS_CJK.match(run):
        # Pairs replace words; single characters serve one-character queries.
        plain = run.translate(_simplified())
        pairs = tuple(plain[at : at + 2] for at in range(len(plain) - 1))
        return pairs if query and pairs else (*plain, *pairs)
    if _IS_UNSPACED.match(run):
        return tuple(run[at : at + 3] for at in range(len(run) - 2)) or (run,)
    parts = _PARTS.findall(run)
    if len(parts) == 1:
        return _word(language, run)
    whole = stemmer(language)(_folded(run)[:_TERM_CHARACTERS])
    if len(parts) > _MOST_PARTS:
        return (whole,)
    own = (term for part in parts if len(part) > 1 for term in _word(language, part))
    return tuple(dict.fromkeys((whole, *own)))


def _word(language: str, run: str) -> tuple[str, ...]:
    """Return the stem of a word and its fragments; nothing for a filler word of English."""
    word = _folded(run)[:_TERM_CHARACTERS]
    if language in {"english", CODE}:
        if word in _ENGLISH:
            return ()
        stem = stemmer("english")(word)
        whole = language == CODE and len(stem) >= _CODE_PREFIX and stem.isalpha()
        return (stem, _FRAGMENT + stem[:_CODE_PREFIX]) if whole else (stem,)
    if language in _WRITES_OUT:
        word = _WRITTEN_OUT.sub(r"\1", word)
    stem = stemmer(language)(word)
    if language == "none" or not word.isalpha():
        return (stem,)
    size = _COMPOUND_GRAM if language in COMPOUNDING else _GRAM
    if len(word) < size:
        return (stem,)
    return (stem, *(_FRAGMENT + word[at : at + size] for at in range(len(word) - size + 1)))


def _number(number: str, separator: str) -> tuple[str, ...]:
    """Return a number without the marks between its thousands, and with its decimals if they are not zero."""
    digits = number.replace(separator, "") if separator else number
    whole, _, decimals = digits.replace(",", ".").partition(".")
    decimals = decimals.rstrip("0")
    return (*((whole,) if separator else ()), *((f"{whole}{_POINT}{decimals}",) if decimals else ()))


def _folded(run: str) -> str:
    return run.casefold().translate(_PLAIN_LETTERS) if not run.isascii() else run.lower()


class _Simplified(dict[int, str]):
    """Traditional Chinese characters and their simplified forms, each looked up when it is first met.

    Characters are converted one by one, so that a text and a part of it have the same pairs.
    """

    def __missing__(self, code: int) -> str:
        self[code] = simple = _converter()(chr(code))
        return simple


@cache
def _simplified() -> _Simplified:
    return _Simplified()


@cache
def _converter() -> Callable[[str], str]:
    import opencc

    converter = opencc.OpenCC("t2s")
    return lambda character: str(converter.convert(character))


class _Digits(dict[int, str | int]):
    """The digits of all scripts as ASCII ones."""

    def __missing__(self, code: int) -> str | int:
        digit = unicodedata.decimal(chr(code), None) if code > 127 else None
        self[code] = code if digit is None else str(digit)
        return self[code]


_ASCII_DIGITS = _Digits()


def _normalized(text: str) -> str:
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).translate(_ASCII_DIGITS))
    return unicodedata.normalize("NFC", _ACCENTS.sub("", plain))
