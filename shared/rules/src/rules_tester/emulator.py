"""Find and start the Firestore emulator, load rules into it, and read which expressions it ran.

It is looked for in the Google Cloud CLI, in the cache of firebase-tools, and where ``FIRESTORE_EMULATOR_JAR`` or an
option says. ``FIRESTORE_EMULATOR_HOST`` names one that runs already.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["NoEmulator", "RulesEmulator", "RulesRefused", "emulator_jar", "unsigned_id_token"]

_JAVA = (
    "Install Java 17 or newer: 'apt install openjdk-17-jre-headless' on Debian and Ubuntu, 'brew install openjdk' on "
    "macOS, or https://adoptium.net"
)
_EMULATOR = (
    "Install the Firestore emulator with 'npx firebase-tools setup:emulators:firestore' or 'gcloud components install "
    "cloud-firestore-emulator', or give its JAR file with --emulator FILE"
)
_DENY_ALL = "rules_version = '2';\nservice cloud.firestore { match /{path=**} { allow read, write: if false; } }\n"
_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
# Java's defaults suit processes that live for days.
_OPTIONS = ("-Duser.language=en", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Runs a command until it or its owner ends, so that an owner that is killed leaves no emulator behind.
_WATCHED = """
owner=$1; shift
"$@" & child=$!
trap 'kill -9 $child' TERM
while kill -0 "$owner" && kill -0 "$child"; do sleep 1 & wait $!; done 2>/dev/null
kill -9 "$child" 2>/dev/null
"""
_SDK = (Path("/usr/lib/google-cloud-sdk"),)
"""The places in which packages of the Google Cloud CLI put it."""
_START_SECONDS = 60.0
_SECONDS = 60.0
_VERSION = re.compile(r"\d+")


class NoEmulator(Exception):
    """No emulator runs, and none can be started. The message says what to install."""


class RulesRefused(Exception):
    """The emulator does not compile the rules. The message has its words, with lines and columns."""


@dataclass(slots=True)
class RulesEmulator:
    """A running emulator, as a context manager that stops it if it was started here.

    Attributes:
        host: its address, such as "127.0.0.1:8080".
    """

    host: str
    _process: subprocess.Popen[bytes] | None = None
    _folder: Path | None = None

    @classmethod
    def start(cls, jar: Path | None = None) -> Self:
        """Return the emulator at FIRESTORE_EMULATOR_HOST, or start one.

        Args:
            jar: the emulator's JAR file; by default :func:`emulator_jar` finds it.

        Raises:
            NoEmulator: Java or the emulator is missing, or the emulator does not start.
        """
        host = os.environ.get("FIRESTORE_EMULATOR_HOST")
        if host and not jar:
            return cls(host)
        java, found = shutil.which("java"), jar or emulator_jar()
        missing = [mend for there, mend in ((java, _JAVA), (found, _EMULATOR)) if not there]
        if java is None or found is None:
            raise NoEmulator("The cases run on Google's Firestore emulator. " + ". ".join(missing) + ".")
        return cls._start([java, *_OPTIONS, "-cp", str(found), _CLASS])

    @classmethod
    def _start(cls, command: list[str]) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="rules-tester-"))
        (folder / "deny_all.rules").write_text(_DENY_ALL)
        port = _free_port()
        more = ["--host=127.0.0.1", f"--port={port}", f"--rules={folder / 'deny_all.rules'}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the emulator's own start command
                ["/bin/sh", "-c", _WATCHED, "sh", str(os.getpid()), *command, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        emulator = cls(f"127.0.0.1:{port}", process, folder)
        give_up = time.monotonic() + _START_SECONDS
        while not emulator._answers():
            if process.poll() is not None or time.monotonic() > give_up:
                said = (folder / "log").read_text(errors="replace")[-2000:]
                emulator.stop()
                raise NoEmulator(f"The Firestore emulator did not start. It said:\n{said}")
            time.sleep(0.05)
        return emulator

    @property
    def refusal(self) -> type[Exception]:
        """The exception that :meth:`load_rules` raises if rules do not compile."""
        return RulesRefused

    def load_rules(self, project: str, source: str) -> None:
        """Put rules in force for the default database of a project.

        Raises:
            RulesRefused: they do not compile.
        """
        body = {"rules": {"files": [{"name": "firestore.rules", "content": source}]}}
        self._ask("PUT", f"/emulator/v1/projects/{project}:securityRules", body)

    def rule_coverage(self, project: str) -> Any:
        """Return the expressions of the rules in force, with the values seen since they were loaded."""
        return json.loads(self._ask("GET", f"/emulator/v1/projects/{project}:ruleCoverage"))

    def processor_seconds(self) -> float:
        """Return the processor time that the emulator has taken; 0.0 if it was not started here, or not on Linux."""
        if sys.platform != "linux" or self._process is None:
            return 0.0
        total, waiting = 0, [self._process.pid]
        with contextlib.suppress(OSError):
            while waiting:
                pid = waiting.pop()
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                total += sum(map(int, times))
        return total / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Stop the emulator if it was started here."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            self._ask("GET", "/")
        except NoEmulator:
            return False
        return True

    def _ask(self, method: str, path: str, body: Any = None) -> str:
        connection = http.client.HTTPConnection(self.host, timeout=_SECONDS)
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise NoEmulator(f"The Firestore emulator at {self.host} does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status == 400:
            raise RulesRefused(_message(text))
        if answer.status != 200:
            raise NoEmulator(f"The Firestore emulator answered {method} {path} with {answer.status} {text[:300]}")
        return text


def emulator_jar() -> Path | None:
    """Return the emulator's JAR file, or None if there is none on this machine."""
    named = os.environ.get("FIRESTORE_EMULATOR_JAR")
    if named:
        return Path(named)
    roots = [Path(os.environ[name]) for name in ("CLOUDSDK_ROOT_DIR",) if os.environ.get(name)]
    gcloud = shutil.which("gcloud")
    if gcloud:
        roots.append(Path(gcloud).resolve().parent.parent)
    for root in (*roots, *_SDK, Path.home() / "google-cloud-sdk"):
        jar = root / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
        if jar.is_file():
            return jar
    cache = os.environ.get("FIREBASE_EMULATORS_PATH") or Path.home() / ".cache" / "firebase" / "emulators"
    jars = Path(cache).glob("cloud-firestore-emulator-v*.jar")
    return max(jars, key=lambda path: [int(number) for number in _VERSION.findall(path.name)], default=None)


def unsigned_id_token(project: str, claims: Mapping[str, Any]) -> str:
    """Return an ID token with ``claims``, which the emulator accepts without a signature. ``sub`` is the uid."""
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:1000]
