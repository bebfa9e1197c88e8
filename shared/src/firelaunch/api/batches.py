"""Batches: many inputs, answered by a job; the answers as CSV or JSON lines, also while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from flask import Response
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from ..batch import BATCH, MOST_INPUTS, Batch, Input, output
from ..errors import NotFound, TooLarge
from ..jobs.base import job_view
from ..services import Services
from .base import Body, Path, blueprint, caller, errors, idempotency_key
from .jobs import JobAnswer

__all__ = ["routes"]

_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}


class NewBatch(Body):
    """Inputs to be answered, each by the app's workflow as a first message is."""

    inputs: list[Input] = Field(min_length=1, max_length=MOST_INPUTS)
    budget_micro_usd: int = Field(ge=0, le=10**12, description="What all of it may cost at most.")


class FormQuery(BaseModel):
    """How the output is written."""

    model_config = ConfigDict(extra="forbid")
    format: Literal["csv", "jsonl"] = "jsonl"


def routes(services: Services, *, documented: bool) -> APIBlueprint:
    """The blueprint."""
    api = blueprint("batches", "jobs", documented=documented)
    jobs, limits = services.jobs, services.settings.limits

    @api.post(
        "/batches",
        responses={202: JobAnswer, **errors(413)},
        summary="Answer many inputs",
        description="With an `Idempotency-Key` header a repeated send gives the first job.",
    )
    def create(body: NewBatch) -> tuple[dict[str, Any], int]:
        if any(len(one.text) > limits.message_characters for one in body.inputs):
            raise TooLarge(f"An input has at most {limits.message_characters} characters.")
        batch = Batch(inputs=body.inputs, budget_micro_usd=body.budget_micro_usd)
        return job_view(jobs.enqueue(caller().scope, BATCH, batch, key=idempotency_key())), 202

    @api.get("/batches/<id>/output", responses={200: None, **errors(404)}, summary="Read what was answered so far")
    def read(path: Path, query: FormQuery) -> Response:
        scope = caller().scope
        if jobs.get(scope, path.id).kind != BATCH.name:
            raise NotFound
        lines: Iterator[str] = output(services.store, scope, path.id, query.format)
        name = f'attachment; filename="{path.id}.{query.format}"'
        return Response(lines, content_type=_TYPES[query.format], headers={"Content-Disposition": name})

    return api
