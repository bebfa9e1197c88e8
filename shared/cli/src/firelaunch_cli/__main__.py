"""Run the command line as ``python -m firelaunch_cli``."""

from .commands import main

main()
