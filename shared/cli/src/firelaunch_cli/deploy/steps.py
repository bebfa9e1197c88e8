"""A plan is a list of steps; each looks first, does what is missing, and says what mends it where it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .gcloud import Command, CommandFailed, Request, Tools

__all__ = ["Action", "Grant", "Step", "explain", "nothing", "perform", "step_facts"]

Action = Command | Request
_REQUEST = re.compile(r"^[A-Z]+ https://\S+ ")


def nothing(_: Sequence[Any]) -> tuple[()]:
    """Find nothing missing, for a step that only looks."""
    return ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that an account is given: in the whole project, or ``on`` one thing alone."""

    account: str
    role: str
    on: str = ""

    def __str__(self) -> str:
        return f"{self.role} on {self.on}" if self.on else self.role


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that must be so.

    Args:
        title: what, in a few words.
        looks: the commands and requests that show how it is.
        lacks: given their answers, in order, what makes it so; nothing where it is so. Answers are all None in a dry
            run, which stands for a project where nothing was made yet.
        refuses: given the answers, what is wrong that no command here may change; None where nothing is.
        mend: the command or the sentence that mends a refusal or a failure.
        asks: given the answers, what somebody should agree to first; None where nothing is to be asked.
        look: in place of running ``looks``, for what tools answer differently.
        warns: given the answers, what is worth knowing and stops nothing.
        waits: for what is on its way already, before anything is looked at; in a deploy alone.
        optional: whether the deploy goes on without it, with a warning of one line that names the mend.
        grants: the roles that accounts have once it is so.
    """

    title: str
    looks: tuple[Action, ...]
    lacks: Callable[[Sequence[Any]], Iterable[Action]] = nothing
    refuses: Callable[[Sequence[Any]], str | None] = lambda _: None
    mend: str = ""
    asks: Callable[[Sequence[Any]], str | None] = lambda _: None
    look: Callable[[Tools], Sequence[Any]] | None = None
    warns: Callable[[Sequence[Any]], str | None] = lambda _: None
    waits: Callable[[Tools], object] = lambda _: None
    optional: bool = False
    grants: tuple[Grant, ...] = ()

    def answers(self, tools: Tools) -> Sequence[Any]:
        """How it is.

        Raises:
            CommandFailed: that cannot be seen.
        """
        return self.look(tools) if self.look else [_do(tools, action, read=True) for action in self.looks]


def perform(step: Step, tools: Tools, agree: Callable[[str], bool]) -> int:
    """Make it so; how many commands it took.

    Raises:
        CommandFailed: it cannot be, and is not optional; the mend is the step's own where it has one.
    """
    try:
        return _perform(step, tools, agree)
    except CommandFailed as failed:
        if not step.optional:
            raise
        reason = _REQUEST.sub("", str(failed).splitlines()[-1]).rstrip(".")
        tools.warn(f"no {step.title}: {reason}; {step.mend}")
        return 0


def _perform(step: Step, tools: Tools, agree: Callable[[str], bool]) -> int:
    try:
        step.waits(tools)
        answers = step.answers(tools)
    except CommandFailed as failed:
        raise CommandFailed(str(failed), _both(failed.mend, step.mend)) from None
    problem = step.refuses(answers)
    if problem:
        raise CommandFailed(problem, step.mend)
    warning = step.warns(answers)
    if warning:
        tools.warn(warning)
    actions = list(step.lacks(answers))
    question = step.asks(answers) if actions else None
    if question and not agree(question):
        raise CommandFailed("nobody agreed to it", "look at what changes, and pass --yes")
    try:
        for action in actions:
            _do(tools, action, read=False)
    except CommandFailed as failed:
        raise CommandFailed(str(failed), _both(failed.mend, step.mend)) from None
    return len(actions)


def explain(step: Step) -> list[str]:
    """The lines that a dry run prints: what is looked at, what makes it so, and the mend."""
    lines = [step.title, *(f"    look  {action}" for action in step.looks)]
    for action in step.lacks([None] * max(len(step.looks), 1)):
        lines.append(f"    do    {action}")
        if isinstance(action, Request) and action.then:
            lines.append(f"    do    {action.then({'name': 'NAME_IN_THE_ANSWER'})}")
    return [*lines, f"    mend  {step.mend}"] if step.mend else lines


def step_facts(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the lines of :func:`explain`, of any number of steps, as one mapping a step: its title and its lines."""
    facts: list[dict[str, Any]] = []
    for line in lines:
        if line.startswith(" "):
            word, _, text = line.strip().partition(" ")
            facts[-1].setdefault(word, []).append(text.strip())
        else:
            facts.append({"title": line})
    return facts


def _do(tools: Tools, action: Action, *, read: bool) -> Any:
    if isinstance(action, Request):
        return tools.request(action)
    return tools.read(action) if read else tools.run(action)


def _both(first: str, second: str) -> str:
    return first if first == second or not second else f"{first}\n{second}"
