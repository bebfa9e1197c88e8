"""One rule for a field's values: what adding a record takes, changing it takes, and a filter finds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from firelaunch import Collection, Record
from firelaunch.errors import BadRequest
from firelaunch.records.data import Data
from firelaunch.records.fields import compared_value
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError


class Kind(Enum):
    lunch = "lunch"
    dinner = "dinner"


class Inner(BaseModel):
    number: int = 0


class Loose(Record):
    number: int = 0
    half: float = 0.0
    yes: bool = False
    text: str = ""
    raw: bytes = b""
    kind: Kind = Kind.lunch
    day: date = date(2026, 3, 1)
    at: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    hour: time = time(12)
    took: timedelta = timedelta()
    price: Decimal = Decimal(0)
    key: UUID = UUID(int=1)
    maybe: int | None = None
    inner: Inner = Inner()
    pinned: Annotated[int, Strict()] = 0


class Tight(Loose):
    model_config = ConfigDict(strict=True)
    eased: int = Field(default=0, strict=False)


COLLECTIONS = [Collection("loose", Loose), Collection("tight", Tight)]
FIELDS = [name for name in Tight.model_fields if name != "inner"]
VALUES = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([1.0, 0.5, True, None, "1", "true", "x", "lunch", Kind.lunch, b"x", Decimal(1), UUID(int=1)]),
    st.sampled_from(["2026-03-01", "2026-03-01T00:00:00Z", "12:00", date(2026, 3, 1), time(12), timedelta(1), "P1D"]),
    st.sampled_from([datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 5, tzinfo=UTC), str(UUID(int=1))]),
)


def takes(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except (BadRequest, ValidationError):
        return False
    return True


@given(collection=st.sampled_from(COLLECTIONS), name=st.sampled_from(FIELDS), value=VALUES)
def test_what_a_model_takes_for_a_field_a_change_takes_and_a_filter_compares_as_it_is_stored(
    collection: Collection[Any], name: str, value: Any
) -> None:
    from firelaunch.records.mapper import RecordMapper
    from firelaunch.scope import Scope

    model: Any = collection.model
    if name not in model.model_fields or (isinstance(value, Enum) and name != "kind"):
        return  # pydantic takes a member with a text for a number, and leaves the text unchecked
    mapper = RecordMapper(collection, Scope("demo").of("ada"))
    taken = takes(lambda: mapper.fields(model(**{name: value})))
    assert taken == takes(lambda: mapper.fields(mapper.checked({name: value})))
    assert taken == takes(lambda: mapper.fields(model.model_construct(**{name: value})))
    assert taken == takes(lambda: compared_value(model, name, value))
    if taken:
        stored = mapper.fields(model(**{name: value}))[name]
        compared = compared_value(model, name, value)
        assert (type(compared), compared) == (type(stored), stored)


@pytest.mark.parametrize("model", [Loose, Tight])
def test_a_record_is_found_by_the_value_it_was_changed_with(ada: Data, model: type[Any]) -> None:
    records = ada(Collection("things", model))
    records.add(model(), id="one")
    strict = model is Tight
    for name, value in (("number", "1"), ("kind", "dinner"), ("day", datetime(2026, 3, 2, tzinfo=UTC)), ("half", 2)):
        refused = strict and name != "half"
        assert takes(lambda name=name, value=value: records.update("one", {name: value})) != refused
        assert takes(lambda name=name, value=value: records.list({name: value})) != refused
        if not refused:
            assert [each.id for each in records.list({name: value}).items] == ["one"], name
    assert takes(lambda: records.list({"inner.number": "0"}))
