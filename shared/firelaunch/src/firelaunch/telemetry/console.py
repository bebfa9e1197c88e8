"""Print each trace as a tree, for a person on a laptop."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from . import names
from .spans import Span

__all__ = ["Console"]

_SHOWN = (
    names.STATUS,
    names.PROVIDER,
    names.INPUT_TOKENS,
    names.OUTPUT_TOKENS,
    names.COST,
    names.PASSAGES,
    names.JOB_OUTCOME,
    names.INPUT_MESSAGES,
    names.OUTPUT_MESSAGES,
    names.TOOL_ARGUMENTS,
    names.TOOL_RESULT,
)
_WIDTH = 56


def _stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class Console:
    """Prints spans that have ended. A trace whose spans come in several batches is printed in several trees."""

    def __init__(self, write: Callable[[str], object] = _stdout) -> None:
        self._write = write

    def send(self, spans: Sequence[Span]) -> bool:
        """Print the spans; return True."""
        traces: dict[int, list[Span]] = defaultdict(list)
        for span in spans:
            traces[span.trace_id].append(span)
        for trace_id, own in traces.items():
            self._write("\n".join([f"trace {trace_id:032x}", *_tree(own)]) + "\n")
        return True


def _tree(spans: Iterable[Span]) -> Iterable[str]:
    children: dict[int, list[Span]] = defaultdict(list)
    known = set()
    for span in sorted(spans, key=lambda span: span.began):
        known.add(span.span_id)
        children[span.parent_id].append(span)
    roots = [span for parent, own in children.items() if parent not in known for span in own]
    waiting = [(span, 1) for span in reversed(roots)]
    while waiting:
        span, depth = waiting.pop()
        yield _line(span, depth)
        waiting += [(child, depth + 1) for child in reversed(children[span.span_id])]


def _line(span: Span, depth: int) -> str:
    name = "  " * depth + span.name
    shown = [f"{key.rpartition('.')[2]}={span.attributes[key]}" for key in _SHOWN if key in span.attributes]
    failed = [f"error={span.error}"] if span.error else []
    milliseconds = (span.ended - span.began) / 1e6
    return " ".join([f"{name:<{_WIDTH}} {milliseconds:9.1f} ms", *failed, *shown])
