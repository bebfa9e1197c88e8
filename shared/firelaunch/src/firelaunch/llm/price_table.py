"""The price table genai-prices, imported when a price is first looked up."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from .types import TokenCounts

__all__ = ["FlatPrice", "flat_price", "table_cost"]


class FlatPrice(NamedTuple):
    """A price that doesn't depend on the number of tokens, in dollars per million or micro-dollars per token."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal

    def cost(self, tokens: TokenCounts) -> Decimal:
        """Return the micro-dollars for ``tokens``, not rounded."""
        plain = tokens.input - tokens.cached_input - tokens.cache_write
        return (
            plain * self.input
            + tokens.cached_input * self.cached_input
            + tokens.cache_write * self.cache_write
            + tokens.output * self.output
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
    prices_by_kind = (
        input_price,
        prices.cache_read_mtok or input_price,
        prices.output_mtok,
        prices.cache_write_mtok or input_price,
    )
    return FlatPrice(*prices_by_kind) if all(isinstance(price, Decimal) for price in prices_by_kind) else None


def table_cost(provider: str, model: str, tokens: TokenCounts) -> Decimal:
    """Return the dollars for ``tokens``, tiers included.

    Raises:
        LookupError: the table does not know the model.
    """
    total: Decimal = _calculation(provider, model, tokens).total_price
    return total


def _calculation(provider: str, model: str, tokens: TokenCounts) -> Any:
    import genai_prices

    usage = genai_prices.Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached_input,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )
    return genai_prices.calc_price(usage, model, provider_id=provider)
