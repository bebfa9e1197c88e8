"""How many tokens a text is to an embedding model, about, without any model's tokenizer."""

from __future__ import annotations

import re

__all__ = ["count_tokens", "token_bound"]

_FAR = 16
_RUN = re.compile("([A-Za-z0-9]+)")
_TOKEN = re.compile(
    rf"(?<=[A-Za-z0-9]{{{_FAR}}})[A-Za-z0-9]{{1,2}}"  # far into a word it is no word: base64, chemical names, hashes
    r"|[A-Za-z\u00c0-\u024f]{1,8}"
    r"|[0-9]{1,3}"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|[^\W_]{1,2}"  # other alphabets
    r"|[^\w\s]|_"
)


def count_tokens(text: str) -> int:
    """An estimate, to be read as an order of size.

    A token is up to eight Latin letters, three digits, two letters of another alphabet, one Chinese, Japanese or
    Korean character, or one sign. Beside the WordPiece tokenizer of all-MiniLM-L6-v2 it counted from 6 % fewer to 9 %
    more on prose, tables and code in English (measured on the corpora of ``bench/ingest.py`` and this repository).
    """
    return len(_TOKEN.findall(text))


def token_bound(text: str) -> int:
    """No fewer tokens than ``text`` has as a part of any other: far into a word two letters are one."""
    # Every other part is a run of letters and digits. However far into a word a run begins, its tokens are those of a
    # beginning of it, and of pairs after that.
    between, runs = _RUN.split(text)[::2], _RUN.findall(text)
    return sum(map(count_tokens, between)) + sum(count_tokens(run[:_FAR]) + (len(run) + 1) // 2 for run in runs)
