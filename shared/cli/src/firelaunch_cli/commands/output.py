"""Print what a command found or did, for people or, with ``--json``, for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

__all__ = ["json_option", "report"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(function: _Command) -> _Command:
    """Give a command the option ``--json``, as its argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def report(text: str, facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print ``text``, or ``facts`` as JSON. Nothing else that a command says belongs on standard output then."""
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False, default=str) if as_json else text)
