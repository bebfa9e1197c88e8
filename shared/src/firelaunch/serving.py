"""gunicorn's settings, in code: ``gunicorn -c python:firelaunch.serving "app:create_app()"`` in an app's folder.

One worker with a thread a request: an instance on Cloud Run has its concurrency, and more processes would only divide
its memory and its connections.

The environment may set PORT (8080), HOST (all addresses in cloud mode, else this machine alone) and CONCURRENCY
(80, Cloud Run's default).
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn's heartbeat file, made with a random name

# pydantic looks through all installed packages for plugins when it is imported, which takes longer than it does itself.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# Dev tokens are anybody's who asks, so a laptop's app listens to the laptop alone unless HOST says otherwise.
_CLOUD = os.environ.get("FIRELAUNCH_MODE") == "cloud"

bind = f"{os.environ.get('HOST', '0.0.0.0' if _CLOUD else '127.0.0.1')}:{os.environ.get('PORT', '8080')}"  # noqa: S104 - a container's own
worker_class = "firelaunch.gunicorn_worker.Worker"
workers = 1
threads = int(os.environ.get("CONCURRENCY", "80")) + 4
"""Cloud Run's concurrency, and some for its health checks. A thread is made when a request first needs it."""

timeout = 0
"""A worker whose threads stream is alive; Cloud Run ends a request that takes too long."""

graceful_timeout = 9
"""Cloud Run sends SIGKILL ten seconds after SIGTERM (https://cloud.google.com/run/docs/container-contract)."""

keepalive = 75
preload_app = False
"""gRPC's threads do not survive a fork."""

control_socket_disable = True
"""The control socket would be made in the home folder, which a container's user may not write to."""

worker_tmp_dir = str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None
loglevel = "warning"


def post_worker_init(worker: Any) -> None:
    """Say where the app is and what it is, once it answers."""
    # What a start has left stays for good, so that no collection need look at it. Streams make and drop many small
    # objects, and hold some for long: by the default of 700 those would be looked at again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    place = bind.replace("0.0.0.0", "localhost")  # noqa: S104 - the text, not a bind
    sys.stderr.write(f"ready on http://{place}{getattr(worker.wsgi, 'about', '')}\n")
    sys.stderr.flush()
