"""Check the citations of an answer while it streams: numbers in brackets that name passages of the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .citation_links import LinkBreaker
from .retrieve import Passage

__all__ = ["Citation", "Citations", "check_citations"]


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer cites, and its place."""

    number: int
    document: str
    chunk: str
    owner: str
    place: dict[str, Any]


# "[1]", "[1, 2]", "[2-4]", "[^1]", and the other brackets that some models use.
# Every repeat is bounded: a prompt can make a model write anything, such as a hundred thousand spaces.
_MARKER = re.compile(
    r"(?P<space>[ \t]{0,8})[\[\u3010]\^?(?P<numbers>\d{1,4}(?:[ \t]?[,;\u2013-][ \t]?\^?\d{1,4}){0,9})[\]\u3011]"
)
_MAY_GO_ON = re.compile(r"[ \t]{0,8}(?:[\[\u3010][\d \t,;^\u2013-]{0,90})?\Z")
_RANGE = re.compile(r"(\d+)[ \t]?[\u2013-][ \t]?\^?(\d+)|(\d+)")
_LONGEST_FENCE = 64
"""The most backticks that are held back."""
_LONGEST_RANGE = 50


@dataclass(slots=True)
class Citations:
    """A streaming check of an answer's citations, which holds text back only while a marker is open.

    Numbers without a passage are removed, and counted in ``removed``. Text between backticks is code, in which "[0]"
    cites nothing. No citation remains a link (see :mod:`.citation_links`).

    Args:
        passages: the passages that the model was shown.
    """

    passages: Sequence[Passage]
    removed: int = 0
    cited: list[int] = field(default_factory=list)
    _pending: str = ""
    _in_code: str = ""
    _links: LinkBreaker = field(default_factory=LinkBreaker)

    def feed(self, piece: str) -> str:
        """Add a piece of the answer, and return the text that may be shown now."""
        text = self._pending + piece
        keep = self._open_from(text)
        self._pending = text[keep:]
        return self._links.feed(self._check(text[:keep]))

    def end(self) -> str:
        """Return the rest of the answer."""
        text, self._pending = self._pending, ""
        return self._links.feed(self._check(text)) + self._links.end()

    def citations(self) -> list[Citation]:
        """Return the cited passages, each once, in the order of the answer."""
        by_number = {passage.number: passage.hit for passage in self.passages}
        cited = [(number, by_number[number]) for number in dict.fromkeys(self.cited)]
        return [Citation(n, hit.entry.document, hit.entry.id, hit.owner, dict(hit.entry.place)) for n, hit in cited]

    def _open_from(self, text: str) -> int:
        """Return where the end begins that more text could turn into a marker or a code fence."""
        match = _MAY_GO_ON.search(text)
        keep = match.start() if match and match.group() else len(text)
        ticks = len(text) - len(text.rstrip("`"))
        return min(keep, len(text) - (ticks if ticks <= _LONGEST_FENCE else 0))

    def _check(self, text: str) -> str:
        return "".join(part if code else _MARKER.sub(self._replace, part) for part, code in self._parts(text))

    def _parts(self, text: str) -> Iterator[tuple[str, bool]]:
        """Yield the parts of the text, each with whether it is code; code may continue in the next piece."""
        for part in re.split(r"(`+|\n)", text):
            if part == "\n" and self._in_code == "`":
                self._in_code = ""
            ticks = part.startswith("`")
            yield part, ticks or bool(self._in_code)
            if ticks and not self._in_code:
                self._in_code = "```" if len(part) >= 3 else "`"
            elif ticks and (len(part) >= 3) == (self._in_code == "```"):
                self._in_code = ""

    def _replace(self, marker: re.Match[str]) -> str:
        numbers = list(_numbers(marker["numbers"]))
        valid = {passage.number for passage in self.passages}
        cited_now = [number for number in numbers if number in valid]
        self.removed += len(numbers) - len(cited_now)
        self.cited += cited_now
        if not cited_now:
            return ""
        return marker["space"] + "".join(f"[{number}]" for number in dict.fromkeys(cited_now))


def _numbers(text: str) -> Iterator[int]:
    for match in _RANGE.finditer(text):
        first, last, single = match.groups()
        if single is not None:
            yield int(single)
        elif 0 <= int(last) - int(first) < _LONGEST_RANGE:
            yield from range(int(first), int(last) + 1)
        else:
            yield from (int(first), int(last))


def check_citations(text: str, passages: Sequence[Passage]) -> tuple[str, list[Citation], int]:
    """Check a whole answer's citations.

    Returns:
        The answer with its valid citations, these citations, and how many were removed.
    """
    citations = Citations(passages)
    shown = citations.feed(text) + citations.end()
    return shown, citations.citations(), citations.removed
