"""Google's OIDC tokens of service accounts: real signatures, certificates over a real socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch.errors import Unauthenticated
from firelaunch.identity.base import IdentityUnavailable
from firelaunch.identity.invoker import GoogleInvoker
from firelaunch.testing.certificates import CertificateServer

EMAIL, AUDIENCE = "scheduler@p.iam.gserviceaccount.com", "https://reconcile.example.com"


@pytest.fixture(scope="module")
def google() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


def token(google: CertificateServer, **claims: Any) -> str:
    now = int(time.time())
    good = {"iss": "https://accounts.google.com", "aud": AUDIENCE, "sub": "1", "iat": now, "exp": now + 3600}
    payload = {**good, "email": EMAIL, "email_verified": True, **claims}
    return google.sign({key: value for key, value in payload.items() if value is not None})


def test_the_service_account_is_let_in(google: CertificateServer) -> None:
    GoogleInvoker(EMAIL, AUDIENCE, google.url).verify(token(google))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://securetoken.google.com/p"},
        {"iss": None},
        {"aud": "https://elsewhere.example.com"},
        {"aud": None},
        {"email": "another@p.iam.gserviceaccount.com"},
        {"email": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600},
        {"exp": None},
    ],
)
def test_any_other_token_is_not(google: CertificateServer, claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        GoogleInvoker(EMAIL, AUDIENCE, google.url).verify(token(google, **claims))


def test_nor_is_one_that_somebody_else_signed_or_that_is_none(google: CertificateServer) -> None:
    with CertificateServer() as stranger:
        for bad in (token(stranger), "", "nonsense", "a.b.c", token(google)[:-4] + "AAAA"):
            with pytest.raises(Unauthenticated):
                GoogleInvoker(EMAIL, AUDIENCE, google.url).verify(bad)


def test_without_certificates_nobody_is_let_in() -> None:
    with CertificateServer() as google:
        google.status = 500
        with pytest.raises(IdentityUnavailable):
            GoogleInvoker(EMAIL, AUDIENCE, google.url).verify(token(google))
