"""Puts what the project needs into ``.venv``; silent when nothing is to be done. Standard library alone.

It may be killed at any point. The stamp is taken away before anything is touched and written last, so a ``.venv``
without one is made anew; what was downloaded stays in pip's and uv's caches, and is not fetched twice.
"""

# ruff: noqa: S603, S606, T201 - a command line tool that runs fixed commands

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows itself; check_system says so
    fcntl = None

OLDEST = (3, 11)
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3.15")
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "firelaunch-setup.json"
PARTS = ("rules", "firelaunch", "cli")
"""The distributions, in shared/."""

INPUTS = ("requirements-uv.lock", "requirements-dev.lock", *(f"shared/{name}/pyproject.toml" for name in PARTS))
PAUSES = (0, 5, 20)
"""Seconds before each attempt at what needs the network."""


def main():
    """Bring ``.venv`` up to date."""
    check_system()
    check_python()
    with (ROOT / "Makefile").open() as lock:
        wait_for(lock)
        done, wanted = stamp(), state()
        if done == wanted:
            return
        if VENV.is_symlink():
            VENV.unlink()  # what it leads to is not ours to change
        STAMP.unlink(missing_ok=True)
        if done is None or done["venv"] != wanted["venv"]:
            make_venv(lock)
        install(lock)
        leave_stamp(wanted)


def check_system():
    """Stop on Windows itself: gunicorn does not run there."""
    if fcntl is None:
        stop(
            "firelaunch runs on Linux and macOS, and on Windows under WSL.",
            "Install it in PowerShell with: wsl --install; then clone the repository there and run make.",
        )


def check_python():
    """Go on under a Python that is new enough, or say which one to install."""
    if sys.version_info < OLDEST:
        for name in NAMES:
            newer = shutil.which(name)
            if newer:
                os.execv(newer, [newer, *sys.argv])
        stop(
            f"{sys.executable} is Python {version()}; firelaunch needs {OLDEST[0]}.{OLDEST[1]} or newer.",
            "Install one, or name one that is there: make PYTHON=/path/to/python3.12",
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop(
            f"{sys.executable} cannot make virtual environments: its venv module is missing.",
            f"On Debian or Ubuntu: apt-get install python{RUNNING}-venv",
        )


def wait_for(lock):
    """Take turns: children hold the lock too, so those of a killed set-up end before the next one begins."""
    os.set_inheritable(lock.fileno(), True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("Another set-up is at work here; waiting for it to end ...")
        fcntl.flock(lock, fcntl.LOCK_EX)


def state():
    """What the environment depends on: where it lies, its Python, and the files that say what is in it."""
    files = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in INPUTS}
    return {"venv": [str(VENV), RUNNING], "files": files}


def stamp():
    """The state that the last set-up reached; None when it did not get to its end, or its Python has gone."""
    try:
        done = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return None
    return done if (VENV / "bin" / "python").exists() and not VENV.is_symlink() else None


def leave_stamp(wanted):
    """Say that all is there. The rename makes it one step: the stamp is whole, or not there."""
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(wanted))
    fresh.replace(STAMP)


def make_venv(lock):
    """An empty environment with pip in it."""
    with Step(f"making .venv with Python {version()}"):
        shutil.rmtree(VENV, ignore_errors=True)
        if not run([sys.executable, "-m", "venv", str(VENV)], os.environ, lock):
            stop("Python could not make .venv; its own message is above.")


def install(lock):
    """Every locked package, then the distributions of shared/."""
    python = str(VENV / "bin" / "python")
    env = environment(python)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    packages = ["--require-hashes", "--no-deps", "-r", "requirements-dev.lock"]  # the lock holds all of them
    itself = [
        "--no-deps",
        "--no-build-isolation",
        *(word for name in PARTS for word in ("--editable", f"shared/{name}")),
    ]
    with Step("fetching the installer"):
        patiently([[*pip, "--require-hashes", "-r", "requirements-uv.lock"]] * 3, env, lock)
    with Step("installing the packages of requirements-dev.lock (a slow network may take minutes)"):
        patiently([[*uv, *packages], [*uv, *packages], [*pip, *packages]], env, lock)
    with Step("installing firelaunch from shared/"):
        patiently([[*uv, *itself], [*pip, *itself]], env, lock)
        run([python, "-m", "compileall", "-q", *(f"shared/{name}/src" for name in PARTS)], env, lock)


def environment(python):
    """The environment of pip and uv: patient with networks, and with uv told what only pip's settings know."""
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"}}
    for name, value in (
        ("PIP_DEFAULT_TIMEOUT", "120"),
        ("PIP_RETRIES", "8"),
        ("UV_HTTP_TIMEOUT", "120"),
        ("UV_HTTP_RETRIES", "8"),
        # An inspecting proxy's certificate is in the system's store. The second name is for older versions of uv.
        ("UV_SYSTEM_CERTS", "1"),
        ("UV_NATIVE_TLS", "1"),
        ("SSL_CERT_FILE", env.get("PIP_CERT") or pip_setting(python, "cert")),
        ("UV_DEFAULT_INDEX", env.get("PIP_INDEX_URL") or pip_setting(python, "index-url")),
    ):
        if value:
            env.setdefault(name, value)
    return env


def pip_setting(python, name):
    """A value of pip's configuration files, or None."""
    command = [python, "-m", "pip", "config", "get", f"global.{name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def patiently(attempts, env, lock):
    """Run the first of ``attempts`` that works; between them the network is given time to come back."""
    for pause, command in zip(PAUSES, attempts, strict=False):
        if pause:
            say(f"    that failed; trying again in {pause} s")
            time.sleep(pause)
        if run(command, env, lock):
            return
    stop(
        "The set-up could not be finished; the last message above says why.",
        "Run make again: it goes on from here, and nothing is downloaded twice.",
    )


def run(command, env, lock):
    """Whether ``command`` ended well."""
    try:
        return subprocess.run(command, env=env, cwd=ROOT, pass_fds=[lock.fileno()], check=False).returncode == 0
    except OSError as error:  # a binary that is not for this machine, say
        say(f"    {error}")
        return False


class Step:
    """Says what is being done, and how long it took."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        """Begin."""
        say(f"  {self.what} ...")
        self.start = time.monotonic()

    def __exit__(self, kind, *_):
        """End."""
        if kind is None:
            say(f"    {time.monotonic() - self.start:.1f} s")


def version():
    """The running Python's version."""
    return ".".join(str(part) for part in sys.version_info[:3])


def say(line):
    """One line, at once."""
    print(line, flush=True)


def stop(*lines):
    """End with an error that says what to do."""
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("", "Interrupted. Run make again: it goes on from here.")
