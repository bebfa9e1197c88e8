"""Add cases to a file of cases, and leave all else in it as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from .cases import CaseError, load_suite

__all__ = ["add_cases"]

_ABOVE = "# Found by rules-tester: what the rules say today. Check that each is what you mean."


def add_cases(path: Path, texts: Sequence[str]) -> None:
    """Add cases, each a map as a line of YAML, below the last one of the file.

    Raises:
        CaseError: the list of cases is not written with a dash for each, or the file would not be read as before.
    """
    data = path.read_bytes()
    # The line ends stay as they are.
    text = data.decode("utf-8-sig")
    before = load_suite(path)
    listed = next((value for key, value in _pairs(text) if key.value == "cases"), None)
    if not isinstance(listed, yaml.SequenceNode) or listed.flow_style:
        raise CaseError(f"{path}: the cases are not a list with a dash for each, so write the suggested ones by hand.")
    end = len(text[: listed.value[-1].end_mark.index].rstrip())
    indent = " " * listed.start_mark.column
    newline = "\r\n" if "\r\n" in text else "\n"
    added = "".join(f"{newline}{indent}{line}" for line in (_ABOVE, *(f"- {case}" for case in texts)))
    rest = text[end:] or newline
    prefix = data[: len(data) - len(data.decode("utf-8-sig").encode())]
    path.write_bytes(prefix + f"{text[:end]}{added}{rest}".encode())
    try:
        after = load_suite(path)
        same = after.cases[: len(before.cases)] == before.cases and len(after.cases) == len(before.cases) + len(texts)
    except CaseError:
        same = False
    if not same:
        path.write_bytes(data)
        raise CaseError(f"{path}: the suggested cases could not be added to it, so write them by hand.")


def _pairs(text: str) -> list[tuple[yaml.Node, yaml.Node]]:
    root = yaml.compose(text, yaml.SafeLoader)
    return list(root.value) if isinstance(root, yaml.MappingNode) else []
