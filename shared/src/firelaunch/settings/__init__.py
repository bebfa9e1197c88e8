"""``firelaunch.toml`` and the environment, read once at the start."""
