"""Start batches of inputs that a job answers, and read the answers as CSV or JSON lines, also while the job runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response
from pydantic import BeforeValidator, ConfigDict, Field

from ..errors import AlreadyExists, InvalidId, JobsUnavailable, NotFound, TooLarge
from ..jobs.base import job_view
from ..turns.batch import BATCH, MOST_INPUTS, Batch, Input, output
from .base import KEY_HEADER, Body, Path, QueryModel, caller, example, idempotency_key, services
from .jobs import JobAnswer
from .refusals import errors
from .routes import Routes

__all__ = ["api"]

_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}


_OUTPUT: dict[str, Any] = {
    "description": "A row for each input that was dealt with, in the inputs' order.",
    "content": {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in _TYPES.values()},
}


def _whole(value: Any) -> Any:
    """Convert a whole float to an int: JSON allows 5.0 for 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class NewBatch(Body):
    """Inputs to be answered, each by the app's workflow as a first message is."""

    model_config = ConfigDict(
        **Body.model_config,
        **example({"inputs": [{"id": "row 1", "text": "Which river is longest?"}], "budget_micro_usd": 50_000}),
    )
    inputs: list[Input] = Field(min_length=1, max_length=MOST_INPUTS)
    budget_micro_usd: Annotated[int, BeforeValidator(_whole)] = Field(
        ge=0, le=10**12, description="What all of it may cost at most."
    )


class FormQuery(QueryModel):
    """The format of the output."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["csv", "jsonl"] = "jsonl"


api = Routes("batches", "jobs", prefix="/v1")


@api.post(
    "/batches",
    rate="batches",
    responses={202: JobAnswer, **errors(TooLarge, AlreadyExists, NotFound, JobsUnavailable)},
    operation_id="createBatch",
    summary="Answer many inputs",
    description="With an `Idempotency-Key` header a repeated send gives the first job.",
    openapi_extensions={"x-headers": [KEY_HEADER]},
)
def create(body: NewBatch) -> tuple[dict[str, Any], int]:
    """Answer many inputs."""
    if any(len(item.text) > services().settings.limits.message_characters for item in body.inputs):
        raise TooLarge(f"An input has at most {services().settings.limits.message_characters} characters.")
    batch = Batch(inputs=body.inputs, budget_micro_usd=body.budget_micro_usd)
    return job_view(services().jobs.enqueue(caller().scope, BATCH, batch, key=idempotency_key())), 202


@api.get(
    "/batches/<id>/output",
    rate="files",
    responses={200: _OUTPUT, **errors(InvalidId, NotFound)},
    operation_id="getBatchOutput",
    summary="Read what was answered so far",
)
def read(path: Path, query: FormQuery) -> Response:
    """Read what was answered so far."""
    scope = caller().scope
    if services().jobs.get(scope, path.id).kind != BATCH.name:
        raise NotFound
    # Sent whole: clients could not tell a stream that broke off from a complete one.
    rows = "".join(output(services().store, scope, path.id, query.format))
    disposition = f'attachment; filename="{path.id}.{query.format}"'
    return Response(rows, content_type=_TYPES[query.format], headers={"Content-Disposition": disposition})
