"""A removal deletes what stands in the manifest and bears the run's mark, and nothing else, whatever else there is."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.errors import SettingsError
from firelaunch_cli.deploy.gcloud import Tools
from firelaunch_cli.verify.manifest import LABEL, Manifest, find_manifest, new_run
from firelaunch_cli.verify.removal import remove
from firelaunch_cli.verify.resources import KINDS, binding_name, bucket_of, rules_mark, unnamed_ruleset, users_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

PROJECT = "demo-project"
RUN, OTHER_RUN = "1a2b3c4d", "99999999"
NEIGHBOURS = ("verify-1a2b3c4d-shop", "verify-1a2b3c4", "my-verify-1a2b3c4d", "shop")
"""Real apps whose ids look like the run's."""

_APIS = (
    *("apikeys", "artifactregistry", "cloudscheduler", "cloudtasks", "eventarc", "firebaserules", "firestore", "iam"),
    *("identitytoolkit", "pubsub", "run", "storage", "cloudresourcemanager"),
)


class World:
    """A project with the resources of a run and those of its neighbours."""

    def __init__(self, folder: Path, cloud: GoogleCloud) -> None:
        self.cloud = cloud
        cloud.account.apis |= {f"{api}.googleapis.com" for api in _APIS}
        led = {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}": f"{cloud.url}/{api}.googleapis.com/" for api in _APIS}
        self.tools = Tools({**os.environ, **led}, lambda _: None, lambda _: None, TOKEN)
        self.manifest = Manifest(folder / f"{RUN}.json", RUN, PROJECT, "europe-west1", "1234")

    def make(self, app: str, run: str | None) -> dict[str, str]:
        """All that a deploy makes for an app, labelled with a run; by kind, one name of each."""
        own = Manifest(Path("-"), app.removeprefix("verify-"), PROJECT, "europe-west1", "1234")
        names = {kind: sorted(KINDS[kind].names(own)) for kind in KINDS if KINDS[kind].names}  # type: ignore[misc]
        names = {kind: [name.replace(own.app, app) for name in found] for kind, found in names.items()}
        labels = {"labels": {LABEL: run}} if run else {"labels": {"firelaunch-digest": "x"}}
        cloud = self.cloud
        cloud.users.claims |= {uid: {} for uid in names["user"]}
        for name in names["api key"]:
            cloud.credentials.keys[name.rpartition("/")[2]] = {"name": name, "annotations": {LABEL: run or ""}}
        cloud.events.triggers |= {name: {"name": name, **labels} for name in names["trigger"]}
        cloud.work.jobs |= {name: {"name": name} for name in names["schedule"]}
        cloud.events.subscriptions |= {name: {"name": name, **labels} for name in names["subscription"]}
        for name in names["topic"]:
            cloud.events.topics[name], cloud.events.policies[name] = {"name": name, **labels}, {}
        for name in names["service"]:
            known = {"cloud.googleapis.com/location": "europe-west1"} | labels["labels"]
            metadata = {"name": name.rpartition("/")[2], "labels": known}
            cloud.run.services[name.rpartition("/")[2]] = {"metadata": metadata}
        cloud.account.packages |= {*names["image"]}
        for name in names["source"]:
            bucket, prefix = name.split("/", 1)
            cloud.build.buckets.add(bucket)
            cloud.build.objects_of(bucket)[f"{prefix}1.zip"] = b"source"
        for name in names["queue"]:
            cloud.work.queues[name], cloud.work.policies[name] = {"name": name}, {}
        for name in names["rules"]:
            text = f"service x {{}}\n{rules_mark(own) if run else ''}"
            cloud.firestore.release(name.partition("/releases/")[2], text)
            names["ruleset"] = [cloud.firestore.releases[name.partition("/releases/")[2]]]
        for name in names["bucket"]:
            cloud.build.buckets.add(name)
            cloud.build.labels[name] = labels["labels"]
            cloud.build.objects_of(name)["apps/x/users/u/a"] = b"file"
        for name in names["database"]:
            kept = {"name": name, "deleteProtectionState": "DELETE_PROTECTION_ENABLED"}
            cloud.firestore.databases[name.rpartition("/")[2]] = kept
        emails = [name.rpartition("/")[2] for name in names["account"]]
        cloud.account.accounts += emails
        member = f"serviceAccount:{emails[0]}"
        cloud.account.policy["bindings"].append({"role": "roles/aiplatform.user", "members": [member]})
        names["binding"] = [binding_name("roles/aiplatform.user", member, "")]
        return {kind: found[0] for kind, found in names.items()}

    def state(self) -> dict[str, Any]:
        """All that is there, by a name of each thing."""
        cloud = self.cloud
        kept: dict[str, Any] = {
            "user": cloud.users.claims,
            "api key": {key: item for key, item in cloud.credentials.keys.items() if "deleteTime" not in item},
            "trigger": cloud.events.triggers,
            "schedule": cloud.work.jobs,
            "subscription": cloud.events.subscriptions,
            "topic": cloud.events.topics,
            "service": cloud.run.services,
            "image": dict.fromkeys(sorted(cloud.account.packages)),
            "source": {(k, n): o for k, v in cloud.build.contents.items() if "run-sources" in k for n, o in v.items()},
            "queue": cloud.work.queues,
            "rules": cloud.firestore.releases,
            "ruleset": cloud.firestore.rulesets,
            "bucket": {name: cloud.build.objects_of(name) for name in cloud.build.buckets if "run-sources" not in name},
            "database": cloud.firestore.databases,
            "binding": cloud.account.policy["bindings"],
            "account": dict.fromkeys(cloud.account.accounts),
        }
        copied: dict[str, Any] = copy.deepcopy(kept)
        return copied


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    with GoogleCloud(PROJECT) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, cloud: GoogleCloud) -> World:
    return World(tmp_path, cloud)


def plan_all(manifest: Manifest, names: dict[str, str]) -> None:
    for kind in KINDS:
        every = KINDS[kind].names
        for name in sorted(every(manifest)) if every else [names[kind]]:
            manifest.set_state(manifest.plan(kind, name), "made")


def test_everything_of_a_run_goes_and_apps_of_similar_names_stay_byte_by_byte(world: World) -> None:
    for app in NEIGHBOURS:
        world.make(app, None)
    before = repr(world.state())
    names = world.make(f"verify-{RUN}", RUN)
    plan_all(world.manifest, names)
    assert remove(world.tools, world.manifest, lambda _: None) == []
    assert repr(world.state()) == before
    assert world.manifest.left() == []
    assert world.cloud.unexpected == []


def test_a_second_removal_finds_nothing_to_do(world: World) -> None:
    plan_all(world.manifest, world.make(f"verify-{RUN}", RUN))
    remove(world.tools, world.manifest, lambda _: None)
    for resource in world.manifest.resources:
        resource.state = "planned"
    said: list[str] = []
    assert remove(world.tools, world.manifest, said.append) == []
    assert said == []


def test_what_bears_another_runs_label_is_left_though_the_manifest_names_it(world: World) -> None:
    names = world.make(f"verify-{RUN}", OTHER_RUN)
    labelled = ("service", "topic", "subscription", "trigger", "bucket", "api key")
    for kind in labelled:
        world.manifest.plan(kind, names[kind])
    before = world.state()
    left = remove(world.tools, world.manifest, lambda _: None)
    assert {each.kind for each in left} == {*labelled}
    assert all("does not bear" in each.reason for each in left)
    assert world.state() == before


def test_what_is_not_in_the_manifest_is_left_though_it_bears_the_label(world: World) -> None:
    world.make(f"verify-{RUN}", RUN)
    before = world.state()
    assert remove(world.tools, world.manifest, lambda _: None) == []
    assert world.state() == before


@given(data=st.data())
@settings(
    max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_a_manifest_says_only_the_runs_own_go(data: st.DataObject, tmp_path: Path) -> None:
    """Also one that somebody changed, so that it names what belongs to others."""
    with GoogleCloud(PROJECT) as cloud:
        world = World(tmp_path, cloud)
        others = [world.make(app, data.draw(st.sampled_from([None, OTHER_RUN, RUN]))) for app in NEIGHBOURS[:2]]
        before = world.state()
        own = world.make(f"verify-{RUN}", RUN)
        for kind in KINDS:
            every = KINDS[kind].names
            mine = sorted(every(world.manifest)) if every else [own[kind]]
            theirs = [names[kind] for names in others]
            for name in data.draw(st.lists(st.sampled_from([*mine, *theirs]), unique=True)):
                world.manifest.plan(kind, name)
        left = remove(world.tools, world.manifest, lambda _: None)
        assert not [
            each for each in left if KINDS[each.kind].names and KINDS[each.kind].owns(world.manifest, each.name)
        ]
        after = world.state()
        for kind, kept in before.items():
            if isinstance(kept, dict):
                gone = [key for key, item in kept.items() if after[kind].get(key) != item or key not in after[kind]]
            else:
                gone = [item for item in kept if item not in after[kind]]
            assert gone == [], kind


def test_one_that_cannot_be_removed_is_told_and_the_others_go(world: World) -> None:
    plan_all(world.manifest, world.make(f"verify-{RUN}", RUN))
    world.cloud.denied = {"cloudtasks.queues.delete"}
    left = remove(world.tools, world.manifest, lambda _: None)
    assert [each.kind for each in left] == ["queue"]
    assert "roles/cloudtasks.admin" in left[0].reason
    assert [resource.kind for resource in world.manifest.left()] == ["queue"]
    world.cloud.denied = set()
    assert remove(world.tools, Manifest.load(world.manifest.path), lambda _: None) == []
    assert world.cloud.work.queues == {}


def test_a_member_is_taken_out_of_a_binding_and_the_others_stay(world: World) -> None:
    names = world.make(f"verify-{RUN}", RUN)
    world.cloud.account.policy["bindings"][-1]["members"].append("user:founder@example.com")
    world.manifest.plan("binding", names["binding"])
    assert remove(world.tools, world.manifest, lambda _: None) == []
    binding = world.cloud.account.policy["bindings"][-1]
    assert binding["members"] == ["user:founder@example.com"]


def test_rules_whose_name_the_run_never_learnt_are_found_by_their_mark(world: World) -> None:
    world.cloud.firestore.release("cloud.firestore", "service cloud.firestore {}\n")
    text = f"service cloud.firestore {{}}\n{rules_mark(world.manifest)}\n"
    world.cloud.firestore.rulesets["projects/demo-project/rulesets/7"] = {
        "name": "projects/demo-project/rulesets/7",
        "source": {"files": [{"name": "firestore.rules", "content": text}]},
    }
    world.manifest.plan("ruleset", unnamed_ruleset(world.manifest))
    assert remove(world.tools, world.manifest, lambda _: None) == []
    assert [*world.cloud.firestore.rulesets] == ["projects/demo-project/rulesets/1"]


def test_what_a_killed_command_had_begun_is_looked_for_once_more(world: World) -> None:
    """Google may show it a little after it was asked for."""
    name = sorted(KINDS["database"].names(world.manifest))[0]  # type: ignore[misc]
    world.manifest.plan("database", name)

    def appear(_: float) -> None:
        world.cloud.firestore.databases[world.manifest.app] = {"name": name}

    tools = Tools({**world.tools._environ}, lambda _: None, appear, TOKEN)
    remove(tools, world.manifest, lambda _: None)
    assert world.cloud.firestore.databases == {}


def test_a_manifest_is_on_disk_before_the_thing_is_made_and_is_found_by_its_run(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    manifest = new_run(PROJECT, "europe-west1", environ, shared=False)
    resource = manifest.plan("queue", "projects/demo-project/locations/europe-west1/queues/q")
    found = Manifest.load(find_manifest(manifest.run, environ))
    assert [(each.kind, each.state) for each in found.resources] == [("queue", "planned")]
    manifest.set_state(resource, "made")
    assert Manifest.load(find_manifest(manifest.app, environ)).resources[0].state == "made"
    with pytest.raises(SettingsError, match=f"There are: {manifest.run}"):
        find_manifest("00000000", environ)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"resources": [], "run": "../../etc", "project": "p", "region": "r"}', "[]"]
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SettingsError, match="no manifest"):
        Manifest.load(tmp_path / "x.json")


def test_users_and_buckets_of_two_runs_differ(tmp_path: Path) -> None:
    one, other = (new_run(PROJECT, "r", {"HOME": str(tmp_path)}, shared=False) for _ in range(2))
    assert not {*users_of(one)} & {*users_of(other)}
    assert bucket_of(one) != bucket_of(other)
