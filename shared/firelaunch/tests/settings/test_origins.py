"""``cors.origins`` has origins as browsers send them; one that no browser sends is refused at start."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings
from firelaunch.settings.origins import browser_origin
from firelaunch.testing.apps import SETTINGS, write_app
from hypothesis import given
from hypothesis import strategies as st

SENT = [
    *("https://app.example.com", "https://app.example.com:8443", "http://localhost:3000", "http://127.0.0.1:5173"),
    *("http://[::1]:8080", "http://[2001:db8::1]", "https://xn--bcher-kva.example", "https://a_b.example.com"),
    *("capacitor://localhost", "ionic://localhost", "tauri://localhost", "chrome-extension://abcdefghijklmnop", "*"),
]


@pytest.mark.parametrize("origin", SENT)
def test_what_browsers_send_is_taken(origin: str) -> None:
    assert browser_origin(origin) == origin


@pytest.mark.parametrize(
    ("origin", "meant"),
    [
        ("https://app.example.com/", "https://app.example.com"),
        ("https://app.example.com/login?x=1#y", "https://app.example.com"),
        ("https://App.Example.com", "https://app.example.com"),
        ("HTTPS://app.example.com", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("app.example.com", "https://app.example.com"),
        (" https://app.example.com", "https://app.example.com"),
        ("https://ada@app.example.com", "https://app.example.com"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
    ],
)
def test_another_way_to_write_an_origin_is_refused_with_the_way_of_browsers(origin: str, meant: str) -> None:
    with pytest.raises(ValueError, match="matches no page") as raised:
        browser_origin(origin)
    assert str(raised.value).endswith(f"write {meant!r}")


@pytest.mark.parametrize(
    "origin",
    [
        *("", "https://", "https://*.example.com", r"https://.*\.example\.com", "null", "https://app.example.com:port"),
        *(
            "https://app.example.com:99999",
            "https://[::1",
            "https://a b.example.com",
            "https://-",
            "://app",
            "file:///x",
        ),
    ],
)
def test_what_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"origin|pattern"):
        browser_origin(origin)


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-zA-Z0-9.:/@\[\]_-]{0,30}", fullmatch=True))
def test_what_is_taken_is_a_scheme_a_host_and_a_port_and_nothing_else(text: str) -> None:
    try:
        origin = browser_origin(text)
    except ValueError:
        return
    if origin != "*":
        url = urlsplit(origin)
        assert (url.path, url.query, url.fragment, url.username) == ("", "", "", None)
        assert origin == origin.lower()
        assert origin.isascii()
        assert url.hostname


def test_an_app_does_not_start_with_an_origin_that_can_never_match(tmp_path: Path) -> None:
    path = write_app(tmp_path, SETTINGS + '[cors]\norigins = ["https://app.example.com", "https://b.example.com/"]\n')
    with pytest.raises(SettingsError) as raised:
        Settings.load(path, {})
    assert "cors.origins" in raised.value.message
    assert "write 'https://b.example.com'" in raised.value.message
