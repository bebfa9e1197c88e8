"""Cut blocks into chunks: passages of a bounded number of tokens, cut where the document has its own breaks."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from .parse.base import Block
from .tokens import count_tokens, token_bound

__all__ = ["Chunking", "DocumentChunk", "chunks"]

_VERSION = 3
"""Increased with every change that may move a chunk's ends."""

_SMALLEST, _LARGEST = 16, 8_192


@dataclass(frozen=True, slots=True)
class Chunking:
    """The settings that cut documents into chunks.

    They are part of an index's version, because other chunks need another index.

    Args:
        method: ``structure`` cuts at headings, paragraphs, sentences and lines, in this order, and only then by size;
            ``fixed`` cuts by size only, between words, and exists for comparison.
        size: the most tokens of a chunk, as :func:`.tokens.count_tokens` counts.
        overlap: the most tokens that a chunk repeats from the one before. ``structure`` repeats whole sentences, and
            nothing from the section before.

    Raises:
        ValueError: a size outside 16 to 8,192, or an overlap over half of the size.
    """

    method: Literal["structure", "fixed"] = "structure"
    size: int = 200
    overlap: int = 40

    def __post_init__(self) -> None:
        if self.method not in {"structure", "fixed"}:
            raise ValueError(f"there is no chunking method {self.method!r}; there are structure and fixed")
        if not _SMALLEST <= self.size <= _LARGEST:
            raise ValueError(f"a chunk's size is {_SMALLEST} to {_LARGEST} tokens, not {self.size}")
        if not 0 <= self.overlap <= self.size // 2:
            raise ValueError(f"chunks overlap by 0 tokens to half of their size, not {self.overlap}")

    @property
    def fingerprint(self) -> str:
        """The name of these settings in an index's version: equal names mean equal chunks."""
        return f"{self.method}{_VERSION}-{self.size}-{self.overlap}"


@dataclass(frozen=True, slots=True)
class DocumentChunk:
    """A passage of a document.

    Args:
        text: characters ``start`` to ``end`` of the document's extracted text, exactly.
        start: where the passage begins in the extracted text, in characters.
        page: page, slide or sheet on which the passage begins, counted from 1.
        last_page: that on which it ends.
        headings: the headings above the passage's beginning, outermost first.
        tokens: estimated length.
    """

    text: str
    start: int
    page: int | None
    headings: tuple[str, ...]
    tokens: int
    last_page: int | None = None

    @property
    def end(self) -> int:
        """Characters of the extracted text up to the chunk's end."""
        return self.start + len(self.text)

    @property
    def embedded_text(self) -> str:
        """The text for an embedder: the heading path above the text, for context that the text may lack."""
        return "\n".join([*([" > ".join(self.headings)] if self.headings else []), self.text.strip()])

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the embedded text: chunks with equal hashes need one embedding, wherever they stand."""
        return hashlib.sha256(self.embedded_text.encode()).hexdigest()


def chunks(blocks: Iterable[Block], chunking: Chunking) -> Iterator[DocumentChunk]:
    """Yield a document's chunks in order, from its blocks.

    Both are streams; one chunk and one block are in memory at a time. Every character of every block is in a chunk,
    and no chunk has more than ``chunking.size`` tokens. A block of a table that fits into a chunk is not cut, because
    it begins with the names of its columns (:mod:`.parse.tables`).
    """
    atoms: list[_Atom] = []
    tokens = repeated = 0
    for atom in _atoms(blocks, chunking):
        # A new section begins a new chunk, unless the current one is too short to say anything alone.
        new_section = atom.rank == _HEADING and tokens >= chunking.size * _LITTLE
        if atoms and (new_section or tokens + atom.together > chunking.size >= atom.together > 0):
            yield _chunk(atoms)
            atoms, tokens, repeated = [], 0, 0
        atoms.append(atom)
        tokens += atom.tokens
        while tokens > chunking.size:
            cut = _cut(atoms, repeated, chunking)
            yield _chunk(atoms[:cut])
            repeated = _overlap(atoms, cut, chunking)
            atoms = atoms[cut - repeated :]
            tokens = sum(part.tokens for part in atoms)
    if atoms:
        yield _chunk(atoms)


_INSIDE, _WORD, _LINE, _SENTENCE, _PARAGRAPH, _HEADING = range(6)
"""How good a place is to cut: inside a word, between words, and so on."""

_LITTLE = 0.25
_FILLED = 0.5
"""Shares of a chunk's size: a chunk below the first is joined to the next section; from the second on it may be cut."""


@dataclass(frozen=True, slots=True)
class _Atom:
    """A piece that is not cut again: a sentence, a line, a word. ``rank`` rates the break before it.

    ``together``: the tokens of a table's block, on its first atom; 0 on all others.
    """

    text: str
    start: int
    rank: int
    tokens: int
    block: Block
    together: int = 0


def _cut(atoms: list[_Atom], repeated: int, chunking: Chunking) -> int:
    """Return how many atoms go into the chunk: up to the best break of its second half, and the last one of equals.

    The chunk takes more than the ``repeated`` atoms; otherwise it would only repeat the one before.
    """
    best = (-1, len(atoms) - 1)
    tokens = atoms[0].tokens
    for at in range(1, len(atoms)):
        if at > repeated and tokens >= chunking.size * _FILLED:
            best = max(best, (atoms[at].rank, at))
        tokens += atoms[at].tokens
    return best[1]


def _overlap(atoms: list[_Atom], cut: int, chunking: Chunking) -> int:
    """Return how many atoms before the cut the next chunk repeats; with the rest, they must fit into one chunk."""
    rank = atoms[cut].rank
    if rank == _HEADING:
        return 0  # a section repeats nothing of the one before
    room = min(chunking.overlap, chunking.size - sum(atom.tokens for atom in atoms[cut:]))
    repeated = tokens = 0
    for back in range(1, cut):
        atom = atoms[cut - back]
        tokens += atom.tokens
        # Rows are not repeated without the names of their columns, which the next block of the table has anyway.
        if tokens > room or (atom.block.kind == "table" and atom.block is not atoms[cut].block):
            break
        if atom.rank >= min(rank, _SENTENCE):
            repeated = back
    return repeated


def _chunk(atoms: list[_Atom]) -> DocumentChunk:
    first = atoms[0]
    parts = []
    at = first.start
    for atom in atoms:
        parts += ["\n" * (atom.start - at), atom.text]
        at = atom.start + len(atom.text)
    tokens = sum(atom.tokens for atom in atoms)
    return DocumentChunk(
        "".join(parts), first.start, first.block.page, first.block.headings, tokens, atoms[-1].block.page
    )


_ABBREVIATED = (
    r"(?<!\b[A-Z])(?<!\b(?:Mr|Ms|Dr|St|vs|No|al|eg|ie|Jr|Sr|Co))(?<!\b(?:Mrs|etc|Fig|e\.g|i\.e|Inc|Ltd))(?<!\bProf)"
)
_BREAKS = {
    _PARAGRAPH: re.compile(r"\n[^\S\n]*\n\s*"),
    # Repetitions are bounded; otherwise a line of a million dots would take quadratic time.
    _SENTENCE: re.compile(
        rf"{_ABBREVIATED}[.!?\u2026]{{1,9}}[\"'\u201d\u2019)\]]{{0,9}}\s+"
        r"|[\u3002\uff01\uff1f]{1,9}[\u300d\u300f\u201d\uff09]{0,9}\s*"
        r"|[\u061f\u06d4\u0964]\s*"
    ),
    _LINE: re.compile(r"\n\s*"),
    _WORD: re.compile(r"\s+"),
}
_PROSE = ((_PARAGRAPH, _PARAGRAPH), (_SENTENCE, _SENTENCE), (_LINE, _LINE), (_WORD, _WORD))
_LINED = ((_PARAGRAPH, _PARAGRAPH), (_LINE, _SENTENCE), (_SENTENCE, _LINE), (_WORD, _WORD))
"""Breaks in the order of splitting, each with its rank. In tables, lists and code, a line counts as a sentence."""

_FIXED = ((_WORD, _WORD),)
_STEP = 8
"""Characters after which a word that is larger than a chunk is cut."""


def _atoms(blocks: Iterable[Block], chunking: Chunking) -> Iterator[_Atom]:
    end = 0
    last: Block | None = None
    for block in blocks:
        rank = _rank(last, block, end)
        fixed = chunking.method == "fixed"
        breaks = _FIXED if fixed else _PROSE if block.kind in {"paragraph", "heading"} else _LINED
        always = breaks[: 1 if fixed else 2]
        spans = _split(block.text, 0, len(block.text), rank, breaks, len(breaks) - len(always), chunking.size)
        atoms = [_atom(block, *span, most=_WORD if fixed else _HEADING) for span in spans]
        if block.kind == "table" and not fixed:
            atoms[0] = replace(atoms[0], together=sum(atom.tokens for atom in atoms))
        yield from atoms
        last, end = block, block.end


def _atom(block: Block, start: int, stop: int, rank: int, *, most: int) -> _Atom:
    text = block.text[start:stop]
    return _Atom(text, block.start + start, min(rank, most), _tokens(text, rank), block)


def _rank(last: Block | None, block: Block, end: int) -> int:
    """Return the rank of the break before a block."""
    if last is None:
        return _PARAGRAPH
    if block.start == end:
        return _WORD if last.text[-1].isspace() else _INSIDE
    if last.kind == "heading":
        return _WORD  # keep a heading with its text
    if block.kind == "heading":
        return _HEADING
    return _SENTENCE if block.kind == last.kind == "list" else _PARAGRAPH


def _split(
    text: str, start: int, end: int, rank: int, breaks: tuple[tuple[int, int], ...], optional: int, size: int
) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and rank of a text's atoms."""
    if not breaks:
        yield from _steps(text, start, end, rank)
        return
    pattern, next_rank = _BREAKS[breaks[0][0]], breaks[0][1]
    ends = [match.end() for match in pattern.finditer(text, start, end) if match.end() < end]
    for stop in [*ends, end]:
        # A text has at most twice as many tokens as characters, so most words need not be counted here.
        if len(breaks) > optional + 1 or (2 * (stop - start) > size and _tokens(text[start:stop], rank) > size):
            yield from _split(text, start, stop, rank, breaks[1:], optional, size)
        else:
            yield start, stop, rank
        start, rank = stop, next_rank


def _steps(text: str, start: int, end: int, rank: int) -> Iterator[tuple[int, int, int]]:
    """Yield parts of a long word; never cut before a character that combines with the one before it."""
    while start < end:
        stop = min(start + _STEP, end)
        while stop < min(end, start + 2 * _STEP) and _joins(text[stop]):
            stop += 1
        yield start, stop, rank
        start, rank = stop, _INSIDE


def _joins(character: str) -> bool:
    return bool(unicodedata.combining(character)) or character in "\u200d\ufe0f"


def _tokens(text: str, rank: int) -> int:
    """Return the tokens of an atom. Part of a word may count fewer alone than within the word, hence the bound."""
    return token_bound(text) if rank == _INSIDE else count_tokens(text)
