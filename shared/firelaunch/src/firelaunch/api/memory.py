"""Let users read and delete the notes that the app keeps about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from ..store.base import Delete
from ..turns.follow_ups import notes_of
from .base import Time, caller, example, services
from .refusals import errors
from .routes import Routes

__all__ = ["api"]


class Memory(BaseModel):
    """The notes; none unless `after_turn.memory` is on."""

    model_config = example({"notes": ["Teaches physics in Izmir."], "updated_at": "2026-03-01T09:30:00Z"})
    notes: list[str]
    updated_at: Time | None


api = Routes("memory", "account", prefix="/v1", guests=True)


@api.get(
    "/memory", responses={200: Memory, **errors()}, operation_id="getMemory", summary="What is kept in mind about me?"
)
def read() -> dict[str, Any]:
    """What is kept in mind about me?"""
    document = services().store.get(caller().scope.memory())
    updated_at = None if document is None else document.data.get("updated_at")
    updated_text = (
        updated_at.isoformat(timespec="seconds").replace("+00:00", "Z") if isinstance(updated_at, datetime) else None
    )
    return {"notes": list(notes_of(document)), "updated_at": updated_text}


@api.delete(
    "/memory",
    rate="changes",
    responses={204: None, **errors()},
    operation_id="deleteMemory",
    summary="Forget what is kept in mind about me",
)
def forget() -> tuple[str, int]:
    """Forget what is kept in mind about me."""
    services().store.commit([Delete(caller().scope.memory())])
    return "", 204
