"""Keep the tool calls that wait for a person, and run each approved one once, whichever instance goes on.

The calls lie in the record of the request whose answer they ended, which clients can't read. Before an approved call
runs, one commit claims it there, on the condition that nobody else has. Its result is then kept beside the claim, so
that another try of the answer, as after a crash, takes the result from there. A call that was claimed and has no result
doesn't run again, because it may have taken effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from ..errors import PreconditionFailed
from ..llm.types import HeldCalls, Message, ToolCall
from ..store.base import DELETE_FIELD, SERVER_TIME, Document, DocumentStore, Update

__all__ = ["Decision", "RecordedApprovals", "held_calls", "held_fields"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the user decided on one tool call; ``reason`` goes to the model if it was refused."""

    approved: bool
    reason: str = ""


class RecordedApprovals:
    """The decisions on the calls that a request's record holds; see :class:`~firelaunch.llm.types.Approvals`.

    Args:
        record: of the request that ended with the calls.
        alive: a write to the chat that fails if the chat is gone. Without the chat no call runs any more.
        decisions: for each of the calls, by its id.
    """

    def __init__(
        self,
        store: DocumentStore,
        record: Document,
        held: HeldCalls,
        alive: Update,
        decisions: Mapping[str, Decision],
    ) -> None:
        self._store = store
        self._alive = alive
        self._record = record
        self._held = held
        self._decisions = decisions
        self._keys = {call.id: f"c{number}" for number, call in enumerate(held.calls)}

    @property
    def held(self) -> HeldCalls:
        """The calls."""
        return self._held

    def approved(self, call: ToolCall) -> bool:
        """Return whether the user has approved ``call``."""
        return self._decisions[call.id].approved

    def reason(self, call: ToolCall) -> str:
        """Return the user's reason for refusing ``call``; it may be empty."""
        return self._decisions[call.id].reason

    def claim(self, call: ToolCall) -> tuple[bool, str | None]:
        """Claim the right to run ``call``, which is given once.

        Returns:
            whether to run it, and otherwise the result of an earlier run, if it is known.

        Raises:
            NotFound: the chat was deleted.
        """
        key = self._keys[call.id]
        while True:
            claim = self._record.data.get("ran", {}).get(key)
            if claim is not None:
                return False, claim.get("result")
            update = Update(self._record.path, {f"ran.{key}.at": SERVER_TIME}, if_updated_at=self._record.update_time)
            try:
                at = self._store.commit([update, self._alive])
            except PreconditionFailed:
                record = self._store.get(self._record.path)
                if record is None:
                    return False, None
                self._record = record
                continue
            self._record = replace(self._record, update_time=at)
            return True, None

    def dropped(self) -> Update:
        """Return the write that drops the calls and their results, for the commit that settles the answer to them."""
        return Update(self._record.path, {"held": DELETE_FIELD, "ran": DELETE_FIELD})

    def keep(self, call: ToolCall, result: str) -> None:
        """Keep the result of a call that ran, for another try of this answer."""
        at = self._store.commit([Update(self._record.path, {f"ran.{self._keys[call.id]}.result": result})])
        self._record = replace(self._record, update_time=at)


def held_fields(held: HeldCalls, before: tuple[Message, ...]) -> dict[str, Any]:
    """Return the fields of a request's record that hold its calls.

    Args:
        before: messages of earlier parts of the same answer, which the model must see again.
    """
    messages = [_as_json(message) for message in (*before, *held.messages)]
    calls = [asdict(call) for call in held.calls]
    # As JSON text, because Firestore has no lists within lists.
    return {"held": json.dumps({"messages": messages, "calls": calls, "steps": held.steps})}


def held_calls(record: Document) -> HeldCalls | None:
    """Return the calls that a request's record holds; None if there are none."""
    text = record.data.get("held")
    if text is None:
        return None
    data = json.loads(text)
    messages = tuple(_message(each) for each in data["messages"])
    return HeldCalls(messages, tuple(ToolCall(**call) for call in data["calls"]), data["steps"])


def _as_json(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = dict(message)
    return fields | ({"calls": [asdict(call) for call in message["calls"]]} if "calls" in message else {})


def _message(data: dict[str, Any]) -> Message:
    calls = {"calls": [ToolCall(**call) for call in data["calls"]]} if "calls" in data else {}
    return cast(Message, data | calls)
