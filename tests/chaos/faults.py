"""The faults: each is played to a served app while users go on."""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from firelaunch.testing.emulator import Emulator, EmulatorUnavailable
from firelaunch.testing.models import Fault

from .steps import killed_in
from .world import Outcome, Provider, Skipped, World, app_in, watched

__all__ = ["FAULTS", "Size", "play"]


@dataclass(frozen=True, slots=True)
class Size:
    """How many ``users`` go on, for how many ``seconds`` each fault lasts, and the ``streams`` that a SIGTERM meets."""

    users: int
    seconds: float
    streams: int


Play = Callable[[Path, Provider, Size], Outcome]


@contextmanager
def _served(folder: Path, provider: Provider, *, before: tuple[str, ...] = (), **environ: str) -> Iterator[World]:
    world = World(app_in(folder), provider, before=before, **environ)
    world.start()
    try:
        yield world
    finally:
        world.stop()


# The disk.


@contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def disk_full(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Fill the disk that the data is on to its last byte."""
    app = app_in(folder)
    with _small_disk(app / ".firelaunch", 48) as disk:
        world = World(app, provider)
        world.start()
        try:
            with watched(world, "disk full", size.users) as outcome:
                ballast = disk / "ballast"
                until = time.monotonic() + size.seconds
                with ballast.open("wb", buffering=0) as file:
                    while time.monotonic() < until:
                        with suppress(OSError):
                            while True:
                                file.write(b"\0" * 4096)
                        time.sleep(0.02)
                ballast.unlink()
            return outcome
        finally:
            world.stop()


def disk_read_only(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Start a worker on a disk that takes no writes, until it does."""
    app = app_in(folder)
    with _small_disk(app / ".firelaunch", 48) as disk:
        world = World(app, provider)
        world.start()
        try:
            with watched(world, "disk read-only", size.users) as outcome:
                # A file that is open for writing keeps a disk writable, so the worker dies, and the next one starts so.
                os.kill(world.master, signal.SIGSTOP)
                os.kill(world.worker, signal.SIGKILL)
                _remount(disk, "ro")
                os.kill(world.master, signal.SIGCONT)
                time.sleep(size.seconds)
                _remount(disk, "rw")
            return outcome
        finally:
            world.stop()


def _remount(disk: Path, how: str) -> None:
    give_up = time.monotonic() + 10
    while subprocess.run(["mount", "-o", f"remount,{how}", disk], capture_output=True, check=False).returncode:
        if time.monotonic() > give_up:
            raise Skipped(f"the disk cannot be made {how}")
        time.sleep(0.01)


@contextmanager
def _disk_that_errs(folder: Path, image: Path, megabytes: int) -> Iterator[Callable[[], None]]:
    """Mount a disk of its own, which turns read-only at its first error. Yields what mends it once nobody uses it."""
    folder.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    mounted = ["mount", "-o", "loop,errors=remount-ro", str(image), str(folder)]
    try:
        for command in (["mkfs.ext4", "-q", "-F", str(image)], mounted):
            subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"no disk of its own may be mounted here: {error}") from error

    def mend() -> None:
        give_up = time.monotonic() + 10  # the last process that was killed may not be gone yet
        while subprocess.run(["umount", folder], capture_output=True, check=False).returncode:
            assert time.monotonic() < give_up, "a process still uses the disk"
            time.sleep(0.01)
        subprocess.run(["e2fsck", "-f", "-y", image], capture_output=True, check=False)  # 1: it mended something
        subprocess.run(mounted, check=True)

    try:
        yield mend
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def disk_turns_read_only(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Have the disk turn read-only under the running app, as one that errs does. Then mend it and start anew.

    An error of the disk does it, and no remount: Linux refuses that while a file is open for writing.
    """
    app = app_in(folder)
    disk = app / ".firelaunch"
    with _disk_that_errs(disk, folder / "disk.img", 64) as mend:
        world = World(app, provider)
        world.start()
        try:
            with watched(world, "disk turns read-only", size.users) as outcome:
                # What is committed and not on the disk yet goes with a disk, as with a machine: it is not claimed.
                os.kill(world.worker, signal.SIGSTOP)
                subprocess.run(["sync", "-f", disk], check=True)
                subprocess.run(["mount", "-o", "remount,abort", disk], check=True)
                os.kill(world.worker, signal.SIGCONT)
                time.sleep(size.seconds)
                assert world.process is not None
                os.killpg(world.master, signal.SIGKILL)
                world.process.wait()
                mend()
                world.start()
            return outcome
        finally:
            world.stop()


# Memory and descriptors.


def memory_limit(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Give the worker no more memory than it has."""
    with _served(folder, provider) as world, watched(world, "no more memory", size.users) as outcome:
        pid = world.worker
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        world.limit(resource.RLIMIT_AS, pages * resource.getpagesize())
        time.sleep(size.seconds)
        world.unlimit(resource.RLIMIT_AS, before, pid)
    return outcome


def out_of_memory(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Have the kernel kill the worker, as it does where a container's memory is used up."""
    with _served(folder, provider) as world, watched(world, "killed for its memory", size.users) as outcome:
        for _ in range(3):
            os.kill(world.worker, signal.SIGKILL)
            time.sleep(size.seconds / 3)
    return outcome


def descriptors_gone(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Let the worker open no more file than it has open."""
    with _served(folder, provider) as world, watched(world, "no more descriptors", size.users) as outcome:
        pid = world.worker
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        world.limit(resource.RLIMIT_NOFILE, len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(size.seconds)
        world.unlimit(resource.RLIMIT_NOFILE, before, pid)
    return outcome


# The clock.


def _clock(fault: str, shift: str) -> Play:
    def played(folder: Path, provider: Provider, size: Size) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        told, library = folder / "clock", folder / "clock.so"
        told.write_text("0")
        compiler = shutil.which("cc")
        if compiler is None:
            raise Skipped("there is no C compiler for the clock that is shifted")
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        environ = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(told)}
        with (
            _served(folder / "app", provider, **environ) as world,
            watched(world, fault, size.users) as outcome,
        ):
            _write_in_place(told, shift)
            time.sleep(size.seconds)
            _write_in_place(told, "0")
        return outcome

    return played


# The network.


def dns_gone(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Have no name server answer, with the provider at a name."""
    folder.mkdir(parents=True, exist_ok=True)
    hosts, resolver = folder / "hosts", folder / "resolv.conf"
    named = "127.0.0.1 localhost provider.test\n"
    hosts.write_text(named)
    with _silent_name_server() as address:
        resolver.write_text(f"nameserver {address}\noptions timeout:2 attempts:2\n")
        mounts = f"mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf"
        done = subprocess.run(["unshare", "-m", "sh", "-c", mounts], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Skipped(f"no file may be mounted here: {done.stderr.strip()}")
        url = provider.base_url.replace("127.0.0.1", "provider.test")
        before = ("unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh")
        with (
            _served(folder / "app", provider, before=before, OPENAI_BASE_URL=url) as world,
            watched(world, "no name server", size.users) as outcome,
        ):
            _write_in_place(hosts, "127.0.0.1 localhost\n")
            time.sleep(size.seconds)
            _write_in_place(hosts, named)
    return outcome


def _write_in_place(path: Path, text: str) -> None:
    with path.open("r+") as file:
        file.write(text)
        file.truncate()


@contextmanager
def _silent_name_server() -> Iterator[str]:
    address = "127.0.0.153"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        try:
            silent.bind((address, 53))
        except OSError as error:
            raise Skipped(f"no name server may be played here: {error}") from error
        yield address


def _provider_down(fault: str, down: Fault) -> Play:
    def played(folder: Path, provider: Provider, size: Size) -> Outcome:
        with _served(folder, provider) as world, watched(world, fault, size.users) as outcome:
            provider.down = down
            time.sleep(size.seconds)
            provider.down = None
        return outcome

    return played


# The store.


def store_locked(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Have another process hold the database's lock."""
    with _served(folder, provider) as world, watched(world, "a store that is locked", size.users) as outcome:
        path = world.app / ".firelaunch" / "data.sqlite3"
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(size.seconds)
            other.execute("ROLLBACK")
    return outcome


def firestore_slow(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Delay everything that is sent to Firestore, which the emulator plays, and everything that it sends."""
    try:
        emulator = Emulator.start()
    except EmulatorUnavailable as error:
        raise Skipped(str(error)) from error
    with emulator, _Wire(emulator.host) as wire:
        project = f"demo-{secrets.token_hex(8)}"
        app = app_in(folder, **{'project = ""': f'project = "{project}"'})
        world = World(app, provider, FIRELAUNCH_MODE="emulators", FIRESTORE_EMULATOR_HOST=wire.host)
        world.store = emulator.store(project)
        world.start()
        try:
            with watched(world, "a Firestore that takes a second a message", size.users) as outcome:
                wire.delay = 1.0
                time.sleep(size.seconds)
                wire.delay = 0.0
            return outcome
        finally:
            world.stop()
            world.store.close()


class _Wire:
    """A TCP connection to ``target`` that can be slow."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.delay = 0.0

    def __enter__(self) -> _Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(self._target)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65_536):
                time.sleep(self.delay)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


# The process.


def sigterm_with_streams(folder: Path, provider: Provider, size: Size) -> Outcome:
    """End the process as Cloud Run does while streams are open, and start it anew."""
    with _served(folder, provider, CONCURRENCY=str(size.streams + 20)) as world:
        with watched(world, f"SIGTERM with {size.streams} streams", size.streams, calm=3, go_on=False) as outcome:
            world.stop()
            world.start()
        return outcome


def master_killed(folder: Path, provider: Provider, size: Size) -> Outcome:
    """Kill all processes at once, and start anew."""
    with _served(folder, provider) as world:
        with watched(world, "kill -9 of all processes", size.users) as outcome:
            assert world.process is not None
            os.killpg(world.master, signal.SIGKILL)
            world.process.wait()
            world.start()
        return outcome


FAULTS: dict[str, Play] = {
    "disk-full": disk_full,
    "disk-read-only": disk_read_only,
    "disk-turns-read-only": disk_turns_read_only,
    "memory-limit": memory_limit,
    "out-of-memory": out_of_memory,
    "descriptors": descriptors_gone,
    "clock-forward": _clock("clock an hour forward", "3600"),
    "clock-back": _clock("clock an hour back", "-3600"),
    "dns": dns_gone,
    "provider-refuses": _provider_down("every provider cuts connections", Fault(0)),
    "provider-fails": _provider_down("every provider answers 500", Fault(500)),
    "provider-hangs": _provider_down("every provider is silent", Fault(500, wait=60)),
    "store-locked": store_locked,
    "store-slow": firestore_slow,
    "sigterm": sigterm_with_streams,
    "kill-all": master_killed,
    "kill-turn": lambda folder, provider, _: killed_in("turn", folder, provider),
    "kill-upload": lambda folder, provider, _: killed_in("upload", folder, provider),
    "kill-job": lambda folder, provider, _: killed_in("job", folder, provider),
    "kill-erasure": lambda folder, provider, _: killed_in("erasure", folder, provider),
}


def play(name: str, folder: Path, size: Size) -> Outcome:
    """Play one fault."""
    with Provider() as provider:
        try:
            return FAULTS[name](folder, provider, size)
        except Skipped as reason:
            return Outcome(name, skipped=str(reason))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
