"""The Firestore emulator, found and started for tests; and clients that act as a user under its rules.

A project id is a namespace of its own for data and rules, so one emulator serves any number of tests side by side.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..store.firestore import FirestoreStore

__all__ = ["MEND", "Emulator", "EmulatorUnavailable", "RulesError", "find_jar", "unsigned_token"]

MEND = (
    "install Java 17 or newer and the Firestore emulator ('gcloud components install cloud-firestore-emulator'), "
    "or set FIRESTORE_EMULATOR_HOST to one that runs"
)

_DENY_ALL = "rules_version = '2';\nservice cloud.firestore { match /{path=**} { allow read, write: if false; } }\n"
_NONE_LOADED = "OPEN_RULES"  # the name that the emulator gives to the rules it has when it was started without any
_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
# Runs a command until it ends, or the process that owns the tests does: a session that is killed leaves no emulator.
_WATCHED = """
owner=$1; folder=$2; shift 2
"$@" & child=$!
trap 'kill -9 $child' TERM
while kill -0 "$owner" && kill -0 "$child"; do sleep 1 & wait $!; done 2>/dev/null
kill -9 "$child" 2>/dev/null
rm -rf "$folder"
"""
# Java's own defaults are for processes that live for days: they would spend more on compiling than tests last.
_JAVA_OPTIONS = ("-Duser.language=en", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_START_SECONDS = 60.0
_REST_SECONDS = 30.0

# The release that firebase-tools 14.27 names in its table of emulators, with the SHA-256 given there.
_RELEASE = "cloud-firestore-emulator-v1.19.8.jar"
_RELEASE_URL = f"https://storage.googleapis.com/firebase-preview-drop/emulator/{_RELEASE}"
_RELEASE_SHA256 = "9d43599ed6151199e8d604dc87fac51218e49e5f3a48519b1ae560bbe5e3382d"


class EmulatorUnavailable(Exception):
    """No emulator runs, and none can be started; the message says why."""


class RulesError(Exception):
    """The emulator refused security rules; the message names line and column."""


@dataclass(slots=True)
class Emulator:
    """A running emulator. A context manager that ends it, if it was started here.

    Attributes:
        host: "127.0.0.1:8080", as in FIRESTORE_EMULATOR_HOST.
        log: what it says, while it runs; None where it was started elsewhere.
    """

    host: str
    log: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def refusal(self) -> type[Exception]:
        """What :meth:`load_rules` raises where rules do not compile."""
        return RulesError

    @classmethod
    def start(cls, owner: int | None = None) -> Self:
        """The emulator that FIRESTORE_EMULATOR_HOST names, or a new one under deny-all rules on a free port.

        Args:
            owner: process id with which a new emulator ends at the latest; this process where it is left out.

        Raises:
            EmulatorUnavailable: there is no Java or no emulator, or it does not come up.
        """
        host = os.environ.get("FIRESTORE_EMULATOR_HOST")
        if host:
            return cls(host)
        java, jar = shutil.which("java"), find_jar()
        if java is None or jar is None:
            raise EmulatorUnavailable(f"no {'Java' if java is None else 'Firestore emulator'} found: {MEND}")
        return cls._start(java, jar, owner or os.getpid())

    @classmethod
    def _start(cls, java: str, jar: Path, owner: int) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="firelaunch-emulator-"))
        rules = folder / "deny_all.rules"
        rules.write_text(_DENY_ALL)
        port = _free_port()
        command = [java, *_JAVA_OPTIONS, "-cp", str(jar), _CLASS, "--host=127.0.0.1"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the emulator's own start command
                [
                    "/bin/sh",
                    "-c",
                    _WATCHED,
                    "sh",
                    str(owner),
                    str(folder),
                    *command,
                    f"--port={port}",
                    f"--rules={rules}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        emulator = cls(f"127.0.0.1:{port}", folder / "log", process)
        give_up = time.monotonic() + _START_SECONDS
        while not emulator._answers():
            if process.poll() is not None or time.monotonic() > give_up:
                said = _tail(folder / "log")
                emulator.stop()
                raise EmulatorUnavailable(f"the Firestore emulator did not come up; it said:\n{said}")
            time.sleep(0.05)
        return emulator

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}/", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End the emulator, if it was started here."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load_rules(self, project: str, source: str, database: str = "(default)") -> None:
        """Put security rules in force, for all that comes after.

        Raises:
            RulesError: they do not compile.
        """
        body = {"rules": {"files": [{"name": "firestore.rules", "content": source}]}}
        self.rest("PUT", f"/emulator/v1/{_where(project, database)}:securityRules", body)

    def close_if_open(self, project: str, database: str = "(default)") -> bool:
        """Deny everything where no rules were loaded and the emulator, started without any, would allow everything.

        Rules of one database do not hold for another, so each named database has to be looked at by itself.

        Returns:
            whether it was open.
        """
        said = self.rest("GET", f"/emulator/v1/{_where(project, database)}:securityRules")
        is_open = [file["name"] for file in said["rules"]["files"]] == [_NONE_LOADED]
        if is_open:
            self.load_rules(project, _DENY_ALL, database)
        return is_open

    def rule_coverage(self, project: str, database: str = "(default)") -> Any:
        """The expression tree of the rules in force, with the values seen and how often (see docs/test-rules.md)."""
        return self.rest("GET", f"/emulator/v1/{_where(project, database)}:ruleCoverage")

    def clear(self, project: str, database: str = "(default)") -> None:
        """Remove all documents of one database."""
        self.rest("DELETE", f"/emulator/v1/projects/{project}/databases/{database}/documents")

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the emulator's own REST API.

        Raises:
            RulesError: it answered 400.
            EmulatorUnavailable: it answered another error, or not at all.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.host}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=_REST_SECONDS) as answer:  # noqa: S310 - our own host
                said = answer.read()
        except urllib.error.HTTPError as error:
            message = error.read().decode(errors="replace")
            if error.code == 400:
                raise RulesError(_message(message)) from None
            raise EmulatorUnavailable(f"{method} {path}: {error.code} {message[:500]}") from None
        except OSError as error:
            raise EmulatorUnavailable(f"{method} {path}: {error}") from error
        return json.loads(said) if said else None

    def store(self, project: str, database: str = "(default)") -> FirestoreStore:
        """A store with an owner's rights, which rules do not bind."""
        return FirestoreStore(project, database, self.client(project, database))

    def client(self, project: str, database: str = "(default)") -> Any:
        """The real Python client with an owner's rights."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import firestore

        client = firestore.Client(project, AnonymousCredentials(), database)  # type: ignore[no-untyped-call]
        # The library reads the host from the environment alone, and tests of one process talk to more than one host.
        client._emulator_host = self.host
        return client

    def client_as(self, project: str, claims: Mapping[str, Any] | None, database: str = "(default)") -> Any:
        """The real Python client, bound by the rules as a user with ``claims`` (``sub`` is the uid); None is nobody.

        The library adds an owner's token to each call to an emulator, under which every rule would seem to allow. A
        database without rules is closed first.
        """
        self.close_if_open(project, database)
        client = self.client(project, database)
        metadata = [item for item in client._rpc_metadata if item[0] != "authorization"]
        if claims is not None:
            metadata.append(("authorization", f"Bearer {unsigned_token(project, claims)}"))
        client._rpc_metadata_internal = metadata
        return client


def _where(project: str, database: str) -> str:
    return f"projects/{project}" if database == "(default)" else f"projects/{project}/databases/{database}"


def unsigned_token(project: str, claims: Mapping[str, Any]) -> str:
    """An ID token as the Auth emulator issues them, which the Firestore emulator believes without a signature."""
    now = int(time.time())
    payload = {
        "iss": f"https://securetoken.google.com/{project}",
        "aud": project,
        "iat": now,
        "auth_time": now,
        "exp": now + 3600,
        "user_id": claims.get("sub"),
        "firebase": {"sign_in_provider": "custom", "identities": {}},
        **claims,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, payload)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def find_jar() -> Path | None:
    """The emulator's JAR: the Google Cloud CLI's, or one that firebase-tools or this harness has fetched before."""
    for root in _cloud_sdk_roots():
        jar = root / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
        if jar.is_file():
            return jar
    cache = Path.home() / ".cache"
    found = sorted(cache.glob("firebase/emulators/cloud-firestore-emulator-v*.jar"))
    found += sorted(cache.glob("firelaunch/cloud-firestore-emulator-v*.jar"))
    return found[-1] if found else _download(cache / "firelaunch")


def _cloud_sdk_roots() -> list[Path]:
    roots = [Path(os.environ[name]) for name in ("CLOUDSDK_ROOT_DIR",) if os.environ.get(name)]
    gcloud = shutil.which("gcloud")
    if gcloud:
        roots.append(Path(gcloud).resolve().parent.parent)
    return [*roots, Path("/usr/lib/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _download(folder: Path) -> Path | None:
    """The official release, where there is a network; None where there is none."""
    target = folder / _RELEASE
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{_RELEASE}.{os.getpid()}"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(_RELEASE_URL, timeout=20) as answer, aside.open("wb") as out:
            while block := answer.read(1 << 20):
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != _RELEASE_SHA256:
            raise EmulatorUnavailable(f"{_RELEASE_URL} does not have the SHA-256 it should; nothing was kept")
        aside.replace(target)
    except OSError:
        return None
    finally:
        aside.unlink(missing_ok=True)
    return target


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:1000]
