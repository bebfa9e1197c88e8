"""Look for known vulnerabilities of what firelaunch installs, and list what that is.

``tools/supply_chain.py audit`` asks OSV (https://osv.dev) about ``requirements.lock`` by pip-audit, and the npm
registry about the web client's ``package-lock.json``. A database that can't be reached is skipped, which is said; with
``--strict`` it is a failure. ``tools/supply_chain.py sbom`` writes CycloneDX files in ``build/sbom``, and asks nobody.
"""

# ruff: noqa: S603, T201 - a command line tool that runs fixed commands

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
WEB = ROOT / "template" / "{{cookiecutter.app_slug}}" / "web"
OSV_URL = "https://api.osv.dev/v1/query"
"""Where pip-audit asks; the variable OSV_URL names another one, such as a mirror's."""

State = Literal["clean", "vulnerable", "skipped"]


def main(arguments: list[str]) -> int:
    """Run a command, and return its exit status: 1 for vulnerabilities, 3 for a database that ``--strict`` misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    audit = commands.add_parser("audit", help="look for known vulnerabilities")
    audit.add_argument("--strict", action="store_true", help="fail where a database can't be reached")
    audit.add_argument("--lock", type=Path, default=LOCK, help="the lock to look into")
    audit.add_argument("--web", type=Path, default=WEB, help="the folder with package-lock.json")
    sbom = commands.add_parser("sbom", help="write the bills of materials")
    sbom.add_argument("--into", type=Path, default=ROOT / "build" / "sbom")
    options = parser.parse_args(arguments)
    if options.command == "sbom":
        return write_sboms(options.into)
    states = (audit_python(options.lock), audit_web(options.web))
    if "vulnerable" in states:
        return 1
    return 3 if options.strict and "skipped" in states else 0


def audit_python(lock: Path) -> State:
    """Ask OSV about each package of a lock, and print what is known."""
    print(f"{lock.name}: asking OSV about each package ...", flush=True)
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"),
        *("--vulnerability-service", "osv", "--osv-url", os.environ.get("OSV_URL", OSV_URL)),
        *("--progress-spinner", "off", "--timeout", "15", "--desc", "off"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # pip-audit exits with 1 for vulnerabilities and for errors alike; only the former print a table.
    if done.returncode == 0:
        print("  no known vulnerability")
        return "clean"
    if done.stdout.strip():
        print(done.stdout.rstrip())
        print("Lock versions without them: make lock")
        return "vulnerable"
    return _skipped("OSV", done.stderr)


def audit_web(folder: Path) -> State:
    """Ask the npm registry about each package that the web client ships, and print what is known."""
    print("package-lock.json: asking the npm registry ...", flush=True)
    npm = shutil.which("npm")
    if npm is None:
        return _skipped("npm", "it is not installed; Node has it")
    command = [npm, "audit", "--omit=dev", "--package-lock-only", "--json", "--fetch-retries=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout) if done.stdout.strip().startswith("{") else {}
    found: dict[str, Any] = answer.get("vulnerabilities", {})
    if "vulnerabilities" not in answer:
        return _skipped("the npm registry", str(answer.get("message") or done.stderr))
    for name, about in found.items():
        titles = sorted({via["title"] for via in about["via"] if isinstance(via, dict)})
        print(f"  {name} {about['range']}: {about['severity']}{''.join(f'; {title}' for title in titles)}")
    if found:
        print("Take versions without them: npm audit fix, in the web client's folder")
    else:
        print("  no known vulnerability")
    return "vulnerable" if found else "clean"


def _skipped(database: str, reason: str) -> State:
    lines = reason.strip().splitlines()
    print(f"  skipped: {database} did not answer: {lines[-1][:200] if lines else 'it said nothing'}")
    return "skipped"


def write_sboms(into: Path) -> int:
    """Write the bills of materials of the Python packages and of the web client, and return the exit status."""
    into.mkdir(parents=True, exist_ok=True)
    (into / "python.cdx.json").write_text(python_sbom(LOCK))
    print(f"written: {into / 'python.cdx.json'}")
    npm = shutil.which("npm")
    if npm is None:
        print("package-lock.json: skipped, npm is not installed")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copyfile(WEB / "package-lock.json", Path(scratch) / "package-lock.json")
        package = json.loads((WEB / "package.json").read_text())
        # npm names a bill's subject by its version, which an app that is never published has not.
        (Path(scratch) / "package.json").write_text(json.dumps({"version": "0.0.0", **package}))
        command = [npm, "sbom", "--sbom-format", "cyclonedx", "--omit", "dev", "--package-lock-only"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.rstrip(), file=sys.stderr)
        return 1
    (into / "web.cdx.json").write_text(done.stdout)
    print(f"written: {into / 'web.cdx.json'}")
    return 0


def python_sbom(lock: Path) -> str:
    """Return the bill of materials of a lock: each package with its version and the hashes of its files."""
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL
    from pip_requirements_parser import RequirementsFile

    bom = Bom()
    for requirement in RequirementsFile.from_file(str(lock)).requirements:
        name, version = requirement.name, requirement.get_pinned_version
        hashes = [option.removeprefix("sha256:") for option in requirement.hash_options]
        files = ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(f"https://pypi.org/simple/{name}/"),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content) for content in hashes],
        )
        package = PackageURL("pypi", name=name, version=version)
        bom.components.add(
            Component(
                type=ComponentType.LIBRARY,
                name=name,
                version=version,
                bom_ref=str(package),
                purl=package,
                external_references=[files],
            )
        )
    return JsonV1Dot6(bom).output_as_string(indent=2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
