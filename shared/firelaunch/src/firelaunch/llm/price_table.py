"""The price table genai-prices, imported when a price is first looked up."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from .types import TokenCounts

__all__ = ["FlatPrice", "flat_price", "has_audio_price", "table_cost"]


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


def flat_price(provider: str, model: str) -> FlatPrice | None:
    """Return the model's price today if it has one price for each kind of token; None if it has tiers.

    Raises:
        LookupError: the table does not know the model.
    """
    return _flat_price(provider, model, datetime.now(UTC).date())


@cache
def _flat_price(provider: str, model: str, _day: date) -> FlatPrice | None:
    # The day is part of the cache's key: the table may know dated price changes, and processes run past them.
    prices = _calculation(provider, model, TokenCounts(input=1, output=1)).model_price
    input_price = prices.input_mtok
    cached_price, audio_price = prices.cache_read_mtok or input_price, prices.input_audio_mtok
    prices_by_kind = (
        input_price,
        cached_price,
        prices.output_mtok,
        prices.cache_write_mtok or input_price,
        audio_price or input_price,
        prices.cache_audio_read_mtok or audio_price or cached_price,
    )
    return FlatPrice(*prices_by_kind) if all(isinstance(price, Decimal) for price in prices_by_kind) else None


def has_audio_price(provider: str, model: str) -> bool:
    """Return whether the table has a price of its own for the recordings that a model is sent."""
    try:
        prices = _calculation(provider, model, TokenCounts(input=1, output=1)).model_price
    except LookupError:
        return False
    return prices.input_audio_mtok is not None


def table_cost(provider: str, model: str, tokens: TokenCounts) -> Decimal:
    """Return the dollars for ``tokens``, tiers included.

    Raises:
        LookupError: the table does not know the model.
    """
    total: Decimal = _calculation(provider, model, tokens).total_price
    return total


def _calculation(provider: str, model: str, tokens: TokenCounts) -> Any:
    import genai_prices

    audio = {"input_audio_tokens": tokens.audio, "cache_audio_read_tokens": tokens.cached_audio} if tokens.audio else {}
    usage = genai_prices.Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached_input,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
        **audio,
    )
    return genai_prices.calc_price(usage, model, provider_id=provider)
