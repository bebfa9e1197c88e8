"""Vertex AI's ranking API on a real socket: it refuses what Google documents that it refuses, and ranks by words.

Source: https://docs.cloud.google.com/generative-ai-app-builder/docs/reference/rest/v1/projects.locations.rankingConfigs/rank
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from firelaunch.testing.http import JsonServer, RequestRefused

__all__ = ["RankingServer"]

_PATH = "v1/projects/proj/locations/global/rankingConfigs/default_ranking_config:rank"
_FIELDS = {
    "model": str,
    "topN": int,
    "query": str,
    "records": list,
    "ignoreRecordDetailsInResponse": bool,
    "userLabels": dict,
}
_RECORD = ("id", "title", "content")
_MODELS = {"semantic-ranker-default-004": 1_024, "semantic-ranker-fast-004": 1_024, "semantic-ranker-default-003": 512}
"""Tokens of a record that each model reads."""

_MOST_RECORDS = 200
_MOST_LABELS = 64


class RankingServer(JsonServer):
    """The ranking of the project ``proj``. A token is a word here, and a score the share of the query's words."""

    def __init__(self) -> None:
        super().__init__()
        self.base_url = f"{self.url}/v1"

    def answer(self, path: str, body: Any) -> Any:
        """Return the records, best first."""
        if path != _PATH:
            raise RequestRefused(404, f"{path} is not found", "NOT_FOUND")
        for name, value in body.items():
            if name not in _FIELDS:
                raise RequestRefused(400, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
            if type(value) is not _FIELDS[name]:
                raise RequestRefused(400, f"Invalid value at '{name}'")
        model, records = body.get("model", "semantic-ranker-default-003"), body.get("records", [])
        if model not in _MODELS:
            raise RequestRefused(400, f"Model {model} is not supported")
        if not 1 <= len(records) <= _MOST_RECORDS:
            raise RequestRefused(400, f"records has {len(records)} elements; it must have 1 to {_MOST_RECORDS}")
        if len(body.get("userLabels", {})) > _MOST_LABELS:
            raise RequestRefused(400, f"userLabels has more than {_MOST_LABELS} labels")
        scores = [(_score(body.get("query", ""), record, _MODELS[model]), record) for record in map(_checked, records)]
        ranked = sorted(scores, key=lambda each: -each[0])[: max(0, body.get("topN", 0)) or None]
        names = ("id",) if body.get("ignoreRecordDetailsInResponse") else _RECORD
        return {
            "records": [{**{k: record[k] for k in names if k in record}, "score": score} for score, record in ranked]
        }


def _checked(record: Any) -> Mapping[str, str]:
    if not isinstance(record, dict) or not set(record) <= set(_RECORD):
        raise RequestRefused(400, f"Invalid JSON payload received. {record!r} is no record")
    if not record.get("title") and not record.get("content"):
        raise RequestRefused(400, "at least one of title or content should be set")
    return record


def _score(query: str, record: Mapping[str, str], most: int) -> float:
    words = set(_words(query))
    read = _words(f"{record.get('title', '')} {record.get('content', '')}")[:most]
    # Scores have two decimals, and are never 0, which JSON would leave out.
    return round(len(words.intersection(read)) / (len(words) or 1), 2) or 0.0001


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
