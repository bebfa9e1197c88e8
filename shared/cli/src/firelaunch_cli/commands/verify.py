"""``firelaunch verify``: prove on a real project what no emulator can, with a throw-away app."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..deploy.gcloud import CommandFailed, Tools
from ..verify.manifest import Manifest, find_manifest, new_run
from ..verify.proofs import PROOFS
from ..verify.recorder import Recorder
from ..verify.removal import remove
from ..verify.report import ProofOutcome, dry_run, estimate_lines, proof_lines, table
from ..verify.run import Run, chosen, interruptible
from ..verify.throwaway import ThrowAway
from .apps import repo_root
from .new import render
from .progress import Progress

__all__ = ["command"]

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
"""https://cloud.google.com/resource-manager/docs/creating-managing-projects"""
_STEPS = 40
"""About as many as there are; proofs come on top."""
_INTERRUPTED = 130


@click.command("verify")
@click.argument("project", required=False)
@click.option("--region", default="europe-west1", show_default=True, help="Where the throw-away app is deployed.")
@click.option("--in-shared-project", "shared", is_flag=True, help="Change nothing that the project's apps share.")
@click.option("--dry-run", "dry", is_flag=True, help="Print the proofs, what is made, and the estimate; do nothing.")
@click.option("--list", "listing", is_flag=True, help="List the proofs.")
@click.option("--only", multiple=True, metavar="NAME", help="Run this proof alone. May be given again.")
@click.option("--json", "target", metavar="FILE", help="Write the results as JSON; - is standard output.")
@click.option("--yes", is_flag=True, help="Do not ask before it starts.")
@click.option("--clean", metavar="RUN", help="Finish the removal of a run that was killed: its id, or its manifest.")
def command(
    project: str | None,
    region: str,
    shared: bool,
    dry: bool,
    listing: bool,
    only: tuple[str, ...],
    target: str | None,
    yes: bool,
    clean: str | None,
) -> None:
    """Deploy a throw-away app to PROJECT, prove on Google itself what no emulator can, and remove it.

    docs/verify.md says what each proof shows, what a run costs, what it changes and what it removes.
    """
    if listing:
        click.echo("\n".join(proof_lines()))
        return
    if project is None or not _PROJECT.fullmatch(project):
        raise click.UsageError(
            "Name a project, by its id: firelaunch verify PROJECT. 'gcloud projects list' has yours."
        )
    unknown = sorted(set(only) - {proof.name for proof in PROOFS})
    if unknown:
        raise click.UsageError(f"There is no proof {', '.join(unknown)}; --list names them.")
    if dry:
        click.echo("\n".join(dry_run(Manifest(Path(), "RUN", project, region, shared=shared))))
        return
    with _standard_output_for_json(target):
        if clean is not None:
            sys.exit(_clean(project, clean))
        outcome, code = _verify(project, region, only, shared=shared, yes=yes)
    _write(target, outcome)
    sys.exit(code)


def _verify(project: str, region: str, only: tuple[str, ...], *, shared: bool, yes: bool) -> tuple[ProofOutcome, int]:
    root = repo_root()
    click.echo("\n".join(estimate_lines()))
    if not yes and not (sys.stdin.isatty() and click.confirm(f"Deploy a throw-away app to {project}?")):
        raise click.ClickException("Nobody agreed; nothing was done. Pass --yes to go on without being asked.")
    manifest = new_run(project, region, os.environ, shared=shared)
    click.echo(f"run {manifest.run}, app {manifest.app}; its manifest: {manifest.path}")
    proofs = chosen(only)
    run, outcome, begun = _run(manifest, _STEPS + len(proofs)), ProofOutcome(manifest), time.monotonic()
    code = 0
    with interruptible():
        try:
            run.look()
            with tempfile.TemporaryDirectory() as scratch:
                app = ThrowAway(root, _from_template(root, manifest, Path(scratch)), manifest)
                run.prove(run.deploy(app, Path(scratch) / "staged"), proofs, outcome)
        except CommandFailed as failed:
            outcome.problem = f"{failed}\nMend: {failed.mend}"
        except KeyboardInterrupt:
            outcome.problem, code = "interrupted", _INTERRUPTED
            click.echo("\nInterrupted. What the run made is being removed; another Ctrl-C leaves it.")
        try:
            outcome.left = run.remove()
        except KeyboardInterrupt:
            raise click.ClickException(f"Left as it is. Finish with: {_finish(manifest)}") from None
    outcome.seconds = time.monotonic() - begun
    _tell(outcome)
    return outcome, code or (0 if outcome.holds else 1)


def _run(manifest: Manifest, steps: int) -> Run:
    def line(text: str) -> None:
        click.echo(f"\n    {text}", nl=False)

    bare = Tools(os.environ, line)
    return Run(manifest, Recorder(manifest, os.environ, line), bare, Progress(steps).step, click.echo)


def _from_template(root: Path, manifest: Manifest, scratch: Path) -> Path:
    answers = {"app_name": "firelaunch verify", "app_slug": manifest.app, "model_provider": "vertex", "_next_steps": ""}
    return render(str(root / "template"), answers, scratch)


def _clean(project: str, run: str) -> int:
    """Finish a removal; the exit code."""
    manifest = Manifest.load(find_manifest(run, os.environ))
    if manifest.project != project:
        raise click.ClickException(f"Run {manifest.run} is of project {manifest.project}, not of {project}.")
    if not manifest.left():
        click.echo(f"Nothing is left of run {manifest.run}.")
        return 0
    with interruptible():
        left = remove(Tools(os.environ, click.echo), manifest, click.echo)
    click.echo(f"{len(left)} left." if left else f"Nothing is left of run {manifest.run}.")
    return 1 if left else 0


def _tell(outcome: ProofOutcome) -> None:
    click.echo("")
    if outcome.results:
        click.echo("\n".join(table(outcome.results)))
    if outcome.problem:
        click.echo(f"It did not come to its end: {outcome.problem}")
    if outcome.manifest.changes:
        click.echo("stays in the project, as after the first deploy of any app:")
        click.echo("\n".join(f"    {change}" for change in outcome.manifest.changes))
    if outcome.left:
        click.echo(f"{len(outcome.left)} things are left; finish with: {_finish(outcome.manifest)}")
    click.echo(f"{outcome.seconds / 60:.1f} minutes")


def _finish(manifest: Manifest) -> str:
    return f"firelaunch verify {manifest.project} --clean {manifest.run}"


def _write(target: str | None, outcome: ProofOutcome) -> None:
    text = json.dumps(outcome.data(), indent=2)
    if target == "-":
        click.echo(text)
    elif target:
        Path(target).write_text(text + "\n", encoding="utf-8")


@contextmanager
def _standard_output_for_json(target: str | None) -> Iterator[None]:
    """With ``--json -`` all that people read goes to standard error, so that standard output is JSON alone."""
    out = sys.stdout
    if target == "-":
        sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = out
