"""Write an app's rated answers as questions for ``evals/questions.toml``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from firelaunch.scope import Scope
from firelaunch.store.base import DocumentStore
from firelaunch.turns.ratings import rated_requests

__all__ = ["questions_of_ratings", "ratings"]

_PAGE = 100
_MOST = 1_000
"""The most ratings that are read."""


def ratings(store: DocumentStore, app: Scope, *, contents: bool) -> Iterator[dict[str, Any]]:
    """Yield the latest ratings of an app's users, as ``GET /v1/ops/ratings`` lists them."""
    cursor, read = None, 0
    times = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    while read < _MOST:
        page = rated_requests(store, app, _PAGE, cursor, None, times, contents=contents)
        yield from page.items
        read, cursor = read + len(page.items), page.next_cursor
        if cursor is None:
            return


def questions_of_ratings(rated: Iterator[dict[str, Any]]) -> tuple[str, int]:
    """Return the questions as TOML, and their number.

    A rating without contents becomes a question whose ``ask`` is empty. One whose answer is gone, or was replaced, has
    none to give. What a good answer cites, a later answer must cite, too.
    """
    questions = [_question(item) for item in rated]
    return "\n".join(questions), len(questions)


def _question(item: dict[str, Any]) -> str:
    facts = [item["rating"], item["reason"], item["model"], item["prompt"], item["rated_at"]]
    lines = [f"# {', '.join(str(fact) for fact in facts if fact)}"]
    lines += [f"# {_comment(item['text'])}"] if item.get("text") else []
    lines += ["[[question]]", f"request = {_toml(item['request_id'])}", f"ask = {_toml(item.get('question') or '')}"]
    cited = list(dict.fromkeys(item.get("cited") or ()))
    if item["rating"] == "up" and cited:
        lines.append(f"must_cite = [{', '.join(_toml(title) for title in cited)}]")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """Return a user's words on one line. TOML's comments hold no control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _toml(text: str) -> str:
    # A JSON string is a TOML string, except that TOML wants DEL escaped, too, and knows no halves of a character.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")
