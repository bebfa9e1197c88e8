"""Tell the writers of a group's chat apart in what goes to the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["Speakers"]

_NAME_CHARACTERS: Final = 40
_UNKNOWN: Final = "Former member"
_NAMELESS: Final = "Member"


class Speakers:
    """The writers of the messages that a prompt shows. Where there are several, each message begins with its writer.

    Args:
        messages: the users' messages, oldest first, with the fields ``written_by`` and ``author``.
    """

    def __init__(self, messages: Iterable[Mapping[str, Any]]) -> None:
        self._labels: dict[str | None, str] = {}
        for message in messages:
            uid = message.get("written_by")
            if uid not in self._labels:
                self._labels[uid] = self._free(_UNKNOWN if uid is None else _name(message) or _NAMELESS)

    def marked(self, text: str, message: Mapping[str, Any]) -> str:
        """Return the text of a message as the model gets it."""
        name = self.name(message)
        return f"{name}: {text}" if name else text

    def name(self, message: Mapping[str, Any]) -> str:
        """Return how the writer of a message is called; empty if there is only one writer."""
        return "" if len(self._labels) < 2 else self._labels.get(message.get("written_by"), "")

    def _free(self, name: str) -> str:
        taken, label, number = set(self._labels.values()), name, 1
        while label in taken:
            number += 1
            label = f"{name} ({number})"
        return label


def _name(message: Mapping[str, Any]) -> str:
    """Return the name of a message's writer, which that member has chosen, as one that ends before its colon."""
    return " ".join(str(message.get("author", "")).replace(":", " ").split())[:_NAME_CHARACTERS]
