"""Commands of ``firelaunch``, each in a fork of one process that has imported them all.

A command takes a second or two of processor time to import what it needs, and often less to do its work. Everything
else is as in a process of its own: folder, environment, standard streams, exit code, and the modules of apps. Tests of
signals, and of what a command's process becomes, start a process instead.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import firelaunch_cli.commands
from support import clean_environ

__all__ = ["firelaunch", "run"]

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [f"firelaunch_cli.commands.{module.name}" for module in pkgutil.iter_modules(firelaunch_cli.commands.__path__)]
    # Each fork imports this module, and with it httpx.
    + ["cookiecutter.extensions", "cookiecutter.main", "firelaunch.server.app", "firelaunch.services.build", "httpx"]
)


def firelaunch(folder: Path, *words: str, said: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``firelaunch WORDS`` in a folder, with ``said`` as its input and more variables than a clean environment."""
    return run(folder, words, clean_environ(**environ), said)


def run(
    folder: Path, words: Sequence[str], environ: Mapping[str, str], said: str = "", timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment and no other.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``timeout`` seconds, and was killed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        streams = [Path(scratch, name) for name in ("in", "out", "err")]
        for stream in streams:
            stream.write_text(said if stream.name == "in" else "")
        process = _FORKS.Process(target=_command, args=(str(folder), list(words), dict(environ), streams))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(words), timeout)
        _, out, err = (stream.read_text() for stream in streams)
    return subprocess.CompletedProcess(list(words), process.exitcode, out, err)


def _command(folder: str, words: list[str], environ: dict[str, str], streams: list[Path]) -> None:
    """Run a command, as ``python -m firelaunch_cli`` does."""
    for number, stream in enumerate(streams):
        _put(number, stream.open("rb" if number == 0 else "ab"))
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing takes it away
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["firelaunch", *words]
    sys.path.insert(0, folder)
    try:
        firelaunch_cli.commands.main(prog_name="python -m firelaunch_cli")
    finally:
        atexit._run_exitfuncs()


def _put(number: int, stream: BinaryIO) -> None:
    with stream:
        os.dup2(stream.fileno(), number)
