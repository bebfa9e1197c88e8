"""Play a quirk: a server that has it on a socket, and the client that apps use on the other side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from firelaunch.errors import FirelaunchError
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.types import FinishedCall
from firelaunch.testing.models import Action, ModelServer

from .quirks import QUIRKS, Quirk

__all__ = ["played", "problem"]

_SECONDS = 8.0
"""Seconds that a call has in all."""

MODEL, FALLBACK = "gpt-5.4-mini", "gpt-5-mini"


class _Meter:
    def __init__(self) -> None:
        self.calls: list[FinishedCall] = []

    def cover(self, micro_usd: int) -> None: ...

    def release(self, micro_usd: int) -> None: ...

    def spend(self, call: FinishedCall) -> None:
        self.calls.append(call)

    def reuse(self, model: str) -> None: ...


def problem(quirk: Quirk) -> str | None:
    """Play ``quirk`` in each way of calling that it is about; return what went wrong, None if nothing did."""
    for streamed, actions in ((True, quirk.actions), (False, quirk.whole)):
        if actions and (wrong := _problem(quirk, actions, streamed=streamed)):
            return f"{'streamed' if streamed else 'whole'}: {wrong}"
    return None


def _problem(quirk: Quirk, actions: Sequence[Action], *, streamed: bool) -> str | None:
    cities: list[str] = []

    def weather(city: str) -> str:
        """The weather of a city."""
        cities.append(city)
        return "clear"

    meter, expected = _Meter(), quirk.outcome
    with ModelServer() as server:
        server.script = list(actions)
        gateway = _gateway(server, quirk)
        session = gateway.answering(
            meter, MODEL, 1.5 if expected.code == "model_timeout" else _SECONDS, streamed=streamed
        )
        tools: list[Any] = [weather] if expected.cities else []
        text, code = "", None
        try:
            text = "".join(c.text for c in session.stream([{"role": "user", "content": "Hello?"}], tools=tools))
        except FirelaunchError as error:
            code = error.code
        wrong = _address_problem(server, quirk)
        if code is None and time.monotonic() > session.deadline:
            wrong = "the answer was not over before the request's time was"
        requests = len(server.requests)
    if wrong is not None:
        return wrong
    if code != expected.code:
        return f"it ended with {code}, not with {expected.code}"
    checks = [("text", text, expected.text), ("requests", requests, expected.requests)]
    used = meter.calls[-1].tokens
    checks.append(("usage", (used.input, used.output), expected.usage))
    wrongs = [f"{name}: {is_so!r}, not {due!r}" for name, is_so, due in checks if due is not None and is_so != due]
    if tuple(cities) != expected.cities:
        wrongs.append(f"the tool was called with {cities}, not {expected.cities}")
    return "; ".join(wrongs) or None


def _gateway(server: ModelServer, quirk: Quirk) -> Gateway:
    more = quirk.more
    base_url = server.base_url + more.get("slash", "") + more.get("query", "")
    provider = OpenAICompatibleProvider("openai", "the-key", base_url, **(
        {"key_header": more["key_header"]} if "key_header" in more else {}
    ))  # fmt: skip
    return Gateway(
        provider,
        Prices("openai", {}),
        [FALLBACK],
        50,
        first_token_seconds=quirk.silence,
        between_tokens_seconds=quirk.silence,
        pause=lambda *_: None,
    )


def _address_problem(server: ModelServer, quirk: Quirk) -> str | None:
    header = quirk.more.get("key_header", "authorization")
    key = "the-key" if "key_header" in quirk.more else "Bearer the-key"
    for path, headers in zip(server.paths, server.headers, strict=True):
        if path != "/v1/chat/completions" + quirk.more.get("query", ""):
            return f"the request went to {path}"
        if headers.get("accept-encoding") != "identity":
            return "the server may compress its answer"
        if headers.get(header) != key or ("authorization" in headers) is not (header == "authorization"):
            return f"the key is not where it should be: {sorted(headers)}"
    return None


def played(quirks: Sequence[Quirk] = QUIRKS) -> list[dict[str, Any]]:
    """Play ``quirks``, and return a row for each server and quirk."""
    rows = []
    for quirk in quirks:
        wrong = problem(quirk)
        row = {"quirk": quirk.name, "passed": wrong is None, **({} if wrong is None else {"problem": wrong})}
        rows += [{"provider": server, **row} for server in quirk.servers]
    return rows
