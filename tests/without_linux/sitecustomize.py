"""Takes away what Linux has and macOS has not: put this folder on PYTHONPATH, and a process starts without it.

It stands for a Mac where none is at hand. What macOS has beside that, such as kqueue, is not there either: selectors
then uses poll.
"""

from __future__ import annotations

import os
import select
import sys

for name in [name for name in vars(select) if name.lower().startswith("epoll")]:
    delattr(select, name)  # before socket is imported, whose selectors look for it

import resource  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

MODULES = {
    os: (
        "eventfd eventfd_read eventfd_write memfd_create sched_getaffinity sched_setaffinity sched_getparam "
        "sched_setparam sched_getscheduler sched_setscheduler sched_rr_get_interval pidfd_open pipe2 splice "
        "copy_file_range posix_fadvise posix_fallocate fdatasync getrandom getresuid getresgid setresuid setresgid "
        "getxattr setxattr listxattr removexattr unshare setns timerfd_create timerfd_settime get_handle_inheritable "
        "accept4 sendfile"
    ),
    resource: "prlimit RUSAGE_THREAD",
    signal: "SIGPWR SIGSTKFLT SIGPOLL SIGRTMIN SIGRTMAX SIGCLD sigtimedwait sigwaitinfo pidfd_send_signal",
    socket: (
        "SOCK_NONBLOCK SOCK_CLOEXEC SO_DOMAIN SO_PROTOCOL SO_PEERCRED SO_PASSCRED SO_PEERSEC SO_PASSSEC "
        "SO_BINDTODEVICE SO_MARK SO_PRIORITY SO_INCOMING_CPU AF_NETLINK AF_PACKET AF_ALG AF_TIPC AF_CAN AF_RDS "
        "AF_QIPCRTR MSG_CMSG_CLOEXEC MSG_CONFIRM MSG_ERRQUEUE MSG_MORE MSG_NOSIGNAL MSG_FASTOPEN TCP_KEEPIDLE"
    ),
    time: "CLOCK_BOOTTIME CLOCK_TAI clock_getcpuclockid pthread_getcpuclockid",
}
PREFIXES = {
    os: (
        "EFD_",
        "MFD_",
        "SCHED_",
        "SPLICE_",
        "CLONE_",
        "POSIX_FADV_",
        "XATTR_",
        "GRND_",
        "TFD_",
        "O_TMPFILE",
        "O_PATH",
    ),
    resource: ("RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_OFILE"),
    socket: ("NETLINK_", "PF_", "ALG_", "CAN_", "TIPC_", "PACKET_"),
}
TCP_OF_MACOS = {
    *("TCP_NODELAY", "TCP_MAXSEG", "TCP_KEEPALIVE", "TCP_KEEPCNT"),
    *("TCP_KEEPINTVL", "TCP_FASTOPEN", "TCP_NOTSENT_LOWAT"),
}
FOLDERS = ("/proc", "/dev/shm", "/sys")  # noqa: S108


def _of_linux(path: Any) -> bool:
    text = os.fsdecode(path) if isinstance(path, str | bytes) or hasattr(path, "__fspath__") else ""
    return any(text == folder or text.startswith(f"{folder}/") for folder in FOLDERS)


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event in {"open", "os.listdir", "os.scandir"} and args and _of_linux(args[0]):
        raise FileNotFoundError(2, "macOS has no such folder", args[0])


def _stat(path: Any, *args: Any, **options: Any) -> os.stat_result:
    if _of_linux(path):
        raise FileNotFoundError(2, "macOS has no such folder", path)
    return _real_stat(path, *args, **options)


def _access(path: Any, *args: Any, **options: Any) -> bool:
    return not _of_linux(path) and _real_access(path, *args, **options)


for module, names in MODULES.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for module, prefixes in PREFIXES.items():
    for name in [name for name in vars(module) if name.startswith(prefixes)]:
        delattr(module, name)
for name in [name for name in vars(socket) if name.startswith("TCP_") and name not in TCP_OF_MACOS]:
    delattr(socket, name)
_real_stat, _real_access = os.stat, os.access
os.stat, os.access = _stat, _access
sys.addaudithook(_refuse)
os.environ["TAKEN_AWAY"] = "1"
