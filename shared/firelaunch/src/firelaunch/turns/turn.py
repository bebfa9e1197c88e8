"""The argument of an app's workflow: one message, its history, and a metered model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..llm.gateway import ModelSession
from ..llm.types import Chunk, Message
from ..prompts.versions import UserPrompts
from ..settings.app import AppSettings
from .grounding import Grounding

if TYPE_CHECKING:
    from ..rag.retrieve import Passage

__all__ = ["Turn", "Workflow"]


@dataclass(slots=True)
class Turn:
    """The argument of the app's workflow: the message, the chat's history, and a metered model.

    ``features`` holds the features that the user's plan switches on. ``summary`` covers the chat's earlier messages.
    ``memory`` holds notes on the user. Both are empty unless ``[after_turn]`` switches them on.
    """

    app: AppSettings
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
        """Return the prompt ``name`` in the version that this user gets, filled in with ``values``.

        A name such as "chat@2" selects that version. The request's record names the version. Later calls of the model
        use the prompt's model and temperature, if it has them.
        """
        prompt = self._prompts.get(name)
        self.prompt_id = prompt.id
        self._model = self._model or self.llm.model  # the plan's model, for prompts that name none
        self.llm.model, self.llm.temperature = prompt.model or self._model, prompt.temperature
        return prompt.render(**values)

    @property
    def passages(self) -> str:
        """The passages on the message from the user's documents and the library; empty if there are none.

        Put them before the message. After you read this property, citations such as [1] in the answer are checked, and
        the valid ones become the answer's sources.
        """
        return self.grounding.prompt

    @property
    def sources(self) -> tuple[Passage, ...]:
        """The passages of :attr:`passages` as objects."""
        return self.grounding.passages


Workflow = Callable[[Turn], Iterable[Chunk]]
