"""``firelaunch.toml`` and the environment, read once at the start."""

from typing import Any


def __getattr__(name: str) -> Any:
    from .. import warn_of_move
    from . import app

    # Apps of version 0.1 import Settings from here. It goes with version 0.3.
    if name != "Settings":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_of_move(f"{__name__}.Settings", "firelaunch.Settings")
    return app.Settings
