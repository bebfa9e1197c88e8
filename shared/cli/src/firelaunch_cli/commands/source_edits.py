"""Declare a new module of an app in the code of its ``create_app``, and leave the file's form as it is."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["declare", "declares", "formatted"]

_Edit = tuple[int, str]
"""An offset in the text, and what is to be put there."""

_Place = tuple[int, int]
"""A line's number, from 1, and a column, from 0, in characters."""

_SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def declare(text: str, module: str, argument: str, element: str) -> str | None:
    """Return the code with ``from . import module``, and ``element`` in the list of ``App(..., argument=[...])``.

    The list may be of any form, may be a tuple, and may be a variable of the same file.

    Returns:
        None if there isn't exactly one call of ``App``, or if its argument isn't written as a list.
    """
    try:
        source = _Source(text)
    except (SyntaxError, tokenize.TokenError):
        return None
    declared = source.with_element(argument, element)
    if declared is None:
        return None
    for offset, new in sorted([*declared, *source.with_import(module)], reverse=True):
        text = text[:offset] + new + text[offset:]
    return text if _parses(text) else None


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def declares(text: str, argument: str) -> bool:
    """Whether the code passes ``argument`` to ``App``, in whichever form."""
    return _parses(text) and any(each.arg == argument for call in _app_calls(ast.parse(text)) for each in call.keywords)


def formatted(path: Path, before: str, after: str) -> str:
    """Return ``after`` as ruff formats it, if it formats ``before`` as that is; else ``after`` itself.

    Args:
        path: the file; the ruff settings around it apply.
    """
    return (_ruff_format(path, after) or after) if _ruff_format(path, before) == before else after


def _ruff_format(path: Path, text: str) -> str | None:
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(path), "-"]
    done = subprocess.run(command, input=text, cwd=path.parent, capture_output=True, text=True, check=False)  # noqa: S603
    return None if done.returncode else done.stdout


def _app_calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and "App" in {getattr(called, "id", ""), getattr(called, "attr", "")}:
            yield node


class _Source:
    """A Python file's tree and tokens.

    Raises:
        SyntaxError: it isn't Python.
    """

    def __init__(self, text: str) -> None:
        self.text, self.tree = text, ast.parse(text)
        self.lines = [f"{line}\n" for line in text.split("\n")]  # as Python counts them, unlike splitlines
        self.tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))

    def with_element(self, argument: str, element: str) -> list[_Edit] | None:
        calls = list(_app_calls(self.tree))
        if len(calls) != 1:
            return None
        call = calls[0]
        value = next((each.value for each in call.keywords if each.arg == argument), None)
        if value is None:
            if any(each.arg is None for each in call.keywords):  # **options may have it
                return None
            return self._appended(
                call, [*call.args, *(each.value for each in call.keywords)], f"{argument}=[{element}]"
            )
        given = self._assigned(value.id) if isinstance(value, ast.Name) else value
        if isinstance(given, ast.List) or (isinstance(given, ast.Tuple) and self._code(given)[-1:] == ")"):
            return self._appended(given, given.elts, element)
        return None

    def with_import(self, module: str) -> list[_Edit]:
        imports = [node for node in self.tree.body if isinstance(node, ast.ImportFrom) and node.level == 1]
        plain = next((node for node in imports if not node.module), None)
        if plain is not None:
            return self._with_name(plain, module)
        every = [node for node in self.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        if imports:
            return [(self._offset((imports[0].lineno, 0)), f"from . import {module}\n")]
        line = (every[-1].end_lineno or every[-1].lineno) + 1
        return [(self._offset((line, 0)), f"\nfrom . import {module}\n")]

    def _with_name(self, statement: ast.ImportFrom, module: str) -> list[_Edit]:
        """The edits that put a name in its alphabetical place of ``from . import a, c``."""
        if any(alias.name == module and alias.asname in {None, module} for alias in statement.names):
            return []
        following = next((alias for alias in statement.names if alias.name > module), None)
        if following is None:
            return self._appended(statement, statement.names, module)
        line, column = following.lineno, self._column(following.lineno, following.col_offset)
        before = self.lines[line - 1][:column]
        own_line = not before.strip() and self._code(statement)[-1:] == ")"
        return [(self._offset((line, column)), f"{module},\n{before}" if own_line else f"{module}, ")]

    def _assigned(self, name: str) -> ast.expr | None:
        """The value of a variable that the file assigns once."""
        values = []
        for node in ast.walk(self.tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                values.append(getattr(node, "value", None))
        return values[0] if len(values) == 1 else None

    def _appended(self, node: ast.expr | ast.stmt, parts: Sequence[ast.expr | ast.alias], new: str) -> list[_Edit]:
        """The edits that put ``new`` behind the last of a node's parts, on a line of its own if that is the form."""
        inside = [token for token in self.tokens if self._begin(node) <= token.start and token.end <= self._end(node)]
        close = inside.pop() if inside[-1].string in {")", "]"} else None
        last = [token for token in inside if token.type not in _SILENT][-1]
        comma = "," if parts and last.string != "," else ""
        if close is None or self.lines[close.start[0] - 1][: close.start[1]].strip():
            single = isinstance(node, ast.Tuple) and not parts  # (a) would be no tuple
            space, trailing = " " if parts else "", "," if last.string == "," or single else ""
            return [(self._offset(last.end), f"{comma}{space}{new}{trailing}")]
        row = close.start[0]
        indent = f"{_indent(self.lines[row - 1])}    "
        if parts and parts[-1].lineno != node.lineno:
            indent = _indent(self.lines[parts[-1].lineno - 1])
        line = (self._offset((row, 0)), f"{indent}{new},\n")
        return [(self._offset(last.end), comma), line] if comma else [line]

    def _code(self, node: ast.expr | ast.stmt) -> str:
        return self.text[self._offset(self._begin(node)) : self._offset(self._end(node))]

    def _begin(self, node: ast.expr | ast.stmt) -> _Place:
        return node.lineno, self._column(node.lineno, node.col_offset)

    def _end(self, node: ast.expr | ast.stmt) -> _Place:
        line = node.end_lineno or node.lineno
        return line, self._column(line, node.end_col_offset or 0)

    def _column(self, line: int, offset: int) -> int:
        """The column in characters of an offset in bytes, as trees have it."""
        return len(self.lines[line - 1].encode()[:offset].decode())

    def _offset(self, place: _Place) -> int:
        return sum(map(len, self.lines[: place[0] - 1])) + place[1]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
