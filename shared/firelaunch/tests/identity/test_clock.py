"""Every time in every kind of token holds for a minute more, before and after, and for no longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import itsdangerous
import pytest
from firelaunch.errors import Unauthenticated
from firelaunch.identity import DevIdentity
from firelaunch.identity.app_check import AppCheck
from firelaunch.identity.clock import CLOCK_SECONDS, check_times
from firelaunch.identity.firebase import EmulatorIdentity, FirebaseIdentity
from firelaunch.jobs.oidc import ServiceAccountTokens
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.emulator import unsigned_token
from hypothesis import example, given
from hypothesis import strategies as st

PROJECT, CLIENT = "demo-clock", "1:1234:web:abcd"
APPS = {"demo": "member"}
ACCOUNT, AUDIENCE = "tasks@demo.iam.gserviceaccount.com", "https://demo.run.app"
LIFE = 3600
Verify = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def google() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


@pytest.fixture(scope="module")
def verifiers(google: CertificateServer) -> dict[str, Verify]:
    """By kind of token: what verifies one with these times."""
    firebase = FirebaseIdentity(PROJECT, "demo", certificates_url=google.url)
    attested = AppCheck(PROJECT, (CLIENT,), jwks_url=google.jwks_url)
    tasks = ServiceAccountTokens(AUDIENCE, ACCOUNT, google.url)
    emulated = EmulatorIdentity(PROJECT, "demo")
    oidc = {"iss": "https://accounts.google.com", "aud": AUDIENCE, "email": ACCOUNT, "email_verified": True, "sub": "1"}

    return {
        "firebase": lambda times: firebase.verify(google.token(PROJECT, "ada", APPS, **times)),
        "app check": lambda times: attested.verify(google.app_check_token(PROJECT, CLIENT, **times)),
        "oidc": lambda times: tasks.verify(google.sign({**oidc, **standard(0), **times})),
        "emulator": lambda times: emulated.verify(unsigned_token(PROJECT, {"sub": "ada", "apps": APPS, **times})),
    }


def standard(offset: int) -> dict[str, int]:
    """The times of a token that was issued ``offset`` seconds from now."""
    now = int(time.time()) + offset
    return {"iat": now, "exp": now + LIFE}


def holds(verify: Verify, times: dict[str, Any]) -> bool:
    try:
        verify(times)
    except Unauthenticated:
        return False
    return True


KINDS = st.sampled_from(["firebase", "app check", "oidc", "emulator"])
# A second or two pass while a token is looked at, so the very edge is left out.
OFFSETS = st.integers(-7200, 7200).filter(lambda offset: not 0 <= abs(offset) - CLOCK_SECONDS + 3 <= 6)


@given(KINDS, OFFSETS, st.sampled_from(["iat", "auth_time", "nbf", "exp"]))
@example("firebase", 1, "iat")
@example("oidc", 56, "iat")
@example("oidc", 64, "nbf")
@example("app check", 1, "iat")
@example("app check", -56, "exp")
@example("emulator", 64, "auth_time")
def test_a_time_that_is_off_holds_if_and_only_if_it_is_within_the_allowance(
    verifiers: dict[str, Verify], kind: str, offset: int, name: str
) -> None:
    if name == "auth_time" and kind in {"app check", "oidc"}:
        name = "iat"  # only a user signs in; theirs is checked where it is
    allowed = offset >= -CLOCK_SECONDS if name == "exp" else offset <= CLOCK_SECONDS
    times = {**standard(-600), name: int(time.time()) + offset}
    assert holds(verifiers[kind], times) is allowed


@given(KINDS, st.integers(-CLOCK_SECONDS + 4, CLOCK_SECONDS - 4))
def test_a_clock_that_is_off_by_less_than_the_allowance_refuses_no_new_token(
    verifiers: dict[str, Verify], kind: str, offset: int
) -> None:
    times = standard(offset)
    assert holds(verifiers[kind], {**times, "auth_time": times["iat"]})


def dev_token(identity: DevIdentity, at: float) -> str:
    class Then(itsdangerous.TimestampSigner):
        def get_timestamp(self) -> int:
            return int(at)

    serializer = identity._serializer
    serializer.signer = Then
    try:
        return identity.issue("ada")
    finally:
        serializer.signer = itsdangerous.TimestampSigner


@given(OFFSETS, st.sampled_from([0, -LIFE]))
@example(1, 0)
@example(-1, -LIFE)
def test_a_dev_token_holds_if_and_only_if_it_is_within_the_allowance(offset: int, since: int) -> None:
    identity = DevIdentity("demo", b"k" * 32, ttl_seconds=LIFE)
    age = since + offset
    allowed = -LIFE - CLOCK_SECONDS <= age <= CLOCK_SECONDS
    token = dev_token(identity, datetime.now(UTC).timestamp() + age)
    assert holds(lambda _: identity.verify(token), {}) is allowed


@pytest.mark.parametrize("kind", ["firebase", "app check", "oidc", "emulator"])
@pytest.mark.parametrize("offset", [3600, -7200], ids=["early", "expired"])
def test_an_error_by_a_clock_that_is_far_off_names_the_clock(
    verifiers: dict[str, Verify], kind: str, offset: int
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        verifiers[kind]({**standard(offset), "auth_time": int(time.time()) + min(offset, 0)})
    assert "clock" in str(refused.value.reason)
    assert refused.value.message == type(refused.value).message


@pytest.mark.parametrize("value", ["now", None, True, float("nan"), [1], {}])
@pytest.mark.parametrize("name", ["iat", "auth_time", "nbf", "exp"])
def test_a_time_that_is_no_number_does_not_hold(name: str, value: Any) -> None:
    with pytest.raises(Unauthenticated):
        check_times({name: value})
