"""What ``make test-deploy`` plays: each scenario's requests, as a golden table has them, and how it must end."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.google import GoogleCloud, ServiceAccount
from firelaunch_cli.deploy.resources import FIRST_APIS
from firelaunch_cli.deploy.spending_alert import ALERT_ROLE

from .own_app import SCHEDULES, declare
from .world import Done, World, folded

__all__ = ["SCENARIOS", "Report", "play"]

Check = Iterator[tuple[str, bool]]


@dataclass
class Report:
    """One scenario: how many requests reached the server, and what did not hold."""

    name: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def two_apps_and_the_functions(world: World, report: Report) -> Check:
    """Into an empty project: an app in the shared database, and one that sells plans, with a database and an index of
    vectors."""
    world.app("demo")
    folder = world.app(
        "ledger",
        database="dedicated",
        backend='firestore"\nembedder = "openai"\nmodel = "text-embedding-3-small',
        daily_usd='0.50"\nstripe_price = "price_1',
    )
    settings = (folder / "firelaunch.toml").read_text().replace("# [billing]", "[billing]")
    (folder / "firelaunch.toml").write_text(settings.replace("# return_url = ", "return_url = "))
    cloud, said = world.cloud, {}
    for app in ("demo", "ledger"):
        yield f"nobody signs in to {app} before: {cloud.sign_in.link(app)}", cloud.sign_in.link(app) != "sent"
        done = took(report, world.deploy(app))
        said[app] = done.said
        yield f"{app} is deployed: {done.said[-800:]}", done.code == 0
        yield f"all traffic of {app} is on one revision", list(cloud.run.traffic(app).values()) == [100]
        yield f"{app} may be called by anybody", cloud.run.public(app)
    both = {"(default)": "demo", "ledger": "ledger"}
    for database, app in both.items():
        only = f'resource.name=="projects/{cloud.project}/databases/{database}"'
        roles = cloud.account.roles_of(f"fl-app-{app}@{cloud.project}.iam.gserviceaccount.com")
        name = f"projects/_/buckets/{cloud.project}.firebasestorage.app"
        listed = 'api.getAttribute("storage.googleapis.com/objectListPrefix", "")'
        own = (
            f'resource.name.startsWith("{name}/objects/apps/{app}/") || '
            f'(resource.name=="{name}" && {listed}.startsWith("apps/{app}/"))'
        )
        wanted = {("roles/datastore.user", only), ("roles/storage.objectUser", own)}
        yield f"{app} reaches its own database and files and nothing else: {roles}", roles == wanted
        yield (
            f"the rules of {database} are in force",
            "service cloud.firestore" in (cloud.firestore.rules_of(database) or ""),
        )
        yield f"{app} is published in {database}", f"{database}/apps/{app}" in cloud.firestore.documents
        yield from kept(cloud, database)
        yield f"users of {app} sign in by a link: {cloud.sign_in.link(app)}", cloud.sign_in.link(app) == "sent"
        yield f"the config of {app}'s web client is printed", f'"apiKey": "{cloud.firebase.key(app)}"' in said[app]
    budgets = [budget["displayName"] for budget in cloud.billing.budgets.values()]
    yield f"the project has one spending alert: {budgets}", budgets == [f"firelaunch: {cloud.project}"]
    bucket = f"{cloud.project}.firebasestorage.app"
    yield "the bucket of files is there, guarded by IAM alone", bucket in cloud.build.buckets & cloud.build.uniform
    text = (world.root / "storage.rules").read_text()
    yield "and its rules are in force", cloud.firestore.text(f"firebase.storage/{bucket}") == text
    vectors = [i for i in cloud.firestore.indexes["ledger"] if any("vectorConfig" in f for f in i["fields"])]
    yield "ledger's chunks have an index of vectors", len(vectors) == 2
    yield (
        "each secret is stored once",
        {n: len(v) for n, v in cloud.account.secrets.items()}
        == {
            "demo-openai-api-key": 1,
            "ledger-openai-api-key": 1,
            "ledger-stripe-api-key": 1,
            "ledger-stripe-webhook-secret": 1,
        },
    )
    yield "the function knows who is dedicated", env(cloud, "firelaunch-membership")["DEDICATED_APPS"] == "ledger"
    yield from functions(cloud)
    yield (
        "no image holds a secret or a test",
        not [name for upload in cloud.build.uploads for name in upload if "test" in name or name.endswith(".env")],
    )
    yield "no key is in a setting", "a-key-for-tests" not in str(cloud.run.services)


def kept(cloud: GoogleCloud, database: str) -> Check:
    """How a database's data can be brought back."""
    enablement = cloud.firestore.databases[database].get("pointInTimeRecoveryEnablement")
    yield f"{database} can be brought back to any minute", enablement == "POINT_IN_TIME_RECOVERY_ENABLED"
    schedules = [schedule["retention"] for schedule in cloud.firestore.schedules.get(database, [])]
    yield f"{database} is backed up once a day: {schedules}", schedules == ["604800s"]


def functions(cloud: GoogleCloud) -> Check:
    """Those of both apps, and what calls them."""
    account, here = cloud.account, f"@{cloud.project}.iam.gserviceaccount.com"
    images = {name: container(cloud, name)["image"] for name in cloud.run.services}
    yield "each app and its functions were built once, and nothing else", len(cloud.build.uploads) == 4
    yield (
        "the membership function has that of an app's functions",
        (images["firelaunch-membership"] == images["fl-fn-demo"]),
    )
    for app, database in (("demo", "(default)"), ("ledger", "ledger")):
        name, caller = f"fl-fn-{app}", f"fl-job-{app}{here}"
        url = f"https://{name}-1234.europe-west1.run.app"
        template = cloud.run.services[name]["spec"]["template"]["spec"]
        yield f"{name} runs as its app", template["serviceAccountName"] == f"fl-app-{app}{here}"
        known = env(cloud, name)
        yield f"{name} knows who may call it", (known["INVOKER"], known["INVOKER_AUDIENCE"]) == (caller, url)
        yield (
            f"{caller} may take events and nothing else",
            account.roles_of(caller) == {("roles/eventarc.eventReceiver", None)},
        )
        jobs = {
            key.rpartition("/")[2]: job["httpTarget"]["uri"].removeprefix(url)
            for key, job in cloud.work.jobs.items()
            if job["httpTarget"]["oidcToken"] == {"serviceAccountEmail": caller, "audience": url}
        }
        billing = {f"{app}-reconcile-billing": "/reconcile_billing"} if app == "ledger" else {}
        yield (
            f"Cloud Scheduler calls {name}: {jobs}",
            jobs
            == {
                f"{app}-rollup-usage": f"/rollup_usage/apps/{app}",
                f"{app}-expire-reservations": f"/expire_reservations/apps/{app}",
                **billing,
            },
        )
        pushes = cloud.events.subscriptions[f"projects/{cloud.project}/subscriptions/fl-uploads-{app}"]
        yield (
            f"{name} hears of its own files",
            pushes["filter"] == f'hasPrefix(attributes.objectId, "apps/{app}/users/")',
        )
        token = {"serviceAccountEmail": caller, "audience": url}
        yield (
            "by Pub/Sub",
            pushes["pushConfig"] == {"pushEndpoint": f"{url}/ingest_upload", "oidcToken": token},
        )
        trigger = cloud.events.triggers[f"projects/{cloud.project}/locations/europe-west1/triggers/fl-removals-{app}"]
        filters = {each["attribute"]: each["value"] for each in trigger["eventFilters"]}
        wanted = (database, f"apps/{app}/users/*/documents/*")
        yield f"{name} hears of its own records: {filters}", (filters["database"], filters["document"]) == wanted
        goes = {"service": name, "region": "europe-west1", "path": "/on_document_written"}
        yield "by Eventarc", (trigger["destination"]["cloudRun"], trigger["serviceAccount"]) == (goes, caller)
    told = cloud.events.notifications[f"{cloud.project}.firebasestorage.app"]
    yield "the bucket tells of its files once, for all apps", len(told) == 1
    secrets = {item["name"] for item in container(cloud, "fl-fn-ledger")["env"] if "valueFrom" in item}
    yield f"ledger's functions have Stripe's keys: {secrets}", secrets == {"STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"}
    yield "demo's have no key", not [item for item in container(cloud, "fl-fn-demo")["env"] if "valueFrom" in item]


def an_app_of_its_own(world: World, report: Report) -> Check:
    """An app declares collections, a schedule and handlers, and later less of that."""
    folder, cloud = declare(world.app("diary")), world.cloud
    url = "https://diary-1234.europe-west1.run.app"
    done = took(report, world.deploy("diary"))
    yield f"it is deployed: {done.said[-800:]}", done.code == 0
    groups = [index["name"].split("/")[-3] for index in cloud.firestore.indexes["(default)"]]
    yield f"its queries have their indexes: {groups}", {"meals", "recipes"} <= {*groups}
    yield (
        f"its callers call it: {called(cloud, url)}",
        called(cloud, url)
        == {
            "/internal/schedules/weekly_summary",
            "/internal/events/meal_written",
            "/internal/events/recipe_written",
            "/internal/events/picture_stored",
            "/internal/sweep",
        },
    )
    start, settings = folder / "app" / "meals.py", folder / "firelaunch.toml"
    start.write_text(
        start.read_text().replace("events=[meal_written, recipe_written, picture_stored]", "events=[meal_written]")
    )
    settings.write_text(settings.read_text().replace(SCHEDULES, ""))
    done = took(report, world.deploy("diary"))
    yield f"with less it is deployed again: {done.said[-800:]}", done.code == 0
    left = {"/internal/events/meal_written", "/internal/sweep"}
    yield f"and what it no longer declares is gone: {called(cloud, url)}", called(cloud, url) == left
    yield "other apps keep theirs", "fl-uploads-demo" in str(cloud.events.subscriptions)


def called(cloud: GoogleCloud, url: str) -> set[str]:
    """The paths of a service that Google's services call."""
    jobs = [job["httpTarget"]["uri"] for job in cloud.work.jobs.values()]
    pushes = [each["pushConfig"]["pushEndpoint"] for each in cloud.events.subscriptions.values()]
    events = [each["destination"]["cloudRun"] for each in cloud.events.triggers.values()]
    service = url.removeprefix("https://").partition("-1234.")[0]
    at_url = {each.removeprefix(url) for each in (*jobs, *pushes) if each.startswith(f"{url}/")}
    return at_url | {each["path"] for each in events if each["service"] == service}


def again(world: World, report: Report) -> Check:
    """The same deploy once more."""
    services = str(world.cloud.run.services)
    done = took(report, world.deploy("demo"))
    yield f"it ends well: {done.said[-800:]}", done.code == 0
    yield "all three services say that nothing has changed", done.said.count("nothing has changed") == 3
    yield "the services are the same", str(world.cloud.run.services) == services
    writes = [line for line in done.requests if line.startswith(("PUT", "PATCH", "DELETE")) or ":set" in line]
    yield f"nothing was written: {writes}", not writes


def smoke_test_fails(world: World, report: Report) -> Check:
    """A new revision cannot reach its database."""
    cloud, before = world.cloud, world.cloud.run.traffic("demo")
    world.change("demo", "worse")
    cloud.run.breaking = True
    done = took(report, world.deploy("demo"))
    cloud.run.breaking = False
    yield "it ends with an error", done.code == 1
    yield f"which says what is wrong: {done.said[-800:]}", "/ready is answered with 500" in done.said
    yield "and where the logs are", "gcloud run services logs read demo" in done.said
    yield "traffic stays where it was", cloud.run.traffic("demo") == before
    (revision,) = before
    yield "and it says so", f"Traffic stays on {revision}" in done.said


def permission_error(world: World, report: Report) -> Check:
    """Whoever deploys a third app may not make queues, and is allowed to after the first try. They may not make budgets
    either, and the deploy goes on. Another app has set up backups of its own in the shared database."""
    world.app("notes")
    cloud = world.cloud
    cloud.denied = {"cloudtasks.queues.create"}
    first = took(report, world.deploy("notes"))
    cloud.billing.budgets.clear()
    (schedule,) = cloud.firestore.schedules["(default)"]
    schedule["retention"] = "2592000s"
    cloud.denied = {"billing.budgets.create"}
    yield "it ends with an error", first.code == 1
    yield f"which names the mend: {first.said[-800:]}", "Mend: ask for" in first.said
    yield "nothing serves yet", "notes" not in cloud.run.services
    second = took(report, world.deploy("notes"))
    cloud.denied = set()
    yield f"the next run goes on: {second.said[-800:]}", second.code == 0
    lines = [line for line in second.said.splitlines() if "no spending alert" in line]
    yield f"one line says that there is no alert, and the mend: {lines}", len(lines) == 1 and ALERT_ROLE in lines[0]
    retentions = [item["retention"] for item in cloud.firestore.schedules["(default)"]]
    yield f"what another app keeps longer stays: {retentions}", retentions == ["2592000s"]
    yield "and ends it", list(cloud.run.traffic("notes").values()) == [100]
    made = [f"POST iam.googleapis.com/v1/projects/{cloud.project}/serviceAccounts", "databaseId=notes"]
    yield "what the first run made is not made again", not set(made) & set(second.requests)


def rollback(world: World, report: Report) -> Check:
    """A changed app gets the traffic; then it is given back."""
    (before,) = world.cloud.run.traffic("demo")
    world.change("demo", "other")
    done = took(report, world.deploy("demo"))
    yield f"the change is deployed: {done.said[-800:]}", done.code == 0
    yield "the spending alert that was missing is made", len(world.cloud.billing.budgets) == 1
    (after,) = world.cloud.run.traffic("demo")
    yield "to a revision of its own", after != before
    back = took(report, world.deploy("demo", "--rollback"))
    yield f"the rollback ends well: {back.said[-800:]}", back.code == 0
    yield "the revision before serves", world.cloud.run.traffic("demo") == {before: 100}


def preview(world: World, report: Report) -> Check:
    """A change is shown to somebody, with more memory than usual."""
    before = world.cloud.run.traffic("demo")
    world.change("demo", "perhaps")
    done = took(report, world.deploy("demo", "--preview", "--", "--memory=1Gi"))
    yield f"it ends well: {done.said[-800:]}", done.code == 0
    yield "and gives the address", "http://preview---demo-x.a.run.app" in done.said
    yield "no traffic moves", world.cloud.run.traffic("demo") == before
    limits = container(world.cloud, "demo")["resources"]["limits"]
    yield "what came after -- reached gcloud", limits["memory"] == "1Gi"


def google_sign_in(world: World, report: Report) -> Check:
    """The settings name Google; the founder makes an OAuth client after the first try."""
    cloud, path = world.cloud, world.root / "apps" / "demo" / "firelaunch.toml"
    path.write_text(path.read_text().replace('["email_link"]', '["email_link", "google"]'))
    first = took(report, world.deploy("demo"))
    yield f"it ends well without a client: {first.said[-800:]}", first.code == 0
    page = f"https://console.cloud.google.com/auth/clients?project={cloud.project}"
    yield "and says where one is made", page in first.said
    yield "nobody signs in with Google yet", not cloud.sign_in.idps
    secret = "GOCSPX-" + "a-secret-of-tests"
    client = {"GOOGLE_SIGN_IN_CLIENT_ID": "a-client", "GOOGLE_SIGN_IN_CLIENT_SECRET": secret}
    second = took(report, world.deploy("demo", **client))
    yield f"with one it ends well: {second.said[-800:]}", second.code == 0
    yield "Google is on", cloud.sign_in.idps["", "google.com"]["clientSecret"] == secret
    yield "and nothing says the secret", secret not in first.said + second.said + str(cloud.run.services)


def an_index_of_its_own(world: World, report: Report) -> Check:
    """An app that searches in Vertex AI and names no index; at first there is no quota for its node, then there is
    none left when it is deployed."""
    world.app("books", backend='vertex"\nembedder = "openai')
    cloud = world.cloud
    cloud.quotas.limits["MatchingEngineDeployedIndexNodes"] = [({"region": "europe-west1"}, 0)]
    first = took(report, world.deploy("books"))
    yield "it ends with an error", first.code == 1
    yield f"which names the quota and its mend: {first.said[-800:]}", "it is 0, and" in first.said
    yield "and nothing was made", not cloud.vertex.indexes and "books" not in str(cloud.account.accounts)
    cloud.quotas.limits["MatchingEngineDeployedIndexNodes"] = [({"region": "europe-west1"}, 1)]
    cloud.vertex.failing = {"DeployIndex": "The following quotas are exceeded: MatchingEngineDeployedIndexNodes"}
    second = took(report, world.deploy("books"))
    yield f"its deployment fails: {second.said[-800:]}", second.code == 1 and "quotas are exceeded" in second.said
    yield "nothing serves yet", "books" not in cloud.run.services
    cloud.vertex.failing = {}
    third = took(report, world.deploy("books"))
    yield f"the next run goes on: {third.said[-800:]}", third.code == 0
    yield (
        "with the index and the endpoint that are there",
        len(cloud.vertex.indexes) == len(cloud.vertex.endpoints) == 1,
    )
    (index,), (endpoint,) = cloud.vertex.indexes.values(), cloud.vertex.endpoints.values()
    named = {
        "index": index["name"].rpartition("/")[2],
        "domain": endpoint["publicEndpointDomainName"],
        "endpoint": endpoint["name"].rpartition("/")[2],
        "deployed": "fl_books",
    }
    for service in ("books", "fl-fn-books"):
        yield f"{service} knows its index", json.loads(env(cloud, service)["FIRELAUNCH_VERTEX_INDEX"]) == named
    services = str(cloud.run.services)
    fourth = took(report, world.deploy("books"))
    yield f"once more changes nothing: {fourth.said[-800:]}", fourth.said.count("nothing has changed") == 3
    yield "and makes nothing", str(cloud.run.services) == services and len(cloud.vertex.indexes) == 1


def broken_off(world: World, report: Report) -> Check:
    """A deploy is killed at one request after another, and each time begun again, until one comes to its end. Where
    exactly it is killed differs from time to time, so that only the requests of the last are noted."""
    world.app("spare", database="dedicated", backend='vertex"\nembedder = "openai')
    cloud = world.cloud
    cloud.quotas.limits["MatchingEngineDeployedIndexNodes"] = [({}, 5)]
    before = [len(kept) for kept in kept_of(cloud)]
    runs = next(run for run in range(40) if not world.broken_off(6 + 9 * run, "spare"))
    yield f"it was killed some times: {runs}", runs > 3
    done = took(report, world.deploy("spare"))
    yield f"it ends well: {done.said[-800:]}", done.code == 0
    yield "and had come to its end before", done.said.count("nothing has changed") == 3
    more = [len(kept) - count for kept, count in zip(kept_of(cloud), before, strict=True)]
    yield f"nothing was made twice: {more}", more == [2, 1, 1, 1, 1, 1, 3, 1, 1, 2, 1]
    yield "the secret has one value", len(cloud.account.secrets["spare-openai-api-key"]) == 1
    yield "all traffic is on one revision", list(cloud.run.traffic("spare").values()) == [100]


def kept_of(cloud: GoogleCloud) -> list[Collection[str]]:
    """What a deploy of an app adds to."""
    return [
        *(cloud.account.accounts, cloud.account.secrets, cloud.firestore.databases, cloud.vertex.indexes),
        *(cloud.vertex.endpoints, cloud.work.queues, cloud.work.jobs, cloud.events.subscriptions),
        *(cloud.events.triggers, cloud.run.services, cloud.firebase.web_apps),
    ]


def by_a_service_account(world: World, report: Report) -> Check:
    """Continuous integration deploys as an account of another project, in which Cloud Billing's API is off at first."""
    cloud = world.cloud
    cloud.caller = ServiceAccount("5678", {"cloudresourcemanager.googleapis.com"})
    first = took(report, world.deploy("demo"))
    yield f"it ends with an error: {first.said[-800:]}", first.code == 1
    yield (
        "and the command that mends it",
        "gcloud services enable cloudbilling.googleapis.com --project=5678" in first.said,
    )
    yield "without a wait", "waiting" not in first.said
    cloud.caller = ServiceAccount("5678", {*FIRST_APIS})
    second = took(report, world.deploy("demo"))
    cloud.caller = None
    yield f"then it ends well: {second.said[-800:]}", second.code == 0


def a_restricted_organization(world: World, report: Report) -> Check:
    """An organization forbids allUsers, and what is new takes a while to hold everywhere."""
    world.app("club")
    cloud = world.cloud
    cloud.account.own_members_only = True
    cloud.account.late |= {"secret": 1, "build": 1, "eventarc": 1, "account": 1}
    done = took(report, world.deploy("club"))
    yield f"it ends well: {done.said[-1200:]}", done.code == 0
    for service in ("club", "fl-fn-club"):
        yield f"{service} may be called by anybody", cloud.run.public(service)
        yield (
            f"and it is said how: {service}",
            f"{service}: anybody may call it, because Cloud Run checks no caller of it" in done.said,
        )
    for reason in (
        "the service's right to its secret",
        "the rights of the account that builds images",
        "Eventarc's own account",
        "a new service account",
    ):
        yield f"what it waited for is said: {reason}", f"minutes at most: {reason}" in done.said
    cloud.account.own_members_only = False


def staging(world: World, report: Report) -> Check:
    """An app deploys to its second project, from a shell that has been told of the first one."""
    folder, cloud = world.app("twice", database="dedicated"), world.cloud
    path = folder / "firelaunch.toml"
    own = f'project = "{cloud.project}"\nmin_instances = 1\n'
    text = path.read_text().replace('project = ""', 'project = "the-live-project"')
    path.write_text(f'{text}\n[env.staging.cloud]\n{own}[env.staging.membership]\njoin = "open"\n')
    done = took(report, world.deploy("twice", "--env", "staging", GOOGLE_CLOUD_PROJECT="the-live-project"))
    yield f"it ends well: {done.said[-800:]}", done.code == 0
    named = [line for line in done.requests if "the-live-project" in line]
    yield f"no request names the first project: {named}", not named
    yield "nor does a setting of a service", "the-live-project" not in str(cloud.run.services)
    for service in ("twice", "fl-fn-twice"):
        known = env(cloud, service)
        told = (known["FIRELAUNCH_ENV"], known["GOOGLE_CLOUD_PROJECT"])
        yield f"{service} knows where it is: {told}", told == ("staging", cloud.project)
    yield "it has the environment's instances", "'run.googleapis.com/minScale': '1'" in str(cloud.run.services["twice"])
    published = cloud.firestore.documents["twice/apps/twice"]
    yield f"the environment's way to join is published: {published}", "'open'" in str(published)
    yield "secrets are its own project's", list(cloud.account.secrets["twice-openai-api-key"]) == ["a-key-for-tests"]


SCENARIOS: tuple[Callable[[World, Report], Check], ...] = (
    two_apps_and_the_functions,
    an_app_of_its_own,
    again,
    smoke_test_fails,
    permission_error,
    rollback,
    preview,
    google_sign_in,
    an_index_of_its_own,
    by_a_service_account,
    a_restricted_organization,
    staging,
    broken_off,
)


def play(folder: Path, say: Callable[[str], object]) -> list[Report]:
    """All of them, one after the other in one project."""
    reports = []
    with GoogleCloud() as cloud:
        world = World(folder, cloud)
        for scenario in SCENARIOS:
            report = Report(scenario.__name__)
            say(f"{report.name} ...")
            unplayed = len(cloud.unexpected)
            try:
                report.problems += [what for what, holds in scenario(world, report) if not holds]
            except (KeyError, ValueError) as error:
                report.problems.append(f"it did not come to its end: {error!r}")
            report.problems += [f"not played here: {line}" for line in cloud.unexpected[unplayed:]]
            reports.append(report)
    return reports


def took(report: Report, done: Done) -> Done:
    """The same, with its requests noted."""
    report.requests += folded(done.requests)
    return done


def env(cloud: GoogleCloud, service: str) -> dict[str, str]:
    """The variables of a service's latest revision."""
    return {item["name"]: item.get("value", "") for item in container(cloud, service)["env"]}


def container(cloud: GoogleCloud, service: str) -> dict[str, Any]:
    """The container of a service's latest revision."""
    found: dict[str, Any] = cloud.run.services[service]["spec"]["template"]["spec"]["containers"][0]
    return found
