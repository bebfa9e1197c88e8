"""Chats, and the messages that are sent to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

from flask import Response, request
from pydantic import BaseModel, Field, model_validator

from ..chats.events import Done, Event, Failed, Paused, sse
from ..chats.place import ChatPlace
from ..documents.kept_files import KeptFiles
from ..errors import AlreadyExists, BadRequest, Conflict, FirelaunchError, InvalidCursor, NotFound, TooLarge
from ..llm.attachments import KINDS
from ..llm.finish import Finish
from ..services.chat_places import chat_place
from ..turns.approvals import Decision
from ..turns.attachments import (
    MOST_ATTACHMENTS,
    NO_ATTACHMENTS,
    MessageAttachments,
    attachment_file,
    attachments_of_urls,
    delete_attachments,
)
from ..turns.file_contents import FileLimits
from ..turns.send import ClientMessage, Continuation, is_message_id
from ..turns.uploaded_files import UploadedFiles
from .base import (
    IN_A_GROUP,
    KEY_HEADER,
    OF_A_GROUP,
    Body,
    GroupQuery,
    OptionalGroup,
    PageQuery,
    Path,
    Time,
    backend,
    caller,
    client,
    event_stream,
    example,
    file_response,
    idempotency_key,
    leave_place,
    services,
)
from .examples import CHAT, QUESTION, REPLY, REQUEST, STREAM, USED
from .ratings import RatingAnswer
from .refusals import OF_A_CHAT, OF_A_PLACE, OF_A_TURN, OF_FILES, errors
from .routes import Routes
from .search import SourceAnswer

__all__ = [
    "ChatPage",
    "TurnUsage",
    "api",
    "file_limits",
    "message_attachments",
    "place_of",
    "text_within_limit",
    "whole",
]


class NewChat(Body):
    """A chat to be made."""

    model_config = example({"title": "Rivers of Europe"})
    title: str = Field(default="", max_length=200, description="Left empty, the first message gives the title.")
    group: OptionalGroup = Field(default=None, description=IN_A_GROUP)


class ChatChange(Body):
    """What is to change; at least one."""

    model_config = example({"archived": True})
    title: str | None = Field(default=None, max_length=200)
    archived: bool | None = None
    group: OptionalGroup = Field(default=None, description=OF_A_GROUP)


class ToolDecision(Body):
    """The user's decision on a tool call that waits."""

    id: str = Field(max_length=200, description="The tool call's id.")
    approved: bool
    reason: str = Field(default="", max_length=500, description="Why it was refused; the model reads it.")


class NewFile(Body):
    """A file in a message: an image, a PDF, a recording or a text."""

    url: str = Field(
        description="`data:image/png;base64,…`, or the id of an upload (`POST /v1/files`) or of a file of the chat."
    )
    filename: str = Field(default="", max_length=200)


class NewMessage(Body):
    """A message of the user, or a request to go on with an answer."""

    model_config = example({"text": QUESTION["text"]})
    text: str | None = Field(
        default=None, min_length=1, description="At most limits.message_characters characters. Left out to continue."
    )
    files: list[NewFile] = Field(
        default=[],
        max_length=MOST_ATTACHMENTS,
        description="Images (PNG, JPEG, WebP), PDFs, a recording (WAV, MP3), and texts (plain, Markdown, CSV).",
    )
    replaces: str | None = Field(
        default=None,
        max_length=64,
        description="The id of an earlier message of the user's. `text`, or without it the message's own text, is "
        "answered in its place, and what followed is replaced.",
    )
    continues: str | None = Field(
        default=None,
        max_length=64,
        description="In place of text: the id of the chat's latest answer, if it was cut off or waits for approval.",
    )
    approvals: list[ToolDecision] = Field(
        default=[], max_length=64, description="With continues: a decision on each tool call that waits."
    )
    group: OptionalGroup = Field(default=None, description=OF_A_GROUP)

    @model_validator(mode="after")
    def _either(self) -> Self:
        says_something = self.text is not None or bool(self.files)
        if self.continues is None and not says_something and self.replaces is None:
            raise ValueError("Send text, or replaces or continues.")
        if self.continues is not None and (says_something or self.replaces is not None):
            raise ValueError("Send continues without text, files and replaces.")
        if self.approvals and self.continues is None:
            raise ValueError("Name the answer whose tool calls you approve in continues.")
        return self


class Chat(BaseModel):
    """A chat."""

    model_config = example(CHAT)
    id: str
    title: str
    archived: bool
    message_count: int
    created_at: Time
    updated_at: Time


class ToolUse(BaseModel):
    """A tool that the model called while it answered."""

    id: str
    name: str
    input: Any = Field(default=None, description="What the model passed; null where the app does not show it.")
    output: Any = Field(default=None, description="What came back; null where the app does not show it.")
    error: str | None = Field(default=None, description='Why there is no output, a constant such as "timeout".')
    approve_until: Time | None = Field(
        default=None, description="Until when the user can approve the call, which waits; null for any other call."
    )


class MessageFile(BaseModel):
    """A file of a user's message; `GET /v1/chats/{id}/files/{file}` has its content."""

    id: str
    media_type: str
    bytes: int
    name: str


class TurnUsage(BaseModel):
    """What an answer used."""

    model_config = example(USED)
    model: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    estimated: bool = Field(description="The provider reported no figures; these were derived from the text.")
    cost_micro_usd: int = Field(description="Millionths of a dollar.")
    cheaper_model: bool = Field(description="The day's soft cap was reached, so the plan's cheap model answered.")
    cached: bool = Field(description="The answer was kept from an earlier call, and cost nothing.")


class Message(BaseModel):
    """A message of the user or of the model."""

    model_config = example(REPLY)
    id: str
    role: str = Field(description='"user" or "assistant".')
    text: str
    status: str = Field(description='"complete", or "incomplete" for an answer that did not come to its own end.')
    created_at: Time
    finish: Finish | None = Field(
        default=None, description="How the answer ended; null for a user's message and for an answer that was stopped."
    )
    model: str | None = Field(default=None, description="The model that answered.")
    request_id: str | None = None
    citations: list[SourceAnswer] = Field(default=[], description="The passages that the answer cites, in its order.")
    usage: TurnUsage | None = Field(default=None, description="What the answer used; null for a user's message.")
    sources: list[dict[str, str]] | None = Field(
        default=None, description="What the answer rests on: `id`, `title`, and `url` or `media_type` and `filename`."
    )
    thinking: str | None = Field(
        default=None, description="What the model thought before it answered, if the app shows it."
    )
    tools: list[ToolUse] | None = Field(default=None, description="The tools that were called, in order.")
    files: list[MessageFile] | None = Field(default=None, description="The files of a user's message.")
    rating: RatingAnswer | None = Field(default=None, description="The user's rating of an answer.")
    replaced: bool = Field(default=False, description="Whether an edit or a new answer has replaced it.")
    written_by: str | None = Field(
        default=None, description="In a group's chat: the member who wrote it; null where they were erased."
    )
    author: str | None = Field(default=None, description="What that member was called in the group.")


class ChatPage(BaseModel):
    """Chats, the one with the latest message first."""

    model_config = example({"items": [CHAT], "next_cursor": None})
    items: list[Chat]
    next_cursor: str | None


class ChatsQuery(PageQuery):
    """Names a page of chats."""

    group: OptionalGroup = Field(default=None, description=OF_A_GROUP)


class MessagesQuery(ChatsQuery):
    """Names a page of a chat's messages."""

    replaced: bool = Field(default=False, description="Also list messages that were replaced.")


class ChatWithMessages(Chat):
    """A chat with its latest messages, oldest of them first."""

    model_config = example({**CHAT, "messages": [QUESTION, REPLY], "next_cursor": None})
    messages: list[Message]
    next_cursor: str | None = Field(description="Leads to earlier messages.")


class Answer(BaseModel):
    """The model's answer."""

    model_config = example({"request_id": REQUEST, "message": REPLY, "usage": USED}, stream=STREAM)
    request_id: str
    message: Message
    usage: TurnUsage


api = Routes("chats", "chats", prefix="/v1", guests=True)


@api.post(
    "/chats",
    responses={201: Chat, **errors(TooLarge, AlreadyExists, *OF_A_PLACE)},
    rate="changes",
    operation_id="createChat",
    summary="Make a chat",
)
def create(body: NewChat) -> tuple[dict[str, Any], int]:
    """Make a chat."""
    place = place_of(body.group, writes=True)
    return services().chats.of(place).create(place.scope, body.title), 201


@api.get(
    "/chats",
    responses={200: ChatPage, **errors(InvalidCursor, *OF_A_PLACE)},
    operation_id="listChats",
    summary="List chats",
)
def index(query: ChatsQuery) -> dict[str, Any]:
    """List chats."""
    place = place_of(query.group)
    page = services().chats.of(place).list(place.scope, query.limit, query.cursor)
    return {"items": page.items, "next_cursor": page.next_cursor}


@api.post(
    "/chats/<id>/messages",
    rate="turns",
    responses={200: Answer, **errors(*OF_A_TURN, Conflict, *OF_FILES)},
    operation_id="sendMessage",
    summary="Send a message",
    description="Answers as JSON, or with `Accept: text/event-stream` as server-sent events. An error after the "
    "stream has begun is its last event. With an `Idempotency-Key` header a repeated send gives the first answer. "
    "With `continues` in place of `text`, the chat's latest answer goes on: if it was cut off, or if it waits for the "
    "user to approve tool calls. Its new pieces are streamed; the message in the last event is the whole answer.",
    openapi_extensions={"x-headers": [KEY_HEADER]},
)
def send(path: Path, body: NewMessage) -> Response | dict[str, Any]:
    """Send a message."""
    streamed = request.accept_mimetypes.best_match(["application/json", "text/event-stream"]) == "text/event-stream"
    connection = client() if streamed else None
    turns, key, place = backend().turns, idempotency_key(), place_of(body.group, writes=True)
    if body.continues is not None:
        decisions = {each.id: Decision(each.approved, each.reason) for each in body.approvals}
        if len(decisions) < len(body.approvals):
            raise BadRequest("approvals: decide on each call once.")
        continuation = Continuation(path.id, body.continues, decisions, key)
        run = turns.go_on(caller(), continuation, streamed=streamed, client=connection, place=place)
    elif body.replaces is not None:
        if not is_message_id(body.replaces):
            raise NotFound
        edit, text = body.text is not None or bool(body.files), text_within_limit(body.text or "")
        attachments = message_attachments(place, path.id, [(file.url, file.filename) for file in body.files])
        message = ClientMessage(
            path.id, body.replaces, text, regenerate=not edit, edit=edit, attachments=attachments, key=key
        )
        run = turns.begin_named(caller(), message, connection, streamed=streamed, place=place)
    else:
        text = text_within_limit(body.text or "")
        attachments = message_attachments(place, path.id, [(file.url, file.filename) for file in body.files])
        run = turns.begin(
            *(caller(), path.id, text, key),
            streamed=streamed,
            client=connection,
            attachments=attachments,
            place=place,
        )
    return event_stream(sse(run.events(), connection)) if streamed else whole(run.events())


@api.get(
    "/chats/<id>",
    responses={200: ChatWithMessages, **errors(*OF_A_CHAT, InvalidCursor)},
    operation_id="getChat",
    summary="Read a chat and its messages",
)
def get(path: Path, query: MessagesQuery) -> dict[str, Any]:
    """Read a chat and its messages."""
    place = place_of(query.group)
    chat, page = (
        services().chats.of(place).get(place.scope, path.id, query.limit, query.cursor, replaced=query.replaced)
    )
    return {**chat, "messages": page.items, "next_cursor": page.next_cursor}


@api.patch(
    "/chats/<id>",
    rate="changes",
    responses={200: Chat, **errors(*OF_A_CHAT, TooLarge)},
    operation_id="changeChat",
    summary="Rename or archive a chat",
)
def change(path: Path, body: ChatChange) -> dict[str, Any]:
    """Rename or archive a chat."""
    changes = body.model_dump(exclude_none=True, exclude={"group"})
    if not changes:
        raise BadRequest("Nothing to change: send title, archived or both.")
    place = place_of(body.group, writes=True)
    return services().chats.of(place).change(place.scope, path.id, changes)


class FilePath(Path):
    """A path's parameters."""

    file: str = Field(description="The file's id.", json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"})


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"description": "The file.", "content": dict.fromkeys(KINDS, _BINARY)}


@api.get(
    "/chats/<id>/files/<file>",
    responses={200: _FILE, **errors(*OF_A_CHAT)},
    rate="files",
    operation_id="getChatFile",
    summary="Fetch a file of a message",
)
def fetch_file(path: FilePath, query: GroupQuery) -> Response:
    """Fetch a file of a message."""
    files = _files_of(place_of(query.group))
    return file_response(files, attachment_file(files, path.id, path.file).id)


@api.delete(
    "/chats/<id>",
    rate="changes",
    responses={204: None, **errors(*OF_A_CHAT)},
    operation_id="deleteChat",
    summary="Delete a chat and its messages",
)
def delete(path: Path, query: GroupQuery) -> tuple[str, int]:
    """Delete a chat and its messages."""
    place = place_of(query.group, writes=True)
    delete_attachments(place.guarded(services().store), _files_of(place), place.scope, path.id)
    services().chats.of(place).delete(place.scope, path.id)
    return "", 204


def place_of(group: str | None, *, writes: bool = False) -> ChatPlace:
    """Return the chats that the request is about: the caller's own, or a group's, as :func:`chat_place` says."""
    return chat_place(services(), caller(), group, writes=writes)


def _files_of(place: ChatPlace) -> KeptFiles:
    files = services().files.within(place.scope)
    return files if place.guard is None else files.for_member(place.guard)


def message_attachments(place: ChatPlace, chat_id: str, urls: Sequence[tuple[str, str]]) -> MessageAttachments:
    """Return the files of a message, given as URLs and names.

    Raises:
        BadRequest, FileNotTaken, DocumentUnreadable, TooLarge, NotFound, NoUploadRoom: as
            :func:`~firelaunch.turns.attachments.attachments_of_urls` says.
    """
    if not urls:
        return NO_ATTACHMENTS
    place.scope.chat(chat_id)  # refuses an id that is none
    if place.guard is not None:
        place.guarded(services().store).get(place.scope.root)  # whoever may not write has no file read
    files, room = _files_of(place), backend().turns.attachment_room
    uploads = UploadedFiles(services().files.within(caller().scope), services().clock)
    attachments = attachments_of_urls(files, uploads, room, chat_id, urls, file_limits(), services().gateway)
    leave_place()  # the files have room of their own, and the body is gone when the view is
    return attachments


def file_limits() -> FileLimits:
    """Return the most bytes of a message's files."""
    limits = services().settings.limits
    return FileLimits(limits.image_bytes, limits.attachment_bytes)


def text_within_limit(text: str) -> str:
    """Return a message's text.

    Raises:
        TooLarge: it is longer than the settings allow.
    """
    most = services().settings.limits.message_characters
    if len(text) > most:
        raise TooLarge(f"A message has at most {most} characters.")
    return text


def whole(events: Iterator[Event | Paused]) -> dict[str, Any]:
    """Return the final answer of a turn's events.

    Raises:
        FirelaunchError: the error that ended the turn.
    """
    (last,) = deque(events, maxlen=1)
    match last:
        case Done(message, usage):
            return {"request_id": message["request_id"], "message": message, "usage": usage}
        case Failed(error, _):
            raise error
    raise FirelaunchError(reason="a turn ended without an outcome")
