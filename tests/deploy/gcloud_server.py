"""The real gcloud, imported once: each command is a fork of a process that has it, which saves most of its second.

A context manager puts a ``gcloud`` into a folder for the front of PATH. It hands its words, environment and standard
streams to the process, and ends with the fork's exit code. The fork runs gcloud's own ``main``, and goes on when its
caller is killed: tests that break a command off use gcloud itself.

A fork tells the process which modules its command had to import, and the process imports them before the next fork. So
the first command of a kind takes three times as long as those that follow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

__all__ = ["GcloudServer"]

_SERVER = r"""
import gc, importlib, json, os, signal, socket, sys
root, address = sys.argv[1:3]
sys.path[:0] = [os.path.join(root, "lib")]
sys.argv = [os.path.join(root, "lib", "gcloud.py")]
os.environ["CLOUDSDK_ROOT_DIR"] = root
import gcloud as started
started.reorder_sys_path(sys.path)
import googlecloudsdk.gcloud_main as gcloud_main
import googlecloudsdk.api_lib.util.apis, googlecloudsdk.core.resource.resource_printer
import googlecloudsdk.command_lib.util.apis.yaml_command_translator, googlecloudsdk.core.credentials.transports
import googlecloudsdk.core.credentials.store, googlecloudsdk.calliope.cli, requests
listener = socket.socket(socket.AF_UNIX)
listener.bind(address)
listener.listen(64)
learned, learning = os.pipe()
os.set_blocking(learned, False)
os.set_blocking(learning, False)
known = set()
def learn():
    told = b""
    try:
        while True:
            told += os.read(learned, 1 << 16)
    except BlockingIOError:
        names = set(told.decode().split()) - known
    known.update(names)
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException:
            pass  # one that is imported only as a part of others
    if names:
        gc.freeze()  # a collection in a fork would copy all of it
def serve(connection):
    data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    told = json.loads(data)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["environ"], CLOUDSDK_ROOT_DIR=root)
    sys.argv = [os.path.join(root, "lib", "gcloud.py"), *told["argv"]]
    before = set(sys.modules)
    try:
        code = gcloud_main.main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    # Before the answer, so that the caller's next command has them.
    names = [name for name in set(sys.modules) - before if not name.startswith("__")]
    try:
        os.write(learning, (" ".join(names) + " ").encode())
    except OSError:
        pass  # the next fork tells it
    connection.sendall(str(int(code or 0)).encode())
    os._exit(0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    connection, _ = listener.accept()
    learn()
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        serve(connection)
    connection.close()
"""

_CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    told = dict(argv=sys.argv[1:], environ=dict(os.environ), cwd=os.getcwd())
    socket.send_fds(connection, [json.dumps(told).encode()], [0, 1, 2])
    sys.exit(int(connection.recv(16) or b"1"))
"""


class GcloudServer:
    """``folder`` holds the ``gcloud`` that leads here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        # Not another such server, which may be first on PATH already.
        folders = os.environ["PATH"].split(os.pathsep)
        others = [folder for folder in folders if not (Path(folder) / "server.py").exists()]
        found = shutil.which("gcloud", path=os.pathsep.join(others))
        assert found is not None
        root = Path(found).resolve().parent.parent
        bundled = root / "platform" / "bundledpythonunix" / "bin" / "python3"
        python = str(bundled if bundled.is_file() else shutil.which("python3"))
        self.folder.mkdir(parents=True)
        address = str(self.folder / "s")
        (self.folder / "server.py").write_text(_SERVER)
        (self.folder / "gcloud").write_text(_CLIENT.format(python=python, address=address))
        (self.folder / "gcloud").chmod(0o755)
        command = [python, str(self.folder / "server.py"), str(root), address]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=self.folder)
        give_up = time.monotonic() + 60
        while not os.path.exists(address):  # noqa: PTH110 - a socket
            assert self._process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
