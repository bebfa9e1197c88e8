"""Find and start the Firestore emulator for tests, and make clients that act as a user under its rules.

Each project id has its own data and rules, so one emulator serves any number of tests side by side.
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
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ..store.firestore import FirestoreStore

__all__ = ["MEND", "Emulator", "EmulatorUnavailable", "RulesError", "find_jar", "unsigned_token"]

MEND = (
    "install Java 17 or newer and the Firestore emulator ('gcloud components install cloud-firestore-emulator'), "
    "or set FIRESTORE_EMULATOR_HOST to one that runs"
)

_DENY_ALL = "rules_version = '2';\nservice cloud.firestore { match /{path=**} { allow read, write: if false; } }\n"
_NONE_LOADED = "OPEN_RULES"  # the emulator's name for its rules if it was started without any
_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
# Runs a command until it or the process that owns the tests ends, so that a killed session leaves no emulator behind.
_WATCHED = """
owner=$1; folder=$2; shift 2
"$@" & child=$!
trap 'kill -9 $child' TERM
while kill -0 "$owner" && kill -0 "$child"; do sleep 1 & wait $!; done 2>/dev/null
kill -9 "$child" 2>/dev/null
rm -rf "$folder"
"""
# Java's defaults suit processes that live for days: the emulator would compile for longer than the tests last.
_JAVA_OPTIONS = ("-Duser.language=en", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_START_SECONDS = 60.0
_REST_SECONDS = 30.0

# The release that firebase-tools 14.27 names in its table of emulators, with the SHA-256 given there.
_RELEASE = "cloud-firestore-emulator-v1.19.8.jar"
_RELEASE_URL = f"https://storage.googleapis.com/firebase-preview-drop/emulator/{_RELEASE}"
_RELEASE_SHA256 = "9d43599ed6151199e8d604dc87fac51218e49e5f3a48519b1ae560bbe5e3382d"


class EmulatorUnavailable(Exception):
    """No emulator runs, and none can be started. The message says why."""


class RulesError(Exception):
    """The emulator refused security rules; the message names line and column."""


@dataclass(slots=True)
class Emulator:
    """A running emulator, as a context manager that stops it if it was started here.

    Attributes:
        host: the address, such as "127.0.0.1:8080", as in FIRESTORE_EMULATOR_HOST.
        log: the emulator's log file while it runs; None if it was started elsewhere.
    """

    host: str
    log: Path | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def refusal(self) -> type[Exception]:
        """The exception that :meth:`load_rules` raises if rules do not compile."""
        return RulesError

    @classmethod
    def start(cls, owner: int | None = None, port: int | None = None) -> Self:
        """Return the emulator at FIRESTORE_EMULATOR_HOST, or start one with deny-all rules.

        Args:
            owner: the id of the process with which a new emulator ends at the latest; by default this process.
            port: the port of a new emulator; any free one if left out.

        Raises:
            EmulatorUnavailable: Java or the emulator is missing, or the emulator does not start.
        """
        host = os.environ.get("FIRESTORE_EMULATOR_HOST")
        if host:
            return cls(host)
        java, jar = shutil.which("java"), find_jar()
        if java is None or jar is None:
            raise EmulatorUnavailable(f"no {'Java' if java is None else 'Firestore emulator'} found: {MEND}")
        return cls._start(java, jar, owner or os.getpid(), port or _free_port())

    @classmethod
    def _start(cls, java: str, jar: Path, owner: int, port: int) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="firelaunch-emulator-"))
        rules = folder / "deny_all.rules"
        rules.write_text(_DENY_ALL)
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
                log_end = _tail(folder / "log")
                emulator.stop()
                raise EmulatorUnavailable(f"the Firestore emulator did not come up; it said:\n{log_end}")
            time.sleep(0.05)
        return emulator

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}/", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the emulator if it was started here."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load_rules(self, project: str, source: str, database: str = "(default)") -> None:
        """Put security rules in force for all later requests.

        Raises:
            RulesError: the rules do not compile.
        """
        body = {"rules": {"files": [{"name": "firestore.rules", "content": source}]}}
        self.rest("PUT", f"/emulator/v1/{_where(project, database)}:securityRules", body)

    def close_if_open(self, project: str, database: str = "(default)") -> bool:
        """Deny everything if no rules were loaded. An emulator that was started without rules allows everything.

        Rules hold for one database only, so check each named database.

        Returns:
            Whether the database was open.
        """
        loaded = self.rest("GET", f"/emulator/v1/{_where(project, database)}:securityRules")
        is_open = [file["name"] for file in loaded["rules"]["files"]] == [_NONE_LOADED]
        if is_open:
            self.load_rules(project, _DENY_ALL, database)
        return is_open

    def rule_coverage(self, project: str, database: str = "(default)") -> Any:
        """Return the expression tree of the rules in force, with the values seen and how often (docs/test-rules.md)."""
        return self.rest("GET", f"/emulator/v1/{_where(project, database)}:ruleCoverage")

    def clear(self, project: str, database: str = "(default)") -> None:
        """Remove all documents of one database."""
        self.rest("DELETE", f"/emulator/v1/projects/{project}/databases/{database}/documents")

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        """Call the emulator's own REST API and return the answer's JSON.

        Raises:
            RulesError: the emulator answered 400.
            EmulatorUnavailable: the emulator answered another error, or not at all.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.host}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=_REST_SECONDS) as answer:  # noqa: S310 - our own host
                answer_body = answer.read()
        except urllib.error.HTTPError as error:
            message = error.read().decode(errors="replace")
            if error.code == 400:
                raise RulesError(_message(message)) from None
            raise EmulatorUnavailable(f"{method} {path}: {error.code} {message[:500]}") from None
        except OSError as error:
            raise EmulatorUnavailable(f"{method} {path}: {error}") from error
        return json.loads(answer_body) if answer_body else None

    def store(self, project: str, database: str = "(default)") -> FirestoreStore:
        """Return a store with an owner's rights, to which rules do not apply."""
        from ..store.firestore import FirestoreStore  # Google's client takes half a second to import

        return FirestoreStore(project, database, self.client(project, database))

    def client(self, project: str, database: str = "(default)") -> Any:
        """Return Google's Python client with an owner's rights, to which rules do not apply."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import firestore

        client = firestore.Client(project, AnonymousCredentials(), database)  # type: ignore[no-untyped-call]
        # The library reads the host only from the environment, but tests in one process use more than one host.
        client._emulator_host = self.host
        return client

    def client_as(self, project: str, claims: Mapping[str, Any] | None, database: str = "(default)") -> Any:
        """Return Google's Python client as a user with ``claims``, to whom the rules apply.

        ``sub`` is the uid; None stands for a client that is not signed in. The library sends an owner's token with each
        call to an emulator, with which every rule would allow, so this client replaces the token. A database without
        rules is closed first.
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
    """Return an ID token like those of the Auth emulator, which the Firestore emulator accepts unsigned."""
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
    """Return the emulator's JAR: the Google Cloud CLI's, firebase-tools', or one that this module downloads."""
    for root in _cloud_sdk_roots():
        jar = root / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
        if jar.is_file():
            return jar
    cache = Path.home() / ".cache"
    jars = sorted(cache.glob("firebase/emulators/cloud-firestore-emulator-v*.jar"))
    jars += sorted(cache.glob("firelaunch/cloud-firestore-emulator-v*.jar"))
    return jars[-1] if jars else _download(cache / "firelaunch")


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
    """Download the official release. Return None without a network."""
    target = folder / _RELEASE
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{_RELEASE}.{os.getpid()}"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(_RELEASE_URL, timeout=20) as answer, partial.open("wb") as out:
            while block := answer.read(1 << 20):
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != _RELEASE_SHA256:
            raise EmulatorUnavailable(f"{_RELEASE_URL} does not have the SHA-256 it should; nothing was kept")
        partial.replace(target)
    except OSError:
        return None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:1000]
