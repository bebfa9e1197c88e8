"""A whole project on this machine: what is deployed to the played Google runs here, in cloud mode.

The app and its functions are the bytes that gcloud uploaded. They reach Google's names as :mod:`.google_here` leads
them; requests to their addresses go through the played front end of Cloud Run. Tasks, schedules and events are
delivered with tokens that Google's played key signs. Each part can be told to misbehave.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
import ssl
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from fakes.google import GoogleCloud
from fakes.google.base import Call
from firelaunch.testing.cloud_events import document_event, storage_notified
from firelaunch.testing.embeddings import VertexEmbeddingServer
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.gemini import GeminiReply, GeminiServer
from firelaunch_cli.deploy.resources import APIS, BUILDER, BUILDER_ROLE, FEATURE_APIS, REPOSITORY
from firelaunch_cli.verify.access import CREDENTIALS_API, KEYS_API
from support import clean_environ

from .google_here import Container, GoogleHere, certificates

__all__ = ["PlayedProject"]

_FIRST_PORT = 9001
_COMMANDS = {
    "service": ("gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"),
    ".": ("functions_framework",),
}
_SAME = {"guests": "visitors", "telescope": "observatory"}
_NAMES = ("*.googleapis.com", "*.run.app", "*.a.run.app", "*.europe-west1.run.app")


class _Counting(GeminiServer):
    """Counts as far as it is asked to, a word at a time, with ``pause`` seconds between two."""

    pause = 0.03

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`GeminiServer`."""
        found = re.search(r"from 1 to (\d+)", json.dumps(body["contents"][-1]))
        count = int(found[1]) if found else 3
        self.default = GeminiReply(
            [f"word{number}, " for number in range(count)], pause=self.pause, usage=(20, 0, count, 0)
        )
        return super().answer(path, body)


class _Meaning(VertexEmbeddingServer):
    """Knows some words that mean the same."""

    def answer(self, path: str, body: Any) -> Any:
        """See :class:`VertexEmbeddingServer`."""
        for instance in body["instances"]:
            for word, same in _SAME.items():
                instance["content"] = instance["content"].replace(word, same)
        return super().answer(path, body)


class PlayedProject:
    """A context manager: ``cloud`` is the played Google, ``environ`` what leads tools to it.

    Attributes:
        lost: kinds of deliveries that never arrive: "tasks", "scheduler", "storage", "eventarc".
    """

    def __init__(self, folder: Path, emulator: Emulator, project: str) -> None:
        self.folder = folder
        self.project = project
        self.emulator = emulator
        self.lost: set[str] = set()
        self._containers: dict[str, tuple[str, Container]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        (self.folder / "tls").mkdir(parents=True)
        certificates(self.folder / "tls", _NAMES)
        here = GoogleHere(self.folder / "here", self.emulator, self.project, "-", "-", "app@example.com")
        here.model_servers(_Counting(), _Meaning())
        self.here = self._stack.enter_context(here)
        self.cloud = self._stack.enter_context(GoogleCloud(self.project))
        self._play()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def environ(self, home: Path) -> dict[str, str]:
        """What leads gcloud and firelaunch here, with TLS as on Google."""
        authority = str(self.folder / "tls" / "authority.pem")
        led = {key: value for key, value in self.cloud.environ(home).items() if "ENDPOINT_OVERRIDES" not in key}
        trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"), authority)
        return clean_environ(**led, **trust, CLOUDSDK_CORE_ACCOUNT="founder@example.com")

    @property
    def model(self) -> _Counting:
        """The played Gemini."""
        assert isinstance(self.here.gemini, _Counting)
        return self.here.gemini

    def deployed_before(self) -> None:
        """Have the project hold what the first deploy of any app makes, and Firebase Authentication be set up."""
        cloud, apis = self.cloud, {*APIS, *FEATURE_APIS.values(), CREDENTIALS_API, KEYS_API}
        cloud.account.apis |= apis
        cloud.account.firebase = True
        cloud.sign_in.config = {"name": "projects/1234/config"}
        builder = f"{BUILDER}@{self.project}.iam.gserviceaccount.com"
        cloud.account.accounts.append(builder)
        binding = {"role": BUILDER_ROLE, "members": [f"serviceAccount:{builder}"]}
        cloud.account.policy["bindings"].append(binding)
        region = f"projects/{self.project}/locations/europe-west1"
        cloud.account.repositories.append(f"{region}/repositories/{REPOSITORY}")

    def logs(self) -> str:
        """What the instances said."""
        return "\n".join(container.log.read_text()[-3000:] for _, container in self._containers.values())

    def _play(self) -> None:
        cloud, here = self.cloud, self.here
        cloud.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cloud.tls.load_cert_chain(self.folder / "tls" / "server.pem", self.folder / "tls" / "server.key")
        cloud.credentials.certificates = here.certificates
        cloud.run.host = self
        cloud.build.contents = _Contents(here.storage)
        cloud.build.stored = self._stored
        cloud.work.ring = lambda job: self._later(self._ring, job)
        cloud.firestore.released = self._released
        cloud.keep_documents(self.emulator).deleted = self._deleted
        here.tasks.resolve = lambda url: "http://127.0.0.1:9" if "tasks" in self.lost else self._led(url)

    # As Cloud Run's host.

    def start(self, service: str, revision: str, template: Mapping[str, Any]) -> None:
        """Run a revision from the bytes that were uploaded for its image."""
        for queue in self.cloud.work.queues:
            self.here.tasks.add_queue(queue)
        for bucket in self.cloud.build.buckets:
            self.cloud.build.objects_of(bucket)
        container = template["spec"]["containers"][0]
        source = self.folder / "revisions" / revision
        _unpack(self.cloud.build.images[container["image"].partition("@")[2]], source)
        (kind,) = [name for name in _COMMANDS if name != "." and (source / name).is_dir()] or ["."]
        module, *rest = _COMMANDS[kind]
        port = _FIRST_PORT + len(self._containers)
        given = {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}
        known = {"K_SERVICE": service, "K_REVISION": revision}
        command = [sys.executable, "-m", module, *rest]
        self._containers[revision] = service, self.here.run_folder(source / kind, command, port, {**given, **known})

    def address(self, revision: str) -> str:
        """Where a revision answers."""
        _, container = self._containers[revision]
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            assert container.process.poll() is None, container.log.read_text()
            try:
                container.client.get("/live")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        return str(container.client.base_url).rstrip("/")

    def stop(self, service: str) -> None:
        """End a service's revisions."""
        for revision, (name, container) in list(self._containers.items()):
            if name == service and container.process.poll() is None:
                container.kill()
                self._containers[revision] = name, container

    # What Google delivers.

    def _led(self, url: str) -> str:
        """An address of a service as one of this machine."""
        parts = urlsplit(url)
        upstream = self.cloud.run.upstream(Call("POST", parts.netloc, parts.path, {}, {}, b""))
        return f"{upstream or 'http://127.0.0.1:9'}{parts.path}"

    def _later(self, act: Any, *arguments: Any) -> None:
        threading.Thread(target=act, args=arguments, daemon=True).start()

    def _post(self, url: str, account: str, audience: str, headers: Mapping[str, str], body: bytes) -> int:
        """A delivery, tried again as Google's services do; the last answer's status."""
        for attempt in range(5):
            token = self.cloud.credentials.identity_token(account, audience)
            try:
                given = {**headers, "Authorization": f"Bearer {token}"}
                answer = httpx.post(self._led(url), content=body, headers=given, timeout=60, trust_env=False)
            except httpx.HTTPError:
                time.sleep(0.2 * 2**attempt)
                continue
            if answer.status_code < 300:
                return answer.status_code
            time.sleep(0.2 * 2**attempt)
        return 503

    def _ring(self, job: dict[str, Any]) -> None:
        if "scheduler" in self.lost:
            return
        target = job["httpTarget"]
        account, audience = target["oidcToken"]["serviceAccountEmail"], target["oidcToken"]["audience"]
        status = self._post(target["uri"], account, audience, {}, b"")
        job["status"] = {} if status < 300 else {"code": 13}
        job["lastAttemptTime"] = datetime.now(UTC).isoformat()

    def _stored(self, bucket: str, name: str) -> None:
        if "storage" in self.lost:
            return
        told = [each["topic"].removeprefix("//pubsub.googleapis.com/") for each in self._notified(bucket)]
        for subscription in self.cloud.events.subscriptions.values():
            only = re.search(r'objectId, "([^"]+)"', subscription.get("filter", ""))
            if subscription["topic"] in told and (only is None or name.startswith(only[1])):
                push = subscription["pushConfig"]
                sent, token = storage_notified(bucket, name), push["oidcToken"]
                account, audience = token["serviceAccountEmail"], token["audience"]
                self._later(self._post, push["pushEndpoint"], account, audience, sent.headers, sent.body)

    def _notified(self, bucket: str) -> list[dict[str, Any]]:
        return self.cloud.events.notifications.get(bucket, [])

    def _deleted(self, database: str, path: str) -> None:
        if "eventarc" in self.lost:
            return
        for trigger in self.cloud.events.triggers.values():
            filters = {each["attribute"]: each["value"] for each in trigger["eventFilters"]}
            if filters["database"] != database or not fnmatch.fnmatch(path, filters["document"]):
                continue
            goes = trigger["destination"]["cloudRun"]
            audience = f"https://{goes['service']}-1234.{goes['region']}.run.app"
            sent = document_event(self.project, path, {"status": "ready"}, None, database=database)
            url = f"{audience}{goes['path']}"
            self._later(self._post, url, trigger["serviceAccount"], audience, sent.headers, sent.body)

    def played_rules(self, release: str) -> None:
        """Put the rules of a release in force again."""
        self._released(release, self.cloud.firestore.text(release))

    def _released(self, name: str, text: str) -> None:
        kind, _, database = name.partition("/")
        if kind == "cloud.firestore":
            self.emulator.load_rules(self.project, text, database or "(default)")


class _Contents(dict[str, dict[str, bytes]]):
    """What buckets hold; that of a run's bucket is the storage server's, which the app calls."""

    def __init__(self, storage: Any) -> None:
        super().__init__()
        self._storage = storage

    def setdefault(self, bucket: str, default: dict[str, bytes] | None = None) -> dict[str, bytes]:
        """See dict."""
        if bucket not in self and re.search(r"-verify-[0-9a-f]{8}$", bucket):
            self._storage.bucket = bucket
            self[bucket] = self._storage.objects
        return super().setdefault(bucket, {} if default is None else default)


def _unpack(data: bytes, target: Path) -> None:
    target.mkdir(parents=True)
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(target)  # noqa: S202 - what this test's own deploy uploaded
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(target, filter="data")
