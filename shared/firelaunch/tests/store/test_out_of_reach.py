"""A Firestore that cannot be reached is a fault that passes: clients are told to come again."""

from __future__ import annotations

import pytest
from firelaunch.errors import StoreError, StoreUnavailable
from firelaunch.store.firestore import _translated
from google.api_core import exceptions as google


@pytest.mark.parametrize(
    "error",
    [
        google.ServiceUnavailable("502:Bad Gateway"),
        google.DeadlineExceeded("60 seconds passed"),
        google.ResourceExhausted("some resource has been exhausted"),
        google.RetryError("timeout of 300 s exceeded", None),
    ],
)
def test_what_passes_is_a_503_with_a_time_to_try_again(error: Exception) -> None:
    with pytest.raises(StoreUnavailable) as raised, _translated():
        raise error
    assert (raised.value.status, raised.value.code) == (503, "store_unavailable")
    assert raised.value.retry_after == 1


def test_what_does_not_pass_is_none_that_passes() -> None:
    with pytest.raises(StoreError) as raised, _translated():
        raise google.PermissionDenied("Missing or insufficient permissions.")
    assert not isinstance(raised.value, StoreUnavailable)
    assert raised.value.status == 500
