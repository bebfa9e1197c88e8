"""``firelaunch deploy``: an app, the rules and the membership function, by gcloud and firebase."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from ..deploy.cost import idle_month
from ..deploy.names import (
    DEFAULT_DATABASE,
    Place,
    Service,
    app_service,
    membership_service,
)
from ..deploy.plan import for_project, for_service, preflight, publish
from ..deploy.release import Release, deploy_command, services_command, traffic_command
from ..deploy.rules import rules_step, write_config
from ..deploy.smoke import smoke_app, smoke_membership
from ..deploy.stage import FUNCTIONS, StageError, stage_app, stage_functions
from ..deploy.steps import Step, explain, perform
from ..deploy.tools import Failed, Tools, refuse_secrets
from ..membership.policy import Policy
from ..settings import Settings
from .apps import app_folder, repo_root
from .rules import composed_rules

__all__ = ["command", "planned"]

_NO_PROJECT = "PROJECT"


@click.command("deploy", context_settings={"ignore_unknown_options": False})
@click.argument("app")
@click.option("--dry-run", is_flag=True, help="Print every command, what mends it, and the cost; do nothing.")
@click.option("--yes", is_flag=True, help="Agree to changed rules without being asked.")
@click.option("--preview", is_flag=True, help="A revision without traffic, at an address of its own.")
@click.option("--rollback", is_flag=True, help="Give the traffic back to the revision before.")
@click.option("--drop", multiple=True, metavar="APP", help="An app whose live rules may go. May be given again.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
def command(
    app: str, dry_run: bool, yes: bool, preview: bool, rollback: bool, drop: tuple[str, ...], more: tuple[str, ...]
) -> None:
    """Deploy APP (a folder, or a name under apps/) to Cloud Run; run again after a failure, it goes on.

    What comes after -- goes to 'gcloud run deploy' as it is.
    """
    deploy = _Deploy.of(app, frozenset(drop), more, yes=yes)
    try:
        refuse_secrets(more)
        if dry_run:
            deploy.explain()
        elif rollback:
            click.echo(deploy.release(deploy.service).rollback())
        elif preview:
            deploy.preview()
        else:
            deploy.run()
    except Failed as failed:
        raise click.ClickException(f"{failed}\nMend: {failed.mend}") from None
    except StageError as error:
        raise click.ClickException(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Deploy:
    root: Path
    folder: Path
    settings: Settings
    place: Place
    service: Service
    tools: Tools
    drop: frozenset[str]
    more: tuple[str, ...]
    yes: bool

    @classmethod
    def of(cls, app: str, drop: frozenset[str], more: tuple[str, ...], *, yes: bool) -> _Deploy:
        folder = app_folder(app)
        # The key of the machine that deploys is no setting of the app's: cloud mode is checked where the app starts.
        settings = Settings.load(folder / "firelaunch.toml", _only(os.environ, "GOOGLE_CLOUD_PROJECT"))
        place = Place(settings.cloud.project or _NO_PROJECT, settings.cloud.region)
        tools = Tools(os.environ, lambda line: click.echo(f"    {line}", err=True))
        return cls(repo_root(), folder, settings, place, app_service(settings, place), tools, drop, more, yes)

    @property
    def databases(self) -> list[str]:
        own = self.settings.cloud.database == "dedicated"
        return [DEFAULT_DATABASE, *([self.settings.app.id] if own else [])]

    def steps(self) -> list[Step]:
        """Those before the first revision."""
        keys = _only(os.environ, *self.service.secrets)
        config = write_config(
            self.root / "build" / "firebase" / self.place.project,
            self.databases,
            composed_rules(self.root / "apps", self.root / "firestore.rules").text,
            self.root / "firestore.indexes.json",
        )
        joining = self.settings.membership
        policy = Policy(joining.join, joining.domains, self.settings.identity.tenant or None)
        fields = {"name": self.settings.app.name, **policy.data()}
        return [
            *preflight(self.place, vertex=self.settings.models.provider == "vertex"),
            *for_project(self.place),
            *for_service(self.place, self.service, keys),
            rules_step(self.place, self.databases, config, self.drop),
            publish(self.place, self.databases[-1], self.settings.app.id, fields),
        ]

    def run(self) -> None:
        self._check()
        for step in self.steps():
            self._perform(step)
        staged = stage_app(self.root, self.folder, self.root / "build" / "stage" / self.service.name)
        click.echo(self.release(self.service).deploy(staged.folder, staged.digest))
        door = self._membership()
        for step in for_service(self.place, door, {}):
            self._perform(step)
        functions = stage_functions(self.root, self.root / "build" / "stage" / FUNCTIONS)
        click.echo(self.release(door).deploy(functions.folder, functions.digest))

    def preview(self) -> None:
        self._check()
        staged = stage_app(self.root, self.folder, self.root / "build" / "stage" / self.service.name)
        click.echo(self.release(self.service).preview(staged.folder, staged.digest))

    def release(self, service: Service) -> Release:
        """The service's revisions; what comes after -- is for the app's."""
        more = self.more if service is self.service else ()
        return Release(self.tools, self.place, service, self._smoke(service), click.echo, more)

    def explain(self) -> None:
        """The whole plan for a project in which nothing was made yet."""
        if self.place.project == _NO_PROJECT:
            click.echo("No project is named: set cloud.project in firelaunch.toml, or GOOGLE_CLOUD_PROJECT.\n")
        door = membership_service(self.place, self._dedicated())
        stage = self.root / "build" / "stage"
        for step in self.steps():
            click.echo("\n".join(explain(step)))
        self._explain_release(self.service, stage / self.service.name)
        for step in for_service(self.place, door, {}):
            click.echo("\n".join(explain(step)))
        self._explain_release(door, stage / FUNCTIONS)
        self._explain_cost((self.service, door))

    def _explain_release(self, service: Service, source: Path) -> None:
        first = deploy_command(self.place, service, source, first=True, more=self.more)
        click.echo(f"a revision of {service.name}; later ones also with --no-traffic")
        click.echo(f"    look  {services_command(self.place)}\n    do    {first}")
        click.echo(f"    try   https://candidate---{service.name}-... before it gets traffic")
        click.echo(f"    do    {traffic_command(self.place, service.name, 'REVISION', None)}")

    def _explain_cost(self, services: tuple[Service, ...]) -> None:
        items = [item for service in services for item in idle_month(service)]
        click.echo("a month in which nobody uses it, without Google's free allowances (tier 1 regions)")
        for what, micro in items:
            click.echo(f"    ${micro / 1_000_000:9.2f}  {what}")
        click.echo(
            f"    ${sum(micro for _, micro in items) / 1_000_000:9.2f}  in all, and what stored data and images cost"
        )

    def _check(self) -> None:
        if self.place.project == _NO_PROJECT:
            raise Failed(
                "no project is named",
                "set cloud.project in firelaunch.toml, or GOOGLE_CLOUD_PROJECT; gcloud projects list shows yours",
            )
        self.tools.check_installed()

    def _perform(self, step: Step) -> None:
        click.echo(f"{step.title} ... ", nl=False)
        try:
            count = perform(step, self.tools, self._agree)
        except Failed:
            click.echo("failed")
            raise
        click.echo("done" if count else "ok")

    def _agree(self, question: str) -> bool:
        click.echo(f"\n{question}")
        if self.yes:
            return True
        return sys.stdin.isatty() and click.confirm("Go on?")

    def _smoke(self, service: Service) -> Callable[[str], str | None]:
        def smoke(url: str) -> str | None:
            click.echo(f"trying {url}")
            token = None if service.public else self.tools.identity_token(url)
            if not service.public and token is None:
                return "it is private, and this login can have no identity token: use gcloud auth login"
            return smoke_membership(url, token) if service.function else smoke_app(url, service.name, token)

        return smoke

    def _membership(self) -> Service:
        """With the apps that are dedicated here, and those that another clone has said are."""
        live = self.release(membership_service(self.place, frozenset())).live()
        known = live.environ("DEDICATED_APPS").split(",") if live else []
        return membership_service(self.place, self._dedicated() | frozenset(filter(None, known)))

    def _dedicated(self) -> frozenset[str]:
        found = {self.settings.app.id} if self.settings.cloud.database == "dedicated" else set()
        for path in (self.root / "apps").glob("*/firelaunch.toml"):
            try:
                data = tomllib.loads(path.read_text(encoding="utf-8"))
                project = os.environ.get("GOOGLE_CLOUD_PROJECT") or data["cloud"]["project"]
                if data["cloud"]["database"] == "dedicated" and project == self.place.project:
                    found.add(data["app"]["id"])
            except (KeyError, TypeError, tomllib.TOMLDecodeError):
                continue  # that app's own commands say what is wrong with it
        return frozenset(found)


def planned(app: str) -> tuple[Tools, list[Step]]:
    """What an app's deploy acts through, and its steps before the first revision, for whoever only looks.

    Raises:
        ClickException, SettingsError: there is no such app, or it cannot be deployed as it is.
    """
    deploy = _Deploy.of(app, frozenset(), (), yes=False)
    return deploy.tools, deploy.steps()


def _only(environ: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: environ[name] for name in names if environ.get(name)}
