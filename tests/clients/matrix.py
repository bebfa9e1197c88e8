"""One generator after another, against one served app with routes of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import ROOT, Server, served

from .generators import ClientFault, Generator, Work

__all__ = ["Result", "mealcoach", "try_generator"]

EXPECTED: Mapping[str, Any] = {
    "listed": [True],
    "uploaded": "notes.txt",
    "bytes": 21,
    "error": "not_found",
    "kind": "snack",  # the default of a field that is not sent
    "deleted": 204,
}
"""What a round trip tells; beside it ``said``, the model's words."""


@dataclass
class Result:
    """How far a generator came; None where there is nothing to try."""

    generated: bool = False
    compiled: bool | None = None
    called: bool | None = None
    fault: str | None = None

    @property
    def holds(self) -> bool:
        """Whether all that was tried went well."""
        return self.fault is None and self.generated


@contextmanager
def mealcoach(folder: Path) -> Iterator[tuple[Server, Path]]:
    """The example app, served, and the file with its document."""
    ignored = shutil.ignore_patterns(".firelaunch", "__pycache__", ".*_cache")
    app = Path(shutil.copytree(ROOT / "examples" / "mealcoach", folder / "mealcoach", ignore=ignored))
    with served(app) as server:
        document = folder / "openapi.json"
        document.write_text(server.client.get("/openapi.json").text)
        yield server, document


def try_generator(generator: Generator, document: Path, server: Server) -> Result:
    """Generate, compile and call."""
    result = Result()
    with tempfile.TemporaryDirectory(dir=generator.home(), prefix="client-") as scratch:
        work = Work(document, Path(scratch))
        try:
            generator.generate(work)
            result.generated = True
            if generator.compile is not None:
                result.compiled = False
                generator.compile(work)
                result.compiled = True
            if generator.call is not None:
                result.called = False
                _check(generator.round_trip(work, server.url), server)
                result.called = True
        except ClientFault as fault:
            result.fault = str(fault)
    _forget(server)
    return result


def _check(told: dict[str, Any], server: Server) -> None:
    said = told.pop("said", None)
    if told != EXPECTED or not said:
        raise ClientFault(f"the client was told {told} and {said!r}")
    documents = server.sign_in("ada").call("GET", "/v1/documents").json()["items"]
    if [(item["name"], item["bytes"]) for item in documents] != [("notes.txt", 21)]:
        raise ClientFault(f"the app was sent other documents: {documents}")


def _forget(server: Server) -> None:
    """Remove what a round trip left, so that the next one finds the app as it was."""
    ada = server.sign_in("ada")
    for path in ("/v1/documents", "/v1/chats"):
        for item in ada.call("GET", path).json()["items"]:
            ada.call("DELETE", f"{path}/{item['id']}")
