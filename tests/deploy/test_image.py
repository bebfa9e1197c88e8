"""What an image holds, and that it serves: the Dockerfile's own steps, run where this repo cannot be reached.

In cloud mode it runs as Cloud Run would run it: nothing is writable but /tmp, and Google's names lead to this machine.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.models import Reply
from firelaunch_cli.deploy.build_folder import stage_app, stage_functions
from firelaunch_cli.deploy.rehearsal import release_prompts, settings_for_deploy
from firelaunch_cli.deploy.resources import Place, app_service, bucket
from support import ROOT, copy_template, free_port, once

from .dockerfile import Image, build
from .google_here import NAMES, Container, GoogleHere, why_not_here

HANDBOOK = b"# Opening hours\n\nThe observatory opens at nine in the evening, and closes when clouds come.\n"
NO_INDEX = "the packages of requirements.lock cannot be had here: pip reaches no index"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The template's image."""
    return built(tmp_path_factory, "image", lambda app, staged: stage_app(ROOT, app, staged))


def built(factory: pytest.TempPathFactory, name: str, stage: Callable[[Path, Path], object]) -> Image:
    """An image of the template, built once in a run."""

    def make(folder: Path) -> Image:
        app = copy_template(folder / "my-app")
        release_prompts(app)
        stage(app, folder / "staged")
        return build(folder / "staged", folder / "built", clean())

    try:
        return once(factory, name, make)
    except AssertionError as error:
        if "No matching distribution" in str(error) and "NewConnectionError" in str(error):
            pytest.skip(NO_INDEX)
        raise


def clean() -> dict[str, str]:
    """What pip needs to find its index, and nothing that leads to this repo."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in ("PATH", "HOME")}


def relocated(image: Image) -> Path:
    """The image's Python. Scripts of a venv name the path where it was made, which a COPY in Docker keeps."""
    return image.root / "opt" / "venv" / "bin" / "python"


def test_a_staged_app_installs_and_serves_where_the_repo_is_not(image: Image, tmp_path: Path) -> None:
    command, folder, environ = image.start(
        PORT=str(port := free_port()), FIRELAUNCH_MODE="embedded", FIRELAUNCH_DATA=str(tmp_path), HOME="/nonexistent"
    )
    assert command[0] == "gunicorn"
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([relocated(image), "-m", *command], cwd=folder, env=environ, stdout=out, stderr=out)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            ready = wait(client, process, log)
            assert ready["app"] == "my-app"
            token = client.post("/dev/token", json={"uid": "ada"}).json()["token"]
            client.headers["Authorization"] = f"Bearer {token}"
            chat = client.post("/v1/chats", json={}).json()["id"]
            answer = client.post(f"/v1/chats/{chat}/messages", json={"text": "Hello"})
            assert answer.status_code == 200, answer.text
            assert answer.json()["message"]["text"]
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text()
        try:
            answer: dict[str, str] = client.get("/ready").json()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return answer
    raise AssertionError(log.read_text())


def test_the_image_as_it_is_runs_in_cloud_mode_alone(image: Image) -> None:
    """Without settings of its own it refuses to start, rather than handing out dev tokens."""
    _, folder, environ = image.start(K_SERVICE="my-app")
    ask = [relocated(image), "-c", "from app import create_app; create_app()"]
    done = subprocess.run(ask, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "cloud.project is empty" in done.stderr
    assert image.environ["FIRELAUNCH_MODE"] == "cloud"


@pytest.fixture
def google(tmp_path: Path, firestore_emulator: Emulator, firestore_project: str) -> Iterator[GoogleHere]:
    problem = why_not_here()
    if problem:
        pytest.skip(f"no container can be made here: {problem}")
    place = Place(firestore_project, "europe-west1")
    settings = settings_for_deploy(copy_template(tmp_path / "my-app"), {})
    work = app_service(settings, place).work
    assert work is not None
    queue = f"projects/{place.project}/locations/{place.region}/queues/{work.queue}"
    account = place.email(app_service(settings, place).account)
    with GoogleHere(
        tmp_path / "google", firestore_emulator, place.project, bucket(settings, place), queue, account
    ) as made:
        yield made


def environ(google: GoogleHere, folder: Path) -> dict[str, str]:
    """What ``gcloud run deploy`` is told, from the deploy's own table, and what Cloud Run adds."""
    service = app_service(settings_for_deploy(folder, {}), Place(google.project, "europe-west1"))
    secrets = dict.fromkeys(service.secrets, "sk-test-of-nobody")
    return {**service.environ, **secrets, "K_SERVICE": service.name, "FIRELAUNCH_JOBS_URL": google.front}


def as_member(google: GoogleHere, container: Container, uid: str) -> httpx.Client:
    token = google.certificates.token(google.project, uid, {"my-app": "member"})
    container.client.headers["Authorization"] = f"Bearer {token}"
    return container.client


def wait_until_ready(client: httpx.Client, document: str, log: Path) -> None:
    give_up = time.monotonic() + 90
    while time.monotonic() < give_up:
        found = client.get(f"/v1/documents/{document}").json()
        if found.get("status") == "ready":
            return
        assert found.get("status") != "failed", (found, log.read_text())
        time.sleep(0.2)
    raise AssertionError(f"{found}\n{log.read_text()}")


def test_what_one_instance_indexed_another_cites_after_the_first_was_killed(
    image: Image, google: GoogleHere, tmp_path: Path
) -> None:
    around = environ(google, tmp_path / "my-app")
    google.model.default = Reply("At nine in the evening [1].")
    first = google.run(image, 8081, around)
    first.wait("/readyz")
    ada = as_member(google, first, "ada")
    uploaded = ada.post("/v1/uploads", files={"file": ("handbook.md", HANDBOOK)})
    assert uploaded.status_code in (200, 201, 202), (uploaded.text, first.log.read_text())
    document = uploaded.json()["id"]
    wait_until_ready(ada, document, first.log)
    second = google.run(image, 8082, around)
    second.wait("/readyz")
    first.kill()

    ada = as_member(google, second, "ada")
    chat = ada.post("/v1/chats", json={}).json()["id"]
    answer = ada.post(f"/v1/chats/{chat}/messages", json={"text": "When does the observatory open?"})
    assert answer.status_code == 200, (answer.text, second.log.read_text())
    assert answer.json()["message"]["text"] == "At nine in the evening [1]."
    citations = answer.json()["message"]["citations"]
    assert [citation["document_id"] for citation in citations] == [document]
    assert "opens at nine" in str(google.model.requests[-1])

    # Another user's question finds nothing of it.
    eve = as_member(google, second, "eve")
    found = eve.post("/v1/search", json={"query": "When does the observatory open?"})
    assert found.status_code == 200
    assert "observatory" not in found.text

    assert google.asked_for() >= set(NAMES), "the services of the cloud did it, and nothing that stands in for them"
    for log in (first.log, second.log):
        assert not complaints(log), log.read_text()


def complaints(log: Path) -> list[str]:
    return [word for word in ("Read-only file system", "Permission denied", "Traceback") if word in log.read_text()]


def test_a_container_can_write_nowhere_but_below_tmp(image: Image, google: GoogleHere) -> None:
    """What the two tests around this one stand on."""
    places = "/ /srv/app /srv/app/app /opt/venv /etc /var/tmp /dev/shm /tmp"
    ask = f"import os; print(os.getuid(), [each for each in '{places}'.split() if os.access(each, os.W_OK)])"
    container = google.run(image, 8081, {}, ["-c", ask])
    assert container.process.wait(60) == 0, container.log.read_text()
    assert container.log.read_text() == "10001 ['/tmp']\n"


def test_functions_answer_where_nothing_can_be_written(functions: Image, google: GoogleHere) -> None:
    around = {"GOOGLE_CLOUD_PROJECT": google.project, "K_SERVICE": "firelaunch-membership"}
    container = google.run(functions, 8081, {**around, "FUNCTION_TARGET": "membership", "CONCURRENCY": "8"})
    give_up = time.monotonic() + 120
    while True:
        try:
            answer = container.client.post("/apps/my-app/join", json={})
            break
        except httpx.TransportError:
            assert container.process.poll() is None, container.log.read_text()
            assert time.monotonic() < give_up, container.log.read_text()
            time.sleep(0.1)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthenticated"
    assert not complaints(container.log), container.log.read_text()


def test_the_image_holds_no_development_dependencies_no_pip_and_nothing_of_the_repo(image: Image) -> None:
    ask = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    out = subprocess.run([relocated(image), "-I", "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert {"firelaunch", "flask", "gunicorn", "google-cloud-firestore"} <= set(out)
    assert not {"pip", "setuptools", "pytest", "hypothesis", "ruff", "mypy", "cookiecutter", "hatchling"} & set(out)
    where = "import firelaunch; print(firelaunch.__file__)"
    found = subprocess.run([relocated(image), "-I", "-c", where], capture_output=True, text=True, check=True).stdout
    assert not found.startswith(str(ROOT))
    assert sorted(path.name for path in image.root.iterdir()) == ["opt", "srv"]
    assert sorted(path.name for path in (image.root / "srv" / "app").iterdir()) == ["app", "firelaunch.toml"]


def test_bytecode_is_there_for_every_module(image: Image) -> None:
    for folder in (image.root / "srv" / "app" / "app", *image.root.glob("opt/venv/lib/*/site-packages/firelaunch")):
        for path in folder.rglob("*.py"):
            assert list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc")), path


def test_the_image_is_slim_runs_as_nobody_and_writes_its_log_at_once(image: Image) -> None:
    assert image.base.endswith("-slim")
    assert image.user.split(":")[0].isdigit()
    assert int(image.user.split(":")[0]) >= 1000
    assert image.environ["PYTHONUNBUFFERED"] == "1"
    assert image.command == ["gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"]


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of an app's functions."""
    return built(tmp_path_factory, "functions", lambda app, staged: stage_functions(ROOT, staged, app))


@pytest.mark.parametrize(
    ("target", "path", "more"),
    [
        ("membership", "/apps/demo/join", {}),
        # Its settings are in the image: without them it could not know that the caller has no right to ask.
        ("app_functions", "/rollup_usage/apps/-", {"APPS": "apps/my-app", "FUNCTIONS": "rollup_usage"}),
    ],
)
def test_staged_functions_install_and_answer_where_the_repo_is_not(
    functions: Image, tmp_path: Path, target: str, path: str, more: dict[str, str]
) -> None:
    """One image, whose FUNCTION_TARGET says what it serves; on Cloud Run, in cloud mode, to nobody without a token."""
    command, folder, environ = functions.start(
        PORT=str(port := free_port()),
        FUNCTION_TARGET=target,
        K_SERVICE="fl-fn-my-app",
        GOOGLE_CLOUD_PROJECT="demo-firelaunch",
        INVOKER="a@b",
        INVOKER_AUDIENCE="https://here",
        HOME="/nonexistent",
        **more,
    )
    serve = [relocated(functions), "-m", command[0].replace("-", "_"), *command[1:]]
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen(serve, cwd=folder, env=environ, stdout=out, stderr=out)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            give_up = time.monotonic() + 120
            while time.monotonic() < give_up:
                try:
                    answer = client.post(path)
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    time.sleep(0.1)
        assert answer.status_code == 401, (tmp_path / "log").read_text()
        assert answer.json()["error"]["code"] == "unauthenticated"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_the_functions_image_is_slim_runs_as_nobody_and_holds_no_code_of_the_app(functions: Image) -> None:
    assert functions.base.endswith("-slim")
    assert int(functions.user.split(":")[0]) >= 1000
    assert functions.environ["PYTHONUNBUFFERED"] == "1"
    served = functions.root / "srv" / "functions"
    assert sorted(path.name for path in (served / "apps" / "my-app").iterdir()) == ["app", "firelaunch.toml"]
    assert [path.name for path in (served / "apps" / "my-app" / "app").iterdir()] == ["prompts"]
    assert list((served / "__pycache__").glob("main.*.pyc"))
