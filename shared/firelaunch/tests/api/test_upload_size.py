"""How large a file a request may bring, and what a larger one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from firelaunch.api.upload_form import FORM_BYTES, UploadForm
from firelaunch.errors import TooLarge
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from flask import Flask, Request, request

CLOUD_RUN_BYTES = 32 * 2**20
"""https://cloud.google.com/run/quotas#request_limits, of HTTP/1."""


@pytest.mark.parametrize(
    ("file_bytes", "mode", "most"),
    [
        (104_857_600, "cloud", 31 * 2**20),
        (20_971_520, "cloud", 20_971_520),
        (104_857_600, "embedded", 104_857_600),
    ],
)
def test_a_request_is_never_allowed_more_than_cloud_run_brings(
    tmp_path: Path, file_bytes: int, mode: str, most: int
) -> None:
    path = write_app(tmp_path, f"{SETTINGS}\n[documents]\nfile_bytes = {file_bytes}\n")
    environ = {"FIRELAUNCH_MODE": mode, "GOOGLE_CLOUD_PROJECT": "demo-project", "OPENAI_API_KEY": "k"}
    settings = Settings.load(path, environ)
    assert settings.upload_bytes == most
    assert mode == "embedded" or settings.upload_bytes + FORM_BYTES < CLOUD_RUN_BYTES


def test_a_file_that_cloud_run_would_cut_off_is_sent_by_firebase_storage() -> None:
    kind = "multipart/form-data; boundary=x"
    with Flask(__name__).test_request_context("/", method="POST", data=bytes(2 * 10**6), content_type=kind):
        form_request: Request = request
        with pytest.raises(TooLarge, match="Put a larger one, of 5 MB at most, into Firebase Storage") as larger:
            UploadForm(form_request, 10**6, 5 * 10**6)
        assert '{"upload": "its name"}' in str(larger.value)
        with pytest.raises(TooLarge, match="Split it"):
            UploadForm(form_request, 10**6, 10**6)
