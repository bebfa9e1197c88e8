"""Python functions that a model may call while it answers; docs/tools.md explains them for workflows.

A function's type hints become the schema of its arguments, and its docstring its description. The model's arguments
are checked before the function gets them. Errors are reported to the model, not to the client.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticSerializationError, from_json, to_jsonable_python

from ..errors import FirelaunchError, InvalidSchema, ScopeViolation
from ..telemetry.names import EXECUTE_TOOL, OPERATION, TOOL_ARGUMENTS, TOOL_CALL, TOOL_NAME, TOOL_RESULT, TOOL_TYPE
from ..telemetry.spans import span
from .finish import empty_answer
from .shapes import AnswerReader, Misfit, of_model
from .tool_threads import RunningTool, ToolThreads
from .types import MADE_ID, Approvals, Chunk, HeldCalls, Message, ToolCall, ToolChunk, ToolSpec, ToolUse

__all__ = ["PreparedTool", "Tool", "ToolError", "Toolbox", "prepare"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""Function names that both OpenAI and Gemini accept."""

_CALLS_A_STEP = 8
_RESULT_CHARACTERS = 16_000
"""The most characters of one result. With all steps' calls, it stays within a Firestore document's 1 MiB."""

_ERROR_TEXTS = {
    "timeout": "The tool did not answer in time.",
    "failed": "The tool failed.",
    "busy": "Too many tools are running; try again later.",
    "too_long": f"The tool's result is longer than {_RESULT_CHARACTERS} characters; ask for less.",
    "too_many": f"At most {_CALLS_A_STEP} tools can be called at once.",
    "unknown_tool": "There is no such tool.",
    "denied": "The user did not approve this call. Don't repeat it.",
    "unasked": "This call needs a person's approval, and nobody can be asked here.",
    "unknown_outcome": "The call was begun before and was cut off. Whether it took effect is unknown. Don't repeat it.",
}


class ToolError(Exception):
    """The error that a tool raises to tell the model, in the tool's own words, why there is no result."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with its own limits, for use instead of the plain function.

    Args:
        seconds: how long one call may take. A thread cannot be stopped: after a timeout the function runs on, and its
            result is dropped.
        shown: whether clients see inputs and outputs; if not, they only see that the tool was used.
        approve: whether the user must approve each call before it runs, or a function that takes the call's arguments
            and says whether they must.
    """

    function: Callable[..., Any]
    seconds: float = 10.0
    shown: bool = True
    approve: bool | Callable[..., bool] = False

    def needs_approval(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether the user must approve a call with ``arguments``. They must if the predicate fails."""
        if isinstance(self.approve, bool):
            return self.approve
        try:
            return bool(self.approve(**arguments))
        except Exception:
            log.exception("the predicate for the approval of tool %s failed", getattr(self.function, "__name__", ""))
            return True


@dataclass(frozen=True, slots=True)
class PreparedTool:
    """A tool with the schema and reader of its arguments."""

    tool: Tool
    spec: ToolSpec
    reader: AnswerReader[BaseModel]
    parameters: tuple[str, ...]

    @property
    def schema(self) -> Mapping[str, Any]:
        """The schema of the arguments as the function has them; the one for models wants all of them."""
        return self.reader.shape.schema

    def arguments(self, text: str) -> dict[str, Any]:
        """Return the arguments in ``text``, each of its hint's type.

        Raises:
            Misfit: they do not match the schema.
        """
        arguments = self.reader.read(text or "{}")
        return {name: getattr(arguments, f"p{number}") for number, name in enumerate(self.parameters)}


@dataclass(slots=True)
class _Invocation:
    """One call of a tool: running, refused, or waiting for a person."""

    call: ToolCall
    shown: bool
    seconds: float = 0.0
    running: RunningTool | None = None
    error: str | None = None
    content: str = ""
    output: Any = None
    waits: bool = False

    def refuse(self, error: str, content: str | None = None) -> _Invocation:
        self.error, self.content = error, _ERROR_TEXTS[error] if content is None else content
        return self

    def started_event(self) -> ToolUse:
        arguments = _value(self.call.arguments) if self.shown else None
        return ToolUse(self.call.id, self.call.name, arguments, waits=self.waits)

    def finished_event(self) -> ToolUse:
        return replace(self.started_event(), output=self.output if self.shown else None, error=self.error, done=True)

    def result(self) -> str:
        """Return what came of the call as JSON, for :meth:`recall`."""
        return json.dumps({"content": self.content, "output": self.output, "error": self.error})

    def recall(self, result: str | None) -> _Invocation:
        """Take the result of an earlier run of this call; None if it is unknown."""
        if result is None:
            return self.refuse("unknown_outcome")
        kept = json.loads(result)
        self.content, self.output, self.error = kept["content"], kept["output"], kept["error"]
        return self

    def message(self) -> Message:
        return {"role": "tool", "content": self.content, "call_id": self.call.id, "name": self.call.name}


Ask = Callable[[Sequence[Message], Sequence[ToolSpec], bool], Iterator[Chunk]]
"""Calls the model once: takes the messages, the tools, and whether the model may call any."""


@dataclass(slots=True)
class Toolbox:
    """The tools of one answer.

    Args:
        steps: how often the model may call tools; after that it must answer with the results so far.
        tick: called several times a second while a tool runs; raises what should end the answer.
        hold: takes the calls that wait for a person, after which the answer ends; None where nobody can be asked.

    Raises:
        TypeError: a function cannot be a tool; the message names it and the fix.
    """

    tools: Sequence[Tool | Callable[..., Any]]
    steps: int
    threads: ToolThreads
    tick: Callable[[], None]
    hold: Callable[[HeldCalls], None] | None = None
    _prepared: Mapping[str, PreparedTool] = field(init=False)

    def __post_init__(self) -> None:
        prepared = [prepare(tool if isinstance(tool, Tool) else Tool(tool)) for tool in self.tools]
        self._prepared = {tool.spec.name: tool for tool in prepared}
        if len(self._prepared) < len(prepared):
            raise TypeError("two tools have the same name")

    def answer(self, messages: Sequence[Message], ask: Ask, approvals: Approvals | None = None) -> Iterator[Chunk]:
        """Yield the model's answer, and the tool calls on the way to it.

        Args:
            approvals: what a person decided on calls of an earlier part of this answer. It goes on after them.
        """
        specs = [prepared.spec for prepared in self._prepared.values()]
        history, first_step = list(messages), 0
        if approvals is not None:
            history += approvals.held.messages
            first_step = approvals.held.steps
            yield from self._after_approval(approvals, history)
        has_text = any(message["role"] == "assistant" and message["content"] for message in history[len(messages) :])
        for step in range(first_step, self.steps + 1):
            text, calls = yield from _step(ask(history, specs, step < self.steps), has_text)
            has_text = has_text or bool(text)
            if calls and step == self.steps and not has_text:
                raise empty_answer("tool_calls")
            if not calls or step == self.steps:
                return
            calls = _with_new_ids(calls, history)
            invocations = [self._start(number, call) for number, call in enumerate(calls)]
            calls = tuple(invocation.call for invocation in invocations)
            history.append({"role": "assistant", "content": text, "calls": calls})
            yield from (ToolChunk(tool=invocation.started_event()) for invocation in invocations)
            for invocation in invocations:
                if not invocation.waits:
                    yield from self._run(invocation, history)
            waiting = tuple(invocation.call for invocation in invocations if invocation.waits)
            if waiting and self.hold is not None:
                self.hold(HeldCalls(tuple(history[len(messages) :]), waiting, step + 1))
                return

    def _run(self, invocation: _Invocation, history: list[Message]) -> Iterator[Chunk]:
        """Wait for a call to end, and add its result to the history."""
        yield from self._finish(invocation)
        yield ToolChunk(tool=invocation.finished_event())
        history.append(invocation.message())

    def _after_approval(self, approvals: Approvals, history: list[Message]) -> Iterator[Chunk]:
        """Run the held calls that were approved, one after the other, and tell the model of those that were not."""
        for call in approvals.held.calls:
            if not approvals.approved(call):
                reason = approvals.reason(call)
                content = f"{_ERROR_TEXTS['denied']} The user's reason: {reason}" if reason else None
                yield from self._run(self._invocation(call).refuse("denied", content), history)
                continue
            run, result = approvals.claim(call)
            if run:
                invocation = self._start(0, call, approved=True)
                yield from self._run(invocation, history)
                approvals.keep(call, invocation.result())
            else:
                invocation = self._invocation(call)
                yield from self._run(invocation.recall(result), history)

    def _invocation(self, call: ToolCall) -> _Invocation:
        prepared = self._prepared.get(call.name)
        return _Invocation(call, prepared is not None and prepared.tool.shown)

    def _start(self, number: int, call: ToolCall, *, approved: bool = False) -> _Invocation:
        """Start a call on a thread, refuse it, or let it wait for a person."""
        prepared = self._prepared.get(call.name)
        if prepared is None:
            return _Invocation(call, shown=False).refuse("unknown_tool")
        tool = prepared.tool
        invocation = _Invocation(call, tool.shown, tool.seconds)
        if number >= _CALLS_A_STEP:
            return invocation.refuse("too_many")
        try:
            arguments = prepared.arguments(call.arguments)
        except Misfit as misfit:
            return invocation.refuse("invalid_arguments", f"The arguments do not fit:\n{misfit}")
        if not approved and tool.needs_approval(arguments):
            if self.hold is None:
                return invocation.refuse("unasked")
            # A decision names the call by its id. Some servers number their calls, so that another answer's call could
            # have the same.
            invocation.call, invocation.waits = replace(call, id=f"{call.id[:40]}_{secrets.token_hex(8)}"), True
            return invocation
        invocation.running = self.threads.start(lambda: _run_tool(tool, invocation.call, arguments))
        return invocation.refuse("busy") if invocation.running is None else invocation

    def _finish(self, invocation: _Invocation) -> Iterator[Chunk]:
        """Wait for a call's result, and yield empty chunks meanwhile as signs of life."""
        if invocation.running is None:
            return
        for _ in invocation.running.wait(invocation.seconds, self.tick):
            yield Chunk()
        if not invocation.running.done:
            log.warning("tool %s took longer than %s s", invocation.call.name, invocation.seconds)
            invocation.refuse("timeout")
            return
        try:
            invocation.output = to_jsonable_python(invocation.running.result(), by_alias=True, inf_nan_mode="null")
            invocation.content = (
                invocation.output
                if isinstance(invocation.output, str)
                else json.dumps(invocation.output, ensure_ascii=False)
            )
        except ToolError as error:
            invocation.refuse("failed", str(error)[:_RESULT_CHARACTERS])
        except FirelaunchError as error:
            invocation.refuse("failed", _text_for_model(invocation.call.name, error))
        except (PydanticSerializationError, ValueError) as error:
            log.warning("tool %s failed, or its result is no JSON", invocation.call.name, exc_info=error)
            invocation.refuse("failed")
        except BaseException as error:
            log.warning("tool %s failed", invocation.call.name, exc_info=error)
            invocation.refuse("failed")
        if len(invocation.content) > _RESULT_CHARACTERS:
            invocation.output = None
            invocation.refuse("too_long")


def _run_tool(tool: Tool, call: ToolCall, arguments: Mapping[str, Any]) -> Any:
    attributes = {OPERATION: EXECUTE_TOOL, TOOL_NAME: call.name, TOOL_TYPE: "function", TOOL_CALL: call.id}
    with span(f"{EXECUTE_TOOL} {call.name}", attributes) as part:
        if part.content:
            part.set(TOOL_ARGUMENTS, call.arguments)
        result = tool.function(**arguments)
        if part.content:
            part.set(TOOL_RESULT, json.dumps(to_jsonable_python(result, serialize_unknown=True)))
        return result


def _text_for_model(tool: str, error: FirelaunchError) -> str:
    """Return what the model is told of an error: the text that a client would get, unless the fault is the app's."""
    if isinstance(error, ScopeViolation):
        log.error("security: tool %s: %s", tool, error)
        return _ERROR_TEXTS["failed"]
    if error.status == 500:
        log.warning("tool %s failed", tool, exc_info=error)
        return _ERROR_TEXTS["failed"]
    if error.reason is not None:
        log.warning("tool %s: %s: %s", tool, error.code, error)
    return error.message[:_RESULT_CHARACTERS]


def _step(chunks: Iterator[Chunk], has_text: bool) -> Generator[Chunk, None, tuple[str, tuple[ToolCall, ...]]]:
    """Yield the chunks of one call of the model, and return its text and its tool calls."""
    texts: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    for chunk in chunks:
        calls += chunk.calls
        if chunk.text:
            # The text before the tool calls stays a paragraph of its own.
            yield replace(chunk, text="\n\n" + chunk.text) if has_text and not texts else chunk
            texts.append(chunk.text)
        elif not chunk.calls:
            yield chunk
    return "".join(texts), calls


def _with_new_ids(calls: Sequence[ToolCall], history: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls, with new ids for those whose ids occurred before in this answer.

    Some servers number the calls of each step from 0. Clients tell an answer's calls apart by their ids.
    """
    known = {call.id for message in history for call in message.get("calls", ())}
    new: list[ToolCall] = []
    for call in calls:
        new.append(replace(call, id=MADE_ID + secrets.token_hex(8)) if call.id in known else call)
        known.add(call.id)
    return tuple(new)


def prepare(tool: Tool) -> PreparedTool:
    """Read a function's signature and docstring, and build the schema of its arguments.

    Raises:
        TypeError: the function cannot be a tool; the message names it and the fix.
    """
    function = tool.function
    name = getattr(function, "__name__", "")
    if not _NAME.fullmatch(name):
        raise TypeError(f"{function!r} has no name that a model could call it by; write it with def")
    description, parameter_descriptions = _read_docstring(inspect.getdoc(function) or "")
    if not description:
        raise TypeError(f"the tool {name} has no docstring; the model reads there what it is for")
    hints = _hints(function, name)
    fields: dict[str, Any] = {}
    names = []
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise TypeError(f"the tool {name} takes {parameter}; each parameter needs a name that it can be passed by")
        if parameter.name not in hints:
            raise TypeError(f"the tool {name} does not say of what type {parameter.name} is")
        default = ... if parameter.default is parameter.empty else parameter.default
        # pydantic reserves some names, so each field gets a neutral one. The model sees only the alias.
        options: dict[str, Any] = {"alias": parameter.name}
        if parameter.name in parameter_descriptions:
            options["description"] = parameter_descriptions[parameter.name]
        fields[f"p{number}"] = (hints[parameter.name], Field(default, **options))
        names.append(parameter.name)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
        reader = of_model(model)
    except InvalidSchema as error:
        raise TypeError(f"the arguments of the tool {name} cannot be had of a model: {error}") from error
    return PreparedTool(tool, ToolSpec(name, description, reader.shape.strict), reader, tuple(names))


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"the tool {name} has a type that is not at the top of its module: {error}") from error


_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Example|Examples|Note):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^[ \t]+\*{0,2}(\w+)(?: \([^)]*\))?:[ \t]*(.+(?:\n[ \t]{5,}\S.*)*)", re.MULTILINE)


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the function's description, and the description of each parameter in its ``Args`` section."""
    head, *sections_text = _SECTION.split(text)
    sections = dict(zip(sections_text[::2], sections_text[1::2], strict=False))
    arguments = next((sections[name] for name in ("Args", "Arguments", "Parameters") if name in sections), "")
    descriptions = {name: " ".join(words.split()) for name, words in _ARGUMENT.findall(arguments)}
    return " ".join(head.split()), descriptions


def _value(arguments: str) -> Any:
    try:
        return from_json(arguments or "{}", allow_inf_nan=False)
    except ValueError:
        return arguments
