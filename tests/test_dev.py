"""``firelaunch dev`` and ``firelaunch doctor``, as people run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import commands
import httpx
import pytest
from firelaunch.testing.accounts import AccountServer
from firelaunch.testing.emulator import find_jar, unsigned_token
from support import PYTHON, clean_environ, copy_repo, free_port


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A copy of this repo with one app, demo."""
    repo = copy_repo(tmp_path / "repo")
    assert commands.firelaunch(repo, "new", "--no-input", "app_name=Demo").returncode == 0
    return repo


class Dev:
    """A running ``firelaunch dev demo``, and what it has said."""

    def __init__(self, repo: Path, port: int, *options: str, client: bool = False, **environ: str) -> None:
        command = [PYTHON, "-m", "firelaunch_cli", "dev", "demo", "--port", str(port), *options]
        env = clean_environ(PYTHONUNBUFFERED="1", **environ)
        if client:
            del env["FIRELAUNCH_WEB"]
        self.process = subprocess.Popen(
            command, cwd=repo, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()

    def until(self, text: str, since: int = 0) -> int:
        """Wait for a line that matches ``text``; how many lines there were then."""
        with self._more:
            came = self._more.wait_for(lambda: any(re.search(text, line) for line in self.lines[since:]), timeout=60)
            assert came, f"{text!r} was not said:\n{''.join(self.lines)}"
            return len(self.lines)


@pytest.fixture
def dev(repo: Path) -> Iterator[Callable[..., Dev]]:
    """Starts it, and ends it with the test."""
    started: list[Dev] = []

    def start(*options: str, client: bool = False, **environ: str) -> Dev:
        started.append(Dev(repo, free_port(), *options, client=client, **environ))
        return started[-1]

    yield start
    for run in started:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGINT)
            run.process.wait(timeout=60)


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def wait_for(holds: Callable[[], bool], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def nobody_listens(host: str) -> bool:
    name, _, port = host.partition(":")
    give_up = time.monotonic() + 15
    while time.monotonic() < give_up:
        with socket.socket() as probe:
            if probe.connect_ex((name, int(port))) != 0:
                return True
        time.sleep(0.05)
    return False


def test_an_app_starts_again_after_each_change_and_a_mistake_ends_nothing(repo: Path, dev: Callable[..., Dev]) -> None:
    run = dev("--embedded")
    at = run.until(r"^app +\| ready on ")
    assert httpx.get(f"{run.url}/ready", trust_env=False).json()["app"] == "demo"

    change(repo / "apps/demo/firelaunch.toml", "region =", "regoin =")
    at = run.until(r"^dev +\| the app ended with 4; it starts again when a file changes", at)
    assert any("did you mean cloud.region?" in line for line in run.lines)
    change(repo / "apps/demo/firelaunch.toml", "regoin =", "region =")
    at = run.until(r"^app +\| ready on ", at)

    change(repo / "apps/demo/app/workflow.py", "yield from", "yield  from")
    run.until(r"^dev +\| workflow.py changed", at)
    run.until(r"^app +\| ready on ", at)

    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(timeout=60) == 0
    assert nobody_listens(run.url.removeprefix("http://"))
    assert "\x1b" not in "".join(run.lines), "colours are for terminals"


def test_the_env_file_is_read_and_the_environment_comes_first(repo: Path, dev: Callable[..., Dev]) -> None:
    (repo / "apps/demo/.env").write_text("OPENAI_API_KEY=k\nOPENAI_BASE_URL=http://localhost:1\n")
    run = dev("--embedded")
    run.until("ready on ")
    assert httpx.get(f"{run.url}/ready", trust_env=False).json()["model"] == "openai"
    other = dev("--embedded", OPENAI_API_KEY="", OPENAI_BASE_URL="")
    other.until("ready on ")
    assert httpx.get(f"{other.url}/ready", trust_env=False).json()["model"] == "offline"


NPM = """#!/bin/sh
if [ "$1" = ci ]; then mkdir -p node_modules; else mkdir -p dist && cp src/texts.ts dist/index.html; fi
"""


def test_the_web_client_is_built_again_as_it_changes_and_plans_are_bought_without_an_account_at_stripe(
    repo: Path, dev: Callable[..., Dev], tmp_path: Path
) -> None:
    for name, text in (("npm", NPM), ("node", "#!/bin/sh\necho v20.19.0\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    port, texts = free_port(), repo / "apps/demo/web/src/texts.ts"
    change(repo / "firebase.json", '"emulators": {', f'"emulators": {{ "stripe": {{ "port": {port} }},')
    texts.write_text("one")
    run = dev("--embedded", client=True, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    run.until(r"^web +\| To leave it out, put FIRELAUNCH_WEB= before the command")
    run.until(r"^web +\| build the web client: \d+\.\d s")
    at = run.until(r"^app +\| ready on ")
    with httpx.Client(base_url=run.url, trust_env=False) as client:
        assert client.get("/").text == "one"
        texts.write_text("two")
        at = run.until(r"^web +\| build the web client", at)
        wait_for(lambda: client.get("/").text == "two")
        assert not any("ready on" in line for line in run.lines[at:]), "the app goes on as it is"

        change(repo / "apps/demo/firelaunch.toml", '# stripe_price = "price_..."', 'stripe_price = "price_pro"')
        at = run.until(rf"^dev +\| a server on http://127\.0\.0\.1:{port} stands in for Stripe", at)
        run.until(r"^app +\| ready on ", at)
        token = client.post("/dev/token", json={"uid": "ada"}).json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        url = client.post("/v1/billing/checkout", json={"plan": "pro"}).json()["url"]
        assert url.startswith(f"http://127.0.0.1:{port}/")
        back = httpx.post(url, data={"pay": "card"}, trust_env=False).headers["Location"]
        assert back == f"{run.url.replace('127.0.0.1', 'localhost')}/?checkout=done#/plans"
        wait_for(lambda: client.get("/v1/billing").json()["plan"] == "pro")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_app_ends_with_the_command_however_that_ends(dev: Callable[..., Dev], number: signal.Signals) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent was killed")
    run = dev("--embedded")
    run.until("ready on ")
    run.process.send_signal(number)
    run.process.wait(timeout=60)
    assert nobody_listens(run.url.removeprefix("http://"))


@pytest.mark.skipif(find_jar() is None, reason="there is no Firestore emulator")
def test_a_user_of_the_auth_emulator_joins_and_calls_the_app_and_the_emulators_have_firebase_jsons_ports(
    repo: Path, dev: Callable[..., Dev]
) -> None:
    ports = {"firestore": free_port(), "functions": free_port()}
    change(repo / "firebase.json", '"port": 8081', f'"port": {ports["firestore"]}')
    change(
        repo / "firebase.json", '"emulators": {', f'"emulators": {{ "functions": {{ "port": {ports["functions"]} }},'
    )
    with AccountServer("demo-firelaunch") as accounts:
        run = dev(FIREBASE_AUTH_EMULATOR_HOST=accounts.host)
        run.until(rf"^dev +\| Firestore emulator on 127\.0\.0\.1:{ports['firestore']},")
        run.until(r"^members +\| ready on ")
        at = run.until(r"^app +\| ready on ")
        invited = next(found[1] for line in run.lines if (found := re.search(r'\{"invite": "([^"]+)"\}', line)))
        joined = next(found[1] for line in run.lines if (found := re.search(r"join with POST (\S+)$", line)))
        assert joined == f"http://127.0.0.1:{ports['functions']}/apps/demo/join"

        def call(uid: str, method: str, url: str, **body: str) -> httpx.Response:
            claims = {"sub": uid, **accounts.claims(uid)}
            headers = {"Authorization": f"Bearer {unsigned_token('demo-firelaunch', claims)}"}
            return httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=60)

        for uid in ("ada", "bob"):
            accounts.add(uid)
        assert call("ada", "GET", f"{run.url}/v1/me").status_code == 403, "nobody is a member yet"
        assert call("ada", "POST", joined).status_code == 403, "the app is joined by invitation"
        assert call("ada", "POST", joined, invite=invited).json() == {"app": "demo", "role": "member"}
        assert call("ada", "GET", f"{run.url}/v1/me").json()["role"] == "member"

        change(repo / "apps/demo/firelaunch.toml", 'join = "invite"', 'join = "open"')
        run.until(r"^dev +\| demo may be joined by anybody who signs in", at)
        assert call("bob", "POST", joined).status_code == 200
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(timeout=60) == 0
    assert all(nobody_listens(f"127.0.0.1:{port}") for port in ports.values())


@pytest.mark.skipif(find_jar() is None, reason="there is no Firestore emulator")
def test_the_emulator_runs_beside_the_app_under_the_composed_rules(repo: Path, dev: Callable[..., Dev]) -> None:
    run = dev()
    run.until(r"^dev +\| rules loaded")
    at = run.until(r"^app +\| ready on ")
    host = next(found[1] for line in run.lines if (found := re.search(r"Firestore emulator on (\S+),", line)))
    documents = f"http://{host}/v1/projects/demo-firelaunch/databases/(default)/documents/apps/demo"
    assert httpx.get(documents, trust_env=False).status_code == 403, "clients are under the rules"

    with httpx.Client(base_url=run.url, trust_env=False) as client:
        token = client.post("/dev/token", json={"uid": "ada"}).json()["token"]
        made = client.post("/v1/chats", json={}, headers={"Authorization": f"Bearer {token}"})
        assert made.status_code == 201, made.text
    owner = {"Authorization": "Bearer owner"}
    chats = httpx.get(f"{documents}/users/ada/chats", headers=owner, trust_env=False).json()["documents"]
    assert len(chats) == 1, "what the app stores is in the emulator"

    (repo / "apps/demo/firestore.rules").write_text("match /notes/{note} { allow read; }\n")
    run.until(r"^dev +\| rules loaded", at)
    (repo / "apps/demo/firestore.rules").write_text("match /members/{uid} { allow read; }\n")
    run.until(r"^dev +\| rules not loaded: The rules are refused", at)

    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(timeout=60) == 0
    assert nobody_listens(host)


def test_the_doctor_says_what_is_wrong_as_text_and_as_json_and_changes_nothing(repo: Path, tmp_path: Path) -> None:
    git = shutil.which("git")
    assert git is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(git)  # the other tools are slow to say their versions

    def doctor(*words: str, app: str = "demo", **environ: str) -> subprocess.CompletedProcess[str]:
        env = clean_environ(PORT=str(free_port()), **environ) | {"PATH": str(tmp_path / "bin")}
        return commands.run(repo, ("doctor", app, *words), env)

    def files() -> dict[Path, bytes]:
        found = (path for path in (repo / "apps").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path: path.read_bytes() for path in found}

    before = files()
    well = doctor("--json")
    assert well.returncode == 0, well.stdout + well.stderr
    said = json.loads(well.stdout)
    assert said["problems"] == 0
    assert set(said["checks"]) == {"this machine", "app demo", "project of demo"}
    assert said["checks"]["project of demo"][0]["status"] == "skipped"

    (repo / "apps" / "demo").rename(repo / "apps" / "elsewhere")
    moved = doctor("--offline", "--json", app="elsewhere")
    assert set(json.loads(moved.stdout)["checks"]) == {"app demo in elsewhere", "this machine"}
    (repo / "apps" / "elsewhere").rename(repo / "apps" / "demo")

    ill = doctor("--offline", FIRESTORE_EMULATOR_HOST="127.0.0.1:1")
    assert ill.returncode == 1
    assert "problem  FIRESTORE_EMULATOR_HOST" in ill.stdout
    assert "mend: unset FIRESTORE_EMULATOR_HOST" in ill.stdout
    assert ill.stdout.endswith("1 problem\n")
    assert files() == before
