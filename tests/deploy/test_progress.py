"""Where something long has come to."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from firelaunch_cli.commands.deploy import _Lines
from firelaunch_cli.commands.progress import Progress

SLOW = """
import threading
from firelaunch_cli.commands.progress import Progress
with Progress(1, patience=0.05).step("wait") as said:
    threading.Event().wait(1.3)
    said.append("done")
"""


def on_a_terminal(script: str) -> str:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stdout=theirs, check=True)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    return said


def test_each_step_is_a_line_with_its_number_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(10)
    with progress.step("first") as said:
        said.append("ok")
    with pytest.raises(KeyError), progress.step("second"):
        raise KeyError
    assert capsys.readouterr().out == "[ 1/10] first ... ok\n[ 2/10] second ... failed\n"


def test_a_step_that_has_nothing_to_say_ends_with_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1).step("first"):
        pass
    assert re.fullmatch(r"\[1/1\] first \.\.\. \d+\.\d s\n", capsys.readouterr().out)


def test_a_slow_step_that_has_nothing_to_say_has_its_seconds_once_on_a_terminal() -> None:
    said = on_a_terminal(SLOW.replace('    said.append("done")\n', ""))
    assert re.fullmatch(r"\[1/1\] wait \.\.\. 1\.\d s", said.rpartition("\r\n")[0].rpartition("\r")[2])
    assert said.count("\n") == 1


def test_a_slow_step_shows_its_seconds_on_a_terminal_and_ends_in_the_same_line() -> None:
    said = on_a_terminal(SLOW)
    assert "\r[1/1] wait ... 1 s done" in said
    assert said.count("\n") == 1


def test_what_a_step_says_is_below_its_title_and_its_end_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines, progress = _Lines(), Progress(2)
    with progress.step("first") as said:
        lines("warning: one")
        lines("two")
        said.append(f"{lines.end()}ok")
    with progress.step("second") as said:
        said.append(f"{lines.end()}done")
    assert capsys.readouterr().out == ("[1/2] first ... \n    warning: one\n    two\n    ok\n[2/2] second ... done\n")
