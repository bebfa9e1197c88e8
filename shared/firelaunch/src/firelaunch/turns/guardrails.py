"""What an app may put around its workflow: a hook before the model is asked, and checks of what it answered.

All are plain functions, named where they are used::

    yield from checked(turn.llm.stream(messages), no_email, no_secret, not_quoting(instructions))
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator

from ..errors import AnswerWithheld
from ..llm.types import Chunk
from ..telemetry import CONTENT, EMAIL, SECRET
from .turn import Turn, Workflow

__all__ = ["Check", "Moderate", "checked", "logged", "moderated", "no_email", "no_secret", "not_quoting"]

log = logging.getLogger(__name__)

Moderate = Callable[[str], None]
"""Called with what a user wrote, before a model is; raises :class:`~firelaunch.errors.ContentRefused` to refuse it."""

Check = Callable[[str], str | None]
"""From a whole answer to what is wrong with it, for the log, without a word of the answer; None where nothing is."""

_QUOTE = 80
"""Characters in a row that an answer may share with the prompt: less than a sentence of instructions."""


def moderated(workflow: Workflow, moderate: Moderate) -> Workflow:
    """``workflow``, asked only about messages that ``moderate`` lets pass.

    What is refused was admitted and stored by then: it counts in the minute and costs nothing.
    """

    def answer(turn: Turn) -> Iterator[Chunk]:
        moderate(turn.text)
        yield from workflow(turn)

    return answer


def logged(workflow: Workflow) -> Workflow:
    """``workflow``, with what is asked and answered in the log of contents (``logs.content``)."""

    def answer(turn: Turn) -> Iterator[Chunk]:
        said: list[str] = []
        try:
            for chunk in workflow(turn):
                said.append(chunk.text)
                yield chunk
        finally:
            CONTENT.info("asked: %r answered: %r", turn.text, "".join(said))

    return answer


def checked(chunks: Iterable[Chunk], *checks: Check) -> Iterator[Chunk]:
    """The answer, once all of it has passed ``checks``; until then nothing of it goes out.

    Raises:
        AnswerWithheld: a check found something. The answer is neither sent nor stored, and it is paid.
    """
    held = []
    for chunk in chunks:
        if chunk.text:
            held.append(chunk)
        else:
            yield chunk  # a sign of life, or what it used
    text = "".join(chunk.text for chunk in held)
    for check in checks:
        problem = check(text)
        if problem is not None:
            raise AnswerWithheld(reason=problem)
    yield from held


def no_email(text: str) -> str | None:
    """Whether the answer names an e-mail address."""
    return "it names an e-mail address" if EMAIL.search(text) else None


def no_secret(text: str) -> str | None:
    """Whether the answer holds what looks like a key or a token."""
    return "it holds what looks like a key or a token" if SECRET.search(text) else None


def not_quoting(instructions: str) -> Check:
    """A check that the answer repeats no long passage of ``instructions``, whatever the spaces and capitals."""
    told = _plain(instructions)
    passages = {told[at : at + _QUOTE] for at in range(max(0, len(told) - _QUOTE) + 1)} if told else set()

    def check(text: str) -> str | None:
        said = _plain(text)
        length = min(_QUOTE, len(told))
        windows = (said[at : at + length] for at in range(len(said) - length + 1))
        return "it repeats the instructions" if any(window in passages for window in windows) else None

    return check


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()
