"""The server that forks a process for each file: ``python -m firelaunch.rag.parse.fork_server < socket``.

It has imported the parsers, so a file costs a fork instead of a start of Python. It reads no byte of any file and
starts with an empty environment, so a fork inherits nothing of another file or of the app. docs/adr/0047 says why that
is safe. The app's end of the socket is :mod:`.parsing_processes`.

A request is one line of JSON, ``[format, extension, limits]``, with three descriptors: the file, the pipe for the
answer, and a socket for the process's end. The server answers a request with one byte. When the app shuts its end of
the third one, the process is killed; when the process has ended, its exit status is written there.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, Final, NoReturn

from .base import ParseLimits
from .child import main as parse_input

__all__ = ["IDLE_SECONDS", "MOST_FORKS"]

IDLE_SECONDS: Final = 60.0
"""Seconds without a file after which the server ends, and frees its memory. The next file starts another."""

MOST_FORKS: Final = 1_000
"""Files after which the server ends. Its forks share one layout of memory, which a file's author might learn."""

_LIBRARIES: Final = {
    "md": ("markdown_it",), "markdown": ("markdown_it",), "mdx": ("markdown_it",),
    "html": ("selectolax.lexbor",), "htm": ("selectolax.lexbor",), "xhtml": ("selectolax.lexbor",),
    "json": ("ijson",), "jsonl": ("ijson",), "ndjson": ("ijson",),
    "pdf": ("pypdfium2",), "docx": ("docx",), "pptx": ("pptx",),
}  # fmt: skip
"""The libraries that the server imports itself when a file with the extension first comes, for all files after it.

It must never import one that starts threads, because a fork has one thread. openpyxl is such a one: it imports numpy.
"""

_ALWAYS: Final = ("charset_normalizer", "firelaunch.rag.parse.text", "firelaunch.rag.parse.markdown")
_REQUEST_BYTES: Final = 4_096
_DESCRIPTORS: Final = 3
_FIRST_OTHER: Final = 3
"""The first descriptor behind standard input, output and error."""

_NICENESS: Final = 5
"""How far documents step back behind requests when the processor is busy. Linux then gives a document a third of what
it gives a request, so that a busy machine does not make it exceed its time."""


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ends: dict[int, socket.socket] = {}
        self._forks = 0
        self._poll = select.poll()
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)

    def run(self) -> None:
        """Serve until the app is gone, or until there was nothing to do for a while."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (self._control, self._woken):
            self._poll.register(each, select.POLLIN)
        while True:
            ready = self._poll.poll(None if self._ends else IDLE_SECONDS * 1000)
            if not ready and not self._ends:
                return
            for descriptor, _ in ready:
                if descriptor == self._woken.fileno():
                    self._woken.recv(_REQUEST_BYTES)
                elif descriptor != self._control.fileno():
                    self._kill(descriptor)
                elif not self._serve():
                    self._kill_all()
                    return
            self._reap()
            if self._forks >= MOST_FORKS and not self._ends:
                return

    def _serve(self) -> bool:
        """Fork a process for a request. Return False if the app has closed its end."""
        message, descriptors, _, _ = socket.recv_fds(self._control, _REQUEST_BYTES, _DESCRIPTORS)
        if not message or len(descriptors) != _DESCRIPTORS:
            return False
        format_name, extension, limits = json.loads(message)
        for library in _LIBRARIES.get(extension, ()):
            importlib.import_module(library)
        file, output, end = descriptors
        process = os.fork()
        if process == 0:
            _become_parser(file, output, format_name, extension, limits)
        os.close(file)
        os.close(output)
        self._forks += 1
        self._ends[process] = socket.socket(fileno=end)
        self._poll.register(end, select.POLLIN)
        self._control.send(b"+")
        return True

    def _kill(self, end: int) -> None:
        """Kill the process whose end the app has shut."""
        self._poll.unregister(end)
        for process, each in self._ends.items():
            if each.fileno() == end:
                os.kill(process, signal.SIGKILL)  # it was not reaped yet, so its number is its own

    def _kill_all(self) -> None:
        for process in self._ends:
            os.kill(process, signal.SIGKILL)

    def _reap(self) -> None:
        """Tell the app the exit status of each process that has ended."""
        while self._ends:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            end = self._ends.pop(process)
            with suppress(KeyError):  # it was killed
                self._poll.unregister(end)
            with end, suppress(OSError):  # the app no longer wants to know
                end.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become_parser(file: int, output: int, format_name: str, extension: str, limits: dict[str, Any]) -> NoReturn:
    """Keep no descriptor of the server's, parse, and end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(file, 0)
        os.dup2(output, 1)
        os.closerange(_FIRST_OTHER, os.sysconf("SC_OPEN_MAX"))
        if format_name == "any":
            os.nice(_NICENESS)
        parse_input(format_name, extension, ParseLimits(**limits))
        sys.stdout.flush()
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Import what every file needs, and serve."""
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256 if most == resource.RLIM_INFINITY else min(most, 256),) * 2)
    for module in _ALWAYS:
        importlib.import_module(module)
    gc.freeze()  # otherwise each fork's first collection would copy all that it shares with the server
    _Server(socket.socket(fileno=os.dup(0))).run()


if __name__ == "__main__":
    main()
