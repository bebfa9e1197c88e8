"""The argument of an app's workflow: one message, its history, and a metered model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from ..documents.kept_files import KeptFiles
from ..identity import Caller
from ..jobs import Job, Kind
from ..jobs.base import HasKind
from ..llm.attachments import Attachment
from ..llm.gateway import ModelSession
from ..llm.types import Chunk, Message
from ..prompts.versions import UserPrompts
from ..records.data import Data
from ..scope import Scope
from ..services.bundle import Services
from ..settings.app import AppSettings
from ..store.guard import Guard
from ..store.scoped import ScopedStore
from .grounding import Grounding

if TYPE_CHECKING:
    from ..rag.retrieve import Passage

__all__ = ["Turn", "Workflow"]

P = TypeVar("P", bound=BaseModel)


@dataclass(slots=True)
class Turn:
    """The argument of the app's workflow: the message, the chat's history, a metered model, and the user's data.

    Attributes:
        scope: the user whose turn it is; in a chat of a group, the group.
        text: the message. Where several members of a group have written, its writer's name and a colon come first.
        caller: the user as their token says; None in a batch, which goes on after its request.
        features: the features that the user's plan switches on.
        attachments: the files of the message. ``turn.llm.stream`` puts them into the last message of the user's.
        summary: of the chat's earlier messages.
        memory: notes on the user. Both are empty unless ``[after_turn]`` switches them on.
    """

    app: AppSettings
    scope: Scope
    text: str
    history: list[Message]
    llm: ModelSession
    _services: Services = field(repr=False)
    _prompts: UserPrompts
    grounding: Grounding
    caller: Caller | None = None
    features: frozenset[str] = frozenset()
    attachments: tuple[Attachment, ...] = ()
    summary: str = ""
    memory: tuple[str, ...] = ()
    _model: str | None = None
    _guard: Guard | None = field(default=None, repr=False)
    _own: Services | None = field(default=None, repr=False)

    @property
    def store(self) -> ScopedStore:
        """The part of the database of the user, or of the group, and no other."""
        return self._bound.store

    @property
    def data(self) -> Data:
        """The app's own collections, as the user, or the group's member, reaches them: ``turn.data(meals).list()``."""
        return self._bound.data

    @property
    def files(self) -> KeptFiles:
        """The files that the app keeps for the turn's user, or for the group."""
        return self._bound.files

    def enqueue(
        self, job: Kind[P] | HasKind[P], payload: P | None = None, *, key: str | None = None, delay: float = 0.0
    ) -> Job:
        """Enqueue a job for the turn's user, or group. See :meth:`Services.enqueue <firelaunch.Services.enqueue>`.

        A client may send a message again, so give a ``key`` to what must not be done twice.
        """
        return self._bound.enqueue(job, payload, key=key, delay=delay)

    @property
    def _bound(self) -> Services:
        # Most turns need no services of their own, so they are made when they are first asked for.
        if self._own is None:
            if self._guard is None or self.caller is None:
                self._own = self._services.within(self.scope)
            else:
                self._own = self._services.for_member(self.scope, self.caller.uid, self._guard)
        return self._own

    def prompt(self, name: str, **values: str) -> str:
        """Return the prompt ``name`` in the version that this user gets, filled in with ``values``.

        A name such as "chat@2" selects that version. Later calls of the model use the prompt's model and temperature,
        if it has them, and their records name the version.
        """
        prompt, llm = self._prompts.get(name), self.llm
        self._model = self._model or llm.model  # the plan's model, for prompts that name none
        llm.model, llm.temperature, llm.prompt = prompt.model or self._model, prompt.temperature, prompt.id
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
