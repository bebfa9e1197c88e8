"""Search the documents for passages on one message, show them to the model, and check the answer's citations.

The search starts with the turn, in a thread. The turn waits for it where the workflow first reads its result. If the
search fails, the turn goes on, and the model is told that the documents could not be searched.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ..documents.catalog import Documents
from ..errors import FirelaunchError
from ..llm.types import FinishedCall, Message, Source
from ..rag.versions import State
from ..scope import Scope
from ..telemetry.names import OPERATION, PASSAGES, RETRIEVAL, SEARCH_MODE
from ..telemetry.spans import span

if TYPE_CHECKING:
    from ..rag.citations import Citations
    from ..rag.retrieve import Passage, Retrieved

__all__ = ["Grounding", "earlier_text"]

log = logging.getLogger(__name__)

_EARLIER_MESSAGES = 2
_EARLIER_CHARACTERS = 500
"""How many of the user's messages before this one are searched with it, and the most characters of each: its end, where
long messages ask."""

_FAILED = (
    "The user's documents could not be searched just now. Say so if the answer would have to come from them, and cite "
    "nothing."
)
_NOTE = "About the search: {note}"
_QUESTION = "The user's message follows.\n\n"
_DELIMITERS = 2_000
"""Tokens of the text around the passages, which a turn reserves in addition."""

_BYTES_A_TOKEN = 3
"""Bytes per token, by which :func:`firelaunch.rag.embed.base.estimate` counts the passages' tokens."""


class Grounding:
    """The search for one message, and the citations of its answer.

    Args:
        scope: the user whose documents are searched, besides the library.
        text: the message to search for.
    """

    def __init__(self, documents: Documents, scope: Scope, text: str) -> None:
        self._documents = documents
        self._scope = scope
        self._text = text
        self._earlier = ""
        self._state: State | None = None
        self._result: Future[Retrieved] | None = None
        self._began = 0.0
        self._seconds = 0.0
        self._calls: list[FinishedCall] = []
        self._citations: Citations | None = None

    def expect(self, state: State | None, text: str, history: Sequence[Message] = ()) -> None:
        """Set the index version to search, None for no search, the text to search for, and the chat before it."""
        if self._result is None:
            self._state, self._text, self._earlier = state, text, earlier_text(history)

    def begin(self) -> None:
        """Start the search, unless there is none to make or it has started already."""
        if self._result is not None or self._state is None:
            return
        self._result, self._began = Future(), time.monotonic()
        threading.Thread(target=copy_context().run, args=(self._search,), name="grounding", daemon=True).start()

    @property
    def token_bound(self) -> int:
        """The most tokens that the documents add to the prompt."""
        return 0 if self._state is None else _BYTES_A_TOKEN * self._documents.search_tokens + _DELIMITERS

    @property
    def cost_bound(self) -> int:
        """The most micro-dollars that the search costs."""
        searched = f"{self._earlier}\n{self._text}" if self._text.strip() else ""
        return self._documents.search_cost(searched, self._state)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passages of the search, best first. Reading them waits for the search."""
        return self._shown().passages if self._result is not None else ()

    @property
    def prompt(self) -> str:
        """The text with the passages, to put before the user's message; empty if there are no documents."""
        if self._result is None:
            return ""
        from ..rag.passages import prompt_text

        retrieved = self._shown()
        passages = _FAILED if self._failed else prompt_text(retrieved.passages)
        note = [_NOTE.format(note=retrieved.note)] if retrieved.note else []
        return "\n\n".join([passages, *note, _QUESTION])

    def shown(self, piece: str) -> str:
        """Return the text to show after the answer's next piece, without citations that are invalid.

        If the workflow read no passages, the piece comes back unchanged.
        """
        return piece if self._citations is None else self._citations.feed(piece)

    def rest(self) -> str:
        """Return the text that was held back when the answer ended, perhaps in the middle of a citation."""
        return self._citations.end() if self._citations is not None else ""

    @property
    def cited(self) -> list[dict[str, Any]]:
        """The sources of the passages that the answer cites, each once, in the answer's order."""
        if self._citations is None:
            return []
        from ..rag.passages import source_view

        by_number = {passage.number: passage for passage in self._citations.passages}
        return [source_view(by_number[number]) for number in dict.fromkeys(self._citations.cited)]

    def sources(self) -> list[Source]:
        """Return the cited sources in the form that clients of a stream get."""
        return [
            Source(f"p{place['number']}", place["title"][:200], place["url"], filename=place["title"][:200] or None)
            for place in self.cited
        ]

    @property
    def calls(self) -> list[FinishedCall]:
        """The calls that embedded the message and reranked the passages. Reading them waits for the search."""
        if self._result is not None:
            self._result.exception()
        return self._calls

    def report(self) -> dict[str, Any] | None:
        """Return the fields on the search for the request's record; None if nothing was searched."""
        if self._result is None:
            return None
        retrieved = self._retrieved()
        return {
            "mode": retrieved.mode,
            "note": retrieved.note,
            "passages": len(retrieved.passages),
            "cited": len(self.cited),
            "removed": self._citations.removed if self._citations is not None else 0,
            "ms": round(self._seconds * 1000),
        }

    @property
    def _failed(self) -> bool:
        return self._result is not None and self._result.exception() is not None

    def _retrieved(self) -> Retrieved:
        assert self._result is not None  # noqa: S101 - callers have checked
        from ..rag.retrieve import Retrieved

        return Retrieved((), "lexical", "The search failed.") if self._failed else self._result.result()

    def _shown(self) -> Retrieved:
        """Return the search's result for the workflow. From now on the answer's citations of it are checked."""
        from ..rag.citations import Citations

        retrieved = self._retrieved()
        self._citations = self._citations or Citations(retrieved.passages)
        return retrieved

    def _search(self) -> None:
        future = self._result
        assert future is not None  # noqa: S101 - set before the thread was started
        try:
            with span(RETRIEVAL, {OPERATION: RETRIEVAL}) as part:
                result = self._documents.search(
                    self._scope, self._text, earlier=self._earlier, state=self._state, spend=self._calls.append
                )
                part.set(PASSAGES, len(result.passages))
                part.set(SEARCH_MODE, result.mode)
        except BaseException as error:
            level = logging.WARNING if isinstance(error, FirelaunchError) else logging.ERROR
            log.log(level, "the documents could not be searched: %s", error, exc_info=error)
            self._seconds = time.monotonic() - self._began
            future.set_exception(error)
        else:
            self._seconds = time.monotonic() - self._began
            future.set_result(result)


def earlier_text(history: Sequence[Message]) -> str:
    """Return what the user said last, to search together with a message that may only say "it"."""
    texts = [message["content"].strip() for message in history if message["role"] == "user"]
    return "\n".join(text[-_EARLIER_CHARACTERS:] for text in texts[-_EARLIER_MESSAGES:] if text)
