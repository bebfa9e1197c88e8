"""Serve the route that the AI SDK's ``useChat`` sends messages to, in the SDK's own format."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..chats.ui_events import UI_HEADERS, ui_message, ui_stream
from ..errors import BadRequest, Conflict, InvalidCursor
from ..turns.answer import Replay, TurnRun
from ..turns.approvals import Decision
from ..turns.send import ClientMessage, Continuation, is_answer_id
from .base import OF_A_GROUP, OptionalGroup, Path, backend, caller, client, event_stream, example, services, streamed
from .chats import ChatsQuery, message_attachments, place_of, text_within_limit
from .examples import UI_QUESTION, UI_STREAM
from .refusals import OF_A_CHAT, OF_A_TURN, OF_FILES, errors
from .routes import Routes

__all__ = ["api"]


class UIApproval(BaseModel):
    """The user's decision on a tool call."""

    model_config = ConfigDict(extra="ignore", strict=True)
    id: str = Field(max_length=200)
    approved: bool | None = None
    reason: str | None = Field(default=None, max_length=500)


class UIPart(BaseModel):
    """A part of a message. A user's message has text and files."""

    model_config = ConfigDict(extra="ignore", strict=True)
    type: str
    text: str | None = None
    url: str | None = None
    filename: str | None = Field(default=None, max_length=255)
    state: str | None = None
    approval: UIApproval | None = None


class UIMetadata(BaseModel):
    """The service's own facts on an answer, as the client sends them back."""

    model_config = ConfigDict(extra="ignore", strict=True)
    request_id: str | None = Field(default=None, max_length=255)


class UIMessage(BaseModel):
    """A message as the AI SDK has it."""

    model_config = ConfigDict(extra="ignore", strict=True)
    id: str = Field(min_length=1, max_length=255)
    role: Literal["user", "assistant", "system"]
    parts: list[UIPart] = Field(max_length=1_000)
    metadata: UIMetadata | None = None

    def user_text(self) -> str:
        """The text of a user's message.

        Raises:
            BadRequest: it is not the user's, or holds something else.
        """
        if self.role != "user":
            raise BadRequest("The last message is not the user's: there is nothing to answer.")
        others = sorted({part.type for part in self.parts} - {"text", "file"})
        if others:
            raise BadRequest(f"A message holds text and files alone; this one has {', '.join(others)[:100]}.")
        text = "\n".join(part.text or "" for part in self.parts if part.type == "text")
        if not text and not self.files():
            raise BadRequest("The message is empty.")
        return text

    def files(self) -> list[tuple[str, str]]:
        """Return the URLs and names of the message's files."""
        return [(part.url or "", part.filename or "") for part in self.parts if part.type == "file"]

    def decisions(self) -> dict[str, Decision]:
        """Return what the user decided on tool calls of an answer, by their ids."""
        decided = [part.approval for part in self.parts if part.state == "approval-responded" and part.approval]
        return {each.id: Decision(each.approved is True, each.reason or "") for each in decided}


def _last_alone(messages: Any) -> Any:
    return messages[-1:] if isinstance(messages, list) else messages


class UIChat(BaseModel):
    """What ``useChat`` sends: all its messages, or the last one alone. Keys beyond these are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, **example({"id": "my-chat", "message": UI_QUESTION}))
    id: str = Field(
        description="The chat's id, of the client's own making: 1 to 64 letters, digits, `_` and `-`.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"},
    )
    message: UIMessage | None = Field(default=None, description="The user's message.")
    messages: Annotated[list[UIMessage] | None, BeforeValidator(_last_alone)] = Field(
        default=None, description="In its place all messages. The last one counts; the service has the others."
    )
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(
        default=None,
        alias="messageId",
        description="With `submit-message`: the id of the last message, if it is edited.",
    )
    group: OptionalGroup = Field(default=None, description=OF_A_GROUP)

    def last(self) -> UIMessage:
        """The message to be answered.

        Raises:
            BadRequest: there is none.
        """
        messages: list[UIMessage] = [message for message in (self.message, *(self.messages or ())) if message]
        if len(messages) != 1:
            raise BadRequest("Send either message or messages, with at least one.")
        return messages[0]


class UIPage(BaseModel):
    """A chat's latest messages as the AI SDK has them, oldest first."""

    model_config = example({"id": "my-chat", "messages": [UI_QUESTION], "next_cursor": None})
    id: str
    messages: list[Any] = Field(description="UI messages, for `messages` of useChat.")
    next_cursor: str | None = Field(description="Leads to earlier messages.")


api = Routes("ui", "useChat", prefix="/v1", guests=True)


@api.get(
    "/chat/<id>",
    responses={200: UIPage, **errors(*OF_A_CHAT, InvalidCursor)},
    operation_id="getForUseChat",
    summary="Read a chat for useChat",
    description="The messages of a chat with their tools, sources and metadata, to begin useChat with after a reload.",
)
def read(path: Path, query: ChatsQuery) -> dict[str, Any]:
    """Read a chat for useChat."""
    place = place_of(query.group)
    _, page = services().chats.of(place).get(place.scope, path.id, query.limit, query.cursor)
    messages = [ui_message(view, path.id, query.group or None) for view in page.items]
    return {"id": path.id, "messages": messages, "next_cursor": page.next_cursor}


@api.post(
    "/chat",
    rate="turns",
    responses={200: streamed(UI_STREAM), **errors(*OF_A_TURN, Conflict, *OF_FILES)},
    operation_id="sendFromUseChat",
    summary="Send a message from useChat",
    description="A chat that is not there is made. What was said before is what the service has stored; earlier "
    "messages in the body are not read. A message that is sent twice is answered once. An error after the stream "
    "has begun is a part of it. If the last message is the service's answer, it goes on: if it was cut off, or if it "
    "waits for the user's approval of tool calls and all of them have it or are refused.",
)
def send(body: UIChat) -> Response:
    """Send a message from useChat."""
    last, connection, turns = body.last(), client(), backend().turns
    place = place_of(body.group, writes=True)
    run: TurnRun | Replay
    if last.role == "assistant" and is_answer_id(last.id):
        key = None if last.metadata is None else last.metadata.request_id
        continuation = Continuation(body.id, last.id, last.decisions(), key)
        run = turns.go_on(caller(), continuation, streamed=True, client=connection, place=place)
    else:
        text = text_within_limit(last.user_text())
        regenerate = body.trigger == "regenerate-message"
        edit = not regenerate and body.message_id == last.id
        attachments = message_attachments(place, body.id, last.files())
        message = ClientMessage(body.id, last.id, text, regenerate=regenerate, edit=edit, attachments=attachments)
        run = turns.begin_named(caller(), message, connection, place=place)
    return event_stream(ui_stream(run.events(), connection), UI_HEADERS)
