"""Writes the tables of docs/which-settings.md: what an app costs in a month, from measured work and list prices.

A test holds the page and these figures together, and the documents that a turn reads and writes with what one does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from firelaunch.llm.prices import table_cost
from firelaunch.llm.types import TokenCounts

PAGE = Path(__file__).resolve().parent.parent / "docs" / "which-settings.md"
USERS = (100, 1_000, 10_000)
MESSAGES = 60
"""Messages of a user in a month: three on each of twenty days."""

READS, WRITES = 19, 12
"""Documents of a turn, as bench/turn.py counts them; they don't grow with the chat."""

_SECONDS = 6
"""Of an instance for an answer that no other shares. With more traffic answers overlap, and this part shrinks."""

_READ, _WRITE = 0.6, 1.8
"""Micro-dollars of a document: $0.06 and $0.18 for 100,000 (https://cloud.google.com/firestore/pricing, tier 1)."""

_CPU_SECOND, _GIB_SECOND = 24.0, 2.5
"""Micro-dollars of an active instance, tier 1 (https://cloud.google.com/run/pricing)."""

_MEMORY_GIB = 0.5
IDLE = 1_193_256
"""Micro-dollars of a month in which nobody uses a new app, as `firelaunch deploy --dry-run` adds them up: three
Scheduler jobs and their calls, one secret, backups and versions of 1 GiB."""

_PAGE_READS, _PAGE_WRITES = 4, 3
"""Of one page of a document as it is indexed: an estimate, some passages and their share of the index."""


class Shape(NamedTuple):
    """A kind of app.

    Args:
        tokens_in: tokens of a prompt: instructions, history, passages and the message.
        tokens_out: tokens of an answer.
        pages: pages that a user uploads in a month.
        reads: documents that a turn reads beside those of every turn.
    """

    name: str
    tokens_in: int
    tokens_out: int
    pages: int = 0
    reads: int = 0


SHAPES = (
    Shape("chat", 1_500, 250),
    Shape("chat about the user's documents", 4_000, 300, pages=20, reads=30),
    Shape("the same in teams", 4_500, 300, pages=20, reads=40),
)
MODELS = (
    ("openai", "gpt-6-luna"),
    ("openai", "gpt-6.1-terra"),
    ("anthropic", "claude-sonnet-5-5"),
    ("google", "gemini-3.8-flash"),
)


def answer(provider: str, model: str, shape: Shape) -> float:
    """Return the dollars of one answer that the model's provider charges, without cached prompts."""
    return float(table_cost(provider, model, TokenCounts(input=shape.tokens_in, output=shape.tokens_out))) / 1_000_000


def month(users: int, shape: Shape) -> float:
    """Return the dollars that Google charges in a month beside the model; free allowances are not taken off."""
    turn = (READS + shape.reads) * _READ + WRITES * _WRITE + _SECONDS * (_CPU_SECOND + _MEMORY_GIB * _GIB_SECOND)
    pages = shape.pages * (_PAGE_READS * _READ + _PAGE_WRITES * _WRITE + 0.5 * _CPU_SECOND)
    micro = users * (MESSAGES * turn + pages) + IDLE
    return micro / 1_000_000


def lines() -> Iterator[str]:
    """Yield the tables."""
    yield f"A turn reads {READS} documents and writes {WRITES}, whatever the chat's length (`make bench ONLY=turn`)."
    yield ""
    idle = _dollars(IDLE / 1_000_000)
    yield f"**Google Cloud**, a month. Each figure has the {idle} that an app costs if nobody uses it:"
    yield ""
    yield "| app | " + " | ".join(f"{users:,} users" for users in USERS) + " |"
    yield "| --- |" + " --- |" * len(USERS)
    for shape in SHAPES:
        yield f"| {shape.name} | " + " | ".join(_dollars(month(users, shape)) for users in USERS) + " |"
    yield ""
    yield "**The model**, a month:"
    yield ""
    yield "| app | model | one answer | " + " | ".join(f"{users:,} users" for users in USERS) + " |"
    yield "| --- | --- | --- |" + " --- |" * len(USERS)
    for shape in SHAPES[:2]:
        for provider, model in MODELS:
            one = answer(provider, model, shape)
            totals = " | ".join(_dollars(one * MESSAGES * users) for users in USERS)
            yield f"| {shape.name} | {model} | ${one:.4f} | {totals} |"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount < 10 else f"${amount:,.0f}"


def page(text: str) -> str:
    """Return the page with its tables anew."""
    start, rest = text.split("<!-- costs -->\n", 1)
    end = rest.partition("<!-- end -->")[2]
    return "\n".join([f"{start}<!-- costs -->", *lines(), f"<!-- end -->{end}"])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
