"""What the documents hold on one message: searched beside the turn's own work, shown to the model, and cited.

The search starts with the turn and is waited for where the workflow first asks for its result. A search that fails
leaves the turn alone: the model is told that the documents could not be searched.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ..documents.catalog import Documents
from ..errors import FirelaunchError
from ..llm.types import Source, TokenCounts
from ..rag.versions import State
from ..scope import Scope

if TYPE_CHECKING:
    from ..rag.passages import Citations
    from ..rag.retrieve import Passage, Retrieved

__all__ = ["Grounding"]

log = logging.getLogger(__name__)

_FAILED = (
    "The user's documents could not be searched just now. Say so if the answer would have to come from them, and cite "
    "nothing."
)
_NOTE = "About the search: {note}"
_QUESTION = "The user's message follows.\n\n"
_DELIMITERS = 2_000
"""Bytes around the passages, counted towards what a turn reserves."""

_BYTES_A_TOKEN = 3
"""By which :func:`firelaunch.rag.embed.base.estimate` counts the passages' tokens."""


class Grounding:
    """One message's.

    Args:
        scope: whose documents, beside the library, are searched.
        text: what for.
    """

    def __init__(self, documents: Documents, scope: Scope, text: str) -> None:
        self._documents = documents
        self._scope = scope
        self._text = text
        self._state: State | None = None
        self._found: Future[Retrieved] | None = None
        self._began = 0.0
        self._seconds = 0.0
        self._spent = 0
        self._citations: Citations | None = None

    def expect(self, state: State | None) -> None:
        """Take in which index version is to be searched; None for no search."""
        if self._found is None:
            self._state = state

    def begin(self) -> None:
        """Start the search, if there is to be one and it has not been started."""
        if self._found is not None or self._state is None:
            return
        self._found, self._began = Future(), time.monotonic()
        threading.Thread(target=self._search, name="grounding", daemon=True).start()

    @property
    def token_bound(self) -> int:
        """No fewer tokens than what the prompt is told of the documents."""
        return 0 if self._state is None else _BYTES_A_TOKEN * self._documents.search_tokens + _DELIMITERS

    @property
    def cost_bound(self) -> int:
        """Micro-dollars that embedding the message costs at most."""
        return self._documents.question_cost(self._text, self._state)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """What was found, best first. Waits for it."""
        return self._shown().passages if self._found is not None else ()

    @property
    def prompt(self) -> str:
        """The passages as the model is shown them, before the user's message; empty where there are no documents."""
        if self._found is None:
            return ""
        from ..rag.passages import prompt_text

        found = self._shown()
        told = _FAILED if self._failed else prompt_text(found.passages)
        note = [_NOTE.format(note=found.note)] if found.note else []
        return "\n\n".join([told, *note, _QUESTION])

    def shown(self, piece: str) -> str:
        """What may be shown of an answer after its next piece: citations that hold, and no others.

        Where the workflow did not ask for passages, the answer is as it was.
        """
        return piece if self._citations is None else self._citations.feed(piece)

    def rest(self) -> str:
        """What is held back of an answer that has ended, perhaps in the middle of a citation."""
        return self._citations.end() if self._citations is not None else ""

    @property
    def cited(self) -> list[dict[str, Any]]:
        """Where the passages are from that the answer cites, each once, in the answer's order."""
        if self._citations is None:
            return []
        from ..rag.passages import source_view

        by_number = {passage.number: passage for passage in self._citations.passages}
        return [source_view(by_number[number]) for number in dict.fromkeys(self._citations.cited)]

    def sources(self) -> list[Source]:
        """The same as any client of a stream understands it."""
        return [
            Source(f"p{place['number']}", place["title"][:200], place["url"], filename=place["title"][:200] or None)
            for place in self.cited
        ]

    @property
    def cost(self) -> int:
        """Micro-dollars that embedding the message cost. Waits for the search, whether it was used or not."""
        if self._found is not None:
            self._found.exception()
        return self._spent

    def report(self) -> dict[str, Any] | None:
        """What the request's record tells of it; None where nothing was searched."""
        if self._found is None:
            return None
        found = self._retrieved()
        return {
            "mode": found.mode,
            "note": found.note,
            "passages": len(found.passages),
            "cited": len(self.cited),
            "removed": self._citations.removed if self._citations is not None else 0,
            "ms": round(self._seconds * 1000),
        }

    @property
    def _failed(self) -> bool:
        return self._found is not None and self._found.exception() is not None

    def _retrieved(self) -> Retrieved:
        assert self._found is not None  # noqa: S101 - callers have looked
        from ..rag.retrieve import Retrieved

        return Retrieved((), "lexical", "The search failed.") if self._failed else self._found.result()

    def _shown(self) -> Retrieved:
        """What the workflow is given; from here on its answer can cite it."""
        from ..rag.passages import Citations

        found = self._retrieved()
        self._citations = self._citations or Citations(found.passages)
        return found

    def _search(self) -> None:
        found = self._found
        assert found is not None  # noqa: S101 - set before the thread was started
        try:
            result = self._documents.search(self._scope, self._text, state=self._state, spend=self._spend)
        except BaseException as error:
            level = logging.WARNING if isinstance(error, FirelaunchError) else logging.ERROR
            log.log(level, "the documents could not be searched: %s", error, exc_info=error)
            self._seconds = time.monotonic() - self._began
            found.set_exception(error)
        else:
            self._seconds = time.monotonic() - self._began
            found.set_result(result)

    def _spend(self, _model: str, _tokens: TokenCounts, micro_usd: int) -> None:
        self._spent += micro_usd
