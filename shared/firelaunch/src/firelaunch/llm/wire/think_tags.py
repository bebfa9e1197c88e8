"""Tell a model's thoughts from its answer where the server leaves both in the text: ``<think>…</think>``.

Servers that do not know a model's way of thinking do so: vLLM, LM Studio, llama.cpp, older versions of Ollama.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["ThinkTags"]

_OPENINGS = ("<think>", "<thinking>", "<thought>")


class _At(Enum):
    START = 1
    THOUGHTS = 2
    GAP = 3
    ANSWER = 4


class ThinkTags:
    """The thoughts at the beginning of one answer. A later tag is something that the model writes about."""

    def __init__(self) -> None:
        self._at = _At.START
        self._closing = ""
        self._held = ""

    @property
    def done(self) -> bool:
        """Whether the answer has begun, so that nothing more need be split."""
        return self._at is _At.ANSWER

    def split(self, text: str) -> tuple[str, str]:
        """Return the thoughts and the answer in the next piece of text.

        What may be a part of a tag is held back until the next piece.
        """
        text, self._held = self._held + text, ""
        if self._at is _At.START:
            opening = self._opening(text.lstrip())
            if opening is None:
                self._held = text
                return "", ""
            text = text.lstrip().removeprefix(opening) if opening else text
        thoughts = ""
        if self._at is _At.THOUGHTS:
            thoughts, closing, text = text.partition(self._closing)
            if not closing:
                thoughts, self._held = _without_beginning(thoughts, self._closing)
                return thoughts, ""
            self._at = _At.GAP
        if self._at is _At.GAP:
            text = text.lstrip()
            self._at = _At.ANSWER if text else _At.GAP
        return thoughts, text

    def end(self) -> str:
        """Return the text that was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held if self._at is _At.START else ""

    def _opening(self, start: str) -> str | None:
        """Return the tag that the answer begins with: empty without one, None if that is not clear yet."""
        opening = next((tag for tag in _OPENINGS if start.startswith(tag)), "")
        if opening:
            self._at, self._closing = _At.THOUGHTS, opening.replace("<", "</")
        elif any(tag.startswith(start) for tag in _OPENINGS):
            return None
        else:
            self._at = _At.ANSWER
        return opening


def _without_beginning(text: str, tag: str) -> tuple[str, str]:
    """Return ``text`` without the beginning of ``tag`` at its end, and that beginning."""
    length = next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
    return text[: len(text) - length], text[len(text) - length :]
