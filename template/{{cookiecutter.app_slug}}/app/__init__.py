"""The app: its settings, the services they name, and the one function that answers."""

import os
from collections.abc import Mapping
from pathlib import Path

from firelaunch import App, Settings, build, init_app

from . import workflow

ROOT = Path(__file__).parent.parent


def create_app(environ: Mapping[str, str] = os.environ) -> App:
    """The WSGI app; gunicorn calls this in its worker. A settings error ends the start and names its mend.

    A request then goes through firelaunch in this order: web (who calls, may they), api (is the body right), turn
    (admit and store the message, call ``workflow.answer``, stream, settle the cost).
    """
    settings = Settings.load(ROOT / "firelaunch.toml", environ)
    app = App(__name__)
    init_app(app, build(settings), workflow.answer)
    return app
