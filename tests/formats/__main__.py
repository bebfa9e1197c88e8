"""``make formats``: read a sample of each format, and the files of DIR; what came of them is in build/formats.json."""

# ruff: noqa: T201 - a command line tool

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from firelaunch.errors import DocumentUnreadable
from firelaunch.rag.parse import Omission, document_text, extracts, parse

from .samples import Sample, samples

__all__ = ["Outcome", "outcomes", "read"]

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of reading one file.

    Args:
        result: "read", "warned" (read, but for something that is named), "refused" with a reason, or "failed".
        why: what its warnings say, such as "picture_pages 1 of 2"; the reason; or what is missing.
        right: whether that is as it must be; True for files of which that is not known.
    """

    format: str
    name: str
    result: str
    why: str
    characters: int
    ms: int
    right: bool = True


def read(format_name: str, path: Path, name: str) -> tuple[Outcome, str]:
    """Read a file in the sandbox, and return what came of it and its text."""
    began = time.monotonic()

    def outcome(result: str, why: str, text: str = "") -> tuple[Outcome, str]:
        ms = round((time.monotonic() - began) * 1000)
        return Outcome(format_name, name, result, why, len(text), ms), text

    omissions: list[Omission] = []
    try:
        with path.open("rb") as file:
            text = document_text(parse(file, name, omit=omissions.append))
            if any(each.code == "attachments" for each in omissions):
                omissions = _with_attachments(file, name, omissions)
    except DocumentUnreadable as error:
        return outcome("refused", error.problem)
    except Exception as error:  # any other end is a defect, which the report shows
        return outcome("failed", f"{type(error).__name__}: {error}"[:300])
    why = ", ".join(f"{each.code} {each.count} of {each.total}" for each in omissions)
    return outcome("warned" if omissions else "read", why, text)


def _with_attachments(file: IO[bytes], name: str, omissions: list[Omission]) -> list[Omission]:
    """Take a mail's attachments out, and return ``omissions`` with those alone that cannot become documents."""
    left_out: list[Omission] = []
    taken = sum(1 for _ in extracts(file, name, omit=left_out.append))
    refused = sum(each.count for each in left_out)
    others = [each for each in omissions if each.code != "attachments"]
    return [*others, Omission("attachments", refused, taken + refused)] if refused else others


def outcomes(chosen: Iterable[Sample]) -> Iterator[Outcome]:
    """Yield what came of each sample, and whether that is right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "document"
        for sample in chosen:
            path.write_bytes(sample.make())
            outcome, text = read(sample.format, path, sample.name)
            wrong = _wrong(sample, outcome, text)
            fields = asdict(outcome)
            yield Outcome(**{**fields, "right": not wrong, "why": "; ".join(filter(None, (outcome.why, wrong)))})


def _wrong(sample: Sample, outcome: Outcome, text: str) -> str:
    """Return what is not as the sample says; "" if all is."""
    if sample.problem:
        return "" if outcome.why == sample.problem else f"not refused as {sample.problem}"
    if outcome.why != sample.warned:
        return f"not {sample.warned or 'read without a warning'}"
    at = 0
    for part in sample.holds:
        found = text.find(part, at)
        if found < 0:
            return f"{part!r} is missing, or out of order"
        at = found
    return next((f"{part!r} is markup" for part in sample.lacks if part in text), "")


def main(folders: list[str]) -> int:
    """Run it.

    Returns:
        the exit code: 1 if anything failed, or is not as the samples say.
    """
    rows = list(outcomes(samples()))
    for folder in folders:
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        rows += [read(path.suffix.lstrip(".").upper() or "none", path, path.name)[0] for path in files]
    report = ROOT / "build" / "formats.json"
    report.parent.mkdir(exist_ok=True)
    formats: dict[str, str] = {}
    for row in rows:
        formats.setdefault(row.format, row.result)
    report.write_text(json.dumps({"formats": formats, "files": [asdict(row) for row in rows]}, indent=1) + "\n")
    for row in rows:
        mark = "" if row.right and row.result != "failed" else "  WRONG"
        print(
            f"  {row.result:8} {row.ms:6} ms {row.characters:9} characters  {row.format}: {row.name}  {row.why}{mark}"
        )
    count = {result: sum(row.result == result for row in rows) for result in ("read", "warned", "refused", "failed")}
    print(f"{report.relative_to(ROOT)}: {count}")
    return int(any(row.result == "failed" or not row.right for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
