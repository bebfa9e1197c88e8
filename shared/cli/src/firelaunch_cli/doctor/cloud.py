"""Check an app's project: the steps of a deploy without taking them, users' claims, and the clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from firelaunch.identity.clock import CLOCK_SECONDS
from firelaunch.membership.claims import MAX_BYTES

from ..deploy.accounts import pages
from ..deploy.gcloud import CommandFailed, Tools
from ..deploy.steps import Step
from .base import Finding, note, ok, problem, skipped

__all__ = ["cloud_checks"]

_NEAR = MAX_BYTES * 8 // 10
"""Bytes from which an account's claims have room for few apps more: one takes 15 to 60."""

_NOT_FOUND = re.compile(r"NOT_FOUND|HTTPError 404")
"""How gcloud says that there is no such thing."""

_PAGES = 20
_SKEW_SECONDS = 10
_LINES = 20

Showing = Callable[[str], object]


def cloud_checks(
    app: str,
    project: str,
    tenant: str,
    tools: Tools,
    steps: Callable[[], Sequence[Step]],
    show: Showing = lambda _: None,
) -> Iterator[Finding]:
    """Every check of the project; one "skipped" where there is no project or no login.

    Args:
        app: as ``firelaunch deploy`` takes it.
        tenant: of the app's users, empty for the project's own.
        steps: those of the app's deploy, once the project can be reached.
        show: is told what is being looked at; gcloud takes a second or two for each answer.
    """
    if not project:
        yield skipped("cloud", "the app names no project; set cloud.project in firelaunch.toml to have it checked")
        return
    try:
        tools.token()
    except CommandFailed as failed:
        yield skipped("cloud", f"{str(failed).splitlines()[0]}. Log in: {failed.mend}")
        return
    show("the project")
    try:
        planned = steps()
    except CommandFailed as failed:
        yield problem("the project", str(failed), failed.mend)
        return
    for step in planned:
        show(step.title)
        yield looked(step, tools, app)
    show("users' claims")
    yield claims(tools, project, tenant)
    yield clock(tools)


def looked(step: Step, tools: Tools, app: str) -> Finding:
    """Whether what a step makes so is so already."""
    try:
        answers = step.answers(tools)
    except CommandFailed as failed:
        if _NOT_FOUND.search(str(failed)):
            return problem(step.title, "what it is about is not there yet", f"firelaunch deploy {app}")
        report = note if step.optional else problem
        return report(step.title, str(failed), step.mend if step.optional else failed.mend or step.mend)
    refusal = step.refuses(answers)
    if refusal:
        return problem(step.title, refusal, step.mend)
    warning = step.warns(answers)
    if warning:
        return note(step.title, warning, step.mend)
    if not list(step.lacks(answers)):
        return ok(step.title, "as it should be")
    asked = (step.asks(answers) or "").splitlines()
    said = "\n".join(["not as here:", *asked[:_LINES]]) if asked else "not there yet, or not as it should be"
    return problem(step.title, said, f"firelaunch deploy {app}")


def claims(tools: Tools, project: str, tenant: str) -> Finding:
    """Accounts whose claims are near what a token may carry."""
    name = "users' claims"
    near: list[str] = []
    seen, more = 0, False
    try:
        for users, more in islice(pages(tools, project, tenant), _PAGES):  # noqa: B007 - of the last page
            near += [user["localId"] for user in users if len(user.get("customAttributes", "")) >= _NEAR]
            seen += len(users)
    except CommandFailed as failed:
        mend = f"a deploy sets Firebase Authentication up, where {project} does not have it yet"
        return problem(name, str(failed), f"{failed.mend}; {mend}")
    return _claims(name, near, f"{'the first ' if more else ''}{seen:,} accounts")


def _claims(name: str, near: list[str], seen: str) -> Finding:
    if near:
        few = ", ".join(near[:5]) + (f" and {len(near) - 5} more" if len(near) > 5 else "")
        said = f"{len(near)} of {seen} have claims of {_NEAR} bytes or more, of {MAX_BYTES}: {few}"
        return problem(name, said, "have them leave apps they do not use, before joining fails: docs/membership.md")
    return ok(name, f"{seen}, none with claims of {_NEAR} bytes or more")


def clock(tools: Tools) -> Finding:
    """This machine's clock against Google's."""
    ahead = tools.clock_ahead
    if ahead is None:
        return skipped("clock", "no answer of Google's came with a time")
    if abs(ahead) > _SKEW_SECONDS:
        said = f"{abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} Google's"
        said = f"{said}: tokens are refused from {CLOCK_SECONDS} on"
        return problem("clock", said, "have the system set its clock by NTP, as with: timedatectl set-ntp true")
    return ok("clock", f"within {_SKEW_SECONDS} seconds of Google's")
