"""Turn text into the terms that lexical search counts: words without their endings, and pairs of CJK characters."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

__all__ = ["Analyzer"]

_STEMS_KEPT = 100_000
_TERM_CHARACTERS = 64
"""The most characters of a term; nobody searches for longer words."""

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
# Most vowel signs from Devanagari to Myanmar are marks, not letters, but belong to the word.
_RUN = re.compile(rf"[{_CJK}]+|(?:(?![{_CJK}])(?:[^\W_]|[\u0900-\u0963\u0966-\u109f]))+")
_IS_CJK = re.compile(rf"[{_CJK}]")
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0640]")

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


class Analyzer:
    """The rules that turn text into terms.

    Texts and queries need the same analyzer, so its ``id`` is part of an index's version.

    Args:
        language: one of Snowball's stemmers (https://snowballstem.org/algorithms/); "none" leaves words unchanged.
    """

    def __init__(self, language: str = "english") -> None:
        self.id = f"words1-{language}"
        self._ignored = _ENGLISH if language == "english" else frozenset()
        self._stem = lru_cache(_STEMS_KEPT)(_stemmer(language))

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text, in order and as often as they occur."""
        return [term for run in _runs(text) for term in self._terms(run, every=True)]

    def query(self, text: str) -> list[str]:
        """Return the terms to search for, each once; none if the text has only filler words ("what is it")."""
        terms = [term for run in _runs(text) for term in self._terms(run, every=False)]
        return list(dict.fromkeys(terms))

    def words(self, text: str) -> list[str]:
        """Return the words of :meth:`query` as they are written, for a service that makes its own terms."""
        return [run for run in dict.fromkeys(_runs(text)) if run not in self._ignored]

    def _terms(self, run: str, *, every: bool) -> Iterator[str]:
        if _IS_CJK.match(run):
            # CJK text has no spaces between words. Pairs replace words; single characters serve one-character queries.
            if every or len(run) == 1:
                yield from run
            yield from (run[at : at + 2] for at in range(len(run) - 1))
        elif run not in self._ignored:
            yield self._stem(run[:_TERM_CHARACTERS])


def _stemmer(language: str) -> Callable[[str], str]:
    if language == "none":
        return str
    import Stemmer

    stemmer = Stemmer.Stemmer(language)
    lock = threading.Lock()  # a stemmer reuses one buffer

    def stem(word: str) -> str:
        with lock:
            return str(stemmer.stemWord(word))

    return stem


def _runs(text: str) -> Iterator[str]:
    text = text.lower()
    if not text.isascii():
        plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", plain))
    return (match.group() for match in _RUN.finditer(text))
