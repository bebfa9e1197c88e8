"""The command line, as people and make use it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import firelaunch
from firelaunch.membership.invites import Invites
from firelaunch.store.firestore import FirestoreStore
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch_cli.commands.demo_documents import QUESTIONS
from support import PYTHON, ROOT, clean_environ, copy_repo, copy_template, free_port


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A copy of this repo without apps."""
    return copy_repo(tmp_path / "repo")


PLACES = (
    "[1] threat-model.pdf, page ",
    "[1] prompts.html, Prompts > A new version",
    "[1] caching.md, Caching > Answers",
)
"""Where the answers to the demo's questions are."""

SAID = (
    "Only code that keeps to its own Services",
    "rollout = { 2 = 10 }",
    "the history is part of the question, so a question seldom comes twice",
)
"""What answers them, in the passages that the offline model quotes."""


@contextmanager
def _process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block, also where a test fails and has not stopped it."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def nobody_listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_demo_makes_an_app_talks_to_it_and_leaves_nothing_running(repo: Path) -> None:
    port = free_port()
    first = firelaunch(repo, "demo", "--once", "--port", str(port))
    assert first.returncode == 0, first.stderr
    assert "Making apps/demo" in first.stdout
    assert "OPENAI_API_KEY=" in first.stdout  # how to have a real model answer
    assert f"http://localhost:{port}" in first.stdout
    printed = " ".join(first.stdout.split())
    for question, answer, place in zip(QUESTIONS, SAID, PLACES, strict=True):
        assert question in first.stdout
        assert answer in printed, "the offline model quotes what answers the question"
        assert place in first.stdout, "each answer's source is the document that holds it"
    assert "alone." in first.stdout  # how it was searched
    assert "first words after" in first.stdout
    assert "3 requests" in first.stdout
    assert "curl" not in first.stdout, "no commands for an app that is down again"
    assert "\x1b" not in first.stdout
    assert nobody_listens(port)

    again = firelaunch(repo, "demo", "--once", "--port", str(port))
    assert again.returncode == 0, again.stderr
    assert "Making" not in again.stdout
    assert "6 requests" in again.stdout


def test_the_demo_uses_a_real_model_where_one_is_given_and_says_which(repo: Path) -> None:
    with ModelServer(Reply(words=["I am ", "the model."])) as model:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url, "OPENAI_MODEL": "my-model"}
        done = firelaunch(repo, "demo", "--once", "--port", str(free_port()), **environ)
    assert done.returncode == 0, done.stderr
    assert f"my-model of {model.base_url} answers" in done.stdout
    assert done.stdout.count("I am the model.") == 3
    assert [request["model"] for request in model.requests] == ["my-model"] * 3


@pytest.mark.parametrize("fault", [Fault(401), Reply(words=["one ", "two "], cut_after=1)], ids=["refused", "cut"])
def test_the_demo_fails_when_an_answer_fails_and_says_where_to_look(repo: Path, fault: Fault | Reply) -> None:
    port = free_port()
    with ModelServer(fault) as model:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url, "OPENAI_MODEL": "my-model"}
        done = firelaunch(repo, "demo", "--once", "--port", str(port), **environ)
    assert done.returncode == 1
    assert "demo.log" in done.stderr
    assert "Traceback" not in done.stderr
    assert nobody_listens(port)


def test_the_demo_names_a_setting_that_stops_the_app(repo: Path) -> None:
    assert firelaunch(repo, "new", "--no-input", "app_name=Demo").returncode == 0
    settings = repo / "apps" / "demo" / "firelaunch.toml"
    settings.write_text(settings.read_text().replace("region =", "regoin ="))
    began = time.monotonic()
    done = firelaunch(repo, "demo", "--once", "--port", str(free_port()))
    assert done.returncode == 1
    assert "did you mean cloud.region?" in done.stderr
    assert time.monotonic() - began < 15


def test_the_demo_refuses_a_port_that_another_program_has(repo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = firelaunch(repo, "demo", "--once", "--port", str(other.getsockname()[1]))
    assert done.returncode == 1
    assert "is taken, by another program or by an app that runs already" in done.stderr


def test_a_half_made_demo_app_is_put_aside_and_made_anew(repo: Path) -> None:
    (repo / "apps" / "demo" / "app").mkdir(parents=True)
    (repo / "apps" / "demo" / "firelaunch.toml").write_text("[app]\n")
    done = firelaunch(repo, "demo", "--once", "--port", str(free_port()))
    assert done.returncode == 0, done.stderr
    assert "not a whole app" in done.stdout
    aside = [folder for folder in (repo / "apps").iterdir() if folder.name.startswith("demo-")]
    assert [(folder / "firelaunch.toml").read_text() for folder in aside] == ["[app]\n"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_stays_up_takes_its_server_along_however_it_ends(repo: Path, number: signal.Signals) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent was killed")
    port = free_port()
    command = [PYTHON, "-m", "firelaunch_cli", "demo", "--port", str(port)]
    env = clean_environ(PYTHONUNBUFFERED="1")
    with _process(command, cwd=repo, env=env, stdout=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        assert any("stays up" in line for line in demo.stdout)
        assert httpx.get(f"http://127.0.0.1:{port}/live", trust_env=False).status_code == 200
        demo.send_signal(number)
        code = demo.wait(timeout=30)
    assert code == {signal.SIGINT: 0, signal.SIGTERM: 128 + 15, signal.SIGKILL: -9}[number]
    give_up = time.monotonic() + 15
    while not nobody_listens(port) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert nobody_listens(port)


def test_serve_runs_an_app_as_the_process_itself_so_that_signals_reach_it(repo: Path) -> None:
    port = free_port()
    assert firelaunch(repo, "new", "--no-input", "app_slug=mine").returncode == 0
    command = [PYTHON, "-m", "firelaunch_cli", "serve", "mine", "--port", str(port)]
    with _process(command, cwd=repo, env=clean_environ(), stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        said = next(line for line in server.stderr if "ready on" in line)
        where = f"http://127.0.0.1:{port}"
        pages = "/ to talk to it, /ops for its costs, /docs for its API"
        assert said == f"ready on {where}: mine, embedded mode, offline model; {pages}\n"
        assert httpx.get(f"{where}/ready", trust_env=False).json()["app"] == "mine"
        server.terminate()
        assert server.wait(timeout=30) == 0
    assert nobody_listens(port)


def ready_line(repo: Path, app: str, environ: dict[str, str]) -> str:
    """Serve an app until it is ready, and return the line that says so."""
    command = [PYTHON, "-m", "firelaunch_cli", "serve", app, "--port", str(free_port())]
    with subprocess.Popen(command, cwd=repo, env=environ, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = next(line for line in server.stderr if "ready on" in line)
        server.terminate()
    return said


def test_serve_reads_the_env_file_as_the_doctor_does_and_the_environment_comes_first(repo: Path) -> None:
    assert firelaunch(repo, "new", "--no-input", "app_slug=mine").returncode == 0
    (repo / "apps/mine/.env").write_text("OPENAI_API_KEY=k\nOPENAI_BASE_URL=http://localhost:1\n")
    for environ, provider in (({}, "openai"), ({"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}, "offline")):
        assert f", {provider} model;" in ready_line(repo, "mine", clean_environ(**environ))
        checked = firelaunch(repo, "doctor", "mine", "--offline", **environ)
        assert f"answered by {provider} " in " ".join(checked.stdout.split())


NPM = """#!/bin/sh
touch "$(dirname "$0")/npm-ran"
if [ "$1" = ci ]; then mkdir -p node_modules; else mkdir -p dist && touch dist/index.html; fi
"""


@pytest.mark.parametrize(("file", "code"), [("app/workflow.py", "import nowhere\n"), ("firelaunch.toml", "[app\n")])
def test_serve_builds_no_web_client_for_an_app_that_cannot_start_and_says_why_once(
    repo: Path, tmp_path: Path, file: str, code: str
) -> None:
    assert firelaunch(repo, "new", "--no-input", "app_slug=mine").returncode == 0
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("npm", NPM), ("node", "#!/bin/sh\necho v20.19.0\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environ = clean_environ(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    del environ["FIRELAUNCH_WEB"]  # which is there so that tests build no client
    path = repo / "apps/mine" / file
    whole = path.read_text()
    path.write_text(code)
    command = [PYTHON, "-m", "firelaunch_cli", "serve", "mine", "--port", str(free_port())]
    done = subprocess.run(command, cwd=repo, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode in {3, 4}
    assert done.stderr.count("The app cannot start") == 1
    assert not (programs / "npm-ran").exists()
    path.write_text(whole)
    ready_line(repo, "mine", environ)
    assert (programs / "npm-ran").exists()


def test_serve_says_at_once_that_a_port_is_taken_and_how_to_choose_another(repo: Path) -> None:
    assert firelaunch(repo, "new", "--no-input", "app_slug=mine").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = firelaunch(repo, "serve", "mine", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: Port {port} is taken, by another program or by an app that runs already; end that, or choose another "
        "port with PORT=8081 or --port 8081.\n"
    )


def test_serve_lists_the_apps_there_are_when_the_one_asked_for_is_not(repo: Path) -> None:
    for slug in ("one", "two"):
        assert firelaunch(repo, "new", "--no-input", f"app_slug={slug}").returncode == 0
    done = firelaunch(repo, "serve", "three")
    assert done.returncode == 1
    assert "one, two" in done.stderr


def test_new_makes_an_app_under_apps_and_refuses_to_make_it_twice(repo: Path) -> None:
    done = firelaunch(repo, "new", "--no-input", "app_name=Night school")
    assert done.returncode == 0, done.stderr
    assert 'name = "Night school"' in (repo / "apps" / "night-school" / "firelaunch.toml").read_text()
    assert "make serve APP=night-school" in done.stdout
    twice = firelaunch(repo, "new", "--no-input", "app_name=Night school")
    assert twice.returncode == 1
    assert "already exists. Give the app another id" in twice.stderr


def test_new_says_before_it_asks_which_apps_there_are_and_proposes_a_name_that_is_free(repo: Path) -> None:
    for folder in ("my-app", "my-app-2"):
        done = firelaunch(repo, "new", said="\n" * 7)
        assert done.returncode == 0, done.stderr
        assert (repo / "apps" / folder / "firelaunch.toml").is_file()
    assert done.stdout.index("There are already: my-app.") < done.stdout.index("What is the app called?")


def test_serve_in_a_folder_that_is_no_app_asks_for_a_name(repo: Path) -> None:
    done = firelaunch(repo, "serve")
    assert done.returncode == 1
    assert "This folder is no app: name one. There is none yet. 'make app' makes one." in done.stderr


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("app_slug=../x", "app_slug is '../x'"),
        ("index=faiss", "pgvector"),
        ("app_nmae=x", "'app_nmae' is not asked"),
        ("app_name", "is not NAME=VALUE"),
        ("app_name={% if", "Error: "),
        ("app_name={{ x }}", "Unable to render variable 'app_name'"),
    ],
)
def test_new_refuses_a_bad_answer_in_words(repo: Path, answer: str, says: str) -> None:
    done = firelaunch(repo, "new", "--no-input", answer)
    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (repo / "apps").iterdir()] == [".gitkeep"]


def test_outside_the_repo_the_commands_that_need_it_say_so(tmp_path: Path) -> None:
    for command in (["new"], ["demo", "--once"]):
        done = firelaunch(tmp_path, *command)
        assert done.returncode == 1
        assert "inside the firelaunch repo" in done.stderr


def test_each_command_explains_itself() -> None:
    listed = firelaunch(ROOT, "--help").stdout
    # Commands stand below the headings of what people want to do.
    below = listed.partition("Options:")[2].partition("\n\n")[2]
    names = [line.split()[0] for line in below.splitlines() if line.startswith("  ")]
    assert {"demo", "new", "serve"} <= set(names)
    for name in names:
        done = firelaunch(ROOT, name, "--help")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) > 3


def test_prompts_are_locked_once_and_changed_never(repo: Path) -> None:
    assert firelaunch(repo, "new", "--no-input", "app_name=Demo").returncode == 0
    prompts = repo / "apps" / "demo" / "app" / "prompts"
    assert firelaunch(repo, "lock-prompts", "demo").stdout == "locked chat@1.md\n"
    assert "already" in firelaunch(repo, "lock-prompts", "demo").stdout
    sums = subprocess.run(["sha256sum", "-c", "prompts.lock"], cwd=prompts, capture_output=True, check=False)
    assert sums.returncode == 0
    (prompts / "chat@1.md").write_text("Something else.")
    (prompts / "chat@2.md").write_text("Something new.")
    done = firelaunch(repo, "lock-prompts", "demo")
    assert done.returncode == 2
    assert "chat@3.md" in done.stderr
    assert "Traceback" not in done.stderr
    assert "chat@2" not in (prompts / "prompts.lock").read_text()


def test_the_command_line_loads_a_commands_modules_only_when_it_is_called() -> None:
    code = "import sys, firelaunch_cli.commands; print(*sorted(sys.modules))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "flask",
        "pydantic",
        "gunicorn",
        "cookiecutter",
        "openai",
        "google.cloud.firestore",
        "firebase_admin",
        "sqlite3",
        "rich",
    }


@pytest.mark.parametrize("module", ["deploy", "rules"])
def test_a_command_that_reads_no_data_does_without_googles_firestore_client(module: str) -> None:
    """It takes longer to import than all else of the command."""
    code = f"import sys, firelaunch_cli.commands.{module}; print('google.cloud.firestore' in sys.modules)"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_make_target_is_listed_by_help() -> None:
    make = shutil.which("make")
    assert make is not None
    listed = subprocess.run([make, "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    for target in targets.split()[1:]:
        assert f"make {target} " in listed


def test_ci_runs_the_readmes_test_command_with_the_emulator_required() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert script.rstrip().endswith("make test")
    assert "export REQUIRE_EMULATOR=1" in script
    assert "make test" in (ROOT / "README.md").read_text()


def test_an_operator_publishes_an_app_and_invites_its_first_admin(
    repo: Path, emulator_store: FirestoreStore, firestore_emulator: Emulator, firestore_project: str
) -> None:
    assert firelaunch(repo, "new", "--no-input", "app_name=Demo").returncode == 0
    emulators = {
        "FIRELAUNCH_MODE": "emulators",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
        "GOOGLE_CLOUD_PROJECT": firestore_project,
    }
    published = firelaunch(repo, "publish", "demo", **emulators)
    assert published.returncode == 0, published.stderr
    assert f"Firestore database (default) of {firestore_project}" in published.stdout
    app = emulator_store.get("apps/demo")
    assert app is not None
    roles = ["viewer", "member", "editor", "admin"]
    assert app.data == {"name": "Demo", "join": "invite", "domains": [], "tenant": None, "roles": roles}

    invited = firelaunch(repo, "invite", "demo", "--role", "admin", "--hours", "1", **emulators)
    assert invited.returncode == 0, invited.stderr
    assert "as admin, for one person, valid until " in invited.stderr
    invites = Invites(emulator_store, "demo", lambda: datetime.now(UTC))
    assert invites.role(invited.stdout.strip()) == "admin"

    refused = firelaunch(repo, "invite", "demo", "--role", "The Boss", **emulators)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("kind", ["http", "storage", "firestore"])
def test_a_new_function_is_a_file_a_line_and_a_test_that_passes(tmp_path: Path, kind: str) -> None:
    repo = copy_repo(tmp_path / "repo")
    before = (repo / "functions" / "main.py").read_text().splitlines()
    done = firelaunch(repo, "new", "function", "greet_all", kind)
    assert done.returncode == 0, done.stderr
    assert ".venv/bin/pytest -q tests/functions/test_greet_all.py" in done.stdout
    after = (repo / "functions" / "main.py").read_text().splitlines()
    assert [line for line in after if line not in before] == ["from greet_all import greet_all"]
    assert [line for line in after if line != "from greet_all import greet_all"] == before
    made = ["functions/greet_all.py", "tests/functions/test_greet_all.py", "functions/main.py"]
    checks = [
        [PYTHON, "-m", "ruff", "check", *made],
        [PYTHON, "-m", "ruff", "format", "--check", *made],
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", made[1]],
    ]
    for check in checks:
        ran = subprocess.run(check, cwd=repo, env=clean_environ(), capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["membership", "main", "Greet", "class", "a/b", "flask", ""])
def test_a_function_of_a_name_that_will_not_do_is_not_made(tmp_path: Path, name: str) -> None:
    repo = copy_repo(tmp_path / "repo")
    before = sorted(repo.rglob("*.py"))
    done = firelaunch(repo, "new", "function", name)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert sorted(path for path in repo.rglob("*.py") if "__pycache__" not in str(path)) == before


MENU = """
from firelaunch import Routes

routes = Routes("menu")


@routes.get("/menu", public=True, summary="The menu")
def menu() -> dict[str, str]:
    return {}
"""

LOANS = """
from firelaunch import Collection, Record, UserId


class Loan(Record):
    borrower: UserId


loans = Collection("loans", Loan, owner="app", on_erase="delete")
"""


def test_an_operators_erasure_finds_what_the_apps_own_collections_keep_about_the_user(repo: Path) -> None:
    folder = copy_template(repo / "apps" / "demo")
    (folder / "app" / "lending.py").write_text(LOANS)
    code = (folder / "app" / "__init__.py").read_text()
    assert "App(__name__)" in code
    code = code.replace("from . import workflow", "from . import lending, workflow")
    (folder / "app" / "__init__.py").write_text(
        code.replace("App(__name__)", "App(__name__, collections=[lending.loans])")
    )
    add = (
        "from app import create_app, lending\n"
        "data = create_app().extensions['firelaunch'].services.data(lending.loans)\n"
        "for name in ('ada', 'bob'): data.add(lending.Loan(borrower=name), id=name)\n"
    )
    subprocess.run([PYTHON, "-c", add], cwd=folder, env=clean_environ(), check=True)
    assert "removed 1 loans." in firelaunch(repo, "erase", "ada", "--app", "demo", "--yes").stdout
    assert "holds 1 loans." in firelaunch(repo, "erase", "bob", "--dry-run").stdout, "in all apps of the repo"
    (folder / "app" / "menu.py").write_text(MENU)
    start = folder / "app" / "__init__.py"
    code = start.read_text().replace("import lending,", "import lending, menu,")
    start.write_text(code.replace("collections=", "routes=[menu.routes], collections="))
    outside = folder.rename(repo.parent / "elsewhere")
    for words in (("--app", "my-app"), ()):
        done = firelaunch(outside, "erase", "bob", *words, "--dry-run")
        assert "holds 1 loans." in done.stdout
        assert done.stderr == "", "the log of a server is no command's"
    (outside / "app" / "menu.py").write_text("x = (")
    assert "app/menu.py, line 1: SyntaxError: '(' was never closed\n" in firelaunch(outside, "migrate").stderr
