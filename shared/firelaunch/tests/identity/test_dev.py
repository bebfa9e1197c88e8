"""Dev tokens, and what is read from the Authorization header."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from firelaunch.errors import InvalidId, Unauthenticated
from firelaunch.identity import Caller, DevIdentity, bearer, load_or_create_key
from hypothesis import given
from hypothesis import strategies as st

KEY = b"k" * 32
DEV = DevIdentity("demo", KEY)


def test_a_dev_token_names_its_user() -> None:
    admin = Caller("demo", "ada", "admin", "a@example.com", email_verified=True)
    assert DEV.verify(DEV.issue("ada", "admin", "a@example.com")) == admin


def test_a_dev_token_holds_for_one_app_and_one_key() -> None:
    token = DEV.issue("ada")
    for other in (DevIdentity("other", KEY), DevIdentity("demo", b"x" * 32)):
        with pytest.raises(Unauthenticated):
            other.verify(token)


def test_a_dev_token_expires() -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        DevIdentity("demo", KEY, ttl_seconds=-1).verify(DEV.issue("ada"))


def test_a_dev_token_that_held_once_holds_until_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    token, day = DEV.issue("ada"), timedelta(days=1)
    for later, holds in ((0 * day, True), (6 * day, True), (8 * day, False), (-day, False), (0 * day, True)):
        clock = type("Clock", (), {"now": lambda zone, later=later: datetime.now(zone) + later})
        monkeypatch.setattr("firelaunch.identity.dev.datetime", clock)
        if holds:
            assert DEV.verify(token).uid == "ada"
        else:
            with pytest.raises(Unauthenticated):
                DEV.verify(token)


@given(data=st.data())
def test_a_dev_token_with_any_byte_changed_does_not_hold(data: st.DataObject) -> None:
    parts = [bytearray(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))) for p in DEV.issue("ada").split(".")]
    which = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    parts[which][at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Unauthenticated):
        DEV.verify(".".join(base64.urlsafe_b64encode(bytes(p)).decode().rstrip("=") for p in parts))


@given(st.text())
def test_text_that_is_no_token_does_not_hold(text: str) -> None:
    with pytest.raises(Unauthenticated):
        DEV.verify(text)


@pytest.mark.parametrize("uid", ["", "a/b", "..", "__x__", "u" * 129, "a\nb", "\ud800"])
def test_no_token_is_issued_to_an_id_that_firebase_could_not_have(uid: str) -> None:
    with pytest.raises(InvalidId):
        DEV.issue(uid)


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    key = load_or_create_key(folder)
    assert len(key) == 32
    assert load_or_create_key(folder) == key
    assert stat.S_IMODE((folder / "dev_key").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["dev_key"]


def test_processes_that_start_at_once_end_up_with_one_key(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from firelaunch.identity import load_or_create_key; "
        "print(load_or_create_key(pathlib.Path(sys.argv[1])).hex())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")], stdout=subprocess.PIPE) for _ in range(6)
    ]
    assert len({process.communicate()[0] for process in running}) == 1


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic YTpi", "token", "Bearer a b", "Bearer a, Bearer b", "Bearer " + "x" * 9000],
)
def test_a_header_that_holds_no_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        bearer(header)
    assert caught.value.reason


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_the_scheme_is_read_in_any_case(header: str) -> None:
    assert bearer(header) == "abc"
