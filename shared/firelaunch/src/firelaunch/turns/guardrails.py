"""Guard an app's workflow: moderate messages before the model sees them, and check the model's answers.

All guards are plain functions. You name them where you use them::

    yield from checked(turn.llm.stream(messages), no_email, no_secret, not_quoting(instructions))
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps

from ..errors import AnswerWithheld
from ..llm.types import Chunk
from ..telemetry import CONTENT, EMAIL, SECRET
from .chunks import checked_chunks, chunks_of
from .turn import Turn, Workflow

__all__ = ["Check", "Moderate", "checked", "logged", "moderated", "no_email", "no_secret", "not_quoting"]

log = logging.getLogger(__name__)

Moderate = Callable[[str], None]
"""Takes a user's text before a model is called, and refuses it with :class:`~firelaunch.errors.ContentRefused`."""

Check = Callable[[str], str | None]
"""Takes a whole answer, and returns its problem, or None. The log shows the problem: quote nothing of the answer."""

_QUOTE = 80
"""Consecutive characters that make an answer a quote of the prompt: less than a sentence of instructions."""


def moderated(workflow: Workflow, moderate: Moderate) -> Workflow:
    """Return a workflow that answers only messages that ``moderate`` lets pass, with the texts among their files.

    A refused message was admitted and stored before: it counts toward the minute's requests, and costs nothing.
    """

    @wraps(workflow)
    def answer(turn: Turn) -> Iterator[Chunk]:
        texts = (each.text for each in turn.attachments if each.kind == "text")
        moderate("\n\n".join([turn.text, *texts]))
        yield from chunks_of(workflow, turn)

    return answer


def logged(workflow: Workflow) -> Workflow:
    """Return a workflow that writes messages and answers to the log of contents (``logs.content``)."""

    @wraps(workflow)
    def answer(turn: Turn) -> Iterator[Chunk]:
        pieces: list[str] = []
        try:
            for chunk in checked_chunks(workflow, turn):
                pieces.append(chunk.text)
                yield chunk
        finally:
            CONTENT.info("asked: %r answered: %r", turn.text, "".join(pieces))

    return answer


def checked(chunks: Iterable[Chunk], *checks: Check) -> Iterator[Chunk]:
    """Hold the answer back until it is complete, and yield it if it passes ``checks``.

    What the model thinks is left out, because nobody checks it.

    Raises:
        AnswerWithheld: a check found a problem. The answer is neither sent nor stored, and it is paid.
    """
    held = []
    for chunk in chunks:
        if chunk.thought:
            chunk = Chunk(chunk.text, chunk.tokens, chunk.finish)
        if chunk.text:
            held.append(chunk)
        else:
            yield chunk  # a heartbeat, or the tokens used
    text = "".join(chunk.text for chunk in held)
    for check in checks:
        problem = check(text)
        if problem is not None:
            raise AnswerWithheld(reason=problem)
    yield from held


def no_email(text: str) -> str | None:
    """Check that the answer names no e-mail address."""
    return "it names an e-mail address" if EMAIL.search(text) else None


def no_secret(text: str) -> str | None:
    """Check that the answer holds nothing that looks like a key or a token."""
    return "it holds what looks like a key or a token" if SECRET.search(text) else None


def not_quoting(instructions: str) -> Check:
    """Return a check that the answer repeats no long passage of ``instructions``. Spaces and case don't matter."""
    prompt = _plain(instructions)
    passages = {prompt[at : at + _QUOTE] for at in range(max(0, len(prompt) - _QUOTE) + 1)} if prompt else set()

    def check(text: str) -> str | None:
        answer = _plain(text)
        length = min(_QUOTE, len(prompt))
        windows = (answer[at : at + length] for at in range(len(answer) - length + 1))
        return "it repeats the instructions" if any(window in passages for window in windows) else None

    return check


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()
