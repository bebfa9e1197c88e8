"""Rerank by Vertex AI's ranking API, which keeps nothing.

Source: https://docs.cloud.google.com/generative-ai-app-builder/docs/ranking
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...errors import ModelError, ModelTimeout, ModelUnavailable
from ...llm.types import FinishedCall, TokenCounts
from ...telemetry.names import RERANK
from ..google_calls import GoogleError
from ..google_rest import GoogleRest
from ..index.base import Hit
from .base import Spend, question_end, reordered

__all__ = ["VertexReranker"]

_URL = "https://discoveryengine.googleapis.com/v1"
_SECONDS = 2.0
"""Google names less than 0.1 s for most requests, and the user is waiting."""

_RECORDS = 100
"""Records of one request. The API takes 200, and charges for each 100."""

_QUERY_PRICE: Final = 1_000
"""Micro-dollars of a query with up to 100 records (https://cloud.google.com/generative-ai-app-builder/pricing)."""


class VertexReranker:
    """A :class:`.base.Reranker`. Each record's title and text is cut by the API at 1,024 tokens.

    Args:
        model: such as "semantic-ranker-default-004".
        project: whose quota and bill the requests are.
        rest: replaces the connection to Google, for tests.
    """

    def __init__(self, model: str, project: str, rest: GoogleRest | None = None) -> None:
        self._model = model
        self._path = f"projects/{project}/locations/global/rankingConfigs/default_ranking_config:rank"
        self._rest = rest or GoogleRest(_URL)

    def cost_bound(self, _query: str) -> int:
        """Return the price of one query."""
        return _QUERY_PRICE

    def rerank(self, query: str, hits: Sequence[Hit], spend: Spend) -> Sequence[Hit]:
        """Return the hits in the model's order; those beyond the first 100 follow as they were.

        Raises:
            ModelError: the API refused, or did not answer in time. It isn't asked again: the user is waiting.
        """
        body = {
            "model": self._model,
            "query": question_end(query),
            "records": [_record(number, hit) for number, hit in enumerate(hits[:_RECORDS])],
            "ignoreRecordDetailsInResponse": True,
        }
        began = time.monotonic()
        try:
            answer = self._rest.call(self._path, body, _SECONDS)
        except GoogleError as error:
            # Without an answer, nobody knows whether the query is charged.
            failure = _failure(error)
            spend(self._call(began, 0 if error.status else _QUERY_PRICE, failure.code))
            raise failure from error
        spend(self._call(began, _QUERY_PRICE))
        return reordered(hits, _order(answer))

    def _call(self, began: float, micro_usd: int, error: str | None = None) -> FinishedCall:
        seconds = time.monotonic() - began
        facts = {"purpose": "rerank", "step": 0, "operation": RERANK, "provider": "vertex"}
        return FinishedCall(self._model, TokenCounts(), micro_usd, seconds, error=error, **facts)  # type: ignore[arg-type]


def _record(number: int, hit: Hit) -> dict[str, str]:
    return {"id": str(number), "title": hit.entry.title, "content": hit.entry.text}


def _order(answer: Mapping[str, Any]) -> list[int]:
    try:
        return [int(record["id"]) for record in answer["records"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(reason="the answer is no ranking") from error


def _failure(error: GoogleError) -> ModelError:
    if error.status == 0:
        return ModelTimeout(reason=str(error))
    return ModelUnavailable(reason=str(error)) if error.passing else ModelError(reason=str(error))
