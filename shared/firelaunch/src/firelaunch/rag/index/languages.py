"""Which language a text is in, and what lexical search does with words of that language."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final

__all__ = ["COMPOUNDING", "STEMMED", "detect", "stemmer"]

STEMMED: Final = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish",
    "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian",
    "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian",
    "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
"""Snowball's stemmers (https://snowballstem.org/algorithms/), by ISO 639 codes."""

COMPOUNDING: Final = frozenset(
    {"danish", "dutch", "estonian", "finnish", "german", "hungarian", "norwegian", "swedish", "turkish", "is"}
)
"""Languages that write several words as one, or add many endings to one."""

_UNSTEMMED: Final = frozenset(
    {"af", "az", "be", "bg", "gl", "hr", "is", "ka", "kk", "lv", "mk", "sk", "sl", "sq", "sw", "uk", "vi"}
)
"""Languages that the detector tells apart well, and for which there is no stemmer."""

_DETECTED_CHARACTERS: Final = 1_000
_lock = threading.Lock()


def detect(text: str) -> tuple[str, float]:
    """Return the language of a text as a stemmer's name, or as an ISO 639 code if there is no stemmer for it.

    Returns:
        The language and its probability; "" if it cannot be told.
    """
    detector = _detector()
    if detector is None:
        return "", 0.0
    with _lock:
        result = detector.FindLanguage(text[:_DETECTED_CHARACTERS])
    code = str(result.language)
    language = STEMMED.get(code, code if code in _UNSTEMMED else "")
    return language, float(result.probability)


@cache
def stemmer(language: str) -> Callable[[str], str]:
    """Return a function that takes the ending off a word; languages without a stemmer leave it unchanged."""
    if language == "none" or language in _UNSTEMMED:
        return str
    import Stemmer

    algorithm = Stemmer.Stemmer("english" if language == "code" else language)
    lock = threading.Lock()  # a stemmer reuses one buffer

    def stem(word: str) -> str:
        with lock:
            return str(algorithm.stemWord(word))

    return stem


@cache
def _detector() -> Any:
    """Return the detector; None where its package has no wheel (macOS on Intel)."""
    try:
        import gcld3
    except ImportError:
        return None
    return gcld3.NNetLanguageIdentifier(0, _DETECTED_CHARACTERS)
