"""What a follower is told from checkpoints is what the first client was told."""

from __future__ import annotations

from typing import Any

from firelaunch.chats.events import Delta, Event, Thought, ToolCalled, ToolReturned
from firelaunch.chats.transcript import Replayer, Transcript
from firelaunch.llm.types import Source
from hypothesis import given
from hypothesis import strategies as st

EVENTS = st.one_of(
    st.text(min_size=1).map(Delta),
    st.text(min_size=1).map(Thought),
    st.builds(Source, st.text(max_size=5), st.text(max_size=5), st.none() | st.text(max_size=5)),
    st.builds(ToolCalled, st.text(max_size=5), st.text(max_size=5), st.lists(st.lists(st.integers()))),
    st.builds(ToolReturned, st.text(max_size=5), st.text(max_size=5), st.integers(), st.none() | st.text(max_size=5)),
)


def _without_thoughts(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Thought)]


def _thinking(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Thought))


def joined(events: list[Event]) -> list[Any]:
    """The events, with texts that follow each other made one."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, Delta) and found and isinstance(found[-1], Delta):
            event = Delta(found.pop().text + event.text)
        found.append(event)
    return found


@given(st.lists(st.tuples(EVENTS, st.booleans())))
def test_checkpoints_taken_at_any_time_tell_the_same_events_in_the_same_places(
    told: list[tuple[Any, bool]],
) -> None:
    said, retold, again = Transcript(), Replayer(), list[Event]()
    for event, checkpoint in told:
        if isinstance(event, Delta):
            said.text(event.text)
        elif isinstance(event, Thought):
            said.thought(event.text)
        else:
            said.other(event)
        if checkpoint:
            again += retold.new_events(said.partial()[0])
    again += retold.new_events(said.partial()[0])
    events = [event for event, _ in told]
    assert joined(_without_thoughts(again)) == joined(_without_thoughts(events))
    assert _thinking(again) == _thinking(events)
