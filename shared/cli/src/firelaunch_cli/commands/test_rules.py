"""Implement ``firelaunch test-rules``: check whether the cases would notice wrong rules."""

from __future__ import annotations

from pathlib import Path

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable
from rules_tester.command import tester
from rules_tester.emulator import RulesEmulator

__all__ = ["command"]


def _start(jar: Path | None) -> Emulator | RulesEmulator:
    """Start an emulator, which is downloaded if it is nowhere on this machine."""
    return RulesEmulator.start(jar) if jar else Emulator.start()


command = tester("test-rules", _start, (EmulatorUnavailable,))

if __name__ == "__main__":
    command()
