"""Whatever is sent to Stripe's webhook without Stripe's signature is a 400, which Stripe does not send again."""

from __future__ import annotations

import time

import pytest
from firelaunch.billing.stripe import StripeWebhooks
from firelaunch.errors import BadRequest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

WEBHOOKS = StripeWebhooks(SecretStr("whsec_test"))
NOW = int(time.time())

SIGNATURES = st.none() | st.text(max_size=40) | st.text("tv10=,é", max_size=30).map(lambda more: f"t={NOW},{more}")


@given(body=st.binary(max_size=40), signature=SIGNATURES)
@example(body=b"{}", signature=f"t={NOW},v1=\u00e9")
@example(body=b"{}", signature="t=" + "9" * 5_000 + ",v1=a")
@example(body=b"[" * 100_000, signature=f"t={NOW},v1=a")
def test_what_stripe_has_not_signed_is_a_400(body: bytes, signature: str | None) -> None:
    with pytest.raises(BadRequest):
        WEBHOOKS.event(body, signature)
