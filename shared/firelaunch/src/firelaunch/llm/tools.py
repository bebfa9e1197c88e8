"""Python functions that a model may ask for while it answers; docs/tools.md says what a workflow does with them.

A function's type hints make the schema of its arguments, its docstring says what it is for. The model's arguments are
checked before the function sees them, and what goes wrong is told to the model, not to the client.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticSerializationError, from_json, to_jsonable_python

from ..errors import InvalidSchema
from .empty import empty_answer
from .shapes import AnswerReader, Misfit, of_model
from .tool_threads import RunningTool, ToolThreads
from .types import Chunk, Message, ToolCall, ToolChunk, ToolSpec, ToolUse

__all__ = ["Tool", "ToolError", "Toolbox"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""What both OpenAI and Gemini take as a function's name."""

_CALLS_A_STEP = 8
_RESULT_CHARACTERS = 16_000
"""Of one result; with the calls of all steps it stays within a Firestore document's 1 MiB."""

_TOLD = {
    "timeout": "The tool did not answer in time.",
    "failed": "The tool failed.",
    "busy": "Too many tools are running; try again later.",
    "too_long": f"The tool's result is longer than {_RESULT_CHARACTERS} characters; ask for less.",
    "too_many": f"At most {_CALLS_A_STEP} tools can be called at once.",
    "unknown_tool": "There is no such tool.",
}


class ToolError(Exception):
    """Raised by a tool to tell the model, in its own words, why there is no result."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with limits of its own, in place of the plain function.

    Args:
        seconds: how long one call may take. A thread cannot be ended: the function goes on, its result is thrown away.
        shown: whether clients see what goes in and comes out; if not, only that the tool was used.
    """

    function: Callable[..., Any]
    seconds: float = 10.0
    shown: bool = True


@dataclass(frozen=True, slots=True)
class _Offer:
    """A tool, ready to be called."""

    tool: Tool
    spec: ToolSpec
    reader: AnswerReader[BaseModel]
    parameters: tuple[str, ...]

    def arguments(self, text: str) -> dict[str, Any]:
        """The arguments in ``text``, each of its hint's type.

        Raises:
            Misfit: they are not what the schema says.
        """
        read = self.reader.read(text or "{}")
        return {name: getattr(read, f"p{place}") for place, name in enumerate(self.parameters)}


@dataclass(slots=True)
class _Use:
    """One call, on its way or refused."""

    call: ToolCall
    shown: bool
    seconds: float = 0.0
    running: RunningTool | None = None
    error: str | None = None
    told: str = ""
    output: Any = None

    def refuse(self, error: str, told: str | None = None) -> _Use:
        self.error, self.told = error, _TOLD[error] if told is None else told
        return self

    def asked(self) -> ToolUse:
        return ToolUse(self.call.id, self.call.name, _value(self.call.arguments) if self.shown else None)

    def answered(self) -> ToolUse:
        return replace(self.asked(), output=self.output if self.shown else None, error=self.error, done=True)

    def message(self) -> Message:
        return {"role": "tool", "content": self.told, "call_id": self.call.id, "name": self.call.name}


Ask = Callable[[Sequence[Message], Sequence[ToolSpec], bool], Iterator[Chunk]]
"""One call of the model: with these messages and tools, and whether it may ask for any."""


@dataclass(slots=True)
class Toolbox:
    """The tools of one answer.

    Args:
        steps: how often the model may ask for tools; then it must answer with what it has.
        tick: called several times a second while a tool runs; raises what is to end the answer.

    Raises:
        TypeError: a function cannot be a tool; the message names it and the mend.
    """

    tools: Sequence[Tool | Callable[..., Any]]
    steps: int
    threads: ToolThreads
    tick: Callable[[], None]
    _offers: Mapping[str, _Offer] = field(init=False)

    def __post_init__(self) -> None:
        offers = [_offer(tool if isinstance(tool, Tool) else Tool(tool)) for tool in self.tools]
        self._offers = {offer.spec.name: offer for offer in offers}
        if len(self._offers) < len(offers):
            raise TypeError("two tools have the same name")

    def answer(self, messages: Sequence[Message], ask: Ask) -> Iterator[Chunk]:
        """The model's answer, with what happens with tools on the way."""
        specs = [offer.spec for offer in self._offers.values()]
        said = list(messages)
        spoke = False
        for step in range(self.steps + 1):
            text: list[str] = []
            calls: tuple[ToolCall, ...] = ()
            for chunk in ask(said, specs, step < self.steps):
                calls += chunk.calls
                if chunk.text:
                    # What was said before the tools is a paragraph of its own.
                    yield Chunk("\n\n" + chunk.text, chunk.tokens, chunk.finish) if spoke and not text else chunk
                    text.append(chunk.text)
                elif not chunk.calls:
                    yield chunk
            spoke = spoke or bool(text)
            if calls and step == self.steps and not spoke:
                raise empty_answer("tool_calls")
            if not calls or step == self.steps:
                return
            said.append({"role": "assistant", "content": "".join(text), "calls": calls})
            uses = [self._start(number, call) for number, call in enumerate(calls)]
            yield from (ToolChunk(tool=use.asked()) for use in uses)
            for use in uses:
                yield from self._finish(use)
                yield ToolChunk(tool=use.answered())
                said.append(use.message())

    def _start(self, number: int, call: ToolCall) -> _Use:
        offer = self._offers.get(call.name)
        if offer is None:
            return _Use(call, shown=False).refuse("unknown_tool")
        tool = offer.tool
        use = _Use(call, tool.shown, tool.seconds)
        if number >= _CALLS_A_STEP:
            return use.refuse("too_many")
        try:
            arguments = offer.arguments(call.arguments)
        except Misfit as misfit:
            return use.refuse("invalid_arguments", f"The arguments do not fit:\n{misfit}")
        use.running = self.threads.start(lambda: tool.function(**arguments))
        return use.refuse("busy") if use.running is None else use

    def _finish(self, use: _Use) -> Iterator[Chunk]:
        """Wait for a call's result; gives signs of life meanwhile."""
        if use.running is None:
            return
        for _ in use.running.waited(use.seconds, self.tick):
            yield Chunk()
        if not use.running.done:
            log.warning("tool %s took longer than %s s", use.call.name, use.seconds)
            use.refuse("timeout")
            return
        try:
            use.output = to_jsonable_python(use.running.result(), by_alias=True, inf_nan_mode="null")
            use.told = use.output if isinstance(use.output, str) else json.dumps(use.output, ensure_ascii=False)
        except ToolError as error:
            use.refuse("failed", str(error)[:_RESULT_CHARACTERS])
        except (PydanticSerializationError, ValueError) as error:
            log.warning("tool %s failed, or its result is no JSON", use.call.name, exc_info=error)
            use.refuse("failed")
        except BaseException as error:
            log.warning("tool %s failed", use.call.name, exc_info=error)
            use.refuse("failed")
        if len(use.told) > _RESULT_CHARACTERS:
            use.output = None
            use.refuse("too_long")


def _offer(tool: Tool) -> _Offer:
    function = tool.function
    name = getattr(function, "__name__", "")
    if not _NAME.fullmatch(name):
        raise TypeError(f"{function!r} has no name that a model could call it by; write it with def")
    about, described = _read_docstring(inspect.getdoc(function) or "")
    if not about:
        raise TypeError(f"the tool {name} has no docstring; the model reads there what it is for")
    hints = _hints(function, name)
    fields: dict[str, Any] = {}
    names = []
    for place, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise TypeError(f"the tool {name} takes {parameter}; each parameter needs a name that it can be passed by")
        if parameter.name not in hints:
            raise TypeError(f"the tool {name} does not say of what type {parameter.name} is")
        default = ... if parameter.default is parameter.empty else parameter.default
        # Under a name of its own, as pydantic keeps some for itself; the model knows the alias alone.
        options: dict[str, Any] = {"alias": parameter.name}
        if parameter.name in described:
            options["description"] = described[parameter.name]
        fields[f"p{place}"] = (hints[parameter.name], Field(default, **options))
        names.append(parameter.name)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
        reader = of_model(model)
    except InvalidSchema as error:
        raise TypeError(f"the arguments of the tool {name} cannot be had of a model: {error}") from error
    return _Offer(tool, ToolSpec(name, about, reader.shape.strict), reader, tuple(names))


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"the tool {name} has a type that is not at the top of its module: {error}") from error


_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Example|Examples|Note):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^[ \t]+\*{0,2}(\w+)(?: \([^)]*\))?:[ \t]*(.+(?:\n[ \t]{5,}\S.*)*)", re.MULTILINE)


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What the function is for, and what its ``Args`` section says of each parameter."""
    head, *rest = _SECTION.split(text)
    sections = dict(zip(rest[::2], rest[1::2], strict=False))
    listed = next((sections[name] for name in ("Args", "Arguments", "Parameters") if name in sections), "")
    found = {name: " ".join(words.split()) for name, words in _ARGUMENT.findall(listed)}
    return " ".join(head.split()), found


def _value(arguments: str) -> Any:
    try:
        return from_json(arguments or "{}", allow_inf_nan=False)
    except ValueError:
        return arguments
