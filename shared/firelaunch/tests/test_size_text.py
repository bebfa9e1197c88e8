"""Sizes in the messages that users see."""

from __future__ import annotations

import pytest
from firelaunch.errors import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1_000, "1 KB"),
        (1_024, "1 KiB"),
        (16_384, "16 KiB"),
        (1_234_567, "1,234,567 bytes"),
        (3_500_000, "3.5 MB"),
        (10_000_000, "10 MB"),
        (20_971_520, "20 MiB"),
        (104_857_600, "100 MiB"),
    ],
)
def test_a_size_is_said_exactly_and_in_the_largest_unit_that_can(size: int, text: str) -> None:
    assert size_text(size) == text
