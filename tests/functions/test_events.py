"""Functions that Google's services send events to, as real functions-framework processes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.jobs import embedded_site
from firelaunch.documents.catalog import DocumentSource, document_id
from firelaunch.functions import Call, scoped
from firelaunch.functions.host import Host
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import Delete
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.cloud_events import Sent, document_event, pushed, storage_finalized, storage_notified
from flask import Request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import served_function
from werkzeug.test import EnvironBuilder

ADA = Scope("demo", "ada")
PROJECT, BUCKET = "demo-project", "demo-project.firebasestorage.app"
HERE = SETTINGS + f'\n[cloud]\nproject = "{PROJECT}"\n'
UPLOAD = "apps/demo/users/ada/uploads/Notes on Çeşme.txt"


@contextmanager
def served(name: str, folder: Path) -> Iterator[Callable[[Sent], httpx.Response]]:
    """The function, serving the app of ``folder``."""
    (folder / "logs").mkdir(exist_ok=True)
    with served_function(name, folder / "logs", APPS=str(folder)) as url:

        def post(sent: Sent) -> httpx.Response:
            return httpx.post(url, content=sent.body, headers=dict(sent.headers), trust_env=False, timeout=60)

        yield post


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = build(Settings.load(write_app(tmp_path, HERE), {}))
    yield made
    made.store.close()


def queued(services: Services) -> list[Any]:
    store = services.store
    return sorted(
        (d.data["kind"], d.data["uid"], json.loads(d.data["payload"]).get("document"))
        for path in store.tree("apps/demo/jobs")
        if (d := store.get(path))
    )


def malformed() -> list[Sent]:
    """What no function could act on; each once sent with an error would come again for a day."""
    good = storage_finalized(BUCKET, UPLOAD)
    json_headers = {"Content-Type": "application/cloudevents+json"}
    without = {name: value for name, value in good.headers.items() if name != "ce-id"}
    return [
        Sent({}, b""),
        Sent({"Content-Type": "text/plain"}, b"\xff\xfe"),
        Sent(json_headers, b"{"),
        Sent(json_headers, b"[1]"),
        Sent(json_headers, b'{"specversion": "9.9"}'),
        Sent(json_headers, b'{"specversion": "1.0", "id": 5, "type": 7, "source": "x"}'),
        Sent(json_headers, b'{"specversion": "1.0", "id": "1", "type": "x", "source": "x", "data_base64": "!"}'),
        Sent(without, good.body),
        Sent(good.headers, b"{"),
        Sent(good.headers, b"[]"),
        Sent(good.headers, b"{}"),
        Sent(good.headers, b"[" * 100_000),
        Sent(good.headers, good.body.replace(b'"generation": "1588778055917163"', b'"generation": {}')),
        *(
            Sent(good.headers, good.body.replace(b'"generation": "1588778055917163"', b'"generation": ' + generation))
            for generation in (
                b'"x7"',
                b'"-7"',
                b'"' + b"9" * 5_000 + b'"',
                b"9" * 4_000,
                b"9" * 5_000,
                b"1e999",
                b"7.5",
            )
        ),
        Sent({**good.headers, "ce-subject": "objects/apps/demo/users/bob/uploads/a.txt"}, good.body),
        Sent({**good.headers, "ce-source": "//storage.googleapis.com/projects/_/buckets/another"}, good.body),
        Sent({**good.headers, "ce-type": "google.cloud.firestore.document.v1.written"}, good.body),
        Sent({**good.headers, "Content-Type": "application/protobuf"}, b"\xff" * 50),
        Sent({**good.headers, "X-Big": "1"}, b"x" * (17 * 1024 * 1024)),
    ]


def badly_pushed() -> list[Sent]:
    """Messages of Pub/Sub that are no notification, or that say two things."""
    good = storage_finalized(BUCKET, UPLOAD)
    headers = {"Content-Type": "application/json"}
    return [
        Sent(headers, b'{"message": 7}'),
        Sent(headers, b'{"message": {"attributes": [], "data": ""}}'),
        Sent(headers, b'{"message": {"attributes": {"payloadFormat": "JSON_API_V1"}, "data": "!"}}'),
        storage_notified(BUCKET, UPLOAD, eventType="OBJECT_DELETE"),
        storage_notified(BUCKET, UPLOAD, eventType=None),
        storage_notified(BUCKET, UPLOAD, payloadFormat="NONE"),
        storage_notified(BUCKET, UPLOAD, objectId="apps/demo/users/bob/uploads/a.txt"),
        storage_notified(BUCKET, UPLOAD, bucketId="another-bucket"),
        storage_notified("another-bucket", UPLOAD),
        storage_notified(BUCKET, "apps/other/users/ada/uploads/a.txt"),
        pushed({"ce-specversion": "1.0", "ce-id": "1"}, good.body),
        pushed({name: value for name, value in good.headers.items() if name != "ce-id"}, good.body),
        pushed({**good.headers, "ce-subject": "objects/apps/demo/users/bob/uploads/a.txt"}, good.body),
    ]


def no_such_time(sent: Sent) -> Sent:
    """The same, with a time of the document's that no calendar has."""
    from google.events.cloud.firestore_v1.types.data import DocumentEventData

    message = DocumentEventData.pb()()
    message.ParseFromString(sent.body)
    message.old_value.fields["at"].timestamp_value.seconds = 10**17
    return Sent(sent.headers, message.SerializeToString())


def foreign() -> list[Sent]:
    """Events of other resources, which are somebody else's business."""
    names = (
        "apps/other/users/ada/uploads/a.txt",
        "apps/demo/users/ada/uploads/folder/a.txt",
        "apps/demo/users/ada/a.txt",
        "apps/demo/uploads/a.txt",
        "apps/demo/users//uploads/a.txt",
        "apps/demo/users/../uploads/a.txt",
        "apps/demo/users/__ada__/uploads/a.txt",
        "apps/demo/users/a\x00b/uploads/a.txt",
        "/apps/demo/users/ada/uploads/a.txt",
        "apps/demo/users/ada/uploads/" + "x" * 300,
        "a.txt",
    )
    return [
        *(storage_finalized(BUCKET, name, structured=True) for name in names),
        storage_finalized("another-bucket", UPLOAD),
        storage_finalized(BUCKET, UPLOAD, type="google.cloud.storage.object.v1.deleted"),
        storage_finalized(BUCKET, UPLOAD, type="google.cloud.pubsub.topic.v1.messagePublished"),
    ]


def test_an_upload_becomes_one_document_of_its_user_for_each_generation(tmp_path: Path, services: Services) -> None:
    """In both forms, however often each event comes, in whatever order; and nothing else becomes one."""
    document = document_id("Notes on Çeşme.txt")
    with served("ingest_upload", tmp_path) as post:
        for sent in (*malformed(), *foreign()):
            assert post(sent).status_code == 204, sent
        assert queued(services) == []
        for structured in (False, True, False):
            answer = post(storage_finalized(BUCKET, UPLOAD, 7, structured=structured))
            assert (answer.status_code, answer.content) == (204, b"")
        assert queued(services) == [("ingest", "ada", document)]
        assert services.documents.get(ADA, document)["name"] == "Notes on Çeşme.txt"
        eighth = storage_finalized(BUCKET, UPLOAD, 8)
        size = re.search(rb'"size": "\d+"', eighth.body)
        assert size is not None
        for told in (b'"' + b"9" * 5_000 + b'"', b"9" * 4_000, b'"many"'):
            huge = Sent(eighth.headers, eighth.body.replace(size.group(), b'"size": ' + told))
            assert post(huge).status_code == 204, "what it says of its size is no reason to have it come again"
        assert post(storage_finalized(BUCKET, UPLOAD, 7)).status_code == 204
        assert queued(services) == [("ingest", "ada", document)] * 2
    log = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert "its app is not served here" in log
    assert "Çeşme" not in log


def test_a_notification_that_pubsub_pushes_is_the_same_event(tmp_path: Path, services: Services) -> None:
    """What is no notification, or says two things, is let go; the same generation is taken in once in either form."""
    with served("ingest_upload", tmp_path) as post:
        for sent in badly_pushed():
            assert post(sent).status_code == 204, sent
        assert queued(services) == []
        finalized = storage_finalized(BUCKET, UPLOAD, 7)
        for sent in (storage_notified(BUCKET, UPLOAD, 7), storage_notified(BUCKET, UPLOAD, 7), finalized):
            assert post(sent).status_code == 204
        assert queued(services) == [("ingest", "ada", document_id("Notes on Çeşme.txt"))]


def test_an_event_that_no_header_could_carry_comes_in_a_message(services: Services) -> None:
    """As Eventarc sends one whose path ends in a space: its attributes are the message's."""
    seen: list[Any] = []

    @scoped("apps/{app}/users/{uid}/documents/{document}", "google.cloud.firestore.document.v1.written",
            host=lambda: Host({"demo": services}, None))  # fmt: skip
    def written(call: Call) -> None:
        seen.append((call.names["document"], call.data.before, call.id))

    event = document_event(PROJECT, f"{ADA.root}/documents/d1 ", {"name": "a.txt"}, None, id="e7")
    attributes = {name.lower().replace("content-type", "ce-datacontenttype"): v for name, v in event.headers.items()}
    assert written(request_of(pushed(attributes, event.body))).status_code == 204
    assert seen == [("d1 ", {"name": "a.txt"}, "e7")]


def test_an_upload_is_read_and_found_once_its_job_has_run(tmp_path: Path) -> None:
    with embedded_site(tmp_path, settings=HERE, started=False) as site:
        files = site.services.documents.files(ADA)
        files.put(UPLOAD, io.BytesIO(b"The harbour of Cesme freezes in no winter."))
        with served("ingest_upload", tmp_path) as post:
            assert post(storage_finalized(BUCKET, UPLOAD)).status_code == 204
        for job in site.services.jobs.due(10):
            site.runner.run(job)
        ada = sign_in(site.app, "ada")
        found = ada.post("/v1/search", {"query": "harbour in winter"}).get_json()
        assert "freezes" in json.dumps(found)


def test_a_document_whose_record_was_removed_is_found_no_more(tmp_path: Path) -> None:
    """Removed past the API, as in Firebase's console; protobuf and JSON, late and twice. One that is there stays."""
    with embedded_site(tmp_path, settings=HERE, started=False) as site:
        services, documents = site.services, site.services.documents
        for name, text in (("a.txt", b"Otters hold hands."), ("b.txt", b"Otters sleep afloat.")):
            documents.add(ADA, DocumentSource("file", name), io.BytesIO(text))
        for job in services.jobs.due(10):
            site.runner.run(job)
        gone, stays = document_id("a.txt"), document_id("b.txt")
        state = documents.versions.state()
        assert state is not None
        index = documents.engine(state.current).index
        assert index.count(ADA, state.current.id) == 2
        services.store.commit([Delete(ADA.document(gone))])
        before = {"name": "a.txt", "bytes": 18, "at": datetime.now(UTC), "indexed": {"v": None}, "tags": [1, 2.5, True]}
        here = (PROJECT, ADA.document(gone))
        with served("on_document_written", tmp_path) as post:
            for sent in (
                *malformed(),
                document_event(PROJECT, ADA.document(gone), before, before),
                document_event("another-project", ADA.document(gone), before, None),
                document_event(*here, before, None, database="demo"),
                document_event(*here, before, None, subject=f"documents/{ADA.document(stays)}"),
                document_event(*here, None, None),
                no_such_time(document_event(*here, before, None)),
                document_event(PROJECT, "apps/other/users/ada/documents/" + gone, before, None),
                document_event(PROJECT, f"{ADA.document(gone)}/chunks/c1", before, None),
                document_event(PROJECT, ADA.document(stays), before, None),  # came late: it was put up again
            ):
                assert post(sent).status_code == 204, sent
            assert index.count(ADA, state.current.id) == 2
            for form in ({}, {"structured": True}, {"as_json": True}, {"structured": True, "as_json": True}):
                assert post(document_event(*here, before, None, **form)).status_code == 204
            assert len(index.read(ADA, state.current.id, gone)) == 0
            assert len(index.read(ADA, state.current.id, stays)) == 1


@pytest.mark.parametrize(
    ("raised", "age", "status"),
    [
        (lambda: ZeroDivisionError("secret"), timedelta(minutes=5), 500),
        (lambda: ZeroDivisionError("secret"), timedelta(hours=2), 204),
    ],
)
def test_an_error_that_nobody_expected_has_the_event_sent_again_for_an_hour(
    services: Services, raised: Callable[[], Exception], age: timedelta, status: int, caplog: Any
) -> None:
    assert answered(services, raised(), age) == status
    assert "secret" not in caplog.records[-1].getMessage()


def test_while_the_database_is_down_the_event_is_to_come_again_and_what_is_refused_is_not(services: Services) -> None:
    from firelaunch.errors import BadRequest, JobsUnavailable, StoreError, TooLarge

    long_ago = timedelta(hours=20)
    assert answered(services, StoreError(), long_ago) == 500
    assert answered(services, JobsUnavailable(), long_ago) == 503
    assert answered(services, TooLarge(), timedelta(0)) == 204
    assert answered(services, BadRequest(), timedelta(0)) == 204


def answered(services: Services, error: Exception, age: timedelta) -> int:
    """The status that a function answers with which fails so."""

    @scoped(
        "apps/{app}/users/{uid}/uploads/{name}",
        "google.cloud.storage.object.v1.finalized",
        host=lambda: Host({"demo": services}, None),
    )
    def fails(call: Call) -> None:
        assert (call.scope, dict(call.names)) == (ADA, {"name": "a.txt"})
        raise error

    sent = storage_finalized(BUCKET, "apps/demo/users/ada/uploads/a.txt", at=datetime.now(UTC) - age)
    return fails(request_of(sent)).status_code


def request_of(sent: Sent) -> Request:
    return Request(EnvironBuilder("/", method="POST", headers=dict(sent.headers), data=sent.body).get_environ())


@pytest.mark.parametrize(
    "pattern", ["", "users/{uid}", "apps/{app}/x/{uid}", "apps/{app}/{a}/{a}", "apps/{app}//x", "apps/x"]
)
def test_a_pattern_that_says_no_scope_is_refused_when_it_is_written(pattern: str) -> None:
    with pytest.raises(ValueError, match="no pattern"):
        scoped(pattern)


HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "ce-specversion", "ce-id", "ce-type", "ce-source", "ce-subject", "ce-time"]),
    st.sampled_from(
        [
            *(
                "1.0",
                "0.3",
                "e1",
                "application/json",
                "application/cloudevents+json",
                "application/protobuf",
                "",
                "\xff",
            ),
            *("google.cloud.storage.object.v1.finalized", "google.cloud.firestore.document.v1.written"),
            *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "application/json; charset=x"),
        ]
    ),
)
FIELDS = st.sampled_from(["message", "attributes", "data", "id", "type", "source", "specversion", "name", "bucket"])
NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([UPLOAD, BUCKET, "1.0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=40),
    NESTED.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [b"[" * 100_000, b'{"data":' * 50_000, b"9" * 10_000, b'{"message": {"attributes": {}, "data": "\xc3\xa9"}}']
    ),
)


@pytest.mark.parametrize(
    "kind", ["google.cloud.storage.object.v1.finalized", "google.cloud.firestore.document.v1.written"]
)
def test_no_envelope_whatever_is_in_it_is_sent_again(services: Services, kind: str) -> None:
    @scoped("apps/{app}/users/{uid}/uploads/{name}", kind, host=lambda: Host({"demo": services}, None))
    def taken(call: Call) -> None:
        pass

    def post(headers: dict[str, str], body: bytes) -> int:
        status: int = taken(request_of(Sent(headers, body))).status_code
        return status

    @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(headers=HEADERS, body=BODIES)
    @example(headers={"Content-Type": "application/cloudevents+json"}, body=b'{"data":' * 50_000)
    @example(headers={"Content-Type": "application/cloudevents+json"}, body=b"[" * 100_000)
    def hold(headers: dict[str, str], body: bytes) -> None:
        assert post(headers, body) == 204

    hold()


def test_what_a_function_is_handed_reaches_its_own_scope_alone(services: Services) -> None:
    from firelaunch.errors import ScopeViolation
    from firelaunch.worker.tasks.notify import NOTIFY, Notify

    bob, seen = Scope("demo", "bob"), []

    @scoped("apps/{app}/users/{uid}/uploads/{name}", "google.cloud.storage.object.v1.finalized",
            host=lambda: Host({"demo": services}, None))  # fmt: skip
    def reaches(call: Call) -> None:
        for attempt in (
            lambda: call.services.store.get(bob.root),
            lambda: call.services.store.get("apps/demo/jobs/j1"),
            lambda: call.services.chats.create(bob, "x"),
            lambda: call.services.jobs.enqueue(bob, NOTIFY, Notify(title="x")),
            lambda: call.services.documents.get(bob, "d1"),
            lambda: call.services.checkout.grant(bob, "free", "root"),
            lambda: call.services.within(bob),
        ):
            with pytest.raises(ScopeViolation):
                attempt()
            seen.append(attempt)
        assert call.services.dev_identity is None

    sent = storage_finalized(BUCKET, "apps/demo/users/ada/uploads/a.txt")
    reaches(request_of(sent))
    assert len(seen) == 7
