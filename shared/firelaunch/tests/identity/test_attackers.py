"""Attackers' tokens at the door of a real app: none gets in, none is told why, and none reaches the log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate
from firebase_admin import credentials
from firelaunch.identity.firebase import FirebaseIdentity
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Query
from firelaunch.testing.apps import write_app
from firelaunch.testing.certificates import CertificateServer, id_token_claims
from firelaunch.testing.emulator import unsigned_token
from google.auth.credentials import AnonymousCredentials

PROJECT = "demo-project"
MEMBER = {"demo": "member"}
NOW = int(time.time())

Make = Callable[[CertificateServer, CertificateServer], str]


class Credential(credentials.Base):  # type: ignore[misc]
    def get_credential(self) -> Any:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def google() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        server.users["ada"] = {"validSince": str(NOW - 3600)}
        server.users["gone"] = {"validSince": str(NOW + 3600)}
        server.users["barred"] = {"validSince": str(NOW - 3600), "disabled": True}
        yield server


@pytest.fixture(scope="module")
def mallory() -> Iterator[CertificateServer]:
    """A key and a server of the attacker's own."""
    with CertificateServer() as server:
        yield server


@pytest.fixture(scope="module")
def app(google: CertificateServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    settings = Settings.load(write_app(folder), {"FIRELAUNCH_DATA": str(folder / "data")})
    identity = FirebaseIdentity(
        PROJECT,
        "demo",
        check_revoked=True,
        certificates_url=google.url,
        toolkit_url=google.toolkit_url,
        credential=Credential(),
    )
    services = replace(build(settings), identity=identity, dev_identity=None)
    made = App("test")
    made.services = services  # type: ignore[attr-defined]
    init_app(made, services, lambda turn: turn.llm.stream([]))
    yield made
    services.store.close()


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(**more: Any) -> dict[str, Any]:
    return id_token_claims(PROJECT, "ada", MEMBER, None, more)


def signed_by_hand(header: Any, payload: Any, sign: Callable[[bytes], bytes]) -> str:
    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{part(sign(signed.encode()))}"


def rs256(server: CertificateServer) -> Callable[[bytes], bytes]:
    return lambda signed: bytes(server._keys[-1].signer.sign(signed))


def with_public_key(google: CertificateServer, form: str) -> Callable[[bytes], bytes]:
    certificate = google.certificate.encode()
    key = load_pem_x509_certificate(certificate).public_key()
    public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    secret = certificate if form == "certificate" else public
    return lambda signed: hmac.new(secret, signed, hashlib.sha256).digest()


def jwk(server: CertificateServer) -> dict[str, str]:
    numbers = server._keys[-1].private.public_key().public_numbers()
    raw = {"n": numbers.n.to_bytes(256, "big"), "e": numbers.e.to_bytes(3, "big")}
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "key-1", **{name: part(b) for name, b in raw.items()}}


def header(**more: Any) -> dict[str, Any]:
    return {"alg": "RS256", "kid": "key-1", "typ": "JWT", **more}


def altered(token: str, **changes: Any) -> str:
    first, payload, last = token.split(".")
    known = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{first}.{part({**known, **changes})}.{last}"


FORGED: dict[str, Make] = {
    "as the emulator's": lambda google, mallory: unsigned_token(PROJECT, {"sub": "ada", "apps": MEMBER}),
    "alg none": lambda google, mallory: signed_by_hand(header(alg="none"), claims(), lambda _: b""),
    "alg nOnE": lambda google, mallory: signed_by_hand(header(alg="nOnE"), claims(), lambda _: b""),
    "alg none, said twice": lambda google, mallory: signed_by_hand(
        '{"alg": "RS256", "alg": "none", "kid": "key-1"}', claims(), lambda _: b""
    ),
    "no alg": lambda google, mallory: signed_by_hand({"kid": "key-1"}, claims(), lambda _: b""),
    "alg a list": lambda google, mallory: signed_by_hand(header(alg=["none"]), claims(), lambda _: b""),
    "no signature": lambda google, mallory: google.token(PROJECT, "ada", MEMBER).rpartition(".")[0] + ".",
    "no third part": lambda google, mallory: google.token(PROJECT, "ada", MEMBER).rpartition(".")[0],
    "a fourth part": lambda google, mallory: google.token(PROJECT, "ada", MEMBER) + ".x",
    "HS256 with the certificate": lambda google, mallory: signed_by_hand(
        header(alg="HS256"), claims(), with_public_key(google, "certificate")
    ),
    "HS256 with the public key": lambda google, mallory: signed_by_hand(
        header(alg="HS256"), claims(), with_public_key(google, "key")
    ),
    "another key under Google's kid": lambda google, mallory: mallory.token(PROJECT, "ada", MEMBER),
    "a kid of nobody": lambda google, mallory: signed_by_hand(header(kid="key-2"), claims(), rs256(google)),
    "no kid": lambda google, mallory: signed_by_hand({"alg": "RS256"}, claims(), rs256(mallory)),
    "a kid that is a path": lambda google, mallory: signed_by_hand(
        header(kid="../../../../dev/null"), claims(), lambda signed: hmac.new(b"", signed, hashlib.sha256).digest()
    ),
    "a kid that is an address": lambda google, mallory: signed_by_hand(
        header(kid=mallory.url), claims(), rs256(mallory)
    ),
    "a kid that is a list": lambda google, mallory: signed_by_hand(header(kid=["key-1"]), claims(), rs256(google)),
    "a key in the header": lambda google, mallory: signed_by_hand(header(jwk=jwk(mallory)), claims(), rs256(mallory)),
    "a key at an address": lambda google, mallory: signed_by_hand(
        header(jku=mallory.url, x5u=mallory.url), claims(), rs256(mallory)
    ),
    "a certificate in the header": lambda google, mallory: signed_by_hand(
        header(x5c=[part(mallory.certificate)]), claims(), rs256(mallory)
    ),
    "an altered user": lambda google, mallory: altered(google.token(PROJECT, "bob", MEMBER), sub="ada"),
    "an altered role": lambda google, mallory: altered(google.token(PROJECT, "ada", {"x": "member"}), apps=MEMBER),
    "a second user behind the first": lambda google, mallory: signed_by_hand(
        header(), json.dumps(claims())[:-1] + ', "sub": "bob"}', rs256(mallory)
    ),
}

REPLAYED: dict[str, dict[str, Any]] = {
    "another project": {"aud": "other-project", "iss": "https://securetoken.google.com/other-project"},
    "another audience": {"aud": "other-project"},
    "audiences": {"aud": [PROJECT, "other-project"]},
    "another issuer": {"iss": "https://accounts.google.com"},
    "an issuer that begins alike": {"iss": f"https://securetoken.google.com/{PROJECT}/.."},
    "a session cookie": {"iss": f"https://session.firebase.google.com/{PROJECT}"},
    "another tenant": {"tenant": "customers-1"},
    "expired": {"iat": NOW - 7200, "exp": NOW - 3600},
    "of the future": {"iat": NOW + 3600, "exp": NOW + 7200},
    "of a sign-in in the future": {"auth_time": NOW + 3600},
    "of a sign-in at no time": {"auth_time": None},
    "of a sign-in at a text": {"auth_time": str(NOW)},
    "of nobody": {"uid": ""},
    "of a user of 129 characters": {"uid": "u" * 129},
    "of a user that is a path": {"uid": "ada/chats/c1"},
    "of a user that goes up": {"uid": ".."},
    "of a user that is reserved": {"uid": "__ada__"},
    "of a user that is a number": {"uid": 7},
    "of users": {"uid": ["ada"]},
    "revoked": {"uid": "gone"},
    "of a user who is barred": {"uid": "barred"},
    "of a user who was deleted": {"uid": "deleted"},
}

CLAIMS: dict[str, Any] = {
    "no claim": None,
    "a list": ["demo"],
    "a list of pairs": [["demo", "admin"]],
    "text": "demo",
    "JSON text": '{"demo": "admin"}',
    "a number": 1,
    "true": True,
    "nothing in it": {},
    "other apps": {f"app-{number:03}": "admin" for number in range(50)},
    "an over-long name": {"demo" * 300: "admin"},
    "another spelling": {"Demo": "admin", "demo ": "admin", "apps/demo": "admin", "*": "admin"},
    "apps inside apps": {"apps": MEMBER},
    "a role that is null": {"demo": None},
    "a role that is a number": {"demo": 1},
    "a role that is true": {"demo": True},
    "a role that is a list": {"demo": ["admin"]},
    "a role that is a map": {"demo": {"role": "admin"}},
    "an empty role": {"demo": ""},
    "a role of 33 characters": {"demo": "a" * 33},
    "a role of two lines": {"demo": "admin\n"},
    "a role that is no name": {"demo": "Admin!"},
}


def test_a_good_token_opens_the_door(app: App, google: CertificateServer) -> None:
    answer = send(app, google.token(PROJECT, "ada", MEMBER))
    assert answer.status_code == 201


def replayed(changes: dict[str, Any]) -> Make:
    """A token that Google did sign, for something else."""
    return lambda google, mallory: google.token(PROJECT, **{"uid": "ada", "apps": MEMBER, **changes})


MAKES = FORGED | {name: replayed(changes) for name, changes in REPLAYED.items()}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())
def test_a_token_that_does_not_hold_is_a_401_that_tells_nothing(
    app: App, google: CertificateServer, mallory: CertificateServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    token, before = make(google, mallory), made(app)
    with caplog.at_level(logging.DEBUG):
        answer = send(app, token)
    assert answer.status_code == 401
    assert answer.get_json()["error"]["code"] == "unauthenticated"
    assert answer.get_json()["error"]["message"] == send(app, "x").get_json()["error"]["message"]
    assert made(app) == before
    assert mallory.fetches == 0
    assert not {found for found in token.split(".") if len(found) > 40 and found in caplog.text}


@pytest.mark.parametrize("apps", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_that_gives_no_role_is_a_403(app: App, google: CertificateServer, apps: Any) -> None:
    before = made(app)
    answer = send(app, google.token(PROJECT, "ada", apps))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "forbidden")
    assert made(app) == before


def test_claims_that_are_over_long_are_refused_before_they_are_looked_at(app: App, google: CertificateServer) -> None:
    answer = send(app, google.token(PROJECT, "ada", {**MEMBER, "other": "x" * 10_000}))
    assert answer.status_code == 401


def test_a_good_token_in_another_place_is_none(app: App, google: CertificateServer) -> None:
    token, client = google.token(PROJECT, "ada", MEMBER), app.test_client()
    client.set_cookie("token", token)
    client.set_cookie("__session", token)
    headers = [{"X-Forwarded-Authorization": f"Bearer {token}"}, {"Proxy-Authorization": f"Bearer {token}"}]
    headers += [{"Authorization": value} for value in (token, f"Basic {token}", f"Bearer x, Bearer {token}")]
    for sent in headers:
        answer = client.post(f"/v1/chats?access_token={token}", json={}, headers=sent)
        assert answer.status_code == 401, sent


def send(app: App, token: str) -> Any:
    return app.test_client().post("/v1/chats", json={"title": "x"}, headers={"Authorization": f"Bearer {token}"})


def made(app: App) -> int:
    store = app.services.store  # type: ignore[attr-defined]
    uids = ("ada", "bob", "gone", "barred", "deleted", "u" * 129, "7")
    return sum(store.count(Query(f"apps/demo/users/{uid}/chats")) for uid in uids)
