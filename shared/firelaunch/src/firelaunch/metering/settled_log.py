"""Log each request that is settled. The alerts that a deploy makes read these lines (docs/telemetry.md)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..telemetry.names import EVENT, EVENT_SETTLED

__all__ = ["log_settled"]

log = logging.getLogger(__name__)

_FIELDS = ("outcome", "error", "total_ms", "first_token_ms")


def log_settled(kind: str, request_id: str, record: Mapping[str, Any]) -> None:
    """Log that a request is settled.

    Args:
        kind: "turn", or what else a model was called for.
        request_id: the id of the request's record, which clients have as the answer's `request_id`.
        record: the fields of the request's record.
    """
    cost = record["usage"]["cost_micro_usd"]
    fields = {name: record[name] for name in _FIELDS if record.get(name) is not None}
    log.info(
        "%s %s %s in %d ms for %d micro-dollars",
        *(kind, request_id, record["outcome"], record["total_ms"], cost),
        extra={EVENT: EVENT_SETTLED, "kind": kind, "record": request_id, "cost_micro_usd": cost, **fields},
    )
