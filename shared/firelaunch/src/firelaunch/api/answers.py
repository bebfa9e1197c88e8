"""Resume and stop answers that are being written: resume after a lost connection, stop at the user's request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flask import Response
from pydantic import BaseModel

from ..chats.events import Event, Paused, sse
from ..chats.ui_events import UI_HEADERS, ui_stream
from ..errors import TooManyStreams
from .base import GroupQuery, Path, backend, client, event_stream, example, streamed
from .chats import place_of
from .examples import REQUEST, STREAM, UI_STREAM
from .refusals import OF_A_PLACE, errors
from .routes import Routes

__all__ = ["api"]

_ABOUT = (
    "The chat's latest answer from its beginning, and then as it comes, whichever instance gives it; 204 when none is "
    "on its way. A follower takes a thread of the service, so there are not many at a time: 429 beyond that."
)
_STOP = (
    "The answer ends within about a second (`limits.checkpoint_seconds`), whichever instance gives it; what was said "
    "until then is kept and billed. 204 when none is on its way."
)


class Stopping(BaseModel):
    """An answer that is about to end."""

    model_config = example({"request_id": REQUEST})
    request_id: str


api = Routes("answers", "chats", prefix="/v1", guests=True)


_STOPPING = {202: Stopping, 204: None, **errors(*OF_A_PLACE)}


def _follow(
    chat_id: str,
    group: str | None,
    encode: Callable[[Iterable[Event]], Iterator[bytes | Paused]],
    headers: Mapping[str, str],
) -> Response:
    events = backend().answers.follow(place_of(group), chat_id, client())
    return Response(status=204) if events is None else event_stream(encode(events), headers)


@api.get(
    "/chats/<id>/stream",
    responses={200: streamed(STREAM), 204: None, **errors(*OF_A_PLACE, TooManyStreams)},
    operation_id="followAnswer",
    summary="Go on with an answer",
    description=_ABOUT,
)
def resume(path: Path, query: GroupQuery) -> Response:
    """Go on with an answer."""
    return _follow(path.id, query.group, sse, {})


@api.get(
    "/chat/<id>/stream",
    responses={200: streamed(UI_STREAM), 204: None, **errors(*OF_A_PLACE, TooManyStreams)},
    operation_id="followInUseChat",
    summary="Go on with an answer in useChat",
    description=_ABOUT,
)
def resume_ui(path: Path, query: GroupQuery) -> Response:
    """Go on with an answer in useChat."""
    return _follow(path.id, query.group, ui_stream, UI_HEADERS)


def _end(chat_id: str, group: str | None) -> tuple[Any, int]:
    request_id = backend().answers.stop(place_of(group, writes=True), chat_id)
    return ("", 204) if request_id is None else ({"request_id": request_id}, 202)


@api.post(
    "/chats/<id>/stop",
    rate="changes",
    responses=_STOPPING,
    operation_id="stopAnswer",
    summary="Stop an answer",
    description=_STOP,
)
def stop(path: Path, query: GroupQuery) -> tuple[Any, int]:
    """Stop an answer."""
    return _end(path.id, query.group)


@api.post(
    "/chat/<id>/stop",
    rate="changes",
    responses=_STOPPING,
    operation_id="stopInUseChat",
    summary="Stop an answer in useChat",
    description=_STOP,
)
def stop_ui(path: Path, query: GroupQuery) -> tuple[Any, int]:
    """Stop an answer in useChat."""
    return _end(path.id, query.group)
