"""When models end, as their providers announced it, and what a configured model needs before that.

The table is dated: ``CHECKED`` is the day of the last comparison with its sources. firelaunch knows of no announced
end for models that are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Final, NamedTuple

from ..settings.app import Settings
from .google_locations import is_served_in

__all__ = ["CHECKED", "NOTICE_DAYS", "Retirement", "model_warnings", "retirement_of"]

CHECKED: Final = date(2026, 11, 28)

NOTICE_DAYS: Final = 60
"""Days before a model's end from which warnings name it."""

_OPENAI = "https://developers.openai.com/api/docs/deprecations"
_ANTHROPIC = "https://platform.claude.com/docs/en/about-claude/model-deprecations"
_GOOGLE = "https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/model-versions"


class Retirement(NamedTuple):
    """The announced end of a model.

    Attributes:
        day: the last day, or the earliest possible one (``at_the_earliest``).
        instead: the provider's recommended replacement; empty if it names none yet.
        source: the provider's own page.
    """

    day: date
    instead: str
    source: str
    at_the_earliest: bool = False


def _rows() -> Iterator[tuple[str, Retirement]]:
    for day, instead, names in (
        (date(2026, 10, 23), "gpt-6.1-terra", "gpt-3.5-turbo gpt-4 gpt-4-turbo o1 o3-mini o4-mini"),
        (date(2026, 10, 23), "gpt-6-luna", "gpt-4.1-nano"),
        (date(2026, 12, 11), "gpt-6.1-sol", "gpt-5 gpt-5-pro o3 o3-pro"),
        (date(2026, 12, 11), "gpt-6.1-terra", "gpt-5-mini"),
        (date(2026, 12, 11), "gpt-6-luna", "gpt-5-nano"),
        (date(2027, 1, 14), "gpt-6-luna", "gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini"),
        (date(2027, 4, 1), "gpt-6-luna", "gpt-5.1 gpt-5.3-codex gpt-5.4-nano"),
    ):
        yield from ((name, Retirement(day, instead, _OPENAI)) for name in names.split())
    for day, instead, names in (
        (date(2026, 11, 30), "claude-sonnet-5-5", "claude-sonnet-4-5"),
        (date(2027, 1, 22), "claude-opus-5-5", "claude-opus-4-5"),
    ):
        yield from ((name, Retirement(day, instead, _ANTHROPIC)) for name in names.split())
    for day, instead, names in (
        (date(2026, 6, 1), "gemini-3.5-flash-lite", "gemini-2.0-flash gemini-2.0-flash-lite"),
        (date(2026, 10, 16), "gemini-3.5-flash", "gemini-2.5-pro"),
        (date(2026, 10, 16), "gemini-3.5-flash-lite", "gemini-2.5-flash gemini-2.5-flash-lite"),
        (date(2027, 5, 7), "", "gemini-3.1-flash-lite"),
        (date(2027, 5, 19), "", "gemini-3.5-flash"),
        (date(2027, 7, 21), "", "gemini-3.5-flash-lite"),
    ):
        # Google postponed some dates, and never moved one forward.
        yield from ((name, Retirement(day, instead, _GOOGLE, at_the_earliest=True)) for name in names.split())


_TABLE: Final = dict(_rows())
_SNAPSHOT = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{3})$|[-@]\d{8}$")


def retirement_of(model: str) -> Retirement | None:
    """Return the announced end of ``model``, or of the model that it is a snapshot of; None if there is none."""
    name = model.rpartition("/")[2]
    return _TABLE.get(name) or _TABLE.get(_SNAPSHOT.sub("", name))


def model_warnings(settings: Settings, today: date, more: Iterable[str] = ()) -> Iterator[str]:
    """Yield a sentence for each model of the deployed app that ends soon, has ended, or is called in a wrong location.

    Args:
        more: models that are named elsewhere, as in prompts.
    """
    choice = settings.models.of(settings.models.provider)
    models = dict.fromkeys((*(choice.all() if choice is not None else ()), *more))
    for model in models:
        retirement = retirement_of(model)
        if retirement is not None and (retirement.day - today).days <= NOTICE_DAYS:
            yield _ending(model, retirement, today)
    vertex = settings.models.vertex if settings.models.provider == "vertex" else None
    for model in models if vertex is not None else ():
        if vertex is not None and not is_served_in(model, vertex.location):
            yield (
                f"{model} does not answer in {vertex.location!r}, as far as is known: "
                'set models.vertex.location to "global", or name another model'
            )


def _ending(model: str, retirement: Retirement, today: date) -> str:
    days = (retirement.day - today).days
    earliest = " at the earliest" if retirement.at_the_earliest else ""
    left = "1 day" if days == 1 else f"{days} days"
    when = f"ends on {retirement.day}{earliest}, in {left}" if days > 0 else f"has ended on {retirement.day}{earliest}"
    instead = f" {retirement.instead} is recommended in its place." if retirement.instead else ""
    return f"{model} {when}: name another under [models] or in the prompt.{instead} ({retirement.source})"
