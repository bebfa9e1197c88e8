"""``firelaunch doctor``: what is wrong with this machine, an app and its project, each with its mend."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from firelaunch.errors import SettingsError
from firelaunch.server.terminal import line_width, wrapped

from ..deploy.gcloud import CommandFailed
from ..deploy.steps import Step
from ..doctor.app import app_checks
from ..doctor.base import Finding, problem, skipped
from ..doctor.cloud import cloud_checks
from ..doctor.machine import machine
from ..doctor.site import site_checks
from .apps import apps_named, env_option, id_of
from .deploy import planned

__all__ = ["command"]

_MARGIN = 11
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red", "skipped": "cyan"}


@click.command("doctor")
@click.argument("app", required=False)
@click.option("--offline", is_flag=True, help="Leave the cloud checks out.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@env_option
def command(app: str | None, offline: bool, as_json: bool) -> None:
    """Check APP, this machine and the app's project. Without APP: the app of the current folder, or all in apps/.

    The checks come in the order in which you would look: can the app start, has this machine what it needs, is the
    project ready. Nothing is changed. The exit code is 1 if there is a problem; notes and skipped checks are none.
    """
    found: dict[str, list[Finding]] = {}
    for group, finding in _findings(app, offline=offline):
        if not as_json and group not in found:
            click.echo(click.style(f"\n{group}" if found else group, bold=True))
        found.setdefault(group, []).append(finding)
        if not as_json:
            _show(finding)
    problems = sum(finding.status == "problem" for findings in found.values() for finding in findings)
    if as_json:
        groups = {group: [_as_json(finding) for finding in findings] for group, findings in found.items()}
        click.echo(json.dumps({"problems": problems, "checks": groups}, indent=2))
    else:
        click.echo(f"\n{problems} problems" if problems != 1 else "\n1 problem")
        _show_first(found)
    if problems:
        sys.exit(1)


def _findings(app: str | None, *, offline: bool) -> Iterator[tuple[str, Finding]]:
    """Yield the findings in the order in which a person would look: the app, what it runs on, where it is deployed."""
    folders = apps_named([app] if app else [])
    for folder in folders:
        for finding in app_checks(folder, os.environ):
            yield f"app {_name_of(folder)}", finding
    for finding in machine(os.environ, datetime.now(UTC).date()):
        yield "this machine", finding
    for folder in folders if not offline else ():
        for finding in _cloud(folder):
            yield f"project of {_name_of(folder)}", finding


def _name_of(folder: Path) -> str:
    """Return an app's id; with its folder where that has another name, as another folder may hold the same id."""
    app = id_of(folder)
    return app if app == folder.name else f"{app} in {folder.name}"


def _cloud(folder: Path) -> Iterator[Finding]:
    try:
        settings, tools, steps = planned(str(folder))
    except SettingsError as error:
        yield skipped("cloud", f"the settings do not hold: {error}")
    except click.ClickException as error:
        yield problem("deploy", error.message, "mend that first; the cloud was not looked at")
    else:
        yield from cloud_checks(
            folder.name, settings.cloud.project, settings.identity.tenant, tools, _refusing(steps), _progress
        )
        if settings.cloud.project and settings.cloud.site:
            yield from site_checks(f"https://{settings.cloud.site}.web.app", settings.app.id)


def _refusing(steps: Callable[[], Sequence[Step]]) -> Callable[[], Sequence[Step]]:
    def call() -> Sequence[Step]:
        try:
            return steps()
        except click.ClickException as error:
            raise CommandFailed(error.message, "mend that first; the cloud was not looked at") from None

    return call


def _progress(what: str) -> None:
    if _redraws():
        click.echo(f"\r\x1b[K  looking at: {what} ...", nl=False, err=True)


def _redraws() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _show(finding: Finding) -> None:
    if _redraws():
        click.echo("\r\x1b[K", nl=False, err=True)
    status = click.style(f"{finding.status:<8}", fg=_COLOURS[finding.status])
    width = line_width(sys.stdout)
    said = wrapped(f"{finding.name}: {finding.said}".rstrip(), width and width - _MARGIN, rest="  ")
    first, *more = said.splitlines()
    click.echo(f"  {status} {first}")
    for line in more:
        click.echo(f"{' ' * _MARGIN}{line}")
    if finding.mend:
        click.echo(wrapped(finding.mend, width, first=f"{' ' * _MARGIN}mend: ", rest=f"{' ' * _MARGIN}      "))


def _show_first(found: Mapping[str, Sequence[Finding]]) -> None:
    """Name the first of several problems again, as those after it often have the same cause."""
    problems = [finding for findings in found.values() for finding in findings if finding.status == "problem"]
    if len(problems) > 1:
        first = problems[0]
        click.echo(wrapped(f"Begin with {first.name}: {first.mend or first.said}", line_width(sys.stdout)))


def _as_json(finding: Finding) -> dict[str, str]:
    fields = {"name": finding.name, "status": finding.status, "said": finding.said, "mend": finding.mend}
    return {key: value for key, value in fields.items() if value}
