"""Extract data from a text by a JSON schema."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field

from ..errors import InvalidSchema, TooLarge, size_text
from .base import Body, caller, example, services
from .chats import TurnUsage
from .examples import ORDER, ORDER_SCHEMA, ORDERED, REQUEST, USED
from .refusals import OF_AN_EXTRACTION, errors
from .routes import Routes

__all__ = ["api"]


class ExtractRequest(Body):
    """What to read, and what to look for."""

    model_config = example({"text": ORDER, "schema": ORDER_SCHEMA})
    text: str = Field(min_length=1, description="At most limits.message_characters characters.")
    json_schema: dict[str, Any] = Field(
        alias="schema", description="JSON schema (2020-12) of an object; at most limits.schema_bytes bytes."
    )


class Extracted(BaseModel):
    """What was found."""

    model_config = example({"request_id": REQUEST, "data": ORDERED, "usage": USED})
    request_id: str
    data: dict[str, Any] = Field(description="Valid by the schema that was sent.")
    usage: TurnUsage


api = Routes("extract", "extract", prefix="/v1")


@api.post(
    "/extract",
    rate="extract",
    responses={200: Extracted, **errors(*OF_AN_EXTRACTION)},
    operation_id="extractData",
    summary="Have a text read into data",
    description="The model is held to the schema; an answer that does not fit is sent back to it once. Costs like "
    "a message.",
)
def extract(body: ExtractRequest) -> dict[str, Any]:
    """Have a text read into data."""
    if len(body.text) > services().settings.limits.message_characters:
        raise TooLarge(f"A text has at most {services().settings.limits.message_characters:,} characters.")
    if len(_json(body.json_schema)) > services().settings.limits.schema_bytes:
        raise TooLarge(f"A schema has at most {size_text(services().settings.limits.schema_bytes)}.")
    extraction = services().llm.extract(body.json_schema, body.text, scope=caller().scope)
    return {"request_id": extraction.request_id, "data": extraction.data, "usage": extraction.usage}


def _json(schema: dict[str, Any]) -> bytes:
    try:
        return json.dumps(schema, allow_nan=False).encode()
    except ValueError:
        raise InvalidSchema("The schema holds a number that is none, such as NaN.") from None
