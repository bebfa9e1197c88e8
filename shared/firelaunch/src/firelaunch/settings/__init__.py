"""Read ``firelaunch.toml`` and the environment, once at the start."""

from .. import former_names

__getattr__ = former_names(__name__, {"Settings": "firelaunch.Settings"})
