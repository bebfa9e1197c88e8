"""Firebase ID tokens: real RS256 signatures, certificates over a real socket, firebase-admin in between."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from firebase_admin import credentials
from firelaunch.errors import Forbidden, SettingsError, Unauthenticated
from firelaunch.identity import AnyOf, Caller, DevIdentity
from firelaunch.identity.base import AnonymousAccount, IdentityUnavailable
from firelaunch.identity.certificates import MemoisedCertificates
from firelaunch.identity.firebase import EmulatorIdentity, FirebaseIdentity
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.emulator import unsigned_token
from google.auth.credentials import AnonymousCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

PROJECT = "demo-project"
MEMBER = {"demo": "member", "other": "admin"}


@pytest.fixture(scope="module")
def shared_google() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


@pytest.fixture
def google() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


def identity(server: CertificateServer, **options: Any) -> FirebaseIdentity:
    return FirebaseIdentity(PROJECT, "demo", certificates_url=server.url, **options)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def hand_made(header: dict[str, Any], token: str, sign: Any) -> str:
    payload = token.split(".")[1]
    signed = f"{part(header)}.{payload}"
    return f"{signed}.{base64.urlsafe_b64encode(sign(signed.encode())).decode().rstrip('=')}"


def test_a_good_token_names_its_user_and_the_role_in_this_app(shared_google: CertificateServer) -> None:
    token = shared_google.token(PROJECT, "ada", MEMBER, email="ada@example.com")
    assert identity(shared_google).verify(token) == Caller("demo", "ada", "member", "ada@example.com")


NOW = int(time.time())
BAD_CLAIMS = {
    "another project": {"aud": "other-project", "iss": "https://securetoken.google.com/other-project"},
    "wrong audience": {"aud": "other-project"},
    "a list of audiences": {"aud": [PROJECT]},
    "wrong issuer": {"iss": "https://accounts.google.com"},
    "expired": {"iat": NOW - 7200, "exp": NOW - 3600},
    "issued in the future": {"iat": NOW + 3600, "exp": NOW + 7200},
    "no expiry": {"exp": None},
    "an expiry that is text": {"exp": "tomorrow"},
    "no time of issue": {"iat": None},
    "an empty user": {"sub": ""},
    "no user": {"sub": None},
    "a user that is a number": {"sub": 7},
    "a user over 128 characters": {"sub": "u" * 129},
    "a user that is a path": {"sub": "ada/chats"},
    "a user that is reserved": {"sub": "__ada__"},
    "a custom token": {
        "aud": "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"
    },
}


@pytest.mark.parametrize("change", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
def test_a_signed_token_with_a_claim_that_is_wrong_does_not_hold(
    shared_google: CertificateServer, change: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        identity(shared_google).verify(shared_google.token(PROJECT, "ada", MEMBER, **change))
    assert caught.value.reason
    assert caught.value.message == Unauthenticated.message


@pytest.mark.parametrize(
    "apps",
    [
        None,
        [],
        ["demo"],
        "demo",
        1,
        True,
        {},
        {"other": "admin"},
        {"demo": None},
        {"demo": 1},
        {"demo": ["admin"]},
        {"demo": ""},
        {"demo": "Admin!"},
        {"demo": "x" * 33},
        {"Demo": "admin"},
    ],
    ids=str,
)
def test_a_user_without_a_role_in_this_app_is_known_and_refused(shared_google: CertificateServer, apps: Any) -> None:
    with pytest.raises(Forbidden):
        identity(shared_google).verify(shared_google.token(PROJECT, "ada", apps))


def test_an_unsigned_token_does_not_hold(shared_google: CertificateServer) -> None:
    with pytest.raises(Unauthenticated):
        identity(shared_google).verify(unsigned_token(PROJECT, {"sub": "ada", "apps": MEMBER}))
    signed = shared_google.token(PROJECT, "ada", MEMBER)
    kid = "key-1"
    for header in ({"alg": "none", "kid": kid}, {"alg": "NONE", "kid": kid}, {"alg": None, "kid": kid}, {"kid": kid}):
        with pytest.raises(Unauthenticated):
            identity(shared_google).verify(hand_made(header, signed, lambda _: b""))


def test_a_token_signed_with_the_public_key_as_a_secret_does_not_hold(shared_google: CertificateServer) -> None:
    def sign(signed: bytes) -> bytes:
        return hmac.new(shared_google.certificate.encode(), signed, hashlib.sha256).digest()

    signed = shared_google.token(PROJECT, "ada", MEMBER)
    for algorithm in ("HS256", "RS256"):
        with pytest.raises(Unauthenticated):
            identity(shared_google).verify(hand_made({"alg": algorithm, "kid": "key-1", "typ": "JWT"}, signed, sign))


def test_a_token_of_another_key_does_not_hold(shared_google: CertificateServer, google: CertificateServer) -> None:
    with pytest.raises(Unauthenticated):
        identity(shared_google).verify(google.token(PROJECT, "ada", MEMBER))


@settings(max_examples=60)
@given(data=st.data())
def test_a_token_with_any_byte_changed_does_not_hold(shared_google: CertificateServer, data: st.DataObject) -> None:
    token = shared_google.token(PROJECT, "ada", MEMBER)
    parts = [bytearray(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))) for p in token.split(".")]
    which = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    parts[which][at] ^= data.draw(st.integers(1, 255))
    changed = ".".join(base64.urlsafe_b64encode(bytes(p)).decode().rstrip("=") for p in parts)
    with pytest.raises(Unauthenticated):
        identity(shared_google).verify(changed)


@pytest.mark.parametrize("token", ["x", "a.b.c", "..", "a.b", "\x00", "é.é.é", part([]) + "." + part([]) + ".x"])
def test_what_is_no_token_at_all_does_not_hold(shared_google: CertificateServer, token: str) -> None:
    with pytest.raises(Unauthenticated):
        identity(shared_google).verify(token)


def test_a_token_that_held_once_holds_until_its_time_is_up(
    google: CertificateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier, token = identity(google), google.token(PROJECT, "ada", MEMBER)
    assert verifier.verify(token).uid == "ada"
    clock = time.time
    for later, holds in ((3_500, True), (3_700, False), (-120, False), (0, True)):
        monkeypatch.setattr(time, "time", lambda later=later: clock() + later)
        if holds:
            assert verifier.verify(token).uid == "ada"
        else:
            with pytest.raises(Unauthenticated):
                verifier.verify(token)


def test_an_app_without_a_tenant_refuses_tokens_of_any(shared_google: CertificateServer) -> None:
    with pytest.raises(Unauthenticated):
        identity(shared_google).verify(shared_google.token(PROJECT, "ada", MEMBER, tenant="customers-1"))


def test_an_app_bound_to_a_tenant_refuses_tokens_of_the_project_and_of_others(shared_google: CertificateServer) -> None:
    bound = identity(shared_google, tenant="customers-1")
    assert bound.verify(shared_google.token(PROJECT, "ada", MEMBER, tenant="customers-1")).uid == "ada"
    for tenant in (None, "customers-2"):
        with pytest.raises(Unauthenticated):
            bound.verify(shared_google.token(PROJECT, "ada", MEMBER, tenant=tenant))


class Credential(credentials.Base):  # type: ignore[misc]
    def get_credential(self) -> Any:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]


def asking(google: CertificateServer) -> FirebaseIdentity:
    return identity(google, check_revoked=True, toolkit_url=google.toolkit_url, credential=Credential())


def test_with_the_check_a_revoked_disabled_or_deleted_users_token_ends_at_once(google: CertificateServer) -> None:
    verifier, token = asking(google), google.token(PROJECT, "ada", MEMBER)
    google.users["ada"] = {"validSince": str(NOW - 3600)}
    assert verifier.verify(token).uid == "ada"
    for known in ({"validSince": str(NOW + 3600)}, {"validSince": str(NOW - 3600), "disabled": True}):
        google.users["ada"] = known
        with pytest.raises(Unauthenticated):
            verifier.verify(token)
    del google.users["ada"]
    with pytest.raises(Unauthenticated):
        verifier.verify(token)
    assert identity(google).verify(token).uid == "ada"


def test_where_firebase_auth_cannot_be_asked_the_check_is_a_503(google: CertificateServer) -> None:
    verifier, token = asking(google), google.token(PROJECT, "ada", MEMBER)
    google.users["ada"] = {"validSince": str(NOW - 3600)}
    verifier.verify(token)
    google.status = 500
    with pytest.raises(IdentityUnavailable):
        verifier.verify(token)


def test_certificates_are_fetched_once_for_many_tokens_and_threads(google: CertificateServer) -> None:
    verifier = identity(google)
    tokens = [google.token(PROJECT, f"user-{n}", MEMBER) for n in range(8)]
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: seen.extend(verifier.verify(token).uid for token in tokens)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 64
    assert google.fetches == 1


def test_certificates_are_fetched_again_when_their_age_is_up(google: CertificateServer) -> None:
    now = [0.0]
    certificates = MemoisedCertificates(google.url, monotonic=lambda: now[0])
    for at, fetches in ((0, 1), (google.max_age - 1, 1), (google.max_age, 2), (google.max_age + 1, 2)):
        now[0] = float(at)
        certificates(google.url)
        assert google.fetches == fetches


def test_while_google_cannot_be_reached_known_certificates_serve_for_an_hour(google: CertificateServer) -> None:
    now = [0.0]
    certificates = MemoisedCertificates(google.url, monotonic=lambda: now[0])
    first = certificates(google.url).data
    google.status = 503
    now[0] = google.max_age + 3599.0
    assert certificates(google.url).data == first
    now[0] = google.max_age + 3700.0
    from google.auth.exceptions import TransportError

    with pytest.raises(TransportError):
        certificates(google.url)


def test_no_certificates_is_a_503_and_not_a_401(google: CertificateServer) -> None:
    google.status = 500
    verifier, token = identity(google), google.token(PROJECT, "ada", MEMBER)
    with pytest.raises(IdentityUnavailable):
        verifier.verify(token)
    google.status = 200
    assert verifier.verify(token).uid == "ada"


def test_a_rotated_key_is_taken_once_the_certificates_are_renewed(google: CertificateServer) -> None:
    google.max_age = 0
    verifier = identity(google)
    verifier.verify(google.token(PROJECT, "ada", MEMBER))
    google.rotate()
    assert verifier.verify(google.token(PROJECT, "ada", MEMBER)).uid == "ada"


def test_the_verifier_refuses_to_exist_where_the_auth_emulator_would_switch_it_off(
    google: CertificateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9099")
    with pytest.raises(SettingsError, match="FIREBASE_AUTH_EMULATOR_HOST"):
        identity(google)


def test_emulator_tokens_are_refused_on_cloud_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K_SERVICE", "demo")
    with pytest.raises(SettingsError, match="FIRELAUNCH_MODE"):
        EmulatorIdentity(PROJECT, "demo")


def test_emulator_tokens_are_checked_for_all_but_the_signature(google: CertificateServer) -> None:
    emulator = EmulatorIdentity(PROJECT, "demo")
    good = {"sub": "ada", "apps": MEMBER}
    assert emulator.verify(unsigned_token(PROJECT, good)).uid == "ada"
    tokens = [unsigned_token(PROJECT, {**good, "exp": NOW - 100}), unsigned_token("other", good), "x.y.z", ""]
    tokens += [unsigned_token(PROJECT, {**good, "exp": "never"}), unsigned_token(PROJECT, {**good, "iss": "x"})]
    tokens += [unsigned_token(PROJECT, {**good, "firebase": {"tenant": "t"}}), google.token(PROJECT, "ada", MEMBER)]
    for token in tokens:
        with pytest.raises(Unauthenticated):
            emulator.verify(token)


def test_in_emulators_mode_dev_tokens_and_emulator_tokens_both_hold() -> None:
    dev = DevIdentity("demo", b"k" * 32)
    both = AnyOf(dev, EmulatorIdentity(PROJECT, "demo"))
    assert both.verify(dev.issue("ada")).uid == "ada"
    assert both.verify(unsigned_token(PROJECT, {"sub": "bob", "apps": MEMBER})).uid == "bob"
    with pytest.raises(Unauthenticated):
        both.verify("x")


def test_an_anonymous_account_is_refused_with_a_code_of_its_own_and_a_linked_one_is_not(
    shared_google: CertificateServer,
) -> None:
    """Also one that holds a role: it may have joined when anonymous accounts were taken."""
    for apps in (MEMBER, None):
        token = shared_google.token(PROJECT, "ada", apps, firebase={"sign_in_provider": "anonymous", "identities": {}})
        with pytest.raises(AnonymousAccount) as refused:
            identity(shared_google).verify(token)
        assert (refused.value.status, refused.value.code) == (403, "anonymous_account")
    linked = {"sign_in_provider": "google.com", "identities": {"google.com": ["1"]}}
    assert identity(shared_google).verify(shared_google.token(PROJECT, "ada", MEMBER, firebase=linked)).uid == "ada"
