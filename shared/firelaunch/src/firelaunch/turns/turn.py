"""What an app's workflow is handed: one message, its history, and a metered model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..llm.gateway import ModelSession
from ..llm.types import Chunk, Message
from ..prompts.versions import UserPrompts
from ..settings.app import App
from .grounding import Grounding

if TYPE_CHECKING:
    from ..rag.retrieve import Passage

__all__ = ["Turn", "Workflow"]


@dataclass(slots=True)
class Turn:
    """What the app's workflow is handed: the message, what was said before, and a model that is metered.

    ``features`` are those that the user's plan switches on. ``summary`` is of the chat's earlier messages, ``memory``
    holds notes on the user; both are empty unless ``[after_turn]`` has them kept.
    """

    app: App
    text: str
    history: list[Message]
    llm: ModelSession
    _prompts: UserPrompts
    grounding: Grounding
    prompt_id: str | None = None
    features: frozenset[str] = frozenset()
    summary: str = ""
    memory: tuple[str, ...] = ()
    _model: str | None = None

    def prompt(self, name: str, **values: str) -> str:
        """The version of prompt ``name`` that this user gets, filled in; the request's record will name it.

        "chat@2" asks for just that version. The calls that follow use the prompt's model and temperature, where it
        has them.
        """
        prompt = self._prompts.get(name)
        self.prompt_id = prompt.id
        self._model = self._model or self.llm.model  # the plan's own, for prompts that name none
        self.llm.model, self.llm.temperature = prompt.model or self._model, prompt.temperature
        return prompt.render(**values)

    @property
    def passages(self) -> str:
        """What the user's documents and the library hold on the message, to be put before it; empty if there are none.

        Once this is asked for, citations such as [1] in the answer are checked, and those that hold are its sources.
        """
        return self.grounding.prompt

    @property
    def sources(self) -> tuple[Passage, ...]:
        """The same passages, for code."""
        return self.grounding.passages


Workflow = Callable[[Turn], Iterable[Chunk]]
