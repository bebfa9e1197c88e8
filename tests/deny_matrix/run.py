"""The runner: all attempts against given rules, side by side on one emulator, and what came of them."""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from firelaunch.testing.emulator import Emulator, unsigned_token
from google.api_core.exceptions import GoogleAPIError

from .attempts import Attempt, Operation, own_places, places
from .client import allowed
from .listen import listen
from .rest import Rest, Unclear
from .table import GROUPS, Place
from .tokens import TOKENS, USERS

__all__ = ["ACTING", "DENY_ALL", "DOCUMENT", "Report", "check_that_rules_bind", "run"]

DENY_ALL = "rules_version = '2';\nservice cloud.firestore { match /{path=**} { allow read, write: if false; } }\n"
DOCUMENT = {
    "title": "A name",
    "archived": False,
    "message_count": 1,
    "plan": "free",
    "role": "editor",
    "embedding": (1.0, 0.0, 0.2),
}
"""The document at every place, except that a membership's role is its group's."""
ACTING = "ada, a member of alpha"
"""The token of the canary."""


@dataclass(slots=True)
class Report:
    """What came of a run. ``leaks`` were let through and should not be, ``refused`` the other way round."""

    seconds: float = 0.0
    allowed: int = 0
    denied: int = 0
    leaks: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    by_operation: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        """Whether every attempt got the answer that the table gives."""
        return not (self.leaks or self.refused or self.unclear)

    def add(self, attempt: Attempt, got: bool) -> None:
        """Count one answer."""
        self.by_operation[f"{attempt.operation.name} ({attempt.operation.way})"] += 1
        if got == attempt.allowed:
            self.allowed += got
            self.denied += not got
        else:
            (self.leaks if got else self.refused).append(str(attempt))

    def merge(self, other: Report) -> None:
        """Take over another's counts."""
        self.allowed += other.allowed
        self.denied += other.denied
        self.leaks += other.leaks
        self.refused += other.refused
        self.unclear += other.unclear
        self.by_operation += other.by_operation

    def as_json(self) -> dict[str, Any]:
        """As build/deny.json has it; ``examples`` are the first twenty answers that were wrong."""
        return {
            "attempts": self.by_operation.total(),
            "allowed_as_expected": self.allowed,
            "denied_as_expected": self.denied,
            "leaks": len(self.leaks),
            "refused": len(self.refused),
            "unclear": len(self.unclear),
            "seconds": round(self.seconds, 1),
            "examples": [*self.leaks, *self.refused, *self.unclear][:20],
            "by_operation": dict(sorted(self.by_operation.items())),
        }


def run(
    emulator: Emulator, rules: str, attempts: Sequence[Attempt], jobs: int = 4, database: str = "(default)"
) -> Report:
    """Make all ``attempts``; each job has a project of its own, so that none waits for another's transaction.

    Args:
        database: the one that the rules are loaded for and the attempts are made on.

    Raises:
        RuntimeError: under rules that deny everything a client was let through, so no denial would mean a thing.
    """
    began = time.monotonic()
    report = Report()
    with ThreadPoolExecutor(jobs) as pool:
        for part in pool.map(lambda job: _job(emulator, rules, attempts[job::jobs], database), range(jobs)):
            report.merge(part)
    report.seconds = time.monotonic() - began
    return report


def _job(emulator: Emulator, rules: str, attempts: Sequence[Attempt], database: str) -> Report:
    project = f"demo-{secrets.token_hex(8)}"
    rest = Rest(emulator.host, project, database)
    clients: dict[str, Any] = {}
    tokens = {name: None if claims is None else unsigned_token(project, claims) for name, claims in TOKENS.items()}

    def client(token: str) -> Any:
        if token not in clients:
            clients[token] = emulator.client_as(project, TOKENS[token], database)
        return clients[token]

    try:
        seed(rest, (*places(), *own_places()))
        emulator.load_rules(project, DENY_ALL, database)
        check_that_rules_bind(rest, tokens[ACTING], client(ACTING))
        emulator.load_rules(project, rules, database)
        report = Report()
        streams: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            if attempt.operation.way == "listen":
                streams[attempt.token].append(attempt)
                continue
            try:
                if attempt.operation.way == "rest":
                    report.add(attempt, rest.allowed(attempt.operation, tokens[attempt.token]))
                else:
                    report.add(attempt, allowed(client(attempt.token), attempt.operation))
            except (Unclear, GoogleAPIError) as error:
                report.unclear.append(f"{attempt}: {error}")
        for token, listened in streams.items():
            _listen(report, client(token), listened)
        return report
    finally:
        rest.close()
        for opened in clients.values():
            opened.close()


def seed(rest: Rest, wanted: Iterable[Place]) -> None:
    """Put a document at each place, and memberships of groups with the same ids in a third app."""
    rest.put({place.path: {**DOCUMENT, "role": place.role} for place in wanted})
    rest.put({f"apps/gamma/groups/{group}/members/{uid}": {"role": "owner"} for group, uid in _elsewhere()})


def _elsewhere() -> Iterator[tuple[str, str]]:
    """Yield groups of a third app that have the ids of these apps' groups, with a member of each."""
    for group, uid in product(GROUPS, (*USERS, "mallory")):
        yield group.format(uid=uid), uid
        yield group.format(uid=USERS[0]), uid


def _listen(report: Report, client: Any, attempts: Sequence[Attempt]) -> None:
    try:
        for attempt, got in zip(attempts, listen(client, [a.operation for a in attempts]), strict=True):
            report.add(attempt, got)
    except (Unclear, GoogleAPIError) as error:
        report.unclear.append(f"{attempts[0].token}'s listeners: {error}")


def check_that_rules_bind(rest: Rest, token: str | None, client: Any) -> None:
    """The canary: while the rules in force deny everything, so do they what the table allows to the acting clients."""
    own = Operation("get", "rest", "get", "apps/alpha/users/ada/chats/c1")
    let_through = [rest.allowed(own, token), allowed(client, own), *listen(client, [own])]
    if any(let_through):
        raise RuntimeError(f"the rules do not bind the clients that try them: {let_through}")
