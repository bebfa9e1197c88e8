"""``firelaunch deploy``: an app, its functions, the rules and the membership function, by gcloud."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from firelaunch.errors import SettingsError
from firelaunch.llm.retirements import model_warnings
from firelaunch.membership.policy import Policy
from firelaunch.prompts.lock import released
from firelaunch.prompts.versions import Prompts
from firelaunch.settings.app import Settings, VertexIndexSettings, read_settings
from firelaunch.settings.environments import chosen, overlaid, project_of
from firelaunch.settings.web_client import client_config
from firelaunch.text_file import read_text_file

from ..deploy import vertex
from ..deploy.alerts import alert_steps
from ..deploy.backups import backups
from ..deploy.build_folder import FUNCTIONS, Staged, StageError, pins, requirements_lock, stage_app, stage_functions
from ..deploy.calls import Calls, UploadSubscription, app_calls
from ..deploy.commits import Sources, sources_of
from ..deploy.cost import backup_costs, idle_month, index_kind
from ..deploy.data import database, indexes, indexes_built, known_schema, publish, vectors, wanted_indexes
from ..deploy.declarations import NOTHING, Declarations
from ..deploy.dry_run import DryRun
from ..deploy.events import dropped_subscriptions, dropped_triggers, for_uploads, notification, trigger
from ..deploy.files import files
from ..deploy.functions import AppFunctions, app_functions, dedicated_entry, membership_service
from ..deploy.gcloud import CommandFailed, Tools, refuse_secrets
from ..deploy.gcloud_args import variables_in
from ..deploy.hosting import SiteVersion, site, site_files
from ..deploy.jobs import dropped_schedules, for_work, scheduled
from ..deploy.plan import describe, describe_command, for_project, for_service, preflight, secrets_of
from ..deploy.quotas import quota_steps, quotas
from ..deploy.rehearsal import rehearse, settings_for_deploy
from ..deploy.release import Release
from ..deploy.resources import (
    INVOKER,
    NO_PROJECT,
    OF_FUNCTIONS,
    Place,
    Service,
    app_service,
    bucket,
    databases,
    features,
)
from ..deploy.rules import file_rules, rules
from ..deploy.sign_in import GoogleClient, permissions, sign_in
from ..deploy.smoke import smoke_app, smoke_function
from ..deploy.spending_alert import spending_alert
from ..deploy.steps import Grant, Step, explain, nothing, perform
from ..deploy.summary import LockSummary, summary
from ..deploy.terraform import left_to_terraform
from ..deploy.variables import left_behind, own_variables
from ..deploy.vertex_steps import begin, finish, found
from ..deploy.web_app import web_app, web_config
from ..deploy.web_build import BuildFailed, node_problem
from ..doctor.env_file import read_env
from .apps import app_folder, env_option
from .checkout import builds_of, firelaunch_checkout
from .progress import Progress
from .rules import composed_rules
from .start_check import would_start
from .web_client import web_build
from .web_config import shown

__all__ = ["command", "planned"]


@click.command("deploy")
@click.argument("app", default=".", metavar="[APP]")
@click.option("--dry-run", is_flag=True, help="Print every command, what mends it, and the cost; do nothing.")
@click.option("--yes", is_flag=True, help="Agree to changed rules and sign-in without being asked.")
@click.option("--preview", is_flag=True, help="A revision without traffic, at an address of its own.")
@click.option("--rollback", is_flag=True, help="Give the traffic back to the revision before.")
@click.option("--drop", multiple=True, metavar="APP", help="An app whose live rules may go. May be given again.")
@click.option("--with-terraform", is_flag=True, help="Leave to Terraform what services stand on; only look at it.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print the plan as JSON.")
@env_option
def command(
    app: str,
    dry_run: bool,
    yes: bool,
    preview: bool,
    rollback: bool,
    drop: tuple[str, ...],
    with_terraform: bool,
    more: tuple[str, ...],
    as_json: bool,
) -> None:
    """Deploy APP to Cloud Run. After a failure, run it again: it goes on.

    Arguments after -- are passed on to 'gcloud run deploy'. docs/deploy.md says what is made.
    """
    if app.startswith("-"):  # of what comes after --, with APP left out
        app, more = ".", (app, *more)
    _check_options(dry_run=dry_run, preview=preview, rollback=rollback, as_json=as_json)
    deploy = _Deploy.of(app, frozenset(drop), more, yes=yes, terraform=with_terraform)
    try:
        refuse_secrets(more)
        if not rollback:
            for line in left_behind(os.environ, read_env(deploy.folder / ".env").values, deploy.service, more):
                click.echo(line, err=True)
            declared = would_start(deploy.folder, deploy.service, variables_in(more), write=not dry_run)
            deploy = replace(deploy, declared=declared)
        if dry_run:
            deploy.explain("rollback" if rollback else "preview" if preview else "deploy", as_json=as_json)
        elif rollback:
            click.echo(deploy.checked().release(deploy.service).rollback())
        elif preview:
            deploy.checked().ready().preview()
        else:
            deploy.checked().run()
    except CommandFailed as failed:
        raise click.ClickException(f"{failed}\nMend: {failed.mend}") from None
    except StageError as error:
        raise click.ClickException(str(error)) from None


def _check_options(*, dry_run: bool, preview: bool, rollback: bool, as_json: bool) -> None:
    if preview and rollback:
        raise click.UsageError("--preview and --rollback are two things; give one of them.")
    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run: a deploy has no result to print.")


class _Lines:
    """Shows lines below the title of a step that goes on."""

    def __init__(self) -> None:
        self._shown = False

    def __call__(self, line: str) -> None:
        click.echo(f"\n    {line}", nl=False)
        self._shown = True

    def end(self) -> str:
        """Return the separator that puts the step's outcome on a line of its own, if there were lines."""
        shown, self._shown = self._shown, False
        return "\n    " if shown else ""


@dataclass(frozen=True, slots=True)
class _Deploy:
    root: Path
    folder: Path
    settings: Settings
    place: Place
    tools: Tools
    lines: _Lines
    drop: frozenset[str]
    more: tuple[str, ...]
    yes: bool
    terraform: bool
    sources: Sources
    declared: Declarations = NOTHING
    index: VertexIndexSettings = vertex.PLACEHOLDER

    @classmethod
    def of(
        cls, app: str, drop: frozenset[str], more: tuple[str, ...], *, yes: bool, terraform: bool = False
    ) -> _Deploy:
        folder = app_folder(app)
        settings = settings_for_deploy(folder, os.environ)
        place = Place(settings.cloud.project or NO_PROJECT, settings.cloud.region)
        app_service(settings, place)  # refuses ids that cannot be
        problems = [*vertex.deployed_index_problems(settings), *_database_problems(firelaunch_checkout(), settings)]
        if problems:
            raise SettingsError("\n".join(problems))
        lines, root = _Lines(), firelaunch_checkout()
        tools = Tools(os.environ, lines)
        return cls(root, folder, settings, place, tools, lines, drop, more, yes, terraform, sources_of(root, folder))

    @property
    def service(self) -> Service:
        return self._told(app_service(self.settings, self.place, self.declared))

    @property
    def functions(self) -> AppFunctions | None:
        made = app_functions(self.settings, self.place)
        return replace(made, service=self._told(made.service)) if made else None

    @property
    def calls(self) -> list[Calls]:
        """The callers of the app's functions and of the app itself."""
        own = app_calls(self.settings, self.place, self.declared)
        return [*([self.functions.calls] if self.functions else []), *([own] if own else [])]

    @property
    def own(self) -> vertex.OwnIndex | None:
        return vertex.own_index(self.settings)

    def _told(self, service: Service) -> Service:
        return vertex.told(service, self.index) if self.own else service

    def checked(self) -> _Deploy:
        """Return the deploy with the project's number, once gcloud and the project are known to be there."""
        if self.place.project == NO_PROJECT:
            raise CommandFailed(
                "no project is named",
                "set cloud.project in firelaunch.toml, or GOOGLE_CLOUD_PROJECT; gcloud projects list shows yours",
            )
        self.tools.check_installed()
        perform(describe(self.place.project), self.tools, self._agree)
        said = self.tools.read(describe_command(self.place.project))
        return replace(self, place=replace(self.place, number=str(said["projectNumber"])))

    def ready(self) -> _Deploy:
        """Return the deploy with the ids of the app's own index, once that is deployed."""
        return replace(self, index=found(self.tools, self.place, self.own)) if self.own else self

    def run(self) -> None:
        self._say_sources()
        built = self._build_client()
        steps, functions = self._steps(), self.functions
        watch = self._watching()
        stands_on = list(self._stands_on(for_service(self.place, self._door(frozenset()), {})))
        progress = Progress(len(steps) + len(watch) + len(stands_on) + (6 if functions else 4) + bool(built))
        for step in steps:
            self._perform(step, progress)
        ready = self.ready()
        ready._deploy(ready.service, self._stage_app, progress)
        if ready.functions:
            ready._deploy(ready.functions.service, self._stage_functions, progress)
        for step in (*watch, *stands_on):
            self._perform(step, progress)
        self._deploy(self._door(self._known_dedicated()), self._stage_membership, progress)
        if built:
            with progress.step(f"web client at {self.settings.cloud.site}") as said:
                config = web_config(self.tools, self.place, self.settings.app.id)
                said.append("\n" + self._site(site_files(built), config).release(self.tools, self.place))
        self._show_web_config()

    def _build_client(self) -> Path | None:
        """Build the web client, before anything is made; None where the settings name no site for it.

        Raises:
            CommandFailed: there is no client, or it cannot be built here.
        """
        if not self.settings.cloud.site:
            return None
        build = web_build(self.folder)
        off = "or take cloud.site out of firelaunch.toml"
        if not build.there:
            raise CommandFailed(f"cloud.site names a site, and {build.folder} holds no web client", off)
        problem = node_problem()
        if problem is not None:
            raise CommandFailed(f"{problem}, and builds the web client", f"install Node (https://nodejs.org), {off}")
        try:
            return build.run()
        except BuildFailed as failed:
            raise CommandFailed(str(failed), f"mend web/, {off}") from None

    def _site(self, files: Mapping[str, bytes], firebase: Mapping[str, str]) -> SiteVersion:
        """Return what the site serves: the client, told where the app's service is, which it calls itself."""
        config = client_config(
            *(self.settings,),
            mode="cloud",
            api=self.place.url(self.service.name),
            membership=self.place.url(membership_service(self.place, frozenset()).name),
            firebase=firebase,
        )
        return SiteVersion(self.settings.cloud.site, files, config)

    def _show_web_config(self) -> None:
        """Print the config of web clients. An error here doesn't fail a deploy that is done."""
        try:
            config = web_config(self.tools, self.place, self.settings.app.id)
        except CommandFailed as failed:
            click.echo(f"The config of web clients cannot be shown: {failed}")
            return
        click.echo("\nWeb clients sign in with this config. Nothing in it is secret (docs/auth.md).")
        environment = self.settings.environment.name
        of = f" --env {environment}" if environment else ""
        click.echo(f"To see it again: firelaunch web-config {self.settings.app.id}{of}\n\n{shown(config)}")

    def preview(self) -> None:
        self._say_sources()
        progress = Progress(2)
        with progress.step(f"stage {self.service.name}"):
            staged = self._stage_app()
        with progress.step("a revision without traffic") as said:
            said.append("\n" + self.release(self.service).preview(staged))

    def _say_sources(self) -> None:
        click.echo(f"{self.settings.app.id} from {self.sources.said}")

    def release(self, service: Service) -> Release:
        """The service's revisions; what comes after -- is for the app's."""
        more = () if service.function else self.more
        return Release(self.tools, self.place, service, self._smoke(service), more, self.sources)

    def explain(self, action: str, *, as_json: bool = False) -> None:
        """Print what the action would do: "deploy", "preview" or "rollback"."""
        if self.place.project == NO_PROJECT:
            said = "No project yet: set cloud.project in firelaunch.toml, or GOOGLE_CLOUD_PROJECT.\n"
            click.echo(said, err=as_json)
        plans = {"deploy": self._whole_plan, "preview": self._preview_plan, "rollback": self._rollback_plan}
        plan = plans[action]()
        if as_json:
            click.echo(json.dumps(plan.facts(self.settings, self.place), indent=2))
        else:
            click.echo(plan.shown(self.settings, self.place))

    def _rollback_plan(self) -> DryRun:
        steps = [describe(self.place.project), self.release(self.service).way_back()]
        says = (
            f"A rollback gives the traffic of the service {self.service.name} back to the revision with the tag "
            "previous, and changes nothing else: functions, rules, indexes, schedules, data and the web client stay."
        )
        return DryRun("rollback", says, [line for step in steps for line in explain(step)], [self.service.name])

    def _preview_plan(self) -> DryRun:
        steps = [describe(self.place.project), *(finish(self.place, self.own)[:1] if self.own else [])]
        lines = [line for step in steps for line in explain(replace(step, lacks=nothing))]
        lines += self.release(self.service).preview_plan(self._out(self.service.name, make=False))
        says = (
            f"A preview makes a revision of the service {self.service.name}, which gets no traffic, and changes "
            "nothing else."
        )
        return DryRun("preview", says, lines, [self.service.name])

    def _whole_plan(self) -> DryRun:
        """Return the whole plan for a project in which nothing was made yet."""
        functions, door = self.functions, self._door(frozenset())
        services = self._services(frozenset())
        before, after = self._steps(), [*self._watching(), *self._stands_on(for_service(self.place, door, {}))]
        lines = [line for step in before for line in explain(step)]
        lines += [line for service in services[:-1] for line in self._release_lines(service)]
        lines += [line for step in after for line in explain(step)]
        lines += self._release_lines(door)
        if self.settings.cloud.site:
            project = self.place.project
            lines += self._site({}, {"authDomain": f"{project}.firebaseapp.com"}).explain(project)
        costs = self._costs(functions, door)
        looks, acts = (sum(line.startswith(f"    {word} ") for line in lines) for word in ("look", "do  "))
        says = (
            f"{len(before) + len(after)} steps and {len(services)} services. {looks} commands look. In a new project, "
            f"{acts} commands act; what is there already is not made again."
        )
        grants = _by_account([*before, *after], services)
        page = summary(self.settings, self.place, services, self._locks(), costs, self.declared, grants)
        names = [service.name for service in services]
        return DryRun("deploy", says, lines, names, page, self._model_warnings(), costs, grants)

    def _locks(self) -> LockSummary:
        prompts = self.folder / "app" / "prompts"
        used = [f"{name}@{version}" for name, choice in self.settings.prompts.items() for version in choice.versions]
        file = requirements_lock(self.root, self.folder)
        shown = file.relative_to(self.root) if file.is_relative_to(self.root) else file
        return LockSummary(used, released(prompts), len(pins(read_text_file(file))), str(shown))

    def looked_at(self) -> list[Step]:
        """All steps but the revisions."""
        return [*self._steps(), *self._watching()]

    def _steps(self) -> list[Step]:
        """Those before the first revision."""
        wanted = quotas(self.settings, self.place, self._services(frozenset()))
        more = {**(vertex.PERMISSIONS if self.own else {}), **permissions(self.settings)}
        looked = preflight(self.place, features(self.settings, self.declared), quota_steps(self.place, wanted), more)
        stands_on = [*looked, *self._infrastructure()]
        last = finish(self.place, self.own) if self.own else []
        built = [indexes_built(self.place, *each) for each in self._indexed()]
        before = [*self._models(), *self._stands_on(stands_on)]
        return [*before, *self._contents(), *self._stands_on(last), *built]

    def _indexed(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each database and its indexes: with those of the app's vectors and collections, where it is the app's."""
        file, tags = self.root / "firestore.indexes.json", self.settings.index.filters
        length = self.settings.embedding.length if self.settings.index.backend == "firestore" else 0
        names = databases(self.settings)
        for name in names:
            own = name == names[-1]
            yield name, wanted_indexes(file, length, tags, self.declared.indexes) if own else wanted_indexes(file)

    def _models(self) -> Iterable[Step]:
        """A step that warns, where a model that the app names ends soon or does not answer where it is called."""
        said = "\n".join(self._model_warnings())
        if said:
            yield Step("models that go on", (), warns=lambda _: said)

    def _model_warnings(self) -> list[str]:
        prompts = Prompts(self.folder / "app" / "prompts", self.settings.prompts, released=False, own_models=True)
        named = [prompt.model for prompt in prompts.in_use() if prompt.model]
        return list(model_warnings(self.settings, datetime.now(UTC).date(), named))

    def _stands_on(self, steps: Iterable[Step]) -> Iterable[Step]:
        return map(left_to_terraform, steps) if self.terraform else steps

    def _infrastructure(self) -> Iterable[Step]:
        index, dimensions, cloud = self.settings.index, self.settings.embedding.length, self.settings.cloud
        yield from for_project(self.place)
        yield from for_service(self.place, self.service, _only(os.environ, *self.service.secrets))
        for name, wanted in self._indexed():
            yield database(self.place, name)
            if name == self.settings.database and (cloud.point_in_time or cloud.backup_days):
                yield backups(self.place, name, cloud)
            yield indexes(self.place, name, wanted)
        yield from vectors(self.place, index, dimensions)
        yield from begin(self.place, self.own) if self.own else []
        if self.service.work:
            yield from for_work(self.place, self.service, self.service.work)
        yield from self._calling()
        if cloud.monthly_alert:  # late, because its API may just have been turned on
            yield spending_alert(self.place, cloud)

    def _calling(self) -> Iterable[Step]:
        """Return the steps that an app's functions need besides the app, and those for all callers."""
        if self.functions:
            service = self.functions.service
            keys = _only(os.environ, *service.secrets)
            yield from secrets_of(self.place, service, keys, but=self.service.secrets.values())
        for calls in self.calls:
            for schedule in calls.schedules:
                yield scheduled(self.place, schedule, calls.account)
        if self.service.work:
            url, account = self.service.work.sweep.url, self.service.work.account
            yield dropped_schedules(self.place, url, [each for calls in self.calls for each in calls.schedules])
            yield from for_uploads(self.place, self._uploads(), account)
            if "uploads" in features(self.settings, self.declared):
                yield dropped_subscriptions(self.place, url, self._uploads())

    def _uploads(self) -> list[UploadSubscription]:
        return [each for calls in self.calls for each in calls.uploads]

    def _watching(self) -> list[Step]:
        """Return the steps that need the services to exist; a deploy with Terraform takes them too."""
        alerts = alert_steps(self.place, self.settings)
        if "events" not in features(self.settings, self.declared):
            return alerts
        wanted = [(watch, calls.account) for calls in self.calls for watch in calls.documents]
        made = [trigger(self.place, watch, account) for watch, account in wanted]
        name, kept = self.service.name, [watch for watch, _ in wanted]
        return [*made, dropped_triggers(self.place, name, self.settings.database, kept), *alerts]

    def _contents(self) -> Iterable[Step]:
        yield from sign_in(self.place, self.settings, GoogleClient.of(os.environ))
        yield web_app(self.place, self.settings.app.id)
        if self.settings.cloud.site:
            yield site(self.place, self.settings.cloud.site)
        text = composed_rules(self.root / "apps", self.root / "firestore.rules", self.folder).text
        here = {self.settings.app.id, *(path.parent.name for path in (self.root / "apps").glob("*/firelaunch.toml"))}
        for name in databases(self.settings):
            yield rules(self.place, name, text, self.drop, here)
        own = bucket(self.settings, self.place)
        yield files(self.place, own)
        yield file_rules(self.place, own, read_text_file(self.root / "storage.rules"))
        for uploads in self._uploads()[:1]:  # of one bucket
            yield notification(self.place, uploads)
        joining = self.settings.membership
        policy = Policy(joining.join, joining.domains, self.settings.identity.tenant or None, joining.roles)
        fields = {"name": self.settings.app.name, **policy.data()}
        yield known_schema(self.place, self.settings.database, self.settings.app.id)
        yield publish(self.place, self.settings.database, self.settings.app.id, fields)

    def _stage_app(self) -> Staged:
        return stage_app(self.root, self.folder, self._out(self.service.name))

    def _stage_functions(self) -> Staged:
        return stage_functions(self.root, self._out(f"{OF_FUNCTIONS}{self.settings.app.id}"), self.folder)

    def _stage_membership(self) -> Staged:
        return stage_functions(self.root, self._out(FUNCTIONS))

    def _out(self, name: str, *, make: bool = True) -> Path:
        return builds_of(self.root, self.folder, make=make) / "stage" / name

    def _deploy(self, service: Service, stage: Callable[[], Staged], progress: Progress) -> None:
        with progress.step(f"stage {service.name}") as said:
            staged = stage()
            said.append(f"sha256:{staged.digest[:12]}")
        with progress.step(f"deploy {service.name}") as said:
            said.append("\n" + self.release(service).deploy(staged))

    def _perform(self, step: Step, progress: Progress) -> None:
        with progress.step(step.title) as said:
            ended = "done" if perform(step, self.tools, self._agree) else "ok"
            said.append(f"{self.lines.end()}{ended}")

    def _agree(self, question: str) -> bool:
        click.echo(f"\n{question}")
        return self.yes or (sys.stdin.isatty() and click.confirm("Go on?"))

    def _smoke(self, service: Service) -> Callable[[str], str | None]:
        def smoke(url: str) -> str | None:
            # A tag's address is no audience of Cloud Run's; the service's own is.
            token = None if service.public else self.tools.identity_token(self.place.url(service.name))
            if not service.public and token is None:
                return "it is private, and this login can have no identity token: use gcloud auth login"
            if service.refusal:
                return smoke_function(url, service.refusal, token)
            return smoke_app(url, service.name, token)

        return smoke

    def _services(self, dedicated: frozenset[str]) -> list[Service]:
        """All that are deployed."""
        functions = self.functions
        return [self.service, *([functions.service] if functions else []), self._door(dedicated)]

    def _door(self, dedicated: frozenset[str]) -> Service:
        own = self._dedicated()
        apps = {entry.partition("=")[0] for entry in own}
        others = {entry for entry in dedicated if entry.partition("=")[0] not in apps}
        return membership_service(self.place, own | others)

    def _known_dedicated(self) -> frozenset[str]:
        """The apps that another clone has told the membership function are dedicated."""
        live = self.release(membership_service(self.place, frozenset())).live()
        return frozenset(filter(None, live.environ("DEDICATED_APPS").split(","))) if live else frozenset()

    def _dedicated(self) -> frozenset[str]:
        cloud = self.settings.cloud
        found = {dedicated_entry(self.settings.app.id, cloud.database_id)} if cloud.database == "dedicated" else set()
        for app, project, other in _apps(self.root):
            if app != self.settings.app.id and other.get("database") == "dedicated" and project == self.place.project:
                found.add(dedicated_entry(app, other.get("database_id", "")))
        return frozenset(found)

    def _release_lines(self, service: Service) -> list[str]:
        source = self._out(FUNCTIONS if service.function == "membership" else service.name, make=False)
        return self.release(service).plan(source)

    def _costs(self, functions: AppFunctions | None, door: Service) -> list[tuple[str, int]]:
        calls = app_calls(self.settings, self.place, self.declared)
        items = idle_month(self.service, calls.schedules if calls else (), index=index_kind(self.settings))
        if functions:
            own = replace(functions.service, secrets=_but(functions.service.secrets, self.service.secrets))
            items += idle_month(own, functions.calls.schedules)
        return items + idle_month(door) + backup_costs(self.settings.database, self.settings.cloud)


def planned(app: str) -> tuple[Settings, Tools, Callable[[], list[Step]]]:
    """An app's settings, what its deploy acts through, and its steps but the revisions, for who only looks.

    The steps are asked for by a call, which raises Failed where the project cannot be reached.

    Raises:
        ClickException, SettingsError: there is no such app, or it cannot be deployed as it is.
    """
    made = _Deploy.of(app, frozenset(), (), yes=False)
    own = own_variables(read_env(made.folder / ".env").values)
    declared = rehearse(made.folder, made.service, releasing=True, own=own)
    deploy = replace(made, tools=Tools(os.environ, click.echo, patient=False), declared=declared)
    return deploy.settings, deploy.tools, lambda: deploy.checked().looked_at()


def _apps(root: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Each app of the clone: its id, its project and its [cloud] settings, in the environment that is chosen. One that
    cannot be read is left out: its own commands say what is wrong with it."""
    for path in (root / "apps").glob("*/firelaunch.toml"):
        try:
            file = read_settings(path)
            data = overlaid(file, chosen(os.environ))
            yield data["app"]["id"], project_of(file, os.environ), data["cloud"]
        except (KeyError, TypeError, SettingsError):
            continue


def _database_problems(root: Path, settings: Settings) -> Iterator[str]:
    database, app = settings.cloud.database_id, settings.app.id
    if database and any(other == database != app for other, *_ in _apps(root)):
        yield f"firelaunch.toml: cloud.database_id is {database!r}, the id of another app here, and so its database's."


def _only(environ: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: environ[name] for name in names if environ.get(name)}


def _but(these: Mapping[str, str], those: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in these.items() if name not in those}


def _by_account(steps: Iterable[Step], services: Iterable[Service]) -> dict[str, list[Grant]]:
    """Return the roles that a deploy gives, by account; with that of everybody to call public services."""
    found: dict[str, list[Grant]] = {}
    opened = (Grant("allUsers", INVOKER, f"service {service.name}") for service in services if service.public)
    for grant in (*(grant for step in steps for grant in step.grants), *opened):
        found.setdefault(grant.account, []).append(grant)
    return found
