"""What firelaunch installs: vulnerabilities are found and named, bills of materials are whole, licences are permissive.

The databases are local servers that speak the protocols of OSV and of the npm registry; pip-audit and npm are real.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, clean_environ

LOCK = f"six==1.16.0 \\\n    --hash=sha256:{'0' * 64}\nurllib3==1.24.0 \\\n    --hash=sha256:{'1' * 64}\n"
PACKAGE = {"name": "web", "version": "1.0.0", "dependencies": {"leftpad": "1.0.0"}}
PACKAGE_LOCK = {
    "name": "web",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "requires": True,
    "packages": {
        "": PACKAGE,
        "node_modules/leftpad": {
            "version": "1.0.0",
            "resolved": "http://127.0.0.1:1/leftpad.tgz",
            "integrity": "sha512-",
        },
    },
}


class Databases(ThreadingHTTPServer):
    """OSV and the npm registry, which know what ``vulnerable`` names."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vulnerable: set[str] = set()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def osv(self, query: Mapping[str, Any]) -> dict[str, Any]:
        name = query["package"]["name"]
        self.asked.append(name)
        assert query["package"]["ecosystem"] == "PyPI", query
        if name not in self.vulnerable:
            return {}
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.26.5"}]}]
        affected = [{"package": query["package"], "ranges": ranges, "versions": [query["version"]]}]
        return {"vulns": [{"id": "PYSEC-2021-108", "details": "A flaw.", "affected": affected}]}

    def advisories(self, versions: Mapping[str, list[str]]) -> dict[str, Any]:
        self.asked += versions
        flaw = {"id": 1, "url": "https://example.org/1", "title": "A flaw", "severity": "high", "cwe": []}
        return {
            name: [flaw | {"vulnerable_versions": "<2.0.0", "cvss": {"score": 7, "vectorString": None}}]
            for name in versions
            if name in self.vulnerable
        }


class _Handler(BaseHTTPRequestHandler):
    server: Databases

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        routes = {"/v1/query": self.server.osv, "/-/npm/v1/security/advisories/bulk": self.server.advisories}
        self._answer(200, routes[self.path](asked)) if self.path in routes else self._answer(404, {})

    def do_GET(self) -> None:
        name = self.path.strip("/")
        version = {"name": name, "version": "1.0.0", "dist": {"tarball": "http://127.0.0.1:1/x.tgz"}}
        self._answer(200, {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def served() -> Iterator[Databases]:
    with Databases() as databases:
        threading.Thread(target=databases.serve_forever, daemon=True).start()
        yield databases
        databases.shutdown()


def audit(folder: Path, url: str, *arguments: str) -> tuple[int, str]:
    (folder / "requirements.lock").write_text(LOCK)
    (folder / "package.json").write_text(json.dumps(PACKAGE))
    (folder / "package-lock.json").write_text(json.dumps(PACKAGE_LOCK))
    environ = {
        **clean_environ(),
        "OSV_URL": f"{url}/v1/query",
        "npm_config_registry": url,
        "npm_config_cache": str(folder / "cache"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    command = [sys.executable, str(ROOT / "tools" / "supply_chain.py"), "audit", *arguments]
    command += ["--lock", str(folder / "requirements.lock"), "--web", str(folder)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@needs_npm
def test_an_audit_asks_about_each_package_names_what_is_vulnerable_and_fails(tmp_path: Path) -> None:
    with served() as databases:
        assert audit(tmp_path, databases.url, "--strict")[0] == 0
        assert sorted(databases.asked) == ["leftpad", "six", "urllib3"]
        databases.vulnerable = {"urllib3"}
        shutil.rmtree(tmp_path / "cache")
        status, said = audit(tmp_path, databases.url)
        assert (status, "urllib3 1.24.0" in said, "1.26.5" in said) == (1, True, True), said
        databases.vulnerable = {"leftpad"}
        shutil.rmtree(tmp_path / "cache")
        status, said = audit(tmp_path, databases.url)
        assert (status, "leftpad *: high; A flaw" in said) == (1, True), said


@needs_npm
def test_a_database_that_is_out_of_reach_is_said_to_be_skipped_and_fails_only_a_strict_audit(tmp_path: Path) -> None:
    status, said = audit(tmp_path, "http://127.0.0.1:9")
    assert (status, said.count("  skipped: ")) == (0, 2), said
    assert audit(tmp_path, "http://127.0.0.1:9", "--strict")[0] == 3


@needs_npm
def test_the_bills_of_materials_name_every_package_of_the_locks(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "supply_chain.py"), "sbom", "--into", str(tmp_path)]
    subprocess.run(command, env={**clean_environ(), "npm_config_offline": "true"}, capture_output=True, check=True)
    python = json.loads((tmp_path / "python.cdx.json").read_text())
    listed = {(each["name"], each["version"]) for each in python["components"]}
    assert listed == set(locked(ROOT / "requirements.lock"))
    assert all(each["externalReferences"][0]["hashes"] for each in python["components"])
    web = json.loads((tmp_path / "web.cdx.json").read_text())
    assert {"react", "ai"} <= {each["name"] for each in web["components"]}


def locked(lock: Path) -> list[tuple[str, str]]:
    return re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE)


PERMISSIVE = re.compile(
    r"0BSD|Apache|BSD|CC0|CNRI|HPND|ISC|MIT|MPL|Mozilla Public|PSF|Python Software Foundation|Unlicense|Zlib",
    re.IGNORECASE,
)
RECIPROCAL = re.compile(r"GPL|General Public|SSPL|Business Source|Commons Clause|Elastic License", re.IGNORECASE)


@pytest.mark.parametrize("lock", ["requirements.lock", "functions/requirements.lock"])
def test_what_an_image_holds_has_a_permissive_licence(lock: str) -> None:
    """MPL-2.0 (certifi's list of authorities) asks for the source of changed files alone, and nobody changes them."""
    missing, found = [], {}
    for name, _ in locked(ROOT / lock):
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            missing.append(name)  # for another platform, or Python
            continue
        classified = [text for text in about.get_all("Classifier") or () if text.startswith("License ::")]
        found[name] = about.get("License-Expression") or " ".join([*classified, about.get("License") or ""])
    assert len(missing) < 5, missing
    assert {name: text[:200] for name, text in found.items() if not PERMISSIVE.search(text)} == {}
    assert {name: text[:200] for name, text in found.items() if RECIPROCAL.search(text)} == {}
