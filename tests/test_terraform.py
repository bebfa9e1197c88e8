"""deploy/terraform makes what firelaunch deploy makes, and asks the provider for nothing that it does not take."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
from commands import firelaunch
from deploy.own_app import declare
from fakes.google import GoogleCloud
from firelaunch_cli.deploy.gcloud import CommandFailed, Tools
from firelaunch_cli.deploy.iam import account
from firelaunch_cli.deploy.resources import Place
from firelaunch_cli.deploy.steps import perform
from firelaunch_cli.deploy.terraform import left_to_terraform
from support import ROOT, copy_repo, copy_template
from terraform_plan import META, SOURCE, blocks, planned

SCHEMA = json.loads((ROOT / "tests" / "terraform_schema.json").read_text())
FILES = sorted(SOURCE.rglob("*.tf"))
terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="Terraform is not installed")


# The files by themselves


@terraform
def test_the_files_are_formatted() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", str(SOURCE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def used() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in FILES:
        for kind, name, own, body in blocks(path):
            yield f"{path.parent.name}: {name}.{own}", f"{kind}.google_{name}", body


@pytest.mark.parametrize(
    ("where", "resource", "body"), list(used()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_argument_is_one_that_the_provider_takes_and_none_that_it_wants_is_missing(
    where: str, resource: str, body: dict[str, Any]
) -> None:
    check_names(
        {key: value for key, value in body.items() if key not in META}, SCHEMA["resources"][resource]["arguments"]
    )


def check_names(body: dict[str, Any], known: dict[str, Any]) -> None:
    given = {key: value for key, value in body.items() if not key.startswith("__") and key != "dynamic"}
    for item in body.get("dynamic", []):
        ((name, block),) = item.items()
        given[name.strip('"')] = block["content"]
    for name, value in given.items():
        assert name in known, f"there is no argument {name}"
        kind = known[name]["type"]
        is_block = isinstance(value, list) and all(isinstance(item, dict) and "__is_block__" in item for item in value)
        assert is_block == isinstance(kind, dict), f"{name} is {'no' if is_block else 'a'} block"
        if is_block:
            for item in value:
                check_names(item, kind["block"])
    missing = {name for name, one in known.items() if one["required"]} - given.keys()
    assert not missing, f"required: {missing}"


def test_what_is_asked_of_a_resource_is_something_that_it_exports() -> None:
    asked = set()
    for path in FILES:
        for found in re.finditer(r"(data\.)?google_(\w+)\.\w+(?:\[[^\[\]]*\])?\.(\w+)", path.read_text()):
            asked.add((f"{'data' if found[1] else 'resource'}.google_{found[2]}", found[3]))
    assert len(asked) > 5
    for resource, attribute in asked:
        assert attribute in SCHEMA["resources"][resource]["exports"], f"{resource} has no {attribute}"


def test_the_modules_hold_no_name_role_or_setting_of_the_table() -> None:
    """GitHub's own addresses, and the role of Google's that goes with them, are no part of it."""
    for path in FILES:
        text = re.sub(r"#.*|description\s*=.*", "", path.read_text())
        found = re.findall(r"roles/[\w.]+|[\w-]+\.googleapis\.com|fl-\w+|firelaunch-\w+", text)
        assert set(found) <= {"roles/iam.workloadIdentityUser", "iam.googleapis.com"}, path


def test_a_modules_variable_has_the_type_of_the_roots_variable_that_it_is_given() -> None:
    def types(path: Path) -> dict[str, str]:
        found = hcl2.loads(path.read_text())["variable"]
        return {name.strip('"'): str(body["type"]) for item in found for name, body in item.items()}

    root = types(SOURCE / "variables.tf")
    service = types(SOURCE / "modules" / "service" / "variables.tf")
    squeezed = {name: re.sub(r"\s", "", kind) for name, kind in (root | {"service": service["service"]}).items()}
    assert squeezed["services"] == "${map(" + squeezed["service"].removeprefix("${").removesuffix("}") + ")}"
    assert service["settings"] == root["settings"]


# What they come to


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with apps that differ in all that matters here."""
    repo = copy_repo(tmp_path_factory.mktemp("terraform") / "repo")
    app(repo, "shop", database="dedicated", embedder="openai", backend="firestore")
    app(repo, "night-school-with-a-long-name", provider="vertex", edge="private", backend="pgvector")
    app(repo, "rare-books", embedder="openai", backend="vertex")
    declare(repo / "apps" / "rare-books")
    return repo


def app(repo: Path, app_id: str, **settings: str) -> None:
    path = copy_template(repo / "apps" / app_id) / "firelaunch.toml"
    text = path.read_text().replace('backend = "firestore"', 'backend = "firestore"\nembedder = "none"')
    text = text.replace('database = "shared"', 'database = "shared"\nedge = "public"')
    for key, value in {"id": app_id, "project": "demo-project", **settings}.items():
        text, count = re.subn(rf'^{key} = "[^"]*"$', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
        assert count, key
    path.write_text(text)


@pytest.fixture(scope="module")
def variables(repo: Path) -> dict[str, Any]:
    done = firelaunch(repo, "terraform")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads((repo / "deploy/terraform/firelaunch.auto.tfvars.json").read_text())
    return made


@pytest.fixture(scope="module")
def plan(variables: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every resource's arguments as Terraform evaluates them; it takes the variables by their declared types."""
    return planned(
        tmp_path_factory.mktemp("plan"),
        variables,
        github_repository='{ id = "123", owner_id = "45" }',
        billing_account="0-0-0",
    )


@terraform
def test_every_value_is_of_the_type_that_the_provider_takes(plan: dict[str, dict[str, Any]]) -> None:
    assert len(plan) > 60
    for address, arguments in plan.items():
        name = re.findall(r"google_(\w+)\.", address)[-1]
        kind = "data" if name in {"project", "storage_project_service_account"} else "resource"
        resource = SCHEMA["resources"][f"{kind}.google_{name}"]
        for key, value in arguments.items():
            if key in resource["arguments"]:
                check_type(f"{address}.{key}", value, resource["arguments"][key])


def check_type(where: str, value: Any, known: dict[str, Any]) -> None:
    kind = known["type"]
    if value is None:
        assert not known["required"], where
    elif isinstance(kind, dict):
        for item in value:
            for key, inner in item.items():
                check_type(f"{where}.{key}", inner, kind["block"][key])
    elif kind.startswith(("list", "map")):
        items = value.values() if kind.startswith("map") else value
        assert all(isinstance(item, str) for item in items), where
    else:
        python = {"string": (str,), "number": (int, float), "bool": (bool,)}[kind]
        assert type(value) in python, f"{where} is {value!r}, not a {kind}"


@terraform
def test_it_makes_what_a_deploy_makes_and_nothing_else(repo: Path, plan: dict[str, dict[str, Any]]) -> None:
    deployed: set[tuple[Any, ...]] = set()
    for name in ("shop", "night-school-with-a-long-name", "rare-books"):
        done = firelaunch(repo, "deploy", name, "--dry-run")
        assert done.returncode == 0, done.stderr
        deployed |= set(of_deploy(done.stdout))
    own = {key: value for key, value in plan.items() if not re.search(r"github|deployer|federation", key)}
    made = {thing for address, arguments in own.items() for thing in of_terraform(address, arguments)}
    assert made == deployed
    kinds = {thing[0] for thing in made}
    assert kinds == {
        *("api", "repository", "account", "role", "secret", "secret role", "database", "index", "field"),
        *("account role", "queue", "queue role", "schedule", "topic", "topic role", "subscription"),
        *("vectors", "vectors endpoint", "deployed vectors", "point in time", "backups", "alert"),
    }


def of_deploy(said: str) -> Iterator[tuple[Any, ...]]:
    """What the commands of a dry run make."""
    for line in said.splitlines():
        if line.startswith("    do    "):
            words = shlex.split(line.removeprefix("    do    ").partition(" < (")[0])
            yield from of_request(words) if words[0] == "curl" else of_command(words)


def of_command(words: list[str]) -> Iterator[tuple[Any, ...]]:  # noqa: C901, PLR0915 - a branch for each kind of resource
    names = [word for word in words[1:] if not word.startswith("-")]
    flag = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    match names:
        case ["services", "enable", *apis]:
            yield from (("api", api) for api in apis)
        case ["artifacts", "repositories", "create", name]:
            yield "repository", name, flag["location"]
        case ["iam", "service-accounts", "create", name]:
            yield "account", name, flag["display-name"]
        case ["projects", "add-iam-policy-binding", _]:
            condition = flag["condition"]
            title = condition.rpartition(";title=")[2] if condition != "None" else None
            text = condition.removeprefix("^;^expression=").rpartition(";title=")[0] if title else None
            yield "role", flag["member"], flag["role"], text, title
        case ["secrets", "create", name]:
            yield "secret", name
        case ["secrets", "add-iam-policy-binding", name]:
            yield "secret role", name, flag["member"], flag["role"]
        case ["firestore", "databases", "create"]:
            assert flag["type"] == "firestore-native"
            yield "database", flag["database"], flag["location"]
        case ["firestore", "databases", "update"]:
            assert "enable-pitr" in flag
            yield "point in time", flag["database"]
        case ["firestore", "backups", "schedules", "create"]:
            assert flag["recurrence"] == "daily"
            yield "backups", flag["database"], int(flag["retention"].removesuffix("d")) * 86_400
        case ["iam", "service-accounts", "add-iam-policy-binding", email]:
            yield "account role", email, flag["member"], flag["role"]
        case ["tasks", "queues", "create", name]:
            limits = (int(flag["max-attempts"]), flag["min-backoff"], flag["max-backoff"])
            yield "queue", name, flag["location"], *limits
        case ["tasks", "queues", "add-iam-policy-binding", name]:
            yield "queue role", name, flag["location"], flag["member"], flag["role"]
        case ["scheduler", "jobs", "create", "http", name]:
            target = (flag["uri"], flag["http-method"], flag["oidc-service-account-email"], flag["oidc-token-audience"])
            when = (flag["schedule"], flag.get("time-zone"), int(flag.get("max-retry-attempts", 0)))
            yield "schedule", name, flag["location"], *when, flag["attempt-deadline"], *target
        case ["pubsub", "topics", "create", name]:
            yield "topic", name
        case ["pubsub", "topics", "add-iam-policy-binding", name]:
            yield "topic role", name, flag["member"], flag["role"]
        case ["pubsub", "subscriptions", "create", name]:
            push = (flag["push-endpoint"], flag["push-auth-service-account"], flag["push-auth-token-audience"])
            limits = (flag["message-retention-duration"], flag["min-retry-delay"], flag["max-retry-delay"])
            kept = (int(flag["ack-deadline"]), flag["expiration-period"])
            yield "subscription", name, flag["topic"], flag["message-filter"], *push, *kept, *limits
        case ["storage", "buckets", "notifications", "create", _] | ["eventarc", "triggers", "create", _]:
            pass  # of a bucket and of a service, which are made by deploys
        case ["ai", "indexes", "create", "<<<", metadata]:
            method = flag["index-update-method"].upper().replace("-", "_")
            yield "vectors", flag["display-name"], flag["labels"], flag["region"], method, metadata
        case ["ai", "index-endpoints", "create"]:
            assert "public-endpoint-enabled" in flag
            yield "vectors endpoint", flag["display-name"], flag["labels"], flag["region"]
        case ["ai", "index-endpoints", "deploy-index", endpoint]:
            size = (flag["machine-type"], int(flag["min-replica-count"]), int(flag["max-replica-count"]))
            where = (endpoint, flag["index"], flag["region"])
            yield "deployed vectors", flag["deployed-index-id"], flag["display-name"], *where, *size
        case ["run", *_] | ["secrets", "versions", *_] | ["storage", "buckets", "update", *_]:
            pass
        case _:
            raise AssertionError(f"Terraform should know of: {' '.join(words)}")


def of_request(words: list[str]) -> Iterator[tuple[Any, ...]]:
    url = next(word for word in words if word.startswith("https://"))
    if url.endswith("/budgets"):
        yield "alert", *of_budget(json.loads(words[words.index("-d") + 1]))
        return
    found = re.search(r"/databases/([^/]+)/collectionGroups/(\w+)/(indexes|fields/(\w+))", url)
    if found is None:
        left = r":addFirebase|/webApps|:initializeAuth|/config\?|/defaultBucket|/rulesets|/releases|/documents/apps/"
        assert re.search(left, url), url
        return
    body = json.loads(words[words.index("-d") + 1])
    if found[3] == "indexes":
        fields = [
            (x["fieldPath"], x.get("order"), x.get("arrayConfig"), x.get("vectorConfig", {}).get("dimension"))
            for x in body["fields"]
        ]
        yield "index", found[1], found[2], body["queryScope"], tuple(fields)
    else:
        assert body["indexConfig"] == {"indexes": []}
        yield "field", found[1], found[2], found[4], "ttlConfig" in body


def of_budget(budget: dict[str, Any]) -> Iterator[Any]:
    """What an alert says. Only Terraform knows the project's number here."""
    assert budget["budgetFilter"] == {"projects": ["projects/PROJECT_NUMBER"], "calendarPeriod": "MONTH"}
    assert budget["notificationsRule"] == {"enableProjectLevelRecipients": True}
    yield from (budget["displayName"], budget["amount"]["specifiedAmount"]["units"])
    yield tuple((rule["thresholdPercent"], rule["spendBasis"]) for rule in budget["thresholdRules"])


def of_terraform(address: str, given: dict[str, Any]) -> Iterator[tuple[Any, ...]]:  # noqa: C901, PLR0915 - a branch for each kind of resource
    """What a resource makes, in the same words."""
    assert given.get("project", "demo-project") == "demo-project"
    match re.findall(r"google_(\w+)\.", address)[-1]:
        case "project_service":
            yield "api", given["service"]
        case "artifact_registry_repository":
            assert given["format"] == "DOCKER"
            yield "repository", given["repository_id"], given["location"]
        case "service_account":
            yield "account", given["account_id"], given["display_name"]
        case "project_iam_member":
            (condition,) = given["condition"] or [{"expression": None, "title": None}]
            yield "role", given["member"], given["role"], condition["expression"], condition["title"]
        case "secret_manager_secret":
            assert given["replication"] == [{"auto": [{}]}]
            yield "secret", given["secret_id"]
        case "secret_manager_secret_iam_member":
            yield "secret role", given["secret_id"], given["member"], given["role"]
        case "firestore_database":
            assert given["type"] == "FIRESTORE_NATIVE"
            assert given["delete_protection_state"] == "DELETE_PROTECTION_ENABLED"
            yield "database", given["name"], given["location_id"]
            assert given["point_in_time_recovery_enablement"] == "POINT_IN_TIME_RECOVERY_ENABLED"
            yield "point in time", given["name"]
        case "firestore_backup_schedule":
            assert given["daily_recurrence"] == [{}]
            yield "backups", given["database"], int(given["retention"].removesuffix("s"))
        case "billing_budget":
            assert given["billing_account"] == "0-0-0"
            assert given["budget_filter"] == [{"projects": ["projects/1234"], "calendar_period": "MONTH"}]
            assert given["all_updates_rule"] == [{"enable_project_level_recipients": True}]
            amount = given["amount"][0]["specified_amount"][0]["units"]
            rules = tuple((rule["threshold_percent"], rule["spend_basis"]) for rule in given["threshold_rules"])
            yield "alert", given["display_name"], amount, rules
        case "firestore_index":
            fields = [
                (x["field_path"], x["order"], x["array_config"], (x["vector_config"] or [{}])[0].get("dimension"))
                for x in given["fields"]
            ]
            yield "index", given["database"], given["collection"], given["query_scope"], tuple(fields)
        case "firestore_field":
            assert given["index_config"] == [{}]
            yield "field", given["database"], given["collection"], given["field"], bool(given["ttl_config"])
        case "service_account_iam_member":
            account = given["service_account_id"].rpartition("/")[2]
            yield "account role", account, given["member"], given["role"]
        case "cloud_tasks_queue":
            (retry,) = given["retry_config"]
            limits = (retry["max_attempts"], retry["min_backoff"], retry["max_backoff"])
            yield "queue", given["name"], given["location"], *limits
        case "cloud_tasks_queue_iam_member":
            yield "queue role", given["name"], given["location"], given["member"], given["role"]
        case "cloud_scheduler_job":
            (target,) = given["http_target"]
            (token,) = target["oidc_token"]
            called = (target["uri"], target["http_method"], token["service_account_email"], token["audience"])
            yield (
                "schedule",
                given["name"],
                given["region"],
                given["schedule"],
                given["time_zone"],
                sum(retry["retry_count"] for retry in given["retry_config"]),
                given["attempt_deadline"],
                *known(called),
            )
        case "storage_project_service_account":
            pass
        case "pubsub_topic":
            yield "topic", given["name"]
        case "pubsub_topic_iam_member":
            yield "topic role", given["topic"], given["member"].replace("1234", "PROJECT_NUMBER"), given["role"]
        case "pubsub_subscription":
            (push,), (retry,) = given["push_config"], given["retry_policy"]
            (token,) = push["oidc_token"]
            called = (push["push_endpoint"], token["service_account_email"], token["audience"])
            assert given["expiration_policy"] == [{"ttl": ""}]
            limits = (given["message_retention_duration"], retry["minimum_backoff"], retry["maximum_backoff"])
            kept = (given["ack_deadline_seconds"], "never")
            yield "subscription", given["name"], given["topic"], given["filter"], *known(called), *kept, *limits
        case "vertex_ai_index":
            ((config,),) = [item["config"] for item in given["metadata"]]
            ((tree,),) = [item["tree_ah_config"] for item in config["algorithm_config"]]
            metadata = {
                "dimensions": config["dimensions"],
                "approximateNeighborsCount": config["approximate_neighbors_count"],
                "distanceMeasureType": config["distance_measure_type"],
                "shardSize": config["shard_size"],
                "algorithmConfig": {
                    "treeAhConfig": {
                        "leafNodeEmbeddingCount": tree["leaf_node_embedding_count"],
                        "leafNodesToSearchPercent": tree["leaf_nodes_to_search_percent"],
                    }
                },
            }
            made = (given["index_update_method"], json.dumps({"config": metadata}))
            yield "vectors", given["display_name"], labels(given), given["region"], *made
        case "vertex_ai_index_endpoint":
            assert given["public_endpoint_enabled"] is True
            yield "vectors endpoint", given["display_name"], labels(given), given["region"]
        case "vertex_ai_index_endpoint_deployed_index":
            (node,) = given["dedicated_resources"]
            (machine,) = node["machine_spec"]
            size = (machine["machine_type"], node["min_replica_count"], node["max_replica_count"])
            where = (given["index_endpoint"], given["index"], given["region"])
            yield "deployed vectors", given["deployed_index_id"], given["display_name"], *where, *size
        case "project":
            pass
        case other:
            raise AssertionError(f"a deploy makes no {other}")


def labels(given: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in given["labels"].items())


def known(addresses: Iterable[str]) -> list[str]:
    """As a dry run has them, which does not know the project's number."""
    return [value.replace("-1234.", "-PROJECT_NUMBER.") for value in addresses]


@terraform
def test_without_a_repository_nobody_may_deploy_from_github(variables: dict[str, Any], tmp_path: Path) -> None:
    assert not [key for key in planned(tmp_path, variables) if re.search(r"github|deployer|federation", key)]


@terraform
def test_githubs_main_branch_alone_may_deploy_and_tags_where_they_are_to(
    plan: dict[str, dict[str, Any]], variables: dict[str, Any], tmp_path: Path
) -> None:
    provider = next(value for key, value in plan.items() if "pool_provider" in key)
    ids = "assertion.repository_id == '123' && assertion.repository_owner_id == '45'"
    wanted = f"{ids} && assertion.ref == 'refs/heads/main'"
    assert provider["attribute_condition"] == wanted
    with_tags = planned(tmp_path, variables, github_repository='{ id = "123", owner_id = "45", tags = true }')
    provider = next(value for key, value in with_tags.items() if "pool_provider" in key)
    main_or_tags = "(assertion.ref == 'refs/heads/main' || assertion.ref.startsWith('refs/tags/v'))"
    assert provider["attribute_condition"] == f"{ids} && {main_or_tags}"
    bound = next(value for key, value in plan.items() if "service_account_iam_member.github" in key)
    assert bound["member"].endswith("/attribute.repository_id/123")


# The variables


def test_apps_of_several_projects_or_regions_are_not_mixed(repo: Path, tmp_path: Path) -> None:
    other = copy_repo(tmp_path / "repo")
    none = firelaunch(other, "terraform")
    assert none.returncode == 1
    assert "--project" in none.stderr
    app(other, "one", project="project-one", backend="pgvector")
    app(other, "two", project="project-two", backend="pgvector")
    both = firelaunch(other, "terraform")
    assert both.returncode == 1
    assert "project-one, project-two" in both.stderr
    out = tmp_path / "one.json"
    assert firelaunch(other, "terraform", "--project", "project-one", "--out", str(out)).returncode == 0
    assert list(json.loads(out.read_text())["services"])[:1] == ["one"]
    app_two = other / "apps" / "two" / "firelaunch.toml"
    app_two.write_text(app_two.read_text().replace("project-two", "project-one").replace("europe-west1", "us-east1"))
    regions = firelaunch(other, "terraform")
    assert regions.returncode == 1
    assert "cloud.region" in regions.stderr


# Deploys that leave it to Terraform


@pytest.mark.parametrize("name", ["shop", "rare-books"])
def test_a_deploy_with_terraform_makes_nothing_that_services_stand_on(name: str, repo: Path) -> None:
    done = firelaunch(repo, "deploy", name, "--dry-run", "--with-terraform")
    assert done.returncode == 0, done.stderr
    assert set(of_deploy(done.stdout)) == set()
    does = [line for line in done.stdout.splitlines() if line.startswith("    do    ")]
    assert any(f"gcloud run deploy {name}" in line for line in does)
    assert any("/releases" in line for line in does), "rules are released all the same"


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_what_terraform_has_not_made_ends_a_deploy_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with GoogleCloud("demo-project") as cloud:
        cloud.account.apis.add("iam.googleapis.com")
        tools = Tools({**os.environ, **cloud.environ(tmp_path / "home")}, print)
        whole = account(Place("demo-project", "europe-west1"), "fl-app-shop", "firelaunch: runs shop")
        step = left_to_terraform(whole)
        with pytest.raises(CommandFailed) as failed:
            perform(step, tools, lambda _: True)
        assert "terraform -chdir=deploy/terraform apply" in failed.value.mend
        assert cloud.account.accounts == []
        perform(whole, tools, lambda _: True)
        again = Tools({**os.environ, **cloud.environ(tmp_path / "home")}, print)
        assert perform(step, again, lambda _: True) == 0
