"""Take an answer's chunks from the app's workflow, and name the workflow in the error if it gives anything else."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..llm.types import Chunk
from .turn import Turn, Workflow

__all__ = ["check_chunk", "checked_chunks", "chunks_of"]


def chunks_of(workflow: Workflow, turn: Turn) -> Iterator[Chunk]:
    """Call the workflow, and return an iterator of what it yields. Check each with :func:`check_chunk`.

    Raises:
        TypeError: it returned a text, or something that yields nothing.
    """
    chunks = workflow(turn)
    if isinstance(chunks, str) or not isinstance(chunks, Iterable):
        raise _type_error(workflow, "returned", chunks)
    return iter(chunks)


def check_chunk(workflow: Workflow, chunk: object) -> None:
    """Refuse what is no chunk.

    Raises:
        TypeError: the workflow yielded something else. The message names its file and the type, and not the value,
            which may be of a user's text.
    """
    if not isinstance(chunk, Chunk):
        raise _type_error(workflow, "yielded", chunk)


def checked_chunks(workflow: Workflow, turn: Turn) -> Iterator[Chunk]:
    """Call the workflow, and yield its chunks.

    Raises:
        TypeError: it gave something else.
    """
    for chunk in chunks_of(workflow, turn):
        check_chunk(workflow, chunk)
        yield chunk


def _type_error(workflow: Workflow, did: str, value: object) -> TypeError:
    function = inspect.unwrap(workflow)
    code = getattr(function, "__code__", None)
    place = f", {'/'.join(Path(code.co_filename).parts[-2:])}, line {code.co_firstlineno}," if code else ""
    name = getattr(function, "__qualname__", repr(function)).rpartition("<locals>.")[2]
    kind = "None" if value is None else f"a value of type {type(value).__name__}"
    return TypeError(f"the workflow {name}{place} {did} {kind}: yield the answer in chunks, as in yield Chunk(text)")
