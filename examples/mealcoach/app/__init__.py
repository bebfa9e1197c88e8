"""The app: its settings, the services they name, and what is its own."""

import os
from collections.abc import Mapping
from pathlib import Path

from firelaunch import App, Settings, build, init_app

from . import days, kitchen, meals, pictures, summaries, workflow

ROOT = Path(__file__).parent.parent


def create_app(environ: Mapping[str, str] = os.environ) -> App:
    """The WSGI app; gunicorn calls this in its worker. A settings error ends the start and names its mend."""
    settings = Settings.load(ROOT / "firelaunch.toml", environ)
    app = App(
        __name__,
        routes=[meals.routes, days.routes, pictures.routes, summaries.routes, kitchen.routes],
        collections=[meals.meals, days.days, summaries.summaries, kitchen.dishes],
        jobs=[summaries.weekly_summary],
        events=[days.meal_written, pictures.meal_deleted],
        mcp=[meals.routes, days.routes],
    )
    init_app(app, build(settings), workflow.answer)
    return app
