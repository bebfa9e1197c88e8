"""Define jobs by decorating their handlers: ``@job("weekly_summary")``. Pass them to ``App(..., jobs=[...])``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, get_type_hints, overload

from pydantic import BaseModel

from ..errors import SettingsError
from ..jobs.base import Kind, NoPayload
from .handlers import JobDone, JobRun

__all__ = ["JobDefinition", "job"]

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class JobDefinition(Generic[P]):
    """A job of the app's own: its kind, and the function that does it.

    Enqueue it with ``enqueue(weekly_summary, ...)``. Call it as the function that it decorates, in a test for example.
    """

    kind: Kind[P]
    function: Callable[..., JobDone | None]

    def __call__(self, run: JobRun, payload: P | None = None) -> JobDone | None:
        """Call the function with a run and its payload."""
        if self.kind.payload is NoPayload:
            return self.function(run)
        return self.function(run, self.kind.payload_of(payload))


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[[JobRun], JobDone | None], /) -> JobDefinition[NoPayload]: ...
    @overload
    def __call__(self, function: Callable[[JobRun, P], JobDone | None], /) -> JobDefinition[P]: ...


def job(name: str, *, max_attempts: int | None = None, seconds: float = 600.0) -> _Decorator:
    """Define a job by the function that does it.

    The function takes a :class:`JobRun` and, if jobs have a payload, a pydantic model, which its annotation names.

    Args:
        name: a lower-case letter, then at most 31 lower-case letters, digits and underscores.
        max_attempts: the number of attempts after which the job is dead; None for the number in the settings.
        seconds: the most seconds of one attempt; at most 1,740.

    Raises:
        SettingsError: the name, the time or the function's parameters are not valid.
    """

    def define(function: Callable[..., JobDone | None]) -> JobDefinition[Any]:
        try:
            return JobDefinition(Kind(name, _payload_model(name, function), max_attempts, seconds), function)
        except ValueError as error:
            raise SettingsError(f"@job({name!r}): {error}.") from None

    return define


def _payload_model(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    parameters = list(inspect.signature(function).parameters.values())
    required = [each for each in parameters if each.default is each.empty]
    if not parameters or len(required) > 2 or any(each.kind is each.KEYWORD_ONLY for each in required):
        raise SettingsError(f"@job({name!r}): the function takes the run, and then at most one payload.")
    if len(parameters) == 1:
        return NoPayload
    try:
        model = get_type_hints(function).get(parameters[1].name)
    except NameError as error:
        raise SettingsError(f"@job({name!r}): define the payload's model at the top of its module ({error}).") from None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SettingsError(f"@job({name!r}): annotate {parameters[1].name!r} with the pydantic model of the payload.")
    return model
