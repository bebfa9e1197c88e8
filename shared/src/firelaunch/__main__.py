"""``python -m firelaunch``."""

from .cli import main

main()
