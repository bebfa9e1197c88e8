"""gunicorn's settings: ``gunicorn -c python:firelaunch.server.gunicorn_config "app:create_app()"`` in an app's folder.

One worker with a thread for each request: an instance on Cloud Run has its concurrency, and more processes would only
divide its memory and its connections.

The environment may set PORT (8080), HOST (all addresses in cloud mode, else this machine alone) and CONCURRENCY
(80, Cloud Run's default).
"""

from __future__ import annotations

import gc
import os
import resource
import sys
from pathlib import Path
from typing import Any

from ..telemetry import configure_logs, log_what_nobody_catches

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn's heartbeat file, made with a random name

# pydantic looks through all installed packages for plugins when it is imported, which takes longer than it does itself.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# Dev tokens are anybody's who asks, so a laptop's app listens to the laptop alone unless HOST says otherwise.
_CLOUD = os.environ.get("FIRELAUNCH_MODE") == "cloud"

bind = f"{os.environ.get('HOST', '0.0.0.0' if _CLOUD else '127.0.0.1')}:{os.environ.get('PORT', '8080')}"  # noqa: S104 - a container's own
worker_class = "firelaunch.server.gunicorn_worker.Worker"
workers = 1
SPARE_THREADS = 4
"""For health checks, which do not count toward Cloud Run's concurrency."""

_SPARE_CONNECTIONS = 1_000
"""For clients that are slow or silent, which hold a connection and no thread."""

_FILES = 256
"""Files and sockets that a process has open besides its clients' and their models' connections."""


def connections(answered: int) -> int:
    """How many connections one process has at most: as many for the next request as are answered, and some more.

    Where the operating system allows fewer open files than that takes, as many as it allows. A connection may need
    two: its own, and its model's.
    """
    wanted = 2 * answered + _SPARE_CONNECTIONS
    most = _open_files(wanted + answered + _FILES)
    return max(answered + 1, min(wanted, most - answered - _FILES))


def _open_files(wanted: int) -> int:
    """Raise this process's limit of open files to ``wanted`` where it is lower: macOS has 256, Linux 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    # macOS reports no upper limit, and takes none above OPEN_MAX (10,240).
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most


threads = int(os.environ.get("CONCURRENCY", "80")) + SPARE_THREADS
"""Cloud Run's concurrency, and some for its health checks. A thread is made when a request first needs it."""

worker_connections = connections(threads)

timeout = 0
"""A worker whose threads stream is alive; Cloud Run ends a request that takes too long."""

graceful_timeout = 9
"""Cloud Run sends SIGKILL ten seconds after SIGTERM (https://cloud.google.com/run/docs/container-contract)."""

keepalive = 75
sendfile = False
"""What the kernel sends by itself is not paced, and a client that reads nothing would hold a thread."""

preload_app = False
"""gRPC's threads do not survive a fork."""

control_socket_disable = True
"""The control socket would be made in the home folder, which a container's user may not write to."""

worker_tmp_dir = str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None

loglevel = "warning"
logger_class = "firelaunch.server.gunicorn_logger.Logger"

# Here as well as in the app, whose settings are read later: what gunicorn's master says is to be in the same form.
configure_logs(structured=bool(os.environ.get("K_SERVICE")), project=os.environ.get("GOOGLE_CLOUD_PROJECT", ""))
log_what_nobody_catches()


def post_fork(_server: Any, _worker: Any) -> None:
    """Collect no garbage while the app is imported: nearly all that imports make is there to stay."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """Say where the app is and what it is, once it answers."""
    # What a start has left stays for good, so that no collection need look at it. Streams make and drop many small
    # objects, and hold some for long: by the default of 700 those would be looked at again and again.
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 100)
    place = worker.cfg.bind[0].replace("0.0.0.0", "localhost")  # noqa: S104 - the text, not a bind
    sys.stderr.write(f"ready on http://{place}{getattr(worker.wsgi, 'about', '')}\n")
    sys.stderr.flush()
