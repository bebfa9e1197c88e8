"""What a deploy would do, seen without doing it."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
import pytest
from click.testing import CliRunner
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings
from firelaunch.store.schema import SCHEMA
from firelaunch_cli.commands import main
from firelaunch_cli.deploy.cost import backup_costs, idle_month
from firelaunch_cli.deploy.data import known_schema
from firelaunch_cli.deploy.events import for_uploads, trigger
from firelaunch_cli.deploy.files import files
from firelaunch_cli.deploy.functions import app_functions, membership_service
from firelaunch_cli.deploy.gcloud import CommandFailed, Tools, refuse_secrets
from firelaunch_cli.deploy.iam import may_act_as, no_more_rights, signs_for_nobody
from firelaunch_cli.deploy.jobs import for_work
from firelaunch_cli.deploy.release import Live, deploy_command, traffic_command
from firelaunch_cli.deploy.resources import (
    AUTH_ADMIN,
    DATASTORE_USER,
    LONGEST_APP_ID,
    OBJECT_USER,
    TAGS,
    Place,
    app_service,
)
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, clean_environ, copy_repo, copy_template, once

from .gcloud_parser import refusals
from .world import gcloud_is_there

PLACE = Place("demo-project", "europe-west1", "1234")
KEY = "sk-" + "proj-Ab1" * 6

VARIANTS = {
    "plain": "",
    "all": """
        s/^database = "shared"/database = "dedicated"\\nmin_instances = 1\\nmemory = "2Gi"/
        s/^provider = "openai"/provider = "vertex"/
        s/^backend = "firestore"/backend = "firestore"\\nembedder = "vertex"\\ndimensions = 768/
        s/^sign_in = .*/sign_in = ["email_link", "google"]\\ncheck_revoked = true\\ntenant = "acme-x1y2z"/
    """,
    "private": """
        s/^database = "shared"/edge = "private"/
        s/^backend = "firestore"/backend = "vector_search"\\nembedder = "openai"/
    """,
    "vertex": """
        s/^backend = "firestore"/backend = "vertex"\\nembedder = "openai"\\nVERTEX/
    """,
    "indexed": """
        s/^backend = "firestore"/backend = "vertex"\\nembedder = "openai"/
    """,
    "sold": """
        s/^daily_usd = "10.00"/daily_usd = "10.00"\\nstripe_price = "price_1"/
        s/^# .billing.$/[billing]/
        s/^# return_url = /return_url = /
        s/^requests_per_minute = 20/requests_per_minute = 20\\ndocuments = 0/
        s/^requests_per_minute = 60/requests_per_minute = 60\\ndocuments = 0/
    """,
}
VERTEX = '[index.vertex]\nindex = "1"\ndomain = "d.example"\nendpoint = "2"\ndeployed = "fl"\n'


def settings(folder: Path, variant: str = "plain", **more: str) -> Settings:
    """An app of the template with a variant's settings."""
    app = copy_template(folder)
    path = app / "firelaunch.toml"
    text = path.read_text()
    for line in VARIANTS[variant].strip().splitlines():
        _, old, new, _ = line.strip().split("/")
        text, count = re.subn(old, new.replace("\\n", "\n"), text, count=1, flags=re.MULTILINE)
        assert count, old
    text = text.replace("VERTEX\n", VERTEX)
    for old, new in more.items():
        text = re.sub(rf'^{old} = "[^"]*"', f'{old} = "{new}"', text, count=1, flags=re.MULTILINE)
    path.write_text(text)
    return Settings.load(path, {})


def dry_run(repo: Path, app: str, *more: str, **environ: str) -> str:
    """What ``firelaunch deploy APP --dry-run`` prints, with no gcloud on the PATH and nobody logged in."""
    given = {"PATH": "/nonexistent", "GOOGLE_CLOUD_PROJECT": "demo-project", "HOME": "/nonexistent"} | environ
    environ = clean_environ(**{name: value for name, value in given.items() if value})
    done = commands.run(repo, ("deploy", app, "--dry-run", *more), environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The dry run of each variant."""

    def make(folder: Path) -> dict[str, str]:
        repo = copy_repo(folder / "repo")
        for variant in VARIANTS:
            settings(repo / "apps" / f"app-{variant}", variant, id=f"app-{variant}")
        return {variant: dry_run(repo, f"app-{variant}") for variant in VARIANTS}

    return once(tmp_path_factory, "plans", make)


def test_a_dry_run_names_models_that_end_soon(tmp_path: Path) -> None:
    repo = copy_repo(tmp_path / "repo")
    settings(repo / "apps" / "old", id="old", chat="gpt-5-mini")
    said = [line for line in dry_run(repo, "old").splitlines() if "warning" in line]
    assert len(said) == 1
    assert "gpt-5-mini" in said[0]
    assert "2026-12-11" in said[0]


@pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")
def test_gcloud_takes_every_command_that_a_plan_prints(plans: dict[str, str], tmp_path: Path) -> None:
    acts = re.compile(r"^    (?:look|do) +(gcloud .*)$", re.MULTILINE)
    lines = {line for plan in plans.values() for line in acts.findall(plan)}
    service = app_service(settings(tmp_path / "app"), PLACE)
    later = deploy_command(
        PLACE, service, tmp_path, {"a": "b"}, "preview", more=("--memory=1Gi", "--vpc-egress=all-traffic")
    )
    same = deploy_command(PLACE, service, tmp_path, {"a": "b", "c": "d"}, image="host/project/image@sha256:0")
    back = traffic_command(PLACE, "my-app", "my-app-00001-abc", "my-app-00002-def")
    assert service.work is not None
    *_, sweep = for_work(PLACE, service, service.work)
    (change,) = sweep.lacks([[{"name": f"x/jobs/{service.work.sweep.name}", "schedule": "* * * * *"}]])
    made = app_functions(settings(tmp_path / "functions"), PLACE)
    assert made is not None
    (uploads,), (watch,), account = made.calls.uploads, made.calls.documents, made.calls.account
    (moved,) = trigger(PLACE, watch, account).lacks([[], [{"name": "x/triggers/fl-removals-my-app"}]])
    *_, subscription = for_uploads(PLACE, [uploads], account)
    (pushed,) = subscription.lacks([[{"name": f"x/subscriptions/{uploads.subscription}"}]])
    texts = [*sorted(lines), *map(str, (later, same, back, change, moved, pushed))]
    commands = [shlex.split(re.split(" <+ ", text)[0])[1:] for text in texts]
    assert len(commands) > 50
    assert refusals(commands, tmp_path) == {}
    assert refusals([["run", "deploy", "x", "--no-such-flag"]], tmp_path), "a flag that is not there is noticed"


def test_a_plan_names_what_each_variant_takes(plans: dict[str, str]) -> None:
    assert "--allow-unauthenticated" in plans["plain"]
    assert 'databases/(default)"' in plans["plain"]
    everything = plans["all"]
    assert "firestore databases create --database=app-all" in everything
    assert 'condition=^;^expression=resource.name=="projects/demo-project/databases/app-all"' in everything
    for wanted in ("aiplatform.googleapis.com", "roles/aiplatform.user", "roles/firebaseauth.viewer", "--min=1"):
        assert wanted in everything
    assert "OPENAI_API_KEY" not in everything.replace("mend", "")
    assert '"vectorConfig": {"dimension": 768' in everything
    assert '"denseVector": {"dimensions": 1536}' in plans["private"]
    assert "index-endpoints describe 2" in plans["vertex"]
    assert "indexes describe 1" in plans["vertex"]
    assert "index-endpoints deploy-index" not in plans["vertex"]
    cost = " ".join(line.strip() for line in page_of(plans["vertex"])["cost"])
    assert "one e2-standard-2 node of the Vertex AI index that it names; $0.094 an hour" in cost


def test_a_plan_makes_the_index_that_an_app_does_not_name_tells_its_services_and_says_what_it_costs(
    plans: dict[str, str],
) -> None:
    plan = plans["indexed"]
    made = next(line for line in plan.splitlines() if "ai indexes create" in line)
    assert '"dimensions": 1536' in made
    assert "--index-update-method=stream-update" in made
    assert "--deployed-index-id=fl_app_indexed" in plan
    deployed = [line for line in plan.splitlines() if "FIRELAUNCH_VERTEX_INDEX" in line]
    assert [re.findall(r"run deploy ([\w-]+)", line) for line in deployed] == [["app-indexed"], ["fl-fn-app-indexed"]]
    cost = " ".join(line.strip() for line in page_of(plan)["cost"])
    assert "$    68.62  app-indexed: one e2-standard-2 node of its Vertex AI index; $0.094 an hour" in cost
    assert not [name for name, other in plans.items() if name != "indexed" and "FIRELAUNCH_VERTEX_INDEX" in other]


def page_of(plan: str) -> dict[str, list[str]]:
    """The summary's lines by topic, its heading among them as "", each without the column of topics."""
    before, after = plan.split("\n\nservices  ", 1)
    found, topic = {"": before.rpartition("\n\n")[2].splitlines()}, ""
    for line in ("services  " + after.partition("\n\n")[0]).splitlines():
        topic = line[:10].strip() or topic
        found.setdefault(topic, []).append(line[10:])
    return found


def test_a_plan_begins_with_what_a_person_can_take_in(plans: dict[str, str]) -> None:
    """Its counts are those of the lines below, and its sum is that of its items."""
    for variant, plan in plans.items():
        page = page_of(plan)
        heading = " ".join(line.strip() for line in page[""])
        assert heading.startswith(f"app-{variant} in demo-project, europe-west1. Nothing is done now.")
        names = {name for line in page["services"] for name in re.findall(r"^([a-z][\w-]+)", line)}
        functions = set() if variant == "private" else {f"fl-fn-app-{variant}"}
        assert names == {f"app-{variant}", *functions, "firelaunch-membership"}
        looks, acts = (len(re.findall(rf"^    {word} ", plan, re.MULTILINE)) for word in ("look", "do  "))
        assert f"{len(names)} services. {looks} commands look. " in heading
        assert f"{acts} commands act" in heading
        assert any("stripe_webhook" in line for line in page["services"]) is (variant == "sold")
        *items, total = (float(found) for found in re.findall(r"\$ *(\d+\.\d\d)  ", "\n".join(page["cost"])))
        assert sum(items) == pytest.approx(total, abs=0.01 * len(items))


def test_a_plan_says_all_that_matters_in_under_60_lines_of_80_columns_before_its_commands(
    plans: dict[str, str], tmp_path: Path
) -> None:
    repo = copy_repo(tmp_path / "repo")
    long = "a" * LONGEST_APP_ID
    app = copy_template(repo / "apps" / long) / "firelaunch.toml"
    more = 'database = "dedicated"\npoint_in_time = false\nbackup_days = 0\nmonthly_alert = 0'
    text = app.read_text().replace('id = "my-app"', f'id = "{long}"').replace('database = "shared"', more)
    app.write_text(text.replace('backend = "firestore"', 'backend = "pgvector"\nembedder = "none"'))
    bare = dry_run(repo, long, GOOGLE_CLOUD_PROJECT="p" * 30)
    nowhere = dry_run(repo, long, GOOGLE_CLOUD_PROJECT="")
    assert nowhere.startswith("No project yet: set cloud.project")
    for plan in (*plans.values(), bare, nowhere):
        lines = re.split(r"\n(?=.*\n    (?:look|do  |mend)  )", plan, maxsplit=1)[0].splitlines()
        assert len(lines) < 60
        assert max(map(len, lines)) <= 80
        assert list(page_of(plan)) == [
            *(
                "",
                "services",
                "accounts",
                "location",
                "web",
                "index",
                "sign-in",
                "lock",
                "backups",
                "alert",
                "budget",
                "cost",
            )
        ]
    said = {topic: " ".join(map(str.strip, lines)) for topic, lines in page_of(bare).items()}
    assert "none by this deploy" in said["backups"]
    assert "none by this deploy" in said["alert"]
    assert "budget.monthly_usd" in said["budget"]
    assert "in your PostgreSQL" in said["index"]
    assert said["web"] == "no web client: cloud.site names no site of Firebase Hosting"
    assert "daily backups" not in said["cost"]


def roles_of(page: dict[str, list[str]]) -> set[tuple[str, str]]:
    """Each account and role of the summary."""
    accounts = re.sub(r"\n  +", " ", "\n".join(page["accounts"])).splitlines()
    found = [line.partition(": ") for line in accounts]
    return {(account, f"roles/{role.split()[0]}") for account, _, roles in found for role in roles.split("; ")}


def test_a_plan_names_each_account_with_its_roles_on_its_first_page_and_above_each_command_that_gives_one(
    plans: dict[str, str],
) -> None:
    for plan in plans.values():
        given, title = {("allUsers", "roles/run.invoker")}, ""
        for line in plan.splitlines():
            title = title if line.startswith(" ") else line
            if line.startswith("    do ") and "add-iam-policy-binding" in line:
                account, role = re.findall(r"--member=serviceAccount:(\S+) --role=(\S+)", line)[0]
                short = account.removesuffix(".iam.gserviceaccount.com").removesuffix("@demo-project")
                assert short in title
                assert role in title
                given.add((short, role))
        assert len(given) > 5
        assert roles_of(page_of(plan)) == given
    accounts = " ".join(map(str.strip, page_of(plans["all"])["accounts"]))
    assert "fl-app-app-all: datastore.user on database app-all; " in accounts
    assert "firelaunch-membership: firebaseauth.admin in the project; datastore.user in the project" in accounts
    assert "allUsers: run.invoker on 3 services" in accounts
    assert "secretmanager.secretAccessor on 3 secrets" in " ".join(map(str.strip, page_of(plans["sold"])["accounts"]))
    private = " ".join(map(str.strip, page_of(plans["private"])["accounts"]))
    assert "secretmanager.secretAccessor on secret app-private-openai-api-key" in private
    assert "allUsers: run.invoker on service firelaunch-membership" in private


def commands_of(plan: str) -> list[tuple[str, str]]:
    """Each command of a dry run, and whether it looks or acts."""
    return re.findall(r"^    (look|do) +(\S.*)$", plan, re.MULTILINE)


@pytest.mark.parametrize("action", ["rollback", "preview"])
def test_the_dry_run_of_a_rollback_or_a_preview_shows_what_that_does_and_nothing_of_a_deploy(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = copy_repo(tmp_path / "repo")
    app = copy_template(repo / "apps" / "demo") / "firelaunch.toml"
    app.write_text(app.read_text().replace('id = "my-app"', 'id = "demo"'))
    app.write_text(app.read_text() + '\n[env.staging.cloud]\nproject = "demo-staging"\n')
    words = ("--env", "staging", f"--{action}")
    said = dry_run(repo, "demo", *words)
    heading, *_ = said.partition("\n\n")
    assert " ".join(heading.split()).startswith(
        f"demo in demo-staging, europe-west1, environment staging. Nothing is done now. A {action} "
    )
    assert max(map(len, heading.splitlines())) <= 80
    look, project = "gcloud run services list --region=europe-west1", "--project=demo-staging"
    commands = commands_of(said)
    assert all(project in command for _, command in commands)
    begins = [(kind, " ".join(command.split()[:4])) for kind, command in commands]
    if action == "rollback":
        assert begins == [
            ("look", "gcloud projects describe demo-staging"),
            ("look", "gcloud run services list"),
            ("do", "gcloud run services update-traffic"),
        ]
        moved = commands[-1][1]
        assert "--to-revisions=REVISION_TAGGED_PREVIOUS=100 --update-tags=previous=REVISION_THAT_SERVES" in moved
    else:
        assert begins == [
            ("look", "gcloud projects describe demo-staging"),
            ("look", "gcloud run services list"),
            ("look", "gcloud secrets versions list"),
            ("do", "gcloud run deploy demo"),
        ]
        assert "--tag=preview --no-traffic" in commands[-1][1]
    assert look in said
    facts = json.loads(dry_run(repo, "demo", *words, "--json"))
    assert (facts["action"], facts["services"]) == (action, ["demo"])
    assert (facts["environment"], facts["project"]) == ("staging", "demo-staging")
    of_facts = [("look", each) for step in facts["steps"] for each in step.get("look", [])]
    of_facts += [("do", each) for step in facts["steps"] for each in step.get("do", [])]
    assert sorted(of_facts) == sorted(commands)


def test_a_plans_summary_says_where_data_is_and_how_it_is_protected(plans: dict[str, str]) -> None:
    said = {topic: " ".join(map(str.strip, lines)) for topic, lines in page_of(plans["plain"]).items()}
    assert said["index"].startswith("firestore: vectors in Firestore's database (default), europe-west1; 1536 dim")
    assert said["location"].startswith("europe-west1, for Cloud Run, jobs, files and Firestore.")
    assert "prompts.lock: chat@1, released by the first deploy" in said["lock"]
    assert re.search(r"requirements\.lock: \d+ packages, each pinned", said["lock"])
    assert "every minute of the last 7 days, and a backup every day, kept for 7 days" in said["backups"]
    assert "50%, 80% and 100% of 50 a month, in the currency of your billing account" in said["alert"]
    assert "7 daily backups, for 1 GiB of data" in said["cost"]
    own = {topic: " ".join(map(str.strip, lines)) for topic, lines in page_of(plans["all"]).items()}
    assert "Models of vertex answer at global" in own["location"]
    assert "database app-all: every minute" in own["backups"]
    assert "an index of its own" in " ".join(page_of(plans["indexed"])["index"])


def test_prompts_that_are_released_already_are_told_from_those_that_a_deploy_releases(tmp_path: Path) -> None:
    repo = copy_repo(tmp_path / "repo")
    settings(repo / "apps" / "old", id="old")
    assert commands.firelaunch(repo, "lock-prompts", "old").returncode == 0
    assert "chat@1, released and not changed any more" in " ".join(page_of(dry_run(repo, "old"))["lock"])


def test_who_sells_plans_is_told_where_the_webhooks_secret_comes_from(plans: dict[str, str]) -> None:
    told = "Stripe shows it when https://fl-fn-app-sold-PROJECT_NUMBER.europe-west1.run.app/stripe_webhook is added"
    assert [variant for variant in VARIANTS if told in plans[variant]] == ["sold"]


def test_an_app_that_uses_a_restored_database_is_deployed_to_it_and_no_other_apps_database_is_taken_for_one(
    tmp_path: Path,
) -> None:
    repo = copy_repo(tmp_path / "repo")
    text = 'database = "dedicated"\ndatabase_id = "notes-back"'
    for app, cloud in ("notes", text), ("walled", 'database = "dedicated"'):
        path = copy_template(repo / "apps" / app) / "firelaunch.toml"
        moved = path.read_text().replace('id = "my-app"', f'id = "{app}"').replace('database = "shared"', cloud)
        path.write_text(moved.replace('project = ""', 'project = "demo-project"'))
    plan = dry_run(repo, "notes")
    condition = 'resource.name=="projects/demo-project/databases/notes-back"'
    assert f"--member=serviceAccount:fl-app-notes@demo-project.iam.gserviceaccount.com --role={DATASTORE_USER}" in plan
    assert condition in plan
    assert 'databases/notes"' not in plan
    assert "gcloud firestore databases update --database=notes-back --enable-pitr" in plan
    assert "DEDICATED_APPS=notes=notes-back,walled" in plan
    assert "database=notes-back" in next(line for line in plan.splitlines() if "eventarc triggers create" in line)
    (repo / "apps" / "walled" / "firelaunch.toml").write_text(moved.replace('"walled"', '"notes-back"'))
    done = commands.firelaunch(repo, "deploy", "notes", "--dry-run")
    assert done.returncode == 2
    assert "the id of another app here" in done.stderr


def test_a_private_service_is_not_opened_and_has_no_jobs(plans: dict[str, str]) -> None:
    deploy = next(line for line in plans["private"].splitlines() if "run deploy app-private" in line)
    assert "--no-allow-unauthenticated" in deploy
    assert "tasks queues create" not in plans["private"]
    assert "FIRELAUNCH_JOBS" not in deploy


def test_each_plan_sets_sign_in_up_where_its_users_are(plans: dict[str, str]) -> None:
    for variant, plan in plans.items():
        assert "identityPlatform:initializeAuth" in plan
        assert f'{{"displayName": "app-{variant}"}}' in plan
        assert ("/tenants/acme-x1y2z?updateMask=" in plan) is (variant == "all")
        assert ("config?updateMask=signIn." in plan) is (variant != "all"), (
            "a tenant's app leaves the project's as it is"
        )


def test_an_app_has_the_functions_that_its_settings_want_and_no_others(tmp_path: Path, plans: dict[str, str]) -> None:
    always = {"rollup_usage", "expire_reservations", "erase_user", "notify"}
    documents = {"ingest_upload", "on_document_written"}
    billing = {"stripe_webhook", "reconcile_billing"}
    served = {}
    for variant in VARIANTS:
        found = app_functions(settings(tmp_path / variant, variant), PLACE)
        served[variant] = set(found.service.environ["FUNCTIONS"].split(",")) if found else None
        scheduled = {each.name for each in found.calls.schedules} if found else set()
        assert ("my-app-reconcile-billing" in scheduled) is (variant == "sold")
    assert served == {
        "plain": always | documents,
        "all": always | documents,
        "private": None,
        "vertex": always | documents,
        "indexed": always | documents,
        "sold": always | billing,
    }
    for api in ("pubsub.googleapis.com", "eventarc.googleapis.com", "roles/eventarc.eventReceiver"):
        assert [variant for variant in VARIANTS if api in plans[variant]] == ["plain", "all", "vertex", "indexed"]
    assert "fl-fn-" not in plans["private"]


def test_functions_run_as_their_app_are_told_who_may_call_and_get_no_key_of_a_model(tmp_path: Path) -> None:
    base = settings(tmp_path / "app", "sold")
    pgvector = base.model_copy(update={"index": base.index.model_copy(update={"backend": "pgvector"})})
    found, app = app_functions(pgvector, PLACE), app_service(pgvector, PLACE)
    assert found is not None
    assert app.work is not None
    assert (found.service.account, found.calls.account) == (app.account, app.work.account)
    environ = found.service.environ
    assert environ["INVOKER"] == PLACE.email("fl-job-my-app")
    assert environ["INVOKER_AUDIENCE"] == "https://fl-fn-my-app-1234.europe-west1.run.app"
    assert (environ["APPS"], environ["BILLING_APPS"], environ["DEDICATED_APPS"]) == ("apps/my-app", "my-app", "")
    assert found.service.secrets == {
        "DATABASE_URL": "my-app-database-url",
        "STRIPE_API_KEY": "my-app-stripe-api-key",
        "STRIPE_WEBHOOK_SECRET": "my-app-stripe-webhook-secret",
    }
    assert "STRIPE_WEBHOOK_SECRET" not in app.secrets


def test_no_service_and_its_tag_are_longer_than_an_address_takes(tmp_path: Path) -> None:
    """46 characters together (https://cloud.google.com/run/docs/rollouts-rollbacks-traffic-migration#tags)."""
    found = app_functions(settings(tmp_path / "app", id="a" * LONGEST_APP_ID), PLACE)
    assert found is not None
    assert max(map(len, TAGS)) + len(found.service.name) == 46
    for length in (LONGEST_APP_ID + 1, 38, 49):
        with pytest.raises(SettingsError, match=f"{length} characters: .* leave room for 31; rename it"):
            app_service(settings(tmp_path / str(length), id="a" * length), PLACE)


def test_every_name_that_is_made_of_the_longest_id_is_one_that_google_takes(tmp_path: Path) -> None:
    """Limits: https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services (49), IAM accounts (30),
    https://cloud.google.com/secret-manager/docs/reference/rest (255), Eventarc triggers and databases (63)."""
    app = "a" * LONGEST_APP_ID
    found = settings(tmp_path / "app", id=app)
    service, functions = app_service(found, PLACE), app_functions(found, PLACE)
    assert functions is not None
    (watch,) = functions.calls.documents
    assert service.work is not None
    assert max(len(name) for name in (service.name, functions.service.name)) <= 49
    assert max(len(name) for name in (service.account, service.work.account, functions.calls.account)) <= 30
    assert max(len(name) for name in (*service.secrets.values(), *functions.service.secrets.values())) <= 255
    assert len(watch.trigger) <= 63
    assert len(service.work.queue) <= 100


def test_every_step_that_can_fail_has_its_mend(plans: dict[str, str]) -> None:
    for plan in plans.values():
        lines = plan.partition("\n\nservices  ")[2].partition("\n\n")[2]
        steps = re.split(r"\n(?=\S)", lines.partition("\na revision of ")[0])
        assert len(steps) > 15
        assert [step for step in steps if "look" in step and "    mend  " not in step] == []


def test_a_plan_without_a_project_says_how_to_name_one(tmp_path: Path) -> None:
    repo = copy_repo(tmp_path / "repo")
    copy_template(repo / "apps" / "my-app")
    for flags, code in (["--dry-run"], 0), ([], 1):
        done = commands.firelaunch(repo, "deploy", "my-app", *flags)
        assert done.returncode == code
        assert "set cloud.project in firelaunch.toml, or GOOGLE_CLOUD_PROJECT" in done.stdout + done.stderr


def test_an_index_that_has_no_vectors_is_refused_before_anything_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app would not start; and Google would make no index of no dimensions."""
    repo = copy_repo(tmp_path / "repo")
    path = copy_template(repo / "apps" / "my-app") / "firelaunch.toml"
    path.write_text(path.read_text().replace('backend = "firestore"', 'backend = "vertex"\nembedder = "none"'))
    monkeypatch.chdir(repo)
    done = CliRunner().invoke(main, ["deploy", "my-app", "--dry-run"])
    assert done.exit_code == 2, "as with every error of the settings"
    assert "index.embedder is 'none'" in done.output
    assert "[index.vertex]" not in done.output


def test_a_key_after_the_dashes_is_refused_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = copy_repo(tmp_path / "repo")
    copy_template(repo / "apps" / "my-app")
    monkeypatch.chdir(repo)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-project")
    done = CliRunner().invoke(main, ["deploy", "my-app", "--dry-run", "--", f"--update-env-vars=OPENAI_API_KEY={KEY}"])
    assert done.exit_code == 1
    assert "looks like an API key" in done.output
    assert "--update-secrets" in done.output
    assert KEY not in done.output


@pytest.mark.parametrize(
    ("args", "refused"),
    [
        (("--update-env-vars=DB_PASSWORD=hunter2",), True),
        (("--set-env-vars", "A=1,STRIPE_API_KEY=x"), True),
        (("--update-env-vars=^;^A=1;github_token=x",), True),
        (("--update-env-vars=DATABASE_URL=x",), True),
        (("--update-env-vars=OTHER=postgresql://me:hunter22@db.example.com/x",), True),
        (("--update-env-vars=OTHER=" + "AKIA" + "ABCDEFGHIJKLMNOP",), True),
        (("--update-env-vars=MAX_TOKENS=5,TOKEN_URL=x,PASSWORD=",), False),
        (("--update-secrets=DB_PASSWORD=db-password:latest",), False),
        (("--update-env-vars=A=1", "--labels=token=x"), False),
        (("--update-env-vars=OTHER=https://example.com:8080/a@b",), False),
    ],
)
def test_keys_after_the_dashes_are_known_by_their_form_and_by_their_variables_name(
    args: tuple[str, ...], refused: bool
) -> None:
    if not refused:
        refuse_secrets(args)
        return
    with pytest.raises(CommandFailed, match="looks like") as failed:
        refuse_secrets(args)
    assert "--update-secrets" in failed.value.mend
    assert "hunter2" not in str(failed.value)


def test_a_dry_run_as_json_has_each_step_and_service_of_the_one_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = copy_repo(tmp_path / "repo")
    copy_template(repo / "apps" / "my-app")
    monkeypatch.chdir(repo)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "demo-project")
    text = CliRunner().invoke(main, ["deploy", "my-app", "--dry-run"]).stdout
    found = json.loads(CliRunner().invoke(main, ["deploy", "my-app", "--dry-run", "--json"]).stdout)
    assert (found["app"], found["project"], found["action"]) == ("my-app", "demo-project", "deploy")
    own = found["accounts"]["fl-app-my-app"]
    assert {"role": DATASTORE_USER, "on": "database (default)"} in own
    assert {"role": DATASTORE_USER, "on": None} in found["accounts"]["firelaunch-membership"]
    assert f"and {len(found['services'])} services" in " ".join(text.split())
    lines = {line.strip() for line in text.splitlines()}
    for step in found["steps"]:
        assert step["title"] in lines
        for word in ("look", "do", "mend"):
            assert all(f"{word:<4}  {said.splitlines()[0]}" in lines for said in step.get(word, []))
    assert sum(len(step.get("do", [])) for step in found["steps"]) > 50
    assert CliRunner().invoke(main, ["deploy", "my-app", "--json"]).exit_code == 2


def test_a_key_in_the_environment_is_in_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = copy_repo(tmp_path / "repo")
    copy_template(repo / "apps" / "my-app")
    monkeypatch.chdir(repo)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    done = CliRunner().invoke(main, ["deploy", "my-app", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert KEY not in done.output


APP_MEMBER = PLACE.member("fl-app-my-app")


def files_of(app: str) -> str:
    """The condition on an app's part of the bucket."""
    return PLACE.below("demo-project.firebasestorage.app", f"apps/{app}")


@pytest.mark.parametrize(
    ("binding", "refused"),
    [
        ({"role": "roles/owner", "members": [APP_MEMBER]}, True),
        ({"role": DATASTORE_USER, "members": [APP_MEMBER]}, True),
        ({"role": DATASTORE_USER, "members": [APP_MEMBER], "condition": {"expression": PLACE.only("other")}}, True),
        (
            {"role": DATASTORE_USER, "members": [APP_MEMBER], "condition": {"expression": PLACE.only("(default)")}},
            False,
        ),
        ({"role": "roles/secretmanager.secretAccessor", "members": [APP_MEMBER]}, True),
        ({"role": "roles/storage.objectViewer", "members": [APP_MEMBER]}, True),
        ({"role": OBJECT_USER, "members": [APP_MEMBER]}, True),
        ({"role": OBJECT_USER, "members": [APP_MEMBER], "condition": {"expression": files_of("other")}}, True),
        ({"role": OBJECT_USER, "members": [APP_MEMBER], "condition": {"expression": files_of("my-app")}}, False),
        ({"role": AUTH_ADMIN, "members": [PLACE.member("fl-app-other")]}, True),
        ({"role": AUTH_ADMIN, "members": [PLACE.member("firelaunch-membership")]}, False),
        ({"role": "roles/owner", "members": ["user:me@example.com"]}, False),
        ({"role": "roles/logging.logWriter", "members": [APP_MEMBER]}, False),
        ({"role": "roles/editor", "members": [PLACE.member("fl-job-my-app")]}, True),
        (
            {
                "role": DATASTORE_USER,
                "members": [PLACE.member("fl-job-my-app")],
                "condition": {"expression": PLACE.only("(default)")},
            },
            True,
        ),
        ({"role": "roles/eventarc.eventReceiver", "members": [PLACE.member("fl-job-my-app")]}, False),
    ],
)
def test_an_account_that_reaches_more_than_its_own_is_refused(
    binding: dict[str, Any], refused: bool, tmp_path: Path
) -> None:
    service = app_service(settings(tmp_path / "app"), PLACE)
    assert bool(no_more_rights(PLACE, service).refuses([{"bindings": [binding]}])) is refused


def test_data_of_a_newer_firelaunch_is_left_alone_by_an_older_one() -> None:
    step = known_schema(PLACE, "(default)", "my-app")
    assert step.looks[0].url.endswith("/databases/(default)/documents/apps/my-app/schema/version")  # type: ignore[union-attr]

    def stored(version: int) -> dict[str, Any]:
        return {"fields": {"version": {"integerValue": str(version)}}}

    assert [step.refuses([document]) for document in (None, {}, stored(SCHEMA))] == [None] * 3
    assert f"schema {SCHEMA + 1}" in str(step.refuses([stored(SCHEMA + 1)]))


@pytest.mark.parametrize("signer", ["fl-app-my-app", "fl-job-my-app"])
def test_an_account_that_may_sign_as_an_account_of_the_project_is_refused(signer: str, tmp_path: Path) -> None:
    """It could make custom tokens, and with them sign in as anybody."""
    service = app_service(settings(tmp_path / "app"), PLACE)
    creator = {"role": "roles/iam.serviceAccountTokenCreator", "members": [PLACE.member(signer)]}
    founder = {**creator, "members": ["user:me@example.com"]}
    for step in (signs_for_nobody(PLACE, service), may_act_as(PLACE, "fl-job-my-app", service)):
        assert "sign in as anybody" in str(step.refuses([{"bindings": [founder, creator]}]))
        assert [step.refuses([policy]) for policy in (None, {}, {"bindings": [founder]})] == [None] * 3


@pytest.mark.parametrize(
    ("there", "bucket", "said"),
    [
        ([], "demo-project.firebasestorage.app", None),
        ([{"name": "mine", "uniform_bucket_level_access": True}], "mine", None),
        ([{"name": "mine", "uniform_bucket_level_access": False}], "mine", "access control lists"),
        ([{"name": "others", "uniform_bucket_level_access": True}], "mine", "not in demo-project"),
    ],
)
def test_a_bucket_is_refused_where_its_objects_are_open_past_iam_or_where_it_is_not_the_projects(
    there: list[dict[str, Any]], bucket: str, said: str | None
) -> None:
    step = files(PLACE, bucket)
    problem = step.refuses([there, None])
    assert problem is None if said is None else said in (problem or "")
    assert bool(list(step.lacks([there, None]))) is (there == [])


def test_only_the_membership_function_may_change_users(tmp_path: Path) -> None:
    for variant in VARIANTS:
        service = app_service(settings(tmp_path / variant, variant), PLACE)
        assert not any(role.name == AUTH_ADMIN for role in service.roles)
        for role in service.roles:
            assert role.name != DATASTORE_USER or role.database, "an app's right to Firestore names one database"
    assert any(role.name == AUTH_ADMIN for role in membership_service(PLACE, frozenset()).roles)


@given(st.lists(st.from_regex(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?", fullmatch=True), min_size=2, max_size=8, unique=True))
def test_no_two_apps_share_an_account_and_iam_takes_each(apps: list[str]) -> None:
    base = Settings.load(ROOT / "template" / "{{cookiecutter.app_slug}}" / "firelaunch.toml", {})
    accounts = set()
    for app in apps:
        named = base.model_copy(update={"app": base.app.model_copy(update={"id": app})})
        service = app_service(named, PLACE)
        assert service.work is not None
        accounts |= {service.account, service.work.account}
    assert len(accounts) == 2 * len(apps)
    for account in accounts:
        assert re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", account), account


@pytest.mark.parametrize(
    ("more", "variant"), [({"id": "firelaunch-x"}, "plain"), ({"id": "fl-fn-x"}, "plain"), ({"id": "abc"}, "all")]
)
def test_an_id_that_cannot_be_deployed_is_refused(more: dict[str, str], variant: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"app\.id"):
        app_service(settings(tmp_path / "app", variant, **more), PLACE)


def test_more_requests_at_a_time_than_an_instance_of_cloud_run_takes_are_refused(tmp_path: Path) -> None:
    for asked in (1_000, 1_001):
        found = settings(tmp_path / str(asked))
        found = found.model_copy(update={"cloud": found.cloud.model_copy(update={"concurrency": asked})})
        if asked == 1_000:
            assert app_service(found, PLACE).concurrency == asked
        else:
            with pytest.raises(SettingsError, match=r"cloud\.concurrency is 1001: .* 1000 requests at a time at most"):
                app_service(found, PLACE)


def test_traffic_is_held_back_only_where_something_serves_already(tmp_path: Path) -> None:
    """A service whose first revision never came up is deployed as a new one is: nothing serves that could go on."""
    assert not Live({"spec": {}, "status": {"latestCreatedRevisionName": "x-00001"}}).ever_ready
    assert Live({"spec": {}, "status": {"latestReadyRevisionName": "x-00001"}}).ever_ready
    service = app_service(settings(tmp_path / "app"), PLACE)
    assert "--no-traffic" not in deploy_command(PLACE, service, tmp_path, first=True).argv
    assert "--no-traffic" in deploy_command(PLACE, service, tmp_path).argv


def test_an_app_is_given_the_secrets_that_its_settings_want_and_no_others(tmp_path: Path) -> None:
    base = settings(tmp_path / "app")
    assert set(app_service(base, PLACE).secrets) == {"OPENAI_API_KEY"}
    sold = {name: plan.model_copy(update={"stripe_price": "price_1"}) for name, plan in base.plans.items()}
    index = base.index.model_copy(update={"backend": "pgvector"})
    names = app_service(base.model_copy(update={"plans": sold, "index": index}), PLACE).secrets
    assert names == {
        "OPENAI_API_KEY": "my-app-openai-api-key",
        "DATABASE_URL": "my-app-database-url",
        "STRIPE_API_KEY": "my-app-stripe-api-key",
    }


def test_an_app_that_claude_answers_is_given_anthropics_key_and_its_functions_are_not(tmp_path: Path) -> None:
    base = settings(tmp_path / "app", "sold")
    claude = base.model_copy(update={"models": base.models.model_copy(update={"provider": "claude"})})
    service, functions = app_service(claude, PLACE), app_functions(claude, PLACE)
    assert service.secrets["ANTHROPIC_API_KEY"] == "my-app-anthropic-api-key"
    assert "OPENAI_API_KEY" not in service.secrets
    assert functions is not None
    assert "ANTHROPIC_API_KEY" not in functions.service.secrets
    assert any("roles/aiplatform.user" in str(role) for role in service.roles), "Vertex AI embeds its documents"


def test_the_idle_month_is_what_the_price_pages_say(tmp_path: Path) -> None:
    """730 hours of one vCPU and 2 GiB at $0.0000025 a second each; a secret $0.06, a Scheduler job $0.10."""
    items = dict(idle_month(app_service(settings(tmp_path / "app", "all"), PLACE)))
    assert items["my-app: 1 warm instance of 2Gi"] == 730 * 3600 * 7_500_000 // 1_000_000
    assert items["my-app: Scheduler job my-app-sweep"] == 100_000
    plain = dict(idle_month(app_service(settings(tmp_path / "plain"), PLACE)))
    assert plain["my-app: 0 warm instances of 512Mi"] == 0
    assert plain["my-app: 1 secret"] == 60_000


def test_the_documents_begin_a_months_costs_at_what_a_new_app_costs_that_nobody_uses(tmp_path: Path) -> None:
    base = settings(tmp_path / "app")
    functions = app_functions(base, PLACE)
    assert functions is not None
    items = [
        *idle_month(app_service(base, PLACE)),
        *idle_month(replace(functions.service, secrets={}), functions.calls.schedules),  # the app's keys, counted above
        *idle_month(membership_service(PLACE, frozenset())),
        *backup_costs(base.database, base.cloud),
    ]
    tool = runpy.run_path(str(ROOT / "tools" / "cost_docs.py"))
    assert sum(micro for _, micro in items) == tool["IDLE"]


def test_a_token_is_not_sent_without_tls() -> None:
    environ = {**os.environ, "CLOUDSDK_API_ENDPOINT_OVERRIDES_FIRESTORE": "http://firestore.example/"}
    tools = Tools(environ, print)
    with pytest.raises(CommandFailed, match="not sent without TLS"):
        tools._override("https://firestore.googleapis.com/v1/projects/p/databases")
