"""The deploy tests share one gcloud that is imported already."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .gcloud_server import GcloudServer
from .world import gcloud_is_there


@pytest.fixture(autouse=True, scope="session")
def _imported_gcloud() -> Iterator[None]:
    """Put the imported gcloud first on PATH: each command saves most of its second."""
    if not gcloud_is_there():
        yield
        return
    path = os.environ["PATH"]
    with tempfile.TemporaryDirectory() as folder, GcloudServer(Path(folder) / "gcloud") as gcloud:
        os.environ["PATH"] = f"{gcloud.folder}{os.pathsep}{path}"
        yield
    os.environ["PATH"] = path
