"""The processes that are killed: an app that indexes documents, until it is killed. Its settings' path is in CHAOS."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from firelaunch.settings import Settings
from firelaunch.web import App, init_app
from firelaunch.wiring import build


def main() -> None:
    """Work."""
    app = App("chaos")
    init_app(app, build(Settings.load(Path(os.environ["CHAOS"]), os.environ)), lambda _: ())
    app.start_jobs()
    signal.pause()


if __name__ == "__main__":
    main()
