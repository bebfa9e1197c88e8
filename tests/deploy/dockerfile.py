"""Runs a Dockerfile's steps without Docker: each stage's file system is a folder, and base images are this machine.

What it knows is what our Dockerfiles use; any other instruction fails, so that none is passed over.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Image:
    """What was built: its files below ``root``, and how a container of it starts."""

    root: Path
    base: str
    environ: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "root"
    command: list[str] = field(default_factory=list)

    def at(self, text: str) -> str:
        """``text`` with the image's absolute paths as those of this machine."""
        return re.sub(r"(?<![\w.])/(opt|srv|tmp)/", rf"{self.root}/\1/", text)

    def start(self, **environ: str) -> tuple[list[str], Path, dict[str, str]]:
        """Command, folder and environment of a container; nothing of this process's environment but its PATH."""
        own = {name: self.at(value.replace("$PATH", os.environ["PATH"])) for name, value in self.environ.items()}
        return self.command, Path(self.at(f"{self.workdir}/")), {**own, **environ}


def build(context: Path, scratch: Path, installer_environ: dict[str, str]) -> Image:
    """Run the Dockerfile of ``context``; the last stage's image.

    Args:
        installer_environ: the environment of RUN steps; what a build machine would have.
    """
    images: dict[str, Image] = {}
    image = None
    for instruction, text in _instructions((context / "Dockerfile").read_text()):
        if instruction == "FROM":
            base, _, name = text.partition(" AS ")
            image = images[name] = Image(scratch / f"stage-{len(images)}", base)
            image.root.mkdir(parents=True)
            continue
        assert image is not None
        if instruction == "RUN":
            _run(image, text, installer_environ)
        elif instruction == "COPY":
            _copy(image, text, context, images)
        elif instruction == "ENV":
            image.environ |= dict(part.split("=", 1) for part in shlex.split(text))
        elif instruction == "WORKDIR":
            image.workdir = text
        elif instruction == "USER":
            image.user = text
        elif instruction == "CMD":
            image.command = json.loads(text)
        else:
            raise AssertionError(f"{instruction} is not known here")
    assert image is not None
    return image


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line and not line.startswith("#")]


def _run(image: Image, text: str, environ: dict[str, str]) -> None:
    (image.root / "opt").mkdir(exist_ok=True)
    command = image.at(text)
    if command.startswith("python "):  # the base image's own
        command = f"{sys.base_prefix}/bin/python3 {command[7:]}"
    around = {**environ, **{name: image.at(value) for name, value in image.environ.items()}}
    done = subprocess.run(
        ["sh", "-c", command], cwd=image.root, env=around, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"RUN {text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def _copy(image: Image, text: str, context: Path, images: dict[str, Image]) -> None:
    words = text.split()
    source_root = context
    if words[0].startswith("--from="):
        source_root = images[words.pop(0).removeprefix("--from=")].root
    *sources, target = words
    for source in sources:
        found = glob.glob(str(source_root / source.lstrip("/")))  # noqa: PTH207 - the pattern is absolute
        assert found, f"COPY {text}: nothing is there"
        for path in map(Path, found):
            to = image.root / target.lstrip("/")
            if path.is_dir():
                shutil.copytree(path, to, symlinks=True, dirs_exist_ok=True)
            else:
                to = to / path.name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to)
