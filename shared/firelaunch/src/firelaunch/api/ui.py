"""Serve the route that the AI SDK's ``useChat`` sends messages to, in the SDK's own format."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..chats.ui_events import UI_HEADERS, ui_stream
from ..errors import BadRequest, Conflict, TooLarge
from ..turns.send import ClientMessage
from .base import backend, caller, client, event_stream, example, services, streamed
from .examples import UI_QUESTION, UI_STREAM
from .refusals import OF_A_TURN, errors
from .routes import Routes

__all__ = ["api"]


class UIPart(BaseModel):
    """A part of a message. Of a user's message all parts are text."""

    model_config = ConfigDict(extra="ignore", strict=True)
    type: str
    text: str | None = None


class UIMessage(BaseModel):
    """A message as the AI SDK has it."""

    model_config = ConfigDict(extra="ignore", strict=True)
    id: str = Field(min_length=1, max_length=255)
    role: Literal["user", "assistant", "system"]
    parts: list[UIPart] = Field(max_length=100)

    def user_text(self) -> str:
        """The text of a user's message.

        Raises:
            BadRequest: it is not the user's, or holds something else.
        """
        if self.role != "user":
            raise BadRequest("The last message is not the user's: there is nothing to answer.")
        others = sorted({part.type for part in self.parts} - {"text"})
        if others:
            raise BadRequest(f"A message holds text alone; this one has {', '.join(others)[:100]}.")
        text = "\n".join(part.text or "" for part in self.parts)
        if not text:
            raise BadRequest("The message is empty.")
        return text


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

    def last(self) -> UIMessage:
        """The message to be answered.

        Raises:
            BadRequest: there is none.
        """
        messages: list[UIMessage] = [message for message in (self.message, *(self.messages or ())) if message]
        if len(messages) != 1:
            raise BadRequest("Send either message or messages, with at least one.")
        return messages[0]


api = Routes("ui", "useChat", prefix="/v1")


@api.post(
    "/chat",
    responses={200: streamed(UI_STREAM), **errors(*OF_A_TURN, Conflict)},
    operation_id="sendFromUseChat",
    summary="Send a message from useChat",
    description="A chat that is not there is made. What was said before is what the service has stored; earlier "
    "messages in the body are not read. A message that is sent twice is answered once. An error after the stream "
    "has begun is a part of it.",
)
def send(body: UIChat) -> Response:
    """Send a message from useChat."""
    last = body.last()
    message = ClientMessage(body.id, last.id, last.user_text(), regenerate=body.trigger == "regenerate-message")
    if len(message.text) > services().settings.limits.message_characters:
        raise TooLarge(f"A message has at most {services().settings.limits.message_characters} characters.")
    connection = client()
    run = backend().turns.begin_named(caller(), message, connection)
    return event_stream(ui_stream(run.events(), connection), UI_HEADERS)
