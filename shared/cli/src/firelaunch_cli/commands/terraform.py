"""``firelaunch terraform``: what a deploy would make, as variables of the modules in deploy/terraform."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings
from firelaunch.settings.environments import DEFAULT_REGION, chosen

from ..deploy.declarations import Declarations
from ..deploy.rehearsal import rehearse, service_as_planned, settings_for_deploy
from ..deploy.resources import Place
from ..deploy.terraform import variables
from ..deploy.variables import own_variables
from ..deploy.vertex import deployed_index_problems
from ..doctor.env_file import read_env
from .apps import app_around, app_folder, app_folders, env_option, id_of
from .checkout import firelaunch_checkout

__all__ = ["command"]


@click.command("terraform")
@click.argument("apps", nargs=-1, metavar="[APP]...")
@click.option("--project", help="The project; that of the apps, if they name one and the same.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file; deploy/terraform's, if left out."
)
@env_option
def command(apps: tuple[str, ...], project: str | None, out: Path | None) -> None:
    """Write the names, roles and settings of a project and its apps as Terraform's variables.

    They are those of firelaunch deploy, taken from the apps' settings. Run it again after a change of those.

    The repo's apps/ always count. Name each APP that lies elsewhere, all in one call: Terraform removes what its
    variables do not name.
    """
    root, around = firelaunch_checkout(), app_around(Path.cwd())
    elsewhere = [app_folder(name) for name in apps] or ([around] if around else [])
    both = [*app_folders(root / "apps"), *elsewhere]
    folders = {folder: _settings(folder) for folder in dict.fromkeys(each.resolve() for each in both)}
    found = list(folders.values())
    projects = sorted({app.cloud.project for app in found} - {""})
    if project is None and len(projects) != 1:
        said = f"The apps name {', '.join(projects)}" if projects else "No app names a project"
        raise click.ClickException(f"{said}; say which one is meant with --project.")
    project = project or projects[0]
    chosen_apps = [app for app in found if app.cloud.project == project]
    for folder in elsewhere:
        if folders[folder.resolve()] not in chosen_apps:
            raise click.ClickException(
                f"{folder} is no app of {project}: set cloud.project in its firelaunch.toml, or GOOGLE_CLOUD_PROJECT."
            )
    declared = [_declared(folder, app) for folder, app in folders.items() if app in chosen_apps]
    regions = sorted({app.cloud.region for app in chosen_apps}) or [DEFAULT_REGION]
    if len(regions) > 1:
        raise click.ClickException(f"The apps of {project} are in {', '.join(regions)}; give them one cloud.region.")
    name = chosen(os.environ)  # which Terraform does not take by itself: it would move production's state to it
    out = out or root / "deploy" / "terraform" / f"firelaunch.{name or 'auto'}.tfvars.json"
    made = variables(Place(project, regions[0]), declared, root / "firestore.indexes.json")
    out.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    click.echo(f"{out}: {project} with {', '.join(app.app.id for app in chosen_apps) or 'no app yet'}.")
    if name:
        click.echo(
            f"Give {name} a state of its own: terraform -chdir=deploy/terraform workspace select -or-create {name}; "
            f"then terraform -chdir=deploy/terraform apply -var-file={out.resolve()}"
        )


def _settings(folder: Path) -> Settings:
    settings = settings_for_deploy(folder, os.environ)
    problems = list(deployed_index_problems(settings))
    if problems:
        raise SettingsError("\n".join(f"{id_of(folder)}: {each}" for each in problems))
    return settings


def _declared(folder: Path, settings: Settings) -> tuple[Settings, Declarations]:
    own = own_variables(read_env(folder / ".env").values)
    return settings, rehearse(folder, service_as_planned(settings), releasing=True, own=own)
