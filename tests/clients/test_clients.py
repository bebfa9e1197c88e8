"""The short form of ``make clients``: the fast generators, against a served app."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, Server
from web.api_types import KEPT, generate

from .generators import SHORT, Generator, name_faults
from .matrix import mealcoach, try_generator
from .packages import NoGenerators


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    with mealcoach(tmp_path_factory.mktemp("clients")) as served:
        yield served


@pytest.mark.parametrize("generator", SHORT, ids=lambda generator: generator.name)
def test_a_generated_client_compiles_and_makes_a_round_trip(generator: Generator, app: tuple[Server, Path]) -> None:
    server, document = app
    try:
        result = try_generator(generator, document, server)
    except NoGenerators as error:
        pytest.skip(f"no JavaScript SDK: {error}")
    assert result.fault is None
    assert (result.generated, result.compiled, result.called) == (True, True, True)


def test_the_web_clients_types_are_those_of_the_api() -> None:
    try:
        generated = generate()
    except NoGenerators as error:
        pytest.skip(f"no JavaScript SDK: {error}")
    assert KEPT.read_text() == generated, "the API has changed: make types"


@pytest.mark.parametrize(
    "name",
    [
        "InlineObject",
        "inline_response_200",
        "CreateChat400Response",
        "Chat_1",
        "Meal2",
        "AnyOfChat",
        "MessageFinishType1",
    ],
)
def test_names_that_a_generator_made_up_are_faults(name: str) -> None:
    assert name_faults(["Chat", name, "NewChat"]) == [name]


def test_the_documents_versions_are_those_that_are_tried() -> None:
    here = Path(__file__).parent
    pins = {}
    for package in ("js", "js_long"):
        pins |= json.loads((here / package / "package.json").read_text())["dependencies"]
    for line in (here / "python" / "long.lock").read_text().splitlines():
        name, _, version = line.partition("==")
        if version:
            pins[name] = version.split()[0]
    page = (ROOT / "docs" / "clients.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.splitlines() if row.startswith("| ")]
    told = {}
    for _, generator, versions, _ in rows[2:]:
        for name, version in zip(generator.split(", "), versions.split(", "), strict=False):
            told[re.sub(r".*`(@.*)`.*", r"\1", name)] = version
    known = {name: pins.get(name) or pins[f"{name}-cli"] for name in told}
    assert told == known
    assert len(told) == 5


def test_too_many_models_are_a_fault() -> None:
    assert name_faults(["Chat"] * 100) == ["100 models"]
    assert name_faults(["Chat"] * 99) == []
