"""gcloud's own parser, run by gcloud's own Python: what it refuses here, it refuses before it calls anything."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["refusals"]

_PROGRAM = """
import contextlib, io, json, os, sys
root = sys.argv[1]
sys.path[:0] = [os.path.join(root, "lib"), os.path.join(root, "lib", "third_party")]
from googlecloudsdk import gcloud_main
parser = gcloud_main.CreateCLI([])._CLI__parser
refused = {}
for argv in json.load(sys.stdin):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parser.parse_args(argv)
    except SystemExit:
        refused[" ".join(argv)] = said.getvalue()
print(json.dumps(refused))
"""


def refusals(commands: Sequence[Sequence[str]], home: Path) -> dict[str, str]:
    """What gcloud says against each of ``commands`` (without the word gcloud) that it does not take."""
    environ = {**os.environ, "CLOUDSDK_CONFIG": str(home), "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1"}
    where = ["gcloud", "info", "--format=value(basic.python_location,installation.sdk_root)"]
    python, root = subprocess.check_output(where, env=environ, text=True).strip().split("\t")
    done = subprocess.run(
        [python, "-c", _PROGRAM, root],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found
