"""Configure gunicorn: ``gunicorn -c python:firelaunch.server.gunicorn_config "app:create_app()"`` in an app's folder.

There is one worker process with a thread for each request. Cloud Run limits an instance's concurrent requests, so more
processes would only divide its memory and its connections.

The environment may set PORT (8080), HOST (all addresses in cloud mode, else this machine only) and CONCURRENCY. Without
the latter, ``cloud.concurrency`` of the folder's firelaunch.toml counts, or 80, Cloud Run's default.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import tomllib
from pathlib import Path
from typing import Any

from ..telemetry import configure_logs, log_what_nobody_catches
from .terminal import line_width, wrapped

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn's heartbeat file, made with a random name

# On import pydantic scans all installed packages for plugins, which takes longer than the import itself.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# Anybody can ask for a dev token, so an app on a laptop listens on the laptop only, unless HOST says otherwise.
_CLOUD = os.environ.get("FIRELAUNCH_MODE") == "cloud"

bind = f"{os.environ.get('HOST', '0.0.0.0' if _CLOUD else '127.0.0.1')}:{os.environ.get('PORT', '8080')}"  # noqa: S104 - a container's own
worker_class = "firelaunch.server.gunicorn_worker.Worker"
workers = 1
SPARE_THREADS = 4
"""Threads for health checks, which do not count toward Cloud Run's concurrency."""

_SPARE_CONNECTIONS = 1_000
"""Connections for slow or silent clients, which hold a connection but no thread."""

_CLOUD_RUNS_DEFAULT = 80
"""Concurrent requests (https://cloud.google.com/run/docs/about-concurrency)."""

_FILES = 256
"""Files and sockets that a process opens besides the connections of its clients and their models."""


def connections(answered: int) -> int:
    """Return the most client connections of one process.

    Besides the connections that threads are answering there are as many that wait for their next request, and some for
    slow clients. If the operating system allows fewer open files, the number is what it allows. Each answer may need a
    second file: the connection to its model.

    Args:
        answered: requests answered at a time.
    """
    target = 2 * answered + _SPARE_CONNECTIONS
    file_limit = _raise_file_limit(target + answered + _FILES)
    return max(answered + 1, min(target, file_limit - answered - _FILES))


def _raise_file_limit(target: int) -> int:
    """Raise this process's limit of open files to ``target`` if it is lower, and return the files it may open.

    The default limit is 256 on macOS and 1,024 on Linux.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= target:
        return target
    # macOS reports no upper limit, and rejects limits above OPEN_MAX (10,240).
    limit = target if hard == resource.RLIM_INFINITY else min(target, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):
        return soft
    return limit


def concurrency(folder: Path) -> int:
    """Return the requests that the process answers at a time.

    Args:
        folder: the app's. If its settings cannot be read, the app says why when it starts.
    """
    asked = os.environ.get("CONCURRENCY")
    if asked:
        return int(asked)
    try:
        found = tomllib.loads((folder / "firelaunch.toml").read_text())["cloud"]["concurrency"]
    except (OSError, ValueError, LookupError, TypeError):
        return _CLOUD_RUNS_DEFAULT
    return found if type(found) is int and found > 0 else _CLOUD_RUNS_DEFAULT


threads = concurrency(Path()) + SPARE_THREADS
"""The concurrency, plus threads for its health checks. gunicorn starts a thread when a request needs it."""

worker_connections = connections(threads)

timeout = 0
"""No timeout: a worker whose threads stream is alive, and Cloud Run ends requests that take too long."""

graceful_timeout = 9
"""Cloud Run sends SIGKILL ten seconds after SIGTERM (https://cloud.google.com/run/docs/container-contract)."""

keepalive = 75
sendfile = False
"""Off: the worker can't limit the time of a file that the kernel sends, so a silent client would hold a thread."""

preload_app = False
"""Off, because gRPC's threads do not survive a fork."""

control_socket_disable = True
"""Disabled: gunicorn would create the socket in the home folder, where a container's user may not write."""

worker_tmp_dir = str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None

loglevel = "warning"
logger_class = "firelaunch.server.gunicorn_logger.Logger"

# The app configures logging too, but later, when it reads its settings. gunicorn's master logs before that.
configure_logs(structured=bool(os.environ.get("K_SERVICE")), project=os.environ.get("GOOGLE_CLOUD_PROJECT", ""))
log_what_nobody_catches()


def post_fork(_server: Any, _worker: Any) -> None:
    """Collect no garbage while the app is imported: nearly all that imports make is there to stay."""
    gc.disable()


def worker_exit(_server: Any, worker: Any) -> None:
    """Have the app report what its process has spent, so that others can lease the rest of it."""
    end = getattr(getattr(worker, "wsgi", None), "end", None)
    if end is not None:
        end()


def post_worker_init(worker: Any) -> None:
    """Print the app's address and description once the worker can answer."""
    # Objects from the start live as long as the process, so garbage collections may skip them. Streams make and drop
    # many small objects and hold some for long; the default threshold of 700 would scan those again and again. Each
    # request leaves four objects of Werkzeug's that refer to each other, so that a high threshold keeps many of them.
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 10, 10)
    address = worker.cfg.bind[0].replace("0.0.0.0", "localhost")  # noqa: S104 - the text, not a bind
    ready = f"ready on http://{address}{getattr(worker.wsgi, 'about', '')}"
    sys.stderr.write(wrapped(ready, line_width(sys.stderr), rest="  ") + "\n")
    sys.stderr.flush()
