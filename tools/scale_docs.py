"""Writes the table of docs/scale.md: what a chat app asks of each service at 10 to 10,000,000 users.

The work of a turn is measured (``bench/turn.py``, ``bench/growth.py``), limits are Google's, with their pages beside
them in the document. A test holds the page and these figures together.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from firelaunch.metering.sums import SHARDS

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cost_docs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
USERS = (10, 1_000, 100_000, 10_000_000)
PEAK = 4
"""How many times the mean of a month the busiest minutes have."""

ANSWER_SECONDS = 6
CHECKPOINTS = 5
"""Writes of a streamed answer of that length: about one a second (``chats/checkpoints.py``)."""

FULL = 0.6
"""Share of an instance's places at which Cloud Run starts another one
(https://cloud.google.com/run/docs/about-instance-autoscaling)."""

CONCURRENCY, INSTANCES = 80, 10
"""Of a deployed app, unless its settings say otherwise."""

SECONDS_OF_A_MONTH = 30 * 86_400
UPLOADS = 5
"""Documents of a user in a month."""

JOB_SECONDS, TRIP_SECONDS = 1_700, 0.06
"""Of the nightly job's longest step: its time at most, and that of one read, which is an estimate."""

PAGE_RECORDS, PAGE_USERS = 200, 100
"""How many records, and how many users, the nightly job reads at a time."""


class Row(NamedTuple):
    """One thing that is used.

    Args:
        of: how much is used, by the turns a second in the busiest minutes and by the users.
        limit: how much there may be; None if only money limits it.
        unit: of the figures.
    """

    name: str
    of: Callable[[float, int], float]
    limit: float | None = None
    unit: str = ""


def _instances(turns: float, _users: int) -> float:
    return math.ceil(turns * ANSWER_SECONDS / (CONCURRENCY * FULL))


def _night(_turns: float, users: int) -> float:
    """Return the seconds of the longest step: a day's records of requests and of calls, or all users' sums."""
    records = 2 * users * cost_docs.MESSAGES / 30
    return TRIP_SECONDS * max(records / PAGE_RECORDS, 3 * users / PAGE_USERS)


CHAT = cost_docs.SHAPES[0]
ROWS = (
    Row("turns a second, in the busiest minutes", lambda turns, _: turns),
    Row("answers under way", lambda turns, _: turns * ANSWER_SECONDS),
    Row("instances", _instances, INSTANCES),
    Row("Firestore: reads a second", lambda turns, _: turns * cost_docs.READS),
    Row("Firestore: writes a second", lambda turns, _: turns * (cost_docs.WRITES + CHECKPOINTS)),
    Row("writes a second to one document of the hour's sums", lambda turns, _: turns / SHARDS, 1),
    Row("records a second with a time in an index, one collection", lambda turns, _: turns, 500),
    Row("seconds of the nightly job's longest step", _night, JOB_SECONDS),
    Row("Cloud Tasks: deliveries a second", lambda turns, _: turns * UPLOADS / cost_docs.MESSAGES, 500),
    Row("the model: tokens a minute", lambda turns, _: turns * 60 * (CHAT.tokens_in + CHAT.tokens_out)),
)


def turns_a_second(users: int) -> float:
    """Return the turns of a second in the busiest minutes."""
    return users * cost_docs.MESSAGES / SECONDS_OF_A_MONTH * PEAK


def gives(row: Row, users: int) -> bool:
    """Return whether a limit is passed."""
    return row.limit is not None and row.of(turns_a_second(users), users) > row.limit


def at_most(row: Row) -> int | None:
    """Return the users, to two figures, up to which a limit holds; None without a limit."""
    if row.limit is None:
        return None
    low, high = 1, 10**12
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if gives(row, middle) else (middle, high)
    digits = len(str(low)) - 2
    return low if digits <= 0 else low // 10**digits * 10**digits


def lines() -> Iterator[str]:
    """Yield the tables."""
    yield "| a chat app | limit | " + " | ".join(f"{users:,} users" for users in USERS) + " | holds up to |"
    yield "| --- | --- |" + " --- |" * (len(USERS) + 1)
    for row in ROWS:
        cells = [_figure(row.of(turns_a_second(users), users)) for users in USERS]
        marked = [f"**{cell}**" if gives(row, users) else cell for cell, users in zip(cells, USERS, strict=True)]
        limit, most = "" if row.limit is None else _figure(row.limit), at_most(row)
        holds = "" if most is None else f"{most:,} users"
        yield f"| {row.name} | {limit} | " + " | ".join(marked) + f" | {holds} |"
    google = [_dollars(cost_docs.month(users, CHAT) + _checkpoints(users)) for users in USERS]
    yield "| Google, a month | | " + " | ".join(google) + " | |"
    for provider, model in (cost_docs.MODELS[0], cost_docs.MODELS[2]):
        one = cost_docs.answer(provider, model, CHAT) * cost_docs.MESSAGES
        yield f"| {model}, a month | | " + " | ".join(_dollars(one * users) for users in USERS) + " | |"


def _checkpoints(users: int) -> float:
    return users * cost_docs.MESSAGES * CHECKPOINTS * cost_docs._WRITE / 1_000_000


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.0f}"
    digits = 1 - math.floor(math.log10(value)) if value else 0  # two that count, and no exponent
    return f"{round(value, digits):.{max(0, digits)}f}".removesuffix(".0")


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount < 10 else f"${amount:,.0f}"


def page(text: str) -> str:
    """Return the page with its table anew."""
    start, rest = text.split("<!-- scale -->\n", 1)
    end = rest.partition("<!-- end -->")[2]
    return "\n".join([f"{start}<!-- scale -->", *lines(), f"<!-- end -->{end}"])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
