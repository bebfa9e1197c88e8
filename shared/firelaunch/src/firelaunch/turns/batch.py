"""Batches: a job runs the app's workflow over many inputs, within a budget. A batch that stops keeps its answers.

An input's answer, its exact cost and the batch's checkpoint go into one commit. A crash therefore repeats only the
input that was being answered, and bills no input twice.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import BudgetExceeded, EmptyAnswer, FirelaunchError, ModelError, ModelRefused, RateLimited, StoreError
from ..jobs.base import Kind
from ..llm.types import FinishedCall, Meter, token_bound
from ..metering.reservations import Quote, Reservation
from ..metering.retries import admit
from ..scope import Scope
from ..store.base import DocumentStore, Query, Set
from ..worker import Handlers, JobDone, JobFailed, JobRun, Postponed
from .chunks import checked_chunks
from .grounding import Grounding
from .turn import Turn, Workflow

__all__ = ["BATCH", "COLUMNS", "MOST_INPUTS", "Batch", "Input", "batch_handlers", "output"]

log = logging.getLogger(__name__)

MOST_INPUTS: Final = 1000
"""The most inputs of one batch; together they also have to fit into a job's payload."""

COLUMNS: Final = ("index", "id", "output", "error", "model", "input_tokens", "output_tokens", "cost_micro_usd")
"""The columns of a batch's output, in this order."""

_SETTLE_SECONDS = 30.0
"""Seconds that an input takes besides its model calls, at most."""

_PAGE = 200
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(rf'(?:\A|(?<=[;|\t\r\n]))(?=["\s]*[{_SIGNS}]|"*[\t\r])|\A(?=\n)')
"""Matches where a spreadsheet could read a formula: at the start of a value, or after a character at which some
spreadsheets split cells, such as ";" in countries with a decimal comma. The signs (also the full-width ones) and the
blanks are from OWASP: https://owasp.org/www-community/attacks/CSV_Injection."""


class Input(BaseModel):
    """One thing to be answered."""

    model_config = ConfigDict(extra="forbid", strict=True, title="BatchInput")
    text: str = Field(min_length=1, max_length=100_000)
    id: str = Field(default="", max_length=200, description="Comes back with the answer.")


class Batch(BaseModel):
    """The payload of a batch. ``budget_micro_usd`` is what all of it may cost at most."""

    inputs: list[Input] = Field(min_length=1, max_length=MOST_INPUTS)
    budget_micro_usd: int = Field(ge=0)


BATCH: Final = Kind("batch", Batch, max_attempts=20, seconds=1500)


@dataclass(frozen=True, slots=True)
class _Capped:
    """The meter of one input. It spends from the input's reservation, within what is left of the batch's budget."""

    reservation: Reservation
    left: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cover(self, micro_usd: int) -> None:
        with self._lock:
            if self.reservation.committed + micro_usd > self.left:
                raise _OverBudget
            self.reservation.cover(micro_usd)

    def release(self, micro_usd: int) -> None:
        self.reservation.release(micro_usd)

    def spend(self, call: FinishedCall) -> None:
        self.reservation.spend(call)

    def reuse(self, model: str) -> None:
        self.reservation.reuse(model)


class _OverBudget(BudgetExceeded):
    """The batch's own budget does not cover the next call."""


@dataclass(slots=True)
class _Progress:
    """The progress of a batch, stored as its checkpoint."""

    done: int = 0
    failed: int = 0
    micro_usd: int = 0

    def as_json(self) -> dict[str, int]:
        return {"done": self.done, "failed": self.failed, "micro_usd": self.micro_usd}


def batch_handlers(workflow: Workflow, more: Handlers | None) -> Handlers:
    """Return the app's handlers and the one that runs batches through the app's ``workflow``."""
    handlers = Handlers(more)

    @handlers.on(BATCH)
    def run_batch(run: JobRun, batch: Batch) -> JobDone:
        if run.scope.uid is None:
            raise JobFailed("A batch is a user's.")
        progress = _Progress(**(run.checkpoint or {}))
        stopped: str | None = None
        first = progress.done
        longest = run.services.settings.limits.request_seconds + _SETTLE_SECONDS
        for index in range(first, len(batch.inputs)):
            run.check()
            # Go on in another attempt, unless this one has answered nothing yet.
            if index > first and run.seconds_left < longest:
                raise Postponed(retry_after=0)
            run.progress(index, len(batch.inputs))
            try:
                _answer(run, workflow, batch, index, progress)
            except BudgetExceeded as error:
                stopped = "budget" if isinstance(error, _OverBudget) else "daily_budget"
                break
            except RateLimited as error:
                raise Postponed(retry_after=error.retry_after) from error
        run.progress(progress.done, len(batch.inputs))
        result = {
            "inputs": len(batch.inputs),
            "answered": progress.done - progress.failed,
            "failed": progress.failed,
            "cost_micro_usd": progress.micro_usd,
            "stopped": stopped,
        }
        return JobDone(result)

    return handlers


def _answer(run: JobRun, workflow: Workflow, batch: Batch, index: int, progress: _Progress) -> None:
    """Answer one input, and commit its answer, its cost and the checkpoint together.

    Raises:
        BudgetExceeded, RateLimited: the input was not started, or it broke off and its cost is settled.
        ModelError, StoreError: another try may help; the cost of this one is settled.
    """
    services, text = run.services, batch.inputs[index].text
    left = batch.budget_micro_usd - progress.micro_usd
    grounding = Grounding(services.documents, run.scope, text)
    if services.settings.search.in_chats:
        grounding.expect(services.documents.versions.state(), text)
    reservation = _reserve(run, index, text, left, grounding)
    grounding.begin()
    llm = services.gateway.answering(
        _meter(reservation, left),
        reservation.model,
        services.settings.limits.request_seconds,
        streamed=False,
        owner=run.scope,
        purpose=BATCH.name,
        own_models=not reservation.cheaper,
    )
    prompts = services.prompts.of(run.scope.uid or "", own_models=not reservation.cheaper)
    features = frozenset(reservation.limit.features)
    turn = Turn(services.settings.app, run.scope, text, [], llm, services, prompts, grounding, features=features)
    answer_text, error = "", None
    try:
        chunks = checked_chunks(workflow, turn)
        answer_text = "".join(grounding.shown(chunk.text) for chunk in chunks) + grounding.rest()
        if not answer_text.strip():
            raise EmptyAnswer
    except FirelaunchError as failure:
        if _ends_attempt(failure):
            # The job's next attempt answers this input again; what this attempt spent is owed all the same.
            reservation.add(*grounding.calls)
            progress.micro_usd += reservation.spent
            run.commit(checkpoint=progress.as_json(), settles=[reservation])
            raise
        error = failure.code
    except Exception as failure:
        error = FirelaunchError.code
        log.warning("the workflow failed in job %s", run.id, exc_info=failure)
    reservation.add(*grounding.calls)
    progress.done, progress.failed = index + 1, progress.failed + (error is not None)
    progress.micro_usd += reservation.spent
    item = _item(run, batch, index, turn, reservation, answer_text, error)
    write = Set(f"{run.scope.batch_items(run.id)}/{index:06d}", item)
    run.commit(write, checkpoint=progress.as_json(), settles=[reservation])


def _ends_attempt(failure: FirelaunchError) -> bool:
    """Return whether the failure concerns more than the one input."""
    if isinstance(failure, ModelError):
        return not isinstance(failure, ModelRefused | EmptyAnswer)
    return isinstance(failure, BudgetExceeded | StoreError)


def _meter(reservation: Reservation, left: int) -> Meter:
    return _Capped(reservation, left)


def _reserve(run: JobRun, index: int, text: str, left: int, grounding: Grounding) -> Reservation:
    services, scope = run.services, run.scope
    metering, gateway, choice = services.metering, services.gateway, services.settings.choice
    tokens = token_bound([{"role": "user", "content": text}]) + services.settings.limits.prompt_tokens
    tokens, search_cost = tokens + grounding.token_bound, grounding.cost_bound
    quote, cheap = (
        Quote(model, gateway.worst_case(model, tokens) + search_cost) for model in (choice.chat, choice.cheap)
    )

    def within_budget(reservation: Reservation) -> tuple[()]:
        if reservation.reserved > left:
            raise _OverBudget
        return ()

    reservation, _ = admit(
        metering,
        services.admission,
        scope,
        f"{run.id}-{index:06d}",
        (quote, cheap),
        also=within_budget,
    )
    reservation.held = search_cost
    return reservation


def _item(
    run: JobRun, batch: Batch, index: int, turn: Turn, reservation: Reservation, answer_text: str, error: str | None
) -> dict[str, Any]:
    now = run.services.clock()
    return {
        "index": index,
        "id": batch.inputs[index].id,
        "output": answer_text if error is None else None,
        "error": error,
        "finish": turn.llm.finish or "stop" if error is None else None,
        "model": reservation.model,
        "prompt": turn.llm.prompt,
        "input_tokens": reservation.tokens.input,
        "output_tokens": reservation.tokens.output,
        "cost_micro_usd": reservation.spent,
        "created_at": now,
        "delete_at": now + timedelta(days=run.services.jobs.policy.keep_days),
    }


def output(store: DocumentStore, scope: Scope, job_id: str, form: Literal["csv", "jsonl"]) -> Iterator[str]:
    """Yield the answers that a batch has so far, in the inputs' order, as lines of CSV (with a header) or of JSON.

    Texts in CSV are quoted. An apostrophe is put wherever a spreadsheet would read a formula, also a spreadsheet that
    splits lines at semicolons.
    """
    if form == "csv":
        yield _csv(COLUMNS)
    for item in _items(store, scope, job_id):
        row = {name: item.get(name) for name in COLUMNS}
        yield _csv([_harmless(value) for value in row.values()]) if form == "csv" else _json(row)


def _items(store: DocumentStore, scope: Scope, job_id: str) -> Iterator[Mapping[str, Any]]:
    after: list[Any] | None = None
    while True:
        page = store.query(Query(scope.batch_items(job_id), limit=_PAGE, after=after))
        for document in page:
            yield document.data
        if len(page) < _PAGE:
            return
        after = [page[-1].id]


def _csv(row: Any) -> str:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC).writerow(row)
    return line.getvalue()


def _json(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _harmless(value: Any) -> Any:
    return _FORMULA.sub("'", value) if isinstance(value, str) else value
