"""Compute the price of a call in whole micro-dollars, rounded up from the table's exact figure.

The table is genai-prices (offline, with cached tokens and tiers); ``[prices]`` in ``firelaunch.toml`` overrides it. A
dollar per million tokens is a micro-dollar per token, so the table's figures serve unchanged.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache
from types import ModuleType
from typing import Any, Final, NamedTuple

from ..errors import SettingsError
from ..settings.app import Price
from .claude_models import is_claude
from .thinking import is_gemini_with_levels
from .types import TokenCounts

__all__ = ["CLAUDE_IN_A_REGION", "FLEX", "STANDARD", "Prices"]

STANDARD: Final = Decimal(1)
FLEX: Final = Decimal("0.5")
"""OpenAI's flex tier has the prices of its batches, half of the others
(https://developers.openai.com/api/docs/guides/flex-processing)."""
CLAUDE_IN_A_REGION: Final = Decimal("1.1")
"""Claude on Vertex AI costs a tenth more in a region, in "eu" and in "us" than in "global"
(https://platform.claude.com/docs/en/about-claude/pricing)."""

_TABLE = {"openai": "openai", "vertex": "google", "claude": "anthropic"}
_RENEWAL = "genai_prices.update_prices"
_importing = threading.Lock()

_SEARCH = 14_000
"""Micro-dollars of one web search by Gemini 3 and later."""
_GROUNDED_PROMPT = 35_000
"""Micro-dollars of one prompt for which an earlier Gemini searched the web, however often.

Both are without what is free each day or month
(https://cloud.google.com/gemini-enterprise-agent-platform/generative-ai/pricing), which firelaunch can't know.
"""


class Prices:
    """The prices of one provider's models.

    Args:
        provider: "openai", "vertex", "claude" or "offline" (free, unless ``overrides`` have that name).
        overrides: ``[prices]`` of the settings, by model.
        free: models that run on the developer's own machine; they cost nothing unless ``overrides`` have a price.
        factor: returns what a model's price in the table is multiplied by, such as for a service tier.
    """

    def __init__(
        self,
        provider: str,
        overrides: Mapping[str, Price],
        free: Iterable[str] = (),
        factor: Callable[[str], Decimal] = lambda _: STANDARD,
    ) -> None:
        self._factor = factor
        self._provider = provider
        self._overrides = overrides
        self._free = frozenset(free)

    def cost(self, model: str, tokens: TokenCounts) -> int:
        """Return the micro-dollars for ``tokens`` of ``model``, rounded up.

        Raises:
            SettingsError: the model has no price.
        """
        offline = self._provider == "offline"
        override = self._overrides.get("offline" if offline else model)
        if offline and override is None:
            return 0
        if override is not None:
            exact = _flat(override).cost(tokens)
        elif model in self._free:
            return 0
        else:
            exact = self._table(model, tokens) * self._factor(model)
        return int(exact.to_integral_value(ROUND_CEILING)) + self._search_cost(model, tokens.searches)

    def most(self, model: str, input_tokens: int, output_tokens: int, searches: int = 0, audio_tokens: int = 0) -> int:
        """Return the most micro-dollars that a call of ``model`` can cost, whatever the provider caches.

        Args:
            audio_tokens: the part of ``input_tokens`` that is recordings. They may turn out to be fewer, and cost what
                a text's do.

        Raises:
            SettingsError: the model has no price.
        """
        plain = TokenCounts(input_tokens, output=output_tokens)
        kinds = [plain, TokenCounts(input_tokens, output=output_tokens, cache_write=input_tokens)]
        if audio_tokens:
            kinds += [
                replace(plain, audio=audio_tokens),
                replace(plain, audio=audio_tokens, cache_write=input_tokens - audio_tokens),
            ]
        return max(self.cost(model, tokens) for tokens in kinds) + self._search_cost(model, searches)

    def has_audio(self, model: str) -> bool:
        """Return whether the model has a price of its own for recordings, so that it is known to take them."""
        override = self._overrides.get(model)
        if override is not None:
            return override.audio_input is not None
        return self._provider in _TABLE and has_audio_price(_TABLE[self._provider], _table_name(model))

    def _search_cost(self, model: str, searches: int) -> int:
        """Return the micro-dollars for web searches, which Google alone makes here."""
        if not searches or self._provider != "vertex" or is_claude(model):
            return 0
        return _SEARCH * searches if is_gemini_with_levels(model) else _GROUNDED_PROMPT

    def check(self, provider: str, models: Iterable[str], named_by: str) -> None:
        """Check that each model has a price.

        Args:
            named_by: what names the models, for the error: a setting, a variable or a file.

        Raises:
            SettingsError: a model has none; the message names all such models and the fix.
        """
        table = Prices(provider, self._overrides, self._free)
        unknown = [model for model in models if not table._has_price(model)]
        if unknown:
            names = " and ".join(repr(model) for model in unknown)
            raise SettingsError(
                f"{named_by} names {names}, and no price is known for it: correct the name, or add to firelaunch.toml "
                f'[prices."{unknown[0]}"] with input and output in dollars per million tokens.'
            )

    def check_embedder(self, model: str) -> None:
        """Check that the embedding model has a price.

        Raises:
            SettingsError: it has none; the message names it and the fix.
        """
        if not self._has_price(model):
            raise SettingsError(
                f"firelaunch.toml: index.model is {model!r}, and no price is known for it: correct the name, or add "
                f'[prices."{model}"] with input in dollars per million tokens, and output = 0.'
            )

    def _has_price(self, model: str) -> bool:
        try:
            self.cost(model, TokenCounts(input=1, output=1))
        except SettingsError:
            return False
        return True

    def _table(self, model: str, tokens: TokenCounts) -> Decimal:
        try:
            return table_cost(_TABLE[self._provider], _table_name(model), tokens)
        except LookupError:
            raise SettingsError(f"no price is known for the model {model!r}") from None


def _table_name(model: str) -> str:
    return model.removeprefix("google/").removeprefix("anthropic/")


def _flat(price: Price) -> FlatPrice:
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    if price.audio_input is None:
        return FlatPrice(price.input, cached, price.output, written, price.input, cached)
    return FlatPrice(price.input, cached, price.output, written, price.audio_input, price.audio_input)


class FlatPrice(NamedTuple):
    """A price that doesn't depend on the number of tokens, in dollars per million or micro-dollars per token."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal
    audio: Decimal
    cached_audio: Decimal

    def cost(self, tokens: TokenCounts) -> Decimal:
        """Return the micro-dollars for ``tokens``, not rounded."""
        audio = tokens.audio - tokens.cached_audio
        cached = tokens.cached_input - tokens.cached_audio
        plain = tokens.input - tokens.cached_input - tokens.cache_write - audio
        return (
            plain * self.input
            + cached * self.cached_input
            + tokens.cache_write * self.cache_write
            + tokens.output * self.output
            + audio * self.audio
            + tokens.cached_audio * self.cached_audio
        )


def table_cost(provider: str, model: str, tokens: TokenCounts) -> Decimal:
    """Return the micro-dollars for ``tokens`` at the table's price of today, not rounded.

    Raises:
        LookupError: the table does not know the model.
    """
    tiers = _tiers(provider, model, datetime.now(UTC).date())
    price = next((price for above, price in tiers if tokens.input > above), tiers[-1][1])
    return price.cost(tokens)


@cache
def _tiers(provider: str, model: str, _day: date) -> Sequence[tuple[int, FlatPrice]]:
    """Return the model's prices, each with the input tokens above which all of a call's tokens have it, highest first.

    The table's own calculation takes half a millisecond, and a turn needs ten.
    """
    # The day is part of the cache's key: the table may know dated price changes, and processes run past them.
    prices = _calculation(provider, model, TokenCounts(input=1, output=1)).model_price
    input_price = prices.input_mtok or Decimal(0)
    cached_price, audio_price = prices.cache_read_mtok or input_price, prices.input_audio_mtok
    prices_by_kind = (
        input_price,
        cached_price,
        prices.output_mtok or Decimal(0),  # embedding models have none
        prices.cache_write_mtok or input_price,
        audio_price or input_price,
        prices.cache_audio_read_mtok or audio_price or cached_price,
    )
    tiered = [price for price in prices_by_kind if not isinstance(price, Decimal)]
    starts = sorted({0, *(tier.start for price in tiered for tier in price.tiers)}, reverse=True)
    return [(above, FlatPrice(*(_price_above(price, above) for price in prices_by_kind))) for above in starts]


def _price_above(price: Any, tokens: int) -> Decimal:
    """Return a price of the table, which may have tiers, for a call with more than ``tokens`` of input."""
    if isinstance(price, Decimal):
        return price
    reached: list[Decimal] = [tier.price for tier in price.tiers if tier.start <= tokens]  # the table has them in order
    return reached[-1] if reached else price.base


def has_audio_price(provider: str, model: str) -> bool:
    """Return whether the table has a price of its own for the recordings that a model is sent."""
    try:
        prices = _calculation(provider, model, TokenCounts(input=1, output=1)).model_price
    except LookupError:
        return False
    return prices.input_audio_mtok is not None


def _calculation(provider: str, model: str, tokens: TokenCounts) -> Any:
    genai_prices = _imported_table()
    audio = {"input_audio_tokens": tokens.audio, "cache_audio_read_tokens": tokens.cached_audio} if tokens.audio else {}
    usage = genai_prices.Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached_input,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
        **audio,
    )
    return genai_prices.calc_price(usage, model, provider_id=provider)


@cache
def _imported_table() -> Any:
    """Import genai-prices without the part that renews the table over the network.

    That part would bring asyncio and an HTTP client into each start. It is imported by whoever asks the package for it.
    """
    with _importing:  # threads that need it at the same time must not find half of it
        return sys.modules["genai_prices"] if "genai_prices" in sys.modules else _import_table()


def _import_table() -> Any:
    stand_in: Any = ModuleType(_RENEWAL)
    names = ("UpdatePrices", "wait_prices_updated_sync", "wait_prices_updated_async")
    for name in names:
        setattr(stand_in, name, None)
    sys.modules[_RENEWAL] = stand_in
    try:
        import genai_prices
    finally:
        del sys.modules[_RENEWAL]
    package: Any = genai_prices
    for name in (*names, "update_prices"):
        package.__dict__.pop(name, None)
    package.__getattr__ = lambda name: _renewal(name, names)
    return package


def _renewal(name: str, names: Iterable[str]) -> Any:
    """Return what the package ``genai_prices`` is asked for and does not have."""
    if name in names:
        return getattr(importlib.import_module(_RENEWAL), name)
    raise AttributeError(f"module 'genai_prices' has no attribute {name!r}")
