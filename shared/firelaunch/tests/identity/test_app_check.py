"""App Check tokens: real RS256 signatures, keys over a real socket, firebase-admin in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import SettingsError
from firelaunch.identity.app_check import AppCheck
from firelaunch.identity.base import AppCheckFailed, IdentityUnavailable
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.certificates import CertificateServer

PROJECT = "demo-project"
WEB, IOS = "1:1234:web:abcd", "1:1234:ios:abcd"
NOW = int(time.time())


@pytest.fixture(scope="module")
def google() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


def check(server: CertificateServer, *clients: str) -> AppCheck:
    return AppCheck(PROJECT, clients or (WEB,), jwks_url=server.jwks_url)


def test_a_client_that_is_listed_passes(google: CertificateServer) -> None:
    assert check(google, WEB, IOS).verify(google.app_check_token(PROJECT, IOS)) == IOS


BAD: dict[str, dict[str, Any]] = {
    "of another project": {"aud": ["projects/5678", "projects/other"]},
    "with an audience that is text": {"aud": f"projects/{PROJECT}"},
    "of another issuer": {"iss": "https://securetoken.google.com/demo-project"},
    "without an issuer": {"iss": None},
    "with an issuer that is a number": {"iss": 7},
    "that is expired": {"iat": NOW - 7200, "exp": NOW - 3600},
    "of a client that is not listed": {"sub": IOS},
    "of a client with a longer name": {"sub": WEB + "x"},
    "without a client": {"sub": None},
    "of a client that is a list": {"sub": [WEB]},
    "of a client without a name": {"sub": ""},
}


@pytest.mark.parametrize("claims", BAD.values(), ids=BAD.keys())
def test_a_token_does_not_pass(google: CertificateServer, claims: dict[str, Any]) -> None:
    with pytest.raises(AppCheckFailed):
        check(google).verify(google.app_check_token(PROJECT, WEB, **claims))


def test_what_is_no_app_check_token_of_google_does_not_pass(google: CertificateServer) -> None:
    good = google.app_check_token(PROJECT, WEB)
    head, body, _ = good.split(".")
    with CertificateServer() as stranger:
        forged = stranger.app_check_token(PROJECT, WEB)
    for token in (
        None,
        "",
        "x",
        "a.b.c",
        "é.é.é",
        f"{head}.{body}.",
        forged,
        good[:-8],
        good * 20,
        google.token(PROJECT, "ada"),
    ):
        with pytest.raises(AppCheckFailed):
            check(google).verify(token)


def test_tokens_that_name_unknown_keys_do_not_have_the_keys_fetched_for_each() -> None:
    with CertificateServer() as google, CertificateServer() as stranger:
        stranger.rotate()
        verifier = check(google)
        verifier.verify(google.app_check_token(PROJECT, WEB))
        for _ in range(20):
            with pytest.raises(AppCheckFailed):
                verifier.verify(stranger.app_check_token(PROJECT, WEB))
        assert google.fetches <= 2


def test_keys_that_cannot_be_had_are_not_the_tokens_fault() -> None:
    with CertificateServer() as google:
        token, url = google.app_check_token(PROJECT, WEB), google.jwks_url
    with pytest.raises(IdentityUnavailable):
        AppCheck(PROJECT, (WEB,), jwks_url=url).verify(token)


def test_a_service_that_asks_for_app_check_refuses_requests_without_it_and_only_those(
    google: CertificateServer, tmp_path: Path
) -> None:
    services = replace(build(Settings.load(write_app(tmp_path), {})), app_check=check(google))
    app = App("test")
    init_app(app, services, lambda _: ())
    assert services.dev_identity is not None
    client = app.test_client()
    signed_in = {"Authorization": f"Bearer {services.dev_identity.issue('ada', 'member')}"}

    without = client.get("/v1/me", headers=signed_in)
    assert (without.status_code, without.json and without.json["error"]["code"]) == (401, "app_check_failed")
    shown = {"X-Firebase-AppCheck": google.app_check_token(PROJECT, WEB)}
    assert client.get("/v1/me", headers=signed_in | shown).status_code == 200
    assert client.get("/v1/me", headers=shown).status_code == 401
    assert client.get("/live").status_code == 200
    assert client.options("/v1/me", headers={"Origin": "http://localhost:5173"}).status_code == 200


def test_the_setting_counts_in_the_cloud_and_asks_nothing_of_a_laptop(tmp_path: Path) -> None:
    written = SETTINGS + f'\n[identity]\napp_check = ["{WEB}"]\n'
    assert build(Settings.load(write_app(tmp_path / "a", written), {})).app_check is None
    cloud = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": PROJECT, "OPENAI_API_KEY": "k"}
    check = build(Settings.load(write_app(tmp_path / "b", written), cloud)).app_check
    assert check is not None
    assert isinstance(check.verify.__self__, AppCheck)  # type: ignore[attr-defined]


@pytest.mark.parametrize("clients", ['"1:1234:web:abcd"', '["web"]', "[7]", '[""]'])
def test_a_client_that_is_no_firebase_app_id_does_not_boot(tmp_path: Path, clients: str) -> None:
    with pytest.raises(SettingsError, match="app_check"):
        Settings.load(write_app(tmp_path, SETTINGS + f"\n[identity]\napp_check = {clients}\n"), {})
