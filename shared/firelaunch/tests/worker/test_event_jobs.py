"""``@on_write`` and ``@on_upload``: each change and each file becomes one job of its handler, in its owner's scope."""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.jobs import ACCOUNT, JOB_SETTINGS, Site, cloud_site, embedded_site
from firelaunch.errors import Fenced, NotFound, SettingsError
from firelaunch.events import ForOthers, Ignored, acknowledge
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.records.user_ids import UserId
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.store.base import DELETE_FIELD, SERVER_TIME, Create, Delete, Increment, Set, Transaction, Update, Write
from firelaunch.store.fence import begun_at
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import run_jobs
from firelaunch.testing.cloud_events import Sent, document_event, pushed, storage_finalized, storage_notified
from firelaunch.worker import JobRun
from firelaunch.worker.event_handlers import UploadEvent, WriteEvent, on_upload, on_write
from firelaunch.worker.job_definitions import job
from firelaunch.worker.tasks.erase import erasure_of

APP, ADA, BOB = Scope("demo"), Scope("demo", "ada"), Scope("demo", "bob")
MEAL = f"{ADA.root}/meals/m1"
SEEN: list[tuple[Any, ...]] = []


class Meal(Record):
    name: str
    kcal: int = 0


class Recipe(Record):
    name: str


meals = Collection("meals", Meal, owner="user")
recipes = Collection("recipes", Recipe, owner="app")


class Post(Record):
    author: UserId | None = None
    text: str


posts = Collection("posts", Post, owner="app", on_erase="anonymize")


@on_write("posts/{post}")
def post_written(event: WriteEvent) -> None:
    SEEN.append((event.change, event.before, event.after))


@job("clean_up")
def clean_up(run: JobRun) -> None:
    SEEN.append(("clean_up", run.scope.uid))


@on_write("meals/{meal}")
def meal_written(event: WriteEvent) -> None:
    SEEN.append((event.change, event.scope.uid, dict(event.names), event.before, event.after))
    path = f"{event.scope.root}/things/meals"
    event.run.commit(Set(path, {"n": Increment(1)}, merge=True))
    event.enqueue(clean_up)


@on_write("recipes/{recipe}", max_attempts=2)
def recipe_written(event: WriteEvent) -> None:
    SEEN.append((event.change, event.scope.uid, dict(event.names), event.before, event.after))
    raise OSError("secret detail")


@on_upload("pictures/{name}")
def picture_stored(event: UploadEvent) -> None:
    with event.open() as file:
        SEEN.append((event.scope.uid, dict(event.names), event.size, event.content_type, file.read()))


DECLARED = Declared(
    collections=(meals, recipes),
    jobs=(clean_up,),
    events=(meal_written, recipe_written, picture_stored),
)
CLOUD = {"FIRELAUNCH_MODE": "cloud", "OPENAI_API_KEY": "none", "GOOGLE_CLOUD_PROJECT": "demo-project"}


@pytest.fixture(autouse=True)
def seen() -> None:
    SEEN.clear()


@contextmanager
def laptop(folder: Path, declared: Declared = DECLARED, **options: Any) -> Iterator[Site]:
    with embedded_site(folder, declared=declared, started=False, **options) as site:
        yield site


@pytest.fixture(params=["sqlite", "firestore"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """An app on a laptop, on either database."""
    store = None if request.param == "sqlite" else request.getfixturevalue("emulator_store")
    with laptop(tmp_path, store=store) as made:
        yield made


def jobs_of(site: Site) -> list[tuple[str, str | None]]:
    paths = site.services.store.tree(APP.jobs())
    found = [site.services.store.get(path) for path in paths]
    return sorted((str(each.data["kind"]), each.data["uid"]) for each in found if each is not None)


def states(site: Site) -> dict[str, str]:
    return {each.kind: each.state for each in run_jobs(site.app)}


def test_each_change_of_a_document_makes_one_job_with_its_fields_before_and_after(site: Site) -> None:
    store, at = site.services.store, datetime(2026, 3, 1, 12, tzinfo=UTC)
    fields = {"name": "Soup", "kcal": 300, "raw": b"\x00\xff", "eaten_at": at, "tags": ["a", {"b": 1.5}], "none": None}
    changes: list[Write] = [
        Create(MEAL, fields),
        Update(MEAL, {"kcal": Increment(5), "tags": DELETE_FIELD}),
        Set(MEAL, {"kcal": 1}),
        Set(MEAL, {"name": "Pie"}, merge=True),
        Delete(MEAL),
    ]
    for change in changes:
        store.commit([change])
        assert states(site) == {"meal_written": "succeeded", "clean_up": "succeeded"}
    after = [fields, {**fields, "kcal": 305}, {"kcal": 1}, {"kcal": 1, "name": "Pie"}, None]
    del after[1]["tags"]  # type: ignore[union-attr]
    events = [entry for entry in SEEN if entry[0] != "clean_up"]
    assert [entry[0] for entry in events] == ["created", "updated", "updated", "updated", "deleted"]
    assert [entry[4] for entry in events] == after
    assert [entry[3] for entry in events] == [None, *after[:-1]]
    assert {(entry[1], entry[2]["meal"]) for entry in events} == {("ada", "m1")}
    assert SEEN.count(("clean_up", "ada")) == 5


def test_a_transaction_and_a_jobs_own_commit_set_handlers_off_too(site: Site) -> None:
    def work(transaction: Transaction) -> None:
        found = transaction.get(MEAL)
        transaction.write(Set(MEAL, {"n": 1 if found is None else found.data["n"] + 1, "at": SERVER_TIME}))

    for _ in range(2):
        site.services.within(ADA).store.transaction(work)
    run_jobs(site.app)
    assert sorted((entry[0], entry[4]["n"]) for entry in SEEN if entry[0] != "clean_up") == [
        ("created", 1),
        ("updated", 2),
    ]
    assert all(isinstance(entry[4]["at"], datetime) for entry in SEEN if entry[0] != "clean_up")


def test_records_that_are_added_changed_and_deleted_set_handlers_off(site: Site) -> None:
    own = site.services.within(ADA).data(meals)
    meal = own.add(Meal(name="Soup", kcal=300))
    run_jobs(site.app)
    meal.kcal = 400
    own.update(meal)
    run_jobs(site.app)
    own.delete(meal.id)
    run_jobs(site.app)
    events = [entry for entry in SEEN if entry[0] != "clean_up"]
    assert [(entry[0], entry[2]) for entry in events] == [
        (c, {"meal": meal.id}) for c in ("created", "updated", "deleted")
    ]
    assert [entry[4] and entry[4]["kcal"] for entry in events] == [300, 400, None]


def test_a_commit_that_fails_or_changes_nothing_makes_no_job(site: Site) -> None:
    store = site.services.store
    with pytest.raises(NotFound):
        store.commit([Set(MEAL, {"n": 1}), Update(f"{ADA.root}/meals/m2", {"n": 2})])
    store.commit([Delete(MEAL)])
    assert jobs_of(site) == []
    store.commit([Create(MEAL, {"n": 1})])
    store.commit([Set(MEAL, {"n": 1}), Set(f"{ADA.root}/things/x", {})])
    assert jobs_of(site) == [("meal_written", "ada")]


def test_what_is_elsewhere_sets_nothing_off_and_what_is_the_apps_runs_as_the_app(site: Site) -> None:
    store = site.services.store
    store.commit([Set("apps/demo/meals/m1", {}), Set(f"{MEAL}/parts/p1", {}), Set(f"{ADA.root}/recipes/r1", {})])
    store.commit([Set(f"{ADA.root}/chats/c1", {})])
    assert jobs_of(site) == []
    store.commit([Set("apps/demo/recipes/r1", {"name": "Soup"}), Set(f"{BOB.root}/meals/m1", {})])
    assert jobs_of(site) == [("meal_written", "bob"), ("recipe_written", None)]


def test_a_handler_that_always_fails_ends_dead_and_can_be_redriven(site: Site) -> None:
    site.services.store.commit([Set("apps/demo/recipes/r1", {"name": "Soup"})])
    for _ in range(3):
        run_jobs(site.app)
        threading.Event().wait(0.15)
    (dead,) = site.services.jobs.dead(10, None).items
    assert (dead["kind"], dead["attempts"]) == ("recipe_written", 2)
    assert "secret detail" not in str(dead)
    site.services.jobs.redrive(dead["id"])
    run_jobs(site.app)
    assert len(SEEN) > 2
    assert all(entry[4] == {"name": "Soup"} for entry in SEEN)


def test_a_document_that_is_too_large_for_a_job_is_read_when_it_runs(site: Site) -> None:
    large = {"text": "x" * 400_000}
    site.services.store.commit([Set(MEAL, large)])
    run_jobs(site.app)
    assert SEEN[0] == ("created", "ada", {"meal": "m1"}, None, large)


def test_a_user_who_is_erased_leaves_no_job_behind(site: Site) -> None:
    store = site.services.store
    began = datetime.now(UTC) - timedelta(hours=1)
    store.commit([Set(ADA.erasure(), {"delete_at": datetime.now(UTC)})])
    with pytest.raises(Fenced), begun_at(began):
        store.commit([Set(MEAL, {})])
    assert jobs_of(site) == []


def test_a_job_of_the_app_keeps_nothing_of_a_user_whom_a_document_names(tmp_path: Path) -> None:
    with laptop(tmp_path, declared=Declared(collections=(posts,), events=(post_written,))) as site:
        services = site.services
        services.data(posts).add(Post(author="ada", text="of ada"), id="p1")
        services.data(posts).update("p1", {"text": "of ada, changed"})
        assert "of ada" not in str([services.store.get(path) for path in services.store.tree(APP.jobs())])
        erasure_of(services).run("ada")
        run_jobs(site.app)
        assert {change for change, _, _ in SEEN} == {"created", "updated"}
        assert all(before is None and "author" not in after for _, before, after in SEEN)
        kept = str([services.store.get(path) for path in services.store.tree(APP.jobs())])
        assert not re.search(r"\bada\b", kept)  # random ids may hold these letters


def test_a_file_that_is_put_into_a_users_folder_makes_a_job_that_can_read_it(tmp_path: Path) -> None:
    with laptop(tmp_path) as site:
        files = site.services.within(ADA).documents.files(ADA)
        files.put(f"{ADA.root}/pictures/lunch.jpg", io.BytesIO(b"picture"))
        files.put(f"{ADA.root}/others/lunch.jpg", io.BytesIO(b"picture"))
        assert states(site) == {"picture_stored": "succeeded"}
        assert SEEN == [("ada", {"name": "lunch.jpg"}, 7, "image/jpeg", b"picture")]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("snacks/{snack}", "'snacks' is none of App.collections=.* which are: meals, recipes"),
        ("chats/{chat}", "firelaunch keeps 'chats'"),
        ("users/{user}", "firelaunch keeps 'users'"),
        ("meals", "a name and a variable"),
        ("meals/{meal}/parts/{part}", "a name and a variable"),
        ("{collection}/{id}", "a name and a variable"),
        ("meals/m1", "a name and a variable"),
        ("meals/{uid}", "a name and a variable"),
    ],
)
def test_a_pattern_that_is_not_of_the_apps_own_is_refused_at_start(tmp_path: Path, pattern: str, words: str) -> None:
    declared = Declared(collections=DECLARED.collections, events=(on_write(pattern)(lambda_of("handler")),))
    with pytest.raises(SettingsError, match=words), laptop(tmp_path, declared):
        pass


@pytest.mark.parametrize("pattern", ["documents/{name}", "chats/{name}"])
def test_a_folder_that_firelaunch_keeps_is_refused_at_start(tmp_path: Path, pattern: str) -> None:
    handler = on_upload(pattern)(lambda_of("handler"))
    with pytest.raises(SettingsError, match="firelaunch keeps"), laptop(tmp_path, Declared(events=(handler,))):
        pass


@pytest.mark.parametrize(
    "pattern", ["meals/{meal}/{meal}", "meals//{meal}", "meals/{Meal}", "meals/x{meal}", "", "meals/{}"]
)
def test_a_pattern_that_is_none_is_refused_where_it_is_written(pattern: str) -> None:
    with pytest.raises(SettingsError, match="is no pattern"):
        on_write(pattern)(lambda_of("handler"))


def test_a_handlers_name_is_a_jobs_name_and_is_taken_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="letters"):
        on_write("meals/{meal}")(lambda_of("Not_A_Name"))
    taken = on_write("meals/{meal}")(lambda_of("clean_up"))
    declared = Declared(collections=DECLARED.collections, jobs=(clean_up,), events=(taken,))
    with pytest.raises(SettingsError, match="there is a job 'clean_up' already"), laptop(tmp_path, declared):
        pass


def lambda_of(name: str) -> Any:
    def handler(event: WriteEvent | UploadEvent) -> None: ...

    handler.__name__ = name
    return handler


# In the cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Site]:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    with cloud_site(tmp_path, store, settings=JOB_SETTINGS, declared=DECLARED, **CLOUD) as made:
        yield made
    store.close()


def send(site: Site, handler: str, sent: Sent, *, token: str | None = None) -> int:
    assert site.certificates is not None
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": "https://accounts.google.com", "aud": site.url, "email": ACCOUNT, "email_verified": True}
    token = token or site.certificates.sign({**claims, "sub": "1", "iat": now, "exp": now + 600})
    headers = {**sent.headers, "Authorization": f"Bearer {token}"}
    url = f"{site.url}/internal/events/{handler}"
    return httpx.post(url, content=sent.body, headers=headers, trust_env=False, timeout=60).status_code


def finished(site: Site, count: int) -> None:
    give_up = datetime.now(UTC) + timedelta(seconds=30)
    while len(SEEN) < count and datetime.now(UTC) < give_up:
        threading.Event().wait(0.02)
    assert len(SEEN) == count


def meal_event(path: str = MEAL, before: Any = None, after: Any = None, **changes: Any) -> Sent:
    after = {"name": "Soup"} if before is None and after is None else after
    return document_event("demo-project", path, before, after, **changes)


def test_eventarcs_event_makes_one_job_however_often_and_in_what_form_it_comes(cloud: Site) -> None:
    forms = [{}, {"structured": True}, {"as_json": True}, {"as_json": True, "structured": True}]
    for form in forms:
        assert send(cloud, "meal_written", meal_event(id="event-1", **form)) == 204
    finished(cloud, 2)
    assert SEEN[0] == ("created", "ada", {"meal": "m1"}, None, {"name": "Soup"})
    assert send(cloud, "meal_written", meal_event(before={"n": 1}, after={"n": 2}, id="event-2")) == 204
    finished(cloud, 4)
    assert ("updated", "ada", {"meal": "m1"}, {"n": 1}, {"n": 2}) in SEEN
    assert jobs_of(cloud).count(("meal_written", "ada")) == 2


def test_a_file_makes_one_job_although_cloud_storage_tells_of_it_twice(cloud: Site) -> None:
    name = f"{ADA.root}/pictures/lunch.jpg"
    bucket = "demo-project.firebasestorage.app"
    for sent in (storage_finalized(bucket, name), storage_notified(bucket, name), storage_notified(bucket, name)):
        assert send(cloud, "picture_stored", sent) == 204
    assert jobs_of(cloud) == [("picture_stored", "ada")]
    assert send(cloud, "picture_stored", storage_notified(bucket, name, generation=2)) == 204
    assert len(jobs_of(cloud)) == 2


@pytest.mark.parametrize(
    ("handler", "sent"),
    [
        ("meal_written", meal_event("apps/other/users/ada/meals/m1")),
        ("meal_written", meal_event(f"{ADA.root}/snacks/m1")),
        ("meal_written", meal_event("apps/demo/meals/m1")),
        ("meal_written", meal_event(f"{MEAL}/parts/p1")),
        ("meal_written", meal_event("apps/demo/users/__x__/meals/m1")),
        ("meal_written", meal_event(database="other")),
        ("meal_written", document_event("other-project", MEAL, None, {})),
        ("meal_written", meal_event(subject="documents/apps/demo/users/bob/meals/m1")),
        ("meal_written", meal_event(type="google.cloud.audit.log.v1.written")),
        ("meal_written", storage_finalized("demo-project.firebasestorage.app", f"{ADA.root}/meals/m1")),
        ("picture_stored", storage_finalized("another-bucket", f"{ADA.root}/pictures/a.jpg")),
        (
            "picture_stored",
            storage_finalized("demo-project.firebasestorage.app", "apps/other/users/ada/pictures/a.jpg"),
        ),
        ("picture_stored", meal_event(f"{ADA.root}/pictures/a.jpg")),
        ("nobody", meal_event()),
        ("clean_up", meal_event()),
        ("meal_written", Sent({"Content-Type": "application/json"}, b"{}")),
        ("meal_written", Sent({"Content-Type": "application/protobuf"}, b"\xff\xfe")),
        ("meal_written", Sent({}, b"")),
        ("meal_written", pushed({"eventType": "OBJECT_DELETE"}, b"{}")),
        ("meal_written", Sent({"Content-Type": "application/json"}, b"x" * (17 * 1024 * 1024))),
    ],
)
def test_an_event_that_is_not_the_handlers_is_acknowledged_and_does_nothing(
    cloud: Site, handler: str, sent: Sent
) -> None:
    assert send(cloud, handler, sent) == 204
    assert jobs_of(cloud) == []


def test_an_event_for_another_handler_is_usual_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    for error, level in ((ForOthers("x"), logging.INFO), (Ignored("x"), logging.WARNING)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            acknowledge(error, None, "picture_stored")
        assert [record.levelno for record in caplog.records] == [level]


def test_events_are_taken_of_google_alone(cloud: Site) -> None:
    for token in ("", "x.y.z"):
        assert send(cloud, "meal_written", meal_event(), token=token or "none") == 401
    assert jobs_of(cloud) == []


def test_an_event_comes_again_while_the_database_cannot_be_reached(cloud: Site) -> None:
    cloud.services.store.close()
    assert send(cloud, "meal_written", meal_event()) >= 500


def test_the_events_of_an_erasure_make_no_job_for_the_user_who_is_gone(cloud: Site) -> None:
    created = datetime.now(UTC) - timedelta(days=1)
    cloud.services.store.commit([Set(ADA.erasure(), {"delete_at": datetime.now(UTC)})])
    later = datetime.now(UTC) + timedelta(seconds=5)
    # written before the erasure, and told of late; removed by it
    assert send(cloud, "meal_written", meal_event(at=created)) == 204
    assert send(cloud, "meal_written", removed(created, later)) == 204
    assert jobs_of(cloud) == []
    # the user came back
    assert send(cloud, "meal_written", meal_event(at=later)) == 204
    assert send(cloud, "meal_written", removed(later, later)) == 204
    assert jobs_of(cloud).count(("meal_written", "ada")) == 2


def removed(created: datetime, at: datetime) -> Sent:
    time = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return document_event("demo-project", MEAL, {"name": "Soup"}, None, at=created, time=time)
