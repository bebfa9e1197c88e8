"""Each format is read as its sample says, in the process that parses; the whole report is ``make formats``."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from firelaunch.rag.parse import Omission, ParseLimits, document_text
from firelaunch.rag.parse.base import Draft, Unreadable, place
from firelaunch.rag.parse.failures import MESSAGES
from firelaunch.rag.parse.sniff import FORMATS, sniff

from .__main__ import outcomes
from .samples import Sample, samples

SAMPLES = list(samples())
WARNED = {each.format for each in SAMPLES if each.warned}


def parsed(sample: Sample) -> tuple[str, set[str]]:
    """Return a sample's text and the codes of its warnings, parsed in this process, which is quick."""
    file, limits = io.BytesIO(sample.make()), ParseLimits()
    _, dot, extension = sample.name.rpartition(".")
    module, _, function = FORMATS[sniff(file, extension if dot else "", limits)].partition(":")
    parser: Callable[..., Any] = getattr(importlib.import_module(f"firelaunch.rag.parse.{module}"), function)
    parts = list(parser(file, limits, lambda _: None))
    drafts = [part for part in parts if isinstance(part, Draft)]
    return document_text(place(drafts)), {part.code for part in parts if isinstance(part, Omission)}


@pytest.mark.parametrize("sample", [each for each in SAMPLES if not each.problem], ids=lambda each: each.format)
def test_a_file_is_read_in_order_and_without_markup(sample: Sample) -> None:
    text, codes = parsed(sample)
    assert codes - {"attachments"} == {sample.warned.partition(" ")[0]} - {"", "attachments"}
    at = 0
    for part in sample.holds:
        assert part in text[at:]
        at = text.index(part, at)
    for markup in sample.lacks:
        assert markup not in text


@pytest.mark.parametrize("sample", [each for each in SAMPLES if each.problem], ids=lambda each: each.format)
def test_a_file_that_is_not_read_is_refused_with_its_reason(sample: Sample) -> None:
    with pytest.raises(Unreadable) as refused:
        parsed(sample)
    assert refused.value.problem == sample.problem
    assert refused.value.problem in MESSAGES


def test_the_sandbox_reads_what_needs_most_of_a_process_and_says_what_is_left_out() -> None:
    """Compiled libraries and many imports have to fit into the child's limits."""
    chosen = [each for each in SAMPLES if each.format in {"XLS", "ODS", "MSG", "DOCX, strict", "XML bomb", *WARNED}]
    found = list(outcomes(chosen))
    assert [outcome for outcome in found if not outcome.right] == []
    assert {outcome.format for outcome in found if outcome.result == "warned"} == WARNED
