"""The processes that are killed: an app that indexes documents, until it is killed. Its settings' path is in CHAOS."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings


def main() -> None:
    """Work."""
    app = App("chaos")
    init_app(app, build(Settings.load(Path(os.environ["CHAOS"]), os.environ)), lambda _: ())
    app.start_jobs()
    signal.pause()


if __name__ == "__main__":
    main()
