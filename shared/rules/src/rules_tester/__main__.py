"""``python -m rules_tester``."""

from .command import main

main(prog_name="rules-tester")
