"""Steps and revisions: the real gcloud against the server that plays Google's APIs. ``make test-deploy`` has more."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.settings.app import IndexSettings
from firelaunch_cli.deploy.build_folder import Staged
from firelaunch_cli.deploy.data import database, indexes, publish, vectors, wanted_indexes
from firelaunch_cli.deploy.files import files
from firelaunch_cli.deploy.gcloud import Command, CommandFailed, Tools
from firelaunch_cli.deploy.iam import account
from firelaunch_cli.deploy.plan import preflight, secret_versions
from firelaunch_cli.deploy.release import Release, deploy_command, services_command
from firelaunch_cli.deploy.resources import (
    APIS,
    BUILDER,
    BUILDER_ROLE,
    FEATURE_APIS,
    REPOSITORY,
    SECRET_READER,
    Place,
    Service,
)
from firelaunch_cli.deploy.rules import file_rules, rules
from firelaunch_cli.deploy.smoke import smoke_app
from firelaunch_cli.deploy.steps import explain, perform
from firelaunch_cli.rules.compose import compose
from firelaunch_cli.rules.fragment import Fragment
from support import ROOT

from .world import gcloud_is_there

pytestmark = pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")

PLACE = Place("demo-project", "europe-west1", "1234")
SERVICE = Service("demo", "fl-app-demo", (), {"MODE": "a,b"}, {"OPENAI_API_KEY": "demo-key"}, memory="1Gi")
INDEXES = ROOT / "firestore.indexes.json"
OLD = "rules_version = '2';\nservice cloud.firestore {\n}\n"


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    """A project with what a revision takes: accounts, a secret, a repository."""
    with GoogleCloud() as cloud:
        project, member = cloud.account, PLACE.member(SERVICE.account)
        project.accounts += [PLACE.email(BUILDER), PLACE.email(SERVICE.account)]
        project.apis |= {*APIS, *FEATURE_APIS.values()}
        project.policy["bindings"].append({"role": BUILDER_ROLE, "members": [PLACE.member(BUILDER)]})
        project.repositories.append(f"projects/demo-project/locations/europe-west1/repositories/{REPOSITORY}")
        project.secrets["demo-key"] = ["a-key"]
        bindings = [{"role": SECRET_READER, "members": [member]}]
        project.secret_policies["demo-key"] = {"etag": "BwAAAAAA", "bindings": bindings}
        cloud.firestore.databases["(default)"] = {"name": "projects/demo-project/databases/(default)"}
        yield cloud


@pytest.fixture
def tools(cloud: GoogleCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Tools that reach ``cloud``; so does the smoke test of this process."""
    environ = cloud.environ(tmp_path / "home")
    for name in ("http_proxy", "no_proxy"):
        monkeypatch.setenv(name, environ[name])
    return Tools({**os.environ, **environ}, lambda _: None, pause=lambda _: None, token=TOKEN)


def yes(_: str) -> bool:
    return True


def never(question: str) -> bool:
    raise AssertionError(question)


def test_traffic_moves_to_what_works_stays_where_it_is_otherwise_and_can_be_given_back(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ran = tools._run, list[str]()

    def noted(command: Command) -> tuple[int, str, str]:
        ran.append(str(command))
        return run(command)

    (tmp_path / "staged").mkdir()
    source = tmp_path / "staged"
    (source / "Dockerfile").write_text("FROM scratch\n")

    def smoke(url: str) -> str | None:
        return smoke_app(url, "demo", pause=lambda _: None)

    release = Release(tools, PLACE, SERVICE, smoke)
    assert "serves at" in release.deploy(Staged(source, "one"))
    (first,) = cloud.run.traffic("demo")
    made = cloud.run.services["demo"]["spec"]["template"]
    assert made["spec"]["timeoutSeconds"] == 3600
    assert made["spec"]["containerConcurrency"] == 80
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    variables = {item["name"]: item for item in made["spec"]["containers"][0]["env"]}
    assert variables["MODE"]["value"] == "a,b"
    assert variables["OPENAI_API_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "demo-key", "key": "1"}

    cloud.run.breaking = True
    with pytest.raises(CommandFailed, match=f"answered with 500(.|\n)*Traffic stays on {first}") as failed:
        release.deploy(Staged(source, "two"))
    assert "gcloud run services logs read demo" in failed.value.mend
    assert cloud.run.traffic("demo") == {first: 100}

    cloud.run.breaking = False
    release.deploy(Staged(source, "three"))
    (third,) = cloud.run.traffic("demo")
    assert third != first
    assert cloud.unexpected == []
    shown = [line.split(maxsplit=1) for line in explain(release.way_back())]
    names = {"REVISION_TAGGED_PREVIOUS": first, "REVISION_THAT_SERVES": third}
    planned = [re.sub("|".join(names), lambda at: names[at[0]], text) for word, text in shown if word in {"look", "do"}]
    monkeypatch.setattr(tools, "_run", noted)
    release.rollback()
    assert cloud.run.traffic("demo") == {first: 100}
    assert ran == planned, "what a dry run shows of it"

    cloud.run.leak(first)
    assert "lets somebody in without a token" in str(smoke("http://demo-x.a.run.app"))


def test_who_may_not_make_a_revision_is_told_the_role(cloud: GoogleCloud, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    cloud.denied = {"run.services.create"}
    with pytest.raises(CommandFailed) as failed:
        Release(tools, PLACE, SERVICE, lambda _: None).deploy(Staged(tmp_path, "one"))
    assert "ask for roles/run.admin, and run the same command again" in failed.value.mend


def test_a_service_that_could_not_be_opened_is_opened_by_the_next_run(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    """gcloud makes the revision and only warns; Cloud Run lets nobody in."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")

    def smoke(url: str) -> str | None:
        return smoke_app(url, "demo", pause=lambda _: None)

    cloud.denied = {"run.services.setIamPolicy"}
    with pytest.raises(CommandFailed, match="cannot be opened to its users") as failed:
        Release(tools, PLACE, SERVICE, smoke).deploy(Staged(tmp_path, "one"))
    assert "ask for roles/run.admin" in failed.value.mend
    assert 'cloud.edge = "private"' in failed.value.mend
    cloud.denied = set()
    tools.read(services_command(PLACE), fresh=True)
    assert "serves at" in Release(tools, PLACE, SERVICE, smoke).deploy(Staged(tmp_path, "one"))
    assert cloud.run.public("demo")
    assert len(cloud.build.uploads) == 1
    assert cloud.unexpected == []


@pytest.mark.parametrize(("checks_callers", "opens"), [(False, True), (True, False)])
def test_where_an_organization_forbids_all_users_a_service_is_opened_without_them_or_the_policy_is_named(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path, *, checks_callers: bool, opens: bool
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    cloud.account.own_members_only, cloud.account.checks_callers = True, checks_callers
    release = Release(tools, PLACE, SERVICE, lambda url: smoke_app(url, "demo", pause=lambda _: None))
    if not opens:
        with pytest.raises(CommandFailed, match="permitted customer") as failed:
            release.deploy(Staged(tmp_path, "one"))
        assert "constraints/run.managed.requireInvokerIam" in failed.value.mend
        return
    assert "because Cloud Run checks no caller of it; allUsers was refused" in release.deploy(Staged(tmp_path, "one"))
    assert cloud.run.public("demo")
    tools.read(services_command(PLACE), fresh=True)
    cloud.requests.clear()
    assert "serves at" in release.deploy(Staged(tmp_path, "two")), "it stays open, and allUsers is not tried again"
    assert not [line for line in cloud.requests if line.endswith("setIamPolicy")]


def test_a_new_version_of_a_secret_is_a_new_revision_and_the_old_one_keeps_its_own(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")

    def deploy() -> str:
        fresh = Release(tools, PLACE, SERVICE, lambda _: None)
        tools.read(secret_versions(PLACE, "demo-key"), fresh=True)
        tools.read(services_command(PLACE), fresh=True)
        return fresh.deploy(Staged(tmp_path, "one"))

    deploy()
    (first,) = cloud.run.traffic("demo")
    assert "nothing has changed" in deploy()
    cloud.account.secrets["demo-key"].append("another-key")
    deploy()
    (second,) = cloud.run.traffic("demo")
    assert second != first
    env = cloud.run.services["demo"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [item["valueFrom"]["secretKeyRef"]["key"] for item in env if "valueFrom" in item] == ["2"]
    assert len(cloud.build.uploads) == 1


def test_cloud_run_asks_the_app_whether_it_is_ready_and_whether_it_lives(tmp_path: Path) -> None:
    app = deploy_command(PLACE, SERVICE, tmp_path).argv
    probes = [flag for flag in app if "-probe=" in flag]
    assert [flag.partition(",")[0] for flag in probes] == [
        "--startup-probe=httpGet.path=/ready",
        "--liveness-probe=httpGet.path=/live",
    ]
    function = deploy_command(PLACE, replace(SERVICE, function="membership"), tmp_path).argv
    assert not [flag for flag in function if "-probe=" in flag], "it has no such paths"


def test_more_instances_than_the_regions_quota_has_cpu_for_are_refused_with_the_mend_of_quotas(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    """As where what comes after -- asks for them, which nothing looked at beforehand."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    release = Release(tools, PLACE, SERVICE, lambda _: None, ("--max-instances=1000",))
    with pytest.raises(CommandFailed, match="run deploy demo") as failed:
        release.deploy(Staged(tmp_path, "one"))
    assert "a quota is used up" in failed.value.mend
    assert "demo" not in cloud.run.services


@pytest.mark.long
def test_what_was_built_once_is_deployed_again_without_a_build(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    """The same bytes with other settings; and another service's, of which it needs the code alone."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")

    def release(service: Service) -> Release:
        return Release(tools, PLACE, service, lambda _: None)

    functions = Service(
        "fl-fn-demo", SERVICE.account, (), {"FUNCTION_TARGET": "app_functions"}, function="app_functions"
    )
    release(functions).deploy(Staged(tmp_path, "whole", "code"))
    assert len(cloud.build.uploads) == 1
    more = replace(functions, environ={**functions.environ, "FUNCTIONS": "notify"})
    release(more).deploy(Staged(tmp_path, "whole", "code"))
    door = replace(functions, name="firelaunch-membership", function="membership")
    release(door).deploy(Staged(tmp_path, "code", "code"))
    assert len(cloud.build.uploads) == 1
    images = {
        cloud.run.services[name]["spec"]["template"]["spec"]["containers"][0]["image"]
        for name in ("fl-fn-demo", "firelaunch-membership")
    }
    assert len(images) == 1
    release(door).deploy(Staged(tmp_path, "other", "other"))
    assert len(cloud.build.uploads) == 2


@pytest.mark.long
def test_a_service_that_ran_on_a_base_image_of_cloud_runs_gets_one_of_a_dockerfile(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    """As membership functions did that were deployed by a buildpack; gcloud itself refuses it otherwise."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    release = Release(tools, PLACE, SERVICE, lambda _: None)
    release.deploy(Staged(tmp_path, "one"))
    annotations = cloud.run.services["demo"]["metadata"].setdefault("annotations", {})
    annotations["run.googleapis.com/build-base-image"] = "python311"
    release.live()
    assert "serves at" in release.deploy(Staged(tmp_path, "two"))


def test_a_missing_permission_is_named_and_the_next_run_goes_on(cloud: GoogleCloud, tools: Tools) -> None:
    step = account(PLACE, "fl-app-other", "other")
    cloud.denied = {"iam.serviceAccounts.create"}
    with pytest.raises(CommandFailed, match="denied") as failed:
        perform(step, tools, never)
    assert "ask for roles/iam.serviceAccountAdmin in demo-project" in failed.value.mend
    cloud.denied = set()
    assert perform(step, tools, never) == 1
    assert PLACE.email("fl-app-other") in cloud.account.accounts


def test_a_quota_that_is_used_up_is_told_from_a_missing_permission(cloud: GoogleCloud, tools: Tools) -> None:
    cloud.exhausted = {"datastore.indexes.create"}
    with pytest.raises(CommandFailed, match="429 Quota exceeded") as failed:
        perform(indexes(PLACE, "(default)", wanted_indexes(INDEXES)), tools, never)
    assert "ask for more: https://console.cloud.google.com/iam-admin/quotas" in failed.value.mend
    cloud.exhausted = set()
    assert perform(indexes(PLACE, "(default)", wanted_indexes(INDEXES)), tools, never) > 0


def test_whoever_lacks_permissions_is_told_the_smallest_roles(cloud: GoogleCloud, tools: Tools) -> None:
    (step,) = [step for step in preflight(PLACE, ()) if step.title.startswith("permissions")]
    perform(step, tools, never)
    cloud.account.lacks = {"run.services.create", "cloudtasks.queues.create"}
    with pytest.raises(CommandFailed, match=r"roles/cloudtasks.admin \(for .*roles/run.admin \(for") as failed:
        perform(step, tools, never)
    assert "gcloud projects add-iam-policy-binding demo-project" in failed.value.mend


def test_rules_are_shown_agreed_to_and_put_in_force_under_both_names_that_are_live(
    cloud: GoogleCloud, tools: Tools
) -> None:
    step = rules(PLACE, "(default)", "new\n", frozenset(), ())
    asked: list[str] = []
    assert perform(step, tools, lambda question: not asked.append(question)) == 1
    assert "has no rules yet" in asked[0]
    for name in ("cloud.firestore", "cloud.firestore/(default)"):
        cloud.firestore.release(name, OLD)
    with pytest.raises(CommandFailed, match="nobody agreed"):
        perform(step, tools, lambda question: bool(asked.append(question)))
    assert "-service cloud.firestore {\n" in asked[1]
    assert cloud.firestore.rules_of("(default)") == OLD
    assert perform(step, tools, yes) == 2
    assert {cloud.firestore.text(name) for name in cloud.firestore.releases} == {"new\n"}
    assert perform(step, tools, never) == 0


def test_live_rules_of_an_app_in_another_clone_are_kept_and_others_go_only_if_they_may(
    cloud: GoogleCloud, tools: Tools
) -> None:
    base, boards = (ROOT / "firestore.rules").read_text(), "match /boards/{board} { allow read; }\n"

    def built(*apps: str) -> str:
        return compose(base, [Fragment(app, app, boards) for app in apps]).text

    def deploy(*apps: str, drop: str = "", here: str = "") -> int:
        step = rules(PLACE, "(default)", built(*apps), frozenset(drop.split()), {*apps, *here.split()})
        return perform(step, tools, yes)

    cloud.firestore.release("cloud.firestore", built("books", "notes", "shop"))
    assert deploy("notes") == 0, "a clone with one app, and one with all, put the same in force"
    assert deploy(here="notes", drop="notes shop") == 1
    assert cloud.firestore.rules_of("(default)") == built("books")
    assert deploy("notes", "shop") == 1
    assert cloud.firestore.rules_of("(default)") == built("books", "notes", "shop")
    with pytest.raises(CommandFailed, match="drop the live rules of notes") as failed:
        deploy(here="notes")  # its folder is here, and has no rules any more
    assert "--drop APP" in failed.value.mend
    by_hand = OLD.replace("}", "match /databases/{d}/documents/apps/gone/x/{y} {}\n}")
    cloud.firestore.release("cloud.firestore", by_hand)
    with pytest.raises(CommandFailed, match="drop the live rules of gone"):
        deploy("notes")
    assert deploy("notes", drop="gone") == 1


def test_firebases_bucket_is_made_once_guarded_by_iam_alone_and_gets_its_rules(
    cloud: GoogleCloud, tools: Tools, tmp_path: Path
) -> None:
    bucket = "demo-project.firebasestorage.app"
    assert perform(files(PLACE, bucket), tools, never) == 2
    assert cloud.build.buckets == cloud.build.uniform == {bucket}
    again = Tools({**os.environ, **cloud.environ(tmp_path / "home")}, lambda _: None, token=TOKEN)
    assert perform(files(PLACE, bucket), again, never) == 0
    cloud.build.uniform.clear()
    broken_off = Tools({**os.environ, **cloud.environ(tmp_path / "home")}, lambda _: None, token=TOKEN)
    assert perform(files(PLACE, bucket), broken_off, never) == 1, "it is empty, as where a deploy was broken off"
    assert cloud.build.uniform == {bucket}
    cloud.build.uniform.clear()
    cloud.build.put(f"{bucket}/apps/demo/users/u/x")
    later = Tools({**os.environ, **cloud.environ(tmp_path / "home")}, lambda _: None, token=TOKEN)
    with pytest.raises(CommandFailed, match="has access control lists") as failed:
        perform(files(PLACE, bucket), later, never)
    assert f"gcloud storage buckets update gs://{bucket} --uniform-bucket-level-access" in failed.value.mend
    step = file_rules(PLACE, bucket, "new\n")
    with pytest.raises(CommandFailed, match="nobody agreed"):
        perform(step, tools, lambda _: False)
    assert perform(step, tools, yes) == 1
    assert cloud.firestore.text(f"firebase.storage/{bucket}") == "new\n"
    assert perform(step, tools, never) == 0


def test_every_index_and_ttl_of_the_file_is_made_once_and_others_are_let_be(cloud: GoogleCloud, tools: Tools) -> None:
    wanted = json.loads(INDEXES.read_text())
    step = indexes(PLACE, "(default)", wanted_indexes(INDEXES, vector=768))
    count = len(wanted["indexes"]) + 2 + len(wanted["fieldOverrides"])
    assert perform(step, tools, never) == count
    made = cloud.firestore
    assert len(made.indexes["(default)"]) == len(wanted["indexes"]) + 2
    for item in wanted["fieldOverrides"]:
        field: dict[str, Any] = made.fields[f"(default)/{item['collectionGroup']}/{item['fieldPath']}"]
        assert field["indexConfig"]["indexes"] == item["indexes"]
        assert bool(field.get("ttlConfig")) is bool(item.get("ttl"))
    made.indexes["(default)"].append({**made.indexes["(default)"][0], "name": "a/indexes/own", "queryScope": "OTHER"})
    assert perform(step, tools, never) == 0


def test_every_set_of_documents_and_tags_that_a_search_may_filter_by_has_its_index(
    cloud: GoogleCloud, tools: Tools
) -> None:
    perform(indexes(PLACE, "(default)", wanted_indexes(INDEXES, 768, ("topic", "year"))), tools, never)
    paths = {
        tuple(field["fieldPath"] for field in index["fields"][:-1])
        for index in cloud.firestore.indexes["(default)"]
        if any("vectorConfig" in field for field in index["fields"])
    }
    filters = {frozenset(each) - {"version", "embedding"} for each in paths}
    assert all(each[-2:] == ("version", "embedding") for each in paths), "the vector is the last, as Google wants it"
    assert len(paths) == len(filters) == 8
    assert frozenset({"document", "tags.topic", "tags.year"}) in filters


def test_a_collection_of_vectors_is_made_and_one_of_another_length_is_refused(cloud: GoogleCloud, tools: Tools) -> None:
    index = IndexSettings(backend="vector_search", embedder="openai")
    (step,) = vectors(PLACE, index, 1536)
    assert [perform(step, tools, never) for _ in range(2)] == [1, 0]
    (other,) = vectors(PLACE, index, 768)
    with pytest.raises(CommandFailed, match="has vectors of 1536, and the app's are 768"):
        perform(other, tools, never)
    assert cloud.unexpected == []


def test_an_app_is_published_once(cloud: GoogleCloud, tools: Tools) -> None:
    fields = {"name": "Demo", "join": "domain", "domains": ["example.com"], "tenant": None}
    step = publish(PLACE, "(default)", "demo", fields)
    assert [perform(step, tools, never) for _ in range(2)] == [1, 0]
    assert perform(publish(PLACE, "(default)", "demo", {**fields, "domains": []}), tools, never) == 1
    empty = publish(PLACE, "(default)", "demo", {**fields, "domains": []})
    assert perform(empty, tools, never) == 0, "the API leaves empty lists out, which is no difference"
    assert cloud.firestore.documents["(default)/apps/demo"]["name"] == {"stringValue": "Demo"}


def test_a_database_in_datastore_mode_is_refused(cloud: GoogleCloud, tools: Tools) -> None:
    cloud.firestore.databases["(default)"]["type"] = "DATASTORE_MODE"
    with pytest.raises(CommandFailed, match="Datastore mode"):
        perform(database(PLACE, "(default)"), tools, never)


def test_the_token_is_gclouds_and_who_has_none_is_told_to_log_in(cloud: GoogleCloud, tmp_path: Path) -> None:
    environ = cloud.environ(tmp_path / "home")
    assert Tools({**os.environ, **environ}, print).token() == TOKEN
    del environ["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]
    with pytest.raises(CommandFailed) as failed:
        perform(preflight(PLACE, ())[0], Tools({**os.environ, **environ}, print), never)
    assert failed.value.mend.startswith("gcloud auth login")
