"""Implement ``firelaunch upgrade``: merge the template's changes since an app was made into the app."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from firelaunch.text_file import read_text_file

from .apps import app_folder
from .merging import Merged, Merger
from .new import parse_answers, render
from .output import json_option

__all__ = ["command"]

_RECORD = ".firelaunch-answers.json"
_MADE = ".firelaunch-template.tar.gz"
"""Files that the template's hook leaves in an app: the answers, and an archive of every file as it was made."""


@click.command("upgrade")
@click.argument("app", default=".", metavar="[APP]")
@click.argument("answers", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--template", help="A folder, a git URL or a zip; where the app was made from, if left out.")
@click.option("--dry-run", is_flag=True, help="Show the patch, and write nothing.")
@click.option("--allow-uncommitted", is_flag=True, help="Go on with changes that git could not bring back.")
@json_option
@click.option(
    "--base",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=f"A folder with the app as it was made, where {_MADE} is not there.",
)
def command(
    app: str,
    answers: tuple[str, ...],
    template: str | None,
    dry_run: bool,
    allow_uncommitted: bool,
    base: Path | None,
    as_json: bool,
) -> None:
    """Merge the current template into APP.

    This is a three-way merge of the app as it was made, as it is, and as it would be made now. If both sides changed
    the same lines, both versions stay between conflict markers, and the exit code is 1. You may also change answers.
    """
    if "=" in app:  # the first of the answers, with APP left out
        app, answers = ".", (app, *answers)
    folder = app_folder(app)
    record = _record(folder)
    source = template or _origin(folder, record)
    if not dry_run and not allow_uncommitted:
        _refuse_uncommitted(folder)
    with tempfile.TemporaryDirectory() as scratch:
        upgrade = _Upgrade.prepare(Path(scratch), folder, record, source, answers, base)
        if as_json:
            click.echo(json.dumps(upgrade.facts(), indent=2))
        else:
            upgrade.show(patch=dry_run)
        if not dry_run:
            upgrade.write(keep=allow_uncommitted)
    if upgrade.merged.conflicts:
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _Upgrade:
    folder: Path
    record: Mapping[str, Any]
    new: Path
    merger: Merger
    ours: str
    merged: Merged

    @classmethod
    def prepare(
        cls,
        scratch: Path,
        folder: Path,
        record: Mapping[str, Any],
        source: str,
        answers: Iterable[str],
        base: Path | None,
    ) -> _Upgrade:
        answered = record["answers"]
        changed = parse_answers(tuple(answers), [name for name in answered if name != "app_slug"])
        try:
            new = _rendered(source, {**answered, **changed}, folder, scratch / "new")
        except click.ClickException as error:
            # This matches cookiecutter's error message.
            choice = re.search(r"for choice variable (\w+),", error.message)
            if choice is None or choice[1] in changed:
                raise
            message = (
                f"{error.message} The template no longer offers the app's answer: give another, as {choice[1]}=ANSWER."
            )
            raise click.ClickException(message) from None
        merger = Merger(scratch, folder)
        base_tree = merger.tree(base or _unpacked(folder, scratch / "made"), (_RECORD, _MADE))
        theirs = merger.tree(new, (_RECORD, _MADE))
        ours = merger.tree(folder, (_RECORD, _MADE), ignored=merger.names(base_tree) | merger.names(theirs))
        label = f"template-{_record(new)['template_version']}"
        return cls(folder, record, new, merger, ours, merger.merge(base_tree, ours, theirs, label))

    def show(self, *, patch: bool) -> None:
        new_record = _record(self.new)
        click.echo(f"{self.folder}: template {_versions(self.record, new_record)}")
        for name in new_record["answers"].keys() - self.record["answers"].keys():
            click.echo(
                f"new question {name}: answered with {new_record['answers'][name]!r}; to change it, add {name}=..."
            )
        for change in self.merged.changes:
            click.echo(f"  {change}")
        if not self.merged.changes:
            click.echo("  no file changes")
        for conflict in self.merged.conflicts:
            click.echo(f"  {conflict}")
        if patch and self.merged.changes:
            click.echo()
            click.echo(self.merger.patch(self.ours, self.merged, colour=sys.stdout.isatty()), nl=False)

    def facts(self) -> dict[str, Any]:
        """Return what :meth:`show` prints, for programs."""
        changes = [{"kind": each.kind, "path": each.path, "was": each.was} for each in self.merged.changes]
        versions = {"from": _facts(self.record), "to": _facts(_record(self.new))}
        return {"app": str(self.folder), **versions, "changes": changes, "conflicts": list(self.merged.conflicts)}

    def write(self, *, keep: bool) -> None:
        if keep and self.merged.changes:
            click.echo(f"The files as they were are in {_backup(self.folder, self.merged)}.")
        self.merger.apply(self.ours, self.merged)
        # The record comes last: until it is written, the next run repeats this upgrade.
        for name in (_MADE, _RECORD):
            (self.new / name).replace(self.folder / name)
        if self.merged.conflicts:
            click.echo("Mend what is in conflict; 'git diff' shows it. Then run the app's tests, and commit.")
        elif self.merged.changes:
            click.echo("Run the app's tests, and commit.")


def _record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(read_text_file(folder / _RECORD))
        if not isinstance(record["answers"], dict):
            raise TypeError
        record["template_version"]
    except FileNotFoundError:
        raise click.ClickException(
            f"{folder / _RECORD} is not there: nothing says what the app was made from."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"{folder / _RECORD} is not as it was written; bring it back from git.") from None
    return record


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(f"template_{name}") for name in ("version", "date", "commit")}


def _versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say from which template to which, so that the two can be told apart."""
    if _facts(before) == _facts(now):
        return f"{_version(now)}, from which the app was made; there is no newer one"
    told = f"{_version(before)} -> {_version(now)}"
    if before["template_version"] == now["template_version"]:
        return f"{told}, between two releases"
    return f"{told}; CHANGELOG.md says what changed for whom"


def _version(record: Mapping[str, Any]) -> str:
    date, commit = record.get("template_date"), str(record.get("template_commit") or "")[:9]
    of = f" of {date}" if date else ""
    return f"{record['template_version']}{of}{f' ({commit})' if commit else ''}"


def _origin(folder: Path, record: Mapping[str, Any]) -> str:
    for parent in folder.parents:
        if (parent / "cookiecutter.json").is_file() and (parent / "template").is_dir():
            return str(parent)
    if record.get("template"):
        return str(record["template"])
    raise click.ClickException("Nothing says where the template is; pass --template with a folder, a git URL or a zip.")


def _rendered(source: str, context: Mapping[str, str], folder: Path, out: Path) -> Path:
    out.mkdir()
    local = Path(source)
    is_template_folder = local.is_dir() and not (local / "template" / "cookiecutter.json").is_file()
    private = {"_next_steps": "", "_place": str(folder)}
    # An absolute path, as cookiecutter may take a relative one for an abbreviation.
    template = str(local.resolve()) if local.exists() else source
    app = render(template, {**context, **private}, out, directory="" if is_template_folder else "template")
    if not (app / _MADE).is_file():
        raise click.ClickException(f"{source} is a template from before upgrades were; name a newer one.")
    return app


def _unpacked(folder: Path, out: Path) -> Path:
    try:
        with tarfile.open(folder / _MADE) as archive:
            archive.extractall(out, filter="data")
    except FileNotFoundError:
        raise click.ClickException(
            f"{folder / _MADE} is not there, so nothing says what was changed since the app was made. Bring it back "
            "from git, or make the app again elsewhere from the template it was made from, and pass that with --base."
        ) from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise click.ClickException(f"{folder / _MADE} cannot be unpacked ({error}); bring it back from git.") from None
    return out


def _refuse_uncommitted(folder: Path) -> None:
    advice = "--allow-uncommitted goes on all the same, and keeps the files as they were in .firelaunch/"
    if _git(folder, "ls-files", "--error-unmatch", "firelaunch.toml") is None:
        raise click.ClickException(
            f"{folder} is not kept in git, which could bring it back. Commit it to a repository (git init, git add, "
            f"git commit; a folder under apps/ may have one of its own). {advice}."
        )
    changed = [line[3:] for line in (_git(folder, "status", "--porcelain", "-z", "--", ".") or "").split("\0") if line]
    if changed:
        names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise click.ClickException(f"There are uncommitted changes in {folder}: {names}. Commit them first. {advice}.")


def _git(folder: Path, *words: str) -> str | None:
    try:
        process = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        return None
    return process.stdout if process.returncode == 0 else None


def _backup(folder: Path, merged: Merged) -> Path:
    """Pack the files that are about to change, and return the archive's path."""
    target = folder / ".firelaunch" / f"before-upgrade-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"
    target.parent.mkdir(mode=0o700, exist_ok=True)
    names = {name for change in merged.changes for name in (change.path, change.was) if name}
    with tarfile.open(target, "w:gz") as archive:
        for name in sorted({*names, _RECORD, _MADE}):
            if (folder / name).exists():
                archive.add(folder / name, name)
    return target
