"""What a founder runs on a Mac, tried on Linux: without what only Linux has, and by looking for what only Linux has."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PYTHON, ROOT, clean_environ

WITHOUT_LINUX = ROOT / "tests" / "without_linux"

STREAMING = (
    "tests/test_relay.py::test_a_stream_tells_all_of_the_answer_in_order_and_its_connection_serves_the_next[0.0]",
    "tests/test_relay.py::test_where_the_settings_say_so_a_client_that_leaves_ends_the_models_work_and_what_was_said_is_kept"
    "[in the middle]",
    "tests/test_relay.py::test_over_tls_nothing_that_has_come_waits_for_what_comes_next",
    "tests/test_relay.py::test_many_streams_need_few_threads",
    "tests/test_streams.py::test_an_answer_goes_on_when_its_client_leaves_before_the_first_word",
    "tests/test_streams.py::test_a_process_told_to_end_tells_its_streams_and_those_that_follow_them",
    "tests/test_hub_resets.py",
    "tests/test_hostile_clients.py::test_requests_that_come_in_pieces_and_several_at_once_are_answered_in_their_order",
    "tests/test_hostile_clients.py::"
    "test_a_client_that_reads_nothing_does_not_put_off_the_end_of_its_request_or_its_bill",
)


def test_streams_are_served_where_everything_that_only_linux_has_is_taken_away() -> None:
    """The whole of these tests, and the apps that they start, run without epoll, eventfd, /proc and the like."""
    environ = clean_environ(PYTHONPATH=str(WITHOUT_LINUX))
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *STREAMING]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:]


def test_what_is_taken_away_is_not_there() -> None:
    """Else the test above would prove nothing."""
    code = (
        "import os, select, selectors, socket; "
        "gone = [hasattr(select, 'epoll'), hasattr(os, 'eventfd'), hasattr(socket, 'TCP_USER_TIMEOUT'), "
        "os.path.exists('/proc/self/status'), os.path.isdir('/dev/shm')]; "
        "print(selectors.DefaultSelector.__name__, any(gone))"
    )
    environ = clean_environ(PYTHONPATH=str(WITHOUT_LINUX))
    ended = subprocess.run([PYTHON, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["PollSelector", "False"]


COMMANDS = {
    "GNU": r"""
        \bsed\s+(-[a-zA-Z]*\s+)*(-i(?!\s*'')|--in-place|-r\b) | \bdate\s+(-d|--date|-I|--iso|\+\S*%N) | readlink\s+-[ef]
        | \bstat\s+(-c|--format|--printf) | xargs\s+(-[a-zA-Z0-9]*r\b|--no-run-if-empty|-d\b) | \bgrep\s+-[a-zA-Z]*P
        | (^|[;&|(]\s*)timeout\s+[-0-9] | \bnproc\b | \bsort\s+(-[a-zA-Z]*V|--version-sort) | \bfind\b.*-printf
        | \bhead\s+-[nc]\s*- | \btail\s+--pid | (^|[;&|]\s*)(tac|shuf|setsid|taskset|numfmt|ss|ip|free|pidof)\s
        | \b(sha256sum|md5sum|sha1sum)\b | base64\s+(-w|--wrap) | \bdu\s+-[a-z]*b | \btouch\s+-d | \becho\s+-e
        | \bps\s+--\w | \b(cp|mv|rm|ls|mkdir|chmod|ln|tar|wc|cut|tr|head|tail)\s+--\w | \bmktemp\s+(--\w|-p)
        | /proc/ | /dev/shm | /sys/ | \bsystemctl\b | \brealpath\s+-
    """,
    "bash 4": r"""
        \b(declare|local|typeset)\s+-[a-zA-Z]*[Anlu] | \b(mapfile|readarray|coproc)\b | \$\{\w+(,,?|\^\^?)\}
        | \$\{\w+@[A-Z] | &>> | \|& | \bshopt\s+-s\s+(globstar|lastpipe|inherit_errexit) | \[\[\s+-v\s | \bwait\s+-n
        | EPOCHSECONDS | EPOCHREALTIME | BASHPID | ;;& | printf\s+'%\( | \bread\s+-[a-z]*N | \$\{\w+\[-1\]
    """,
}
"""What macOS's own commands, and its bash 3.2, do not know."""

MAKE = r"""
    \$\((file|guile|let|intcmp)\s | ^[\w.-]+\s*(!=|::=|:::=) | ^\.(ONESHELL|RECIPEPREFIX|SHELLFLAGS|EXTRA_PREREQS|WAIT)
    | ^(undefine|unexport\s+-|load|private)\s | ^define\s+\w+\s*[:+?!]?= | &:(\s|$) | --output-sync | \.WAIT\b
"""
"""What make 3.81, which macOS has, does not know."""


def scripts() -> Iterator[tuple[str, str]]:
    """All that a founder's shell or make reads: the files, and the commands that the docs print."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        path = ROOT / name
        if not path.is_file():
            continue
        if path.suffix == ".md":
            blocks = re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
            yield name, "\n".join(blocks)
        elif is_script(path):
            yield name, path.read_text()


def is_script(path: Path) -> bool:
    if path.name in {"Makefile", "Dockerfile"} or path.suffix in {".mk", ".sh"}:
        return path.name != "Dockerfile"  # what an image is built by runs on Linux
    if path.suffix or not os.access(path, os.X_OK):
        return False
    return re.match(rb"#!.*\b(ba|z)?sh\b", path.read_bytes()[:80]) is not None


@pytest.mark.parametrize("kind", COMMANDS)
def test_no_command_that_a_founder_runs_needs_more_than_macos_has(kind: str) -> None:
    pattern = re.compile(COMMANDS[kind], re.VERBOSE | re.MULTILINE)
    found = [
        f"{name}: {line.strip()}" for name, text in scripts() for line in text.splitlines() if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_makefile_is_read_by_the_make_that_macos_has() -> None:
    pattern = re.compile(MAKE, re.VERBOSE | re.MULTILINE)
    assert pattern.findall((ROOT / "Makefile").read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "sed -i s/a/b/ file", "date -d yesterday", "readlink -f x", "stat -c %s x", "ls | xargs -r rm", "grep -P x y",
        "timeout 5 true", "make -j$(nproc)", "sort -V x", "declare -A map", "echo ${name,,}", "mapfile -t lines",
        "cat /proc/cpuinfo", "sha256sum x", "echo -e x", "cp --parents a b",
    ],
)  # fmt: skip
def test_the_scan_finds_what_it_looks_for(line: str) -> None:
    assert any(re.search(pattern, line, re.VERBOSE | re.MULTILINE) for pattern in COMMANDS.values())


PYTHON_OF_LINUX = re.compile(
    r"/proc/|/dev/shm|\bselect\.(epoll|EPOLL\w+)|\bos\.(eventfd|memfd_create|sched_\w+|pipe2|splice|pidfd_open)|\bEFD_\w+"
    r"|\bprlimit\b|RUSAGE_THREAD|SIGRT(MIN|MAX)|SOCK_(NONBLOCK|CLOEXEC)|SO_(PEERCRED|BINDTODEVICE|DOMAIN|PROTOCOL)\b"
    r"|TCP_(CORK|USER_TIMEOUT|KEEPIDLE|DEFER_ACCEPT|QUICKACK|INFO)\b|MSG_(MORE|NOSIGNAL)\b|\bprctl\b"
)
GUARDED = {
    "firelaunch/server/gunicorn_config.py": "os.access(_SHARED_MEMORY",
    "firelaunch_cli/commands/running.py": 'sys.platform == "linux"',
    "firelaunch_cli/doctor/system.py": "    except OSError:\n        return None\n    place =",
    "firelaunch/rag/parse/child.py": 'sys.platform == "linux"',
    "rules_tester/emulator.py": 'sys.platform != "linux"',
}
"""Files that name such a thing, and what keeps macOS from it."""


def test_nothing_that_only_linux_has_is_in_the_package_but_behind_a_question() -> None:
    found = {
        path.relative_to(source).as_posix(): path.read_text()
        for source in (ROOT / "shared").glob("*/src")
        for path in source.rglob("*.py")
        if PYTHON_OF_LINUX.search(path.read_text())
    }
    assert {name for name in found if not GUARDED.get(name) or GUARDED[name] not in found[name]} == set()
