"""Finds what must never be in an image, in settings or on a command line: keys, and files that hold them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

__all__ = ["in_bytes", "in_name", "in_text", "is_key_name", "key_names"]

_NAMES = (
    *(".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "id_rsa*", "id_ed25519*"),
    *(".netrc", ".npmrc", ".pypirc", "*service-account*.json", "*service_account*.json", "*-firebase-adminsdk-*.json"),
    "application_default_credentials.json",
)
_HARMLESS = (".env.example", "*.pub")

_FORMS = {
    "an API key (sk-...)": re.compile(r"(?<![A-Za-z0-9_-])sk-(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{20,}"),
    "a Stripe key": re.compile(r"(?<![A-Za-z0-9_])(?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{16,}"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*[A-Za-z0-9+/=\\]{20,}"),
    "a service account's key": re.compile(r"""["']private_key_id["']\s*:\s*["'][0-9a-f]{16,}"""),
    "a Google refresh token": re.compile(r"(?<![A-Za-z0-9])1//0[A-Za-z0-9_-]{30,}"),
    "a Google OAuth secret": re.compile(r"(?<![A-Za-z0-9])GOCSPX-[A-Za-z0-9_-]{20,}"),
    "a GitHub token": re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    "an AWS access key": re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "a Hugging Face token": re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}"),
    # It begins with what is the same in all of them: the search for that is fast.
    "an address with a password": re.compile(
        r"""(?i)://(?<=[a-z0-9+.-]://)[^\s:/@"'{}<>$]+:(?!pass(?:word)?@|secret@)[^\s/@"'{}<>$*]{3,}@(?!localhost|127\.)\w"""
    ),
    "a Slack token": re.compile(r"(?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{10,}"),
}
"""By what each is. Firebase's own web keys (AIza...) are not among them: they are public, and web clients need them."""

_MARKS = {
    "an API key (sk-...)": ("sk-",),
    "a Stripe key": ("k_live_", "k_test_", "whsec_"),
    "a private key": ("PRIVATE KEY-----",),
    "a service account's key": ("private_key_id",),
    "a Google refresh token": ("1//0",),
    "a Google OAuth secret": ("GOCSPX-",),
    "a GitHub token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    "an AWS access key": ("AKIA", "ASIA"),
    "a Hugging Face token": ("hf_",),
    "an address with a password": ("://",),
    "a Slack token": ("xox",),
}
"""Of each form, texts of which one is in every match. Most files have none, and are read many times as fast."""

_KEY_NAME = r"[A-Z0-9_]*(?:SECRET|PASSWORD|PASSWD|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIALS|DATABASE_URL)"
"""Variables that hold keys, whatever these look like."""

_GIVEN_KEY = re.compile(rf"(?<![A-Z0-9_])({_KEY_NAME})=(?=[^,;])", re.IGNORECASE)


def is_key_name(name: str) -> bool:
    """Whether a variable of this name holds a key."""
    return re.fullmatch(_KEY_NAME, name, re.IGNORECASE) is not None


def key_names(argument: str) -> list[str]:
    """The variables of NAME=VALUE pairs that hold keys."""
    return _GIVEN_KEY.findall(argument)


def in_name(name: str) -> bool:
    """Whether a file of this name is made to hold secrets."""
    base = PurePosixPath(name).name
    return any(fnmatch.fnmatch(base, form) for form in _NAMES) and not any(
        fnmatch.fnmatch(base, form) for form in _HARMLESS
    )


def in_text(text: str) -> Iterator[tuple[int, str]]:
    """The line (from 1) and the kind of each secret; never the secret itself."""
    for kind, form in _FORMS.items():
        if not any(mark in text for mark in _MARKS[kind]):
            continue
        for match in form.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, kind


def in_bytes(data: bytes) -> list[tuple[int, str]]:
    """As :func:`in_text`, for a file of any encoding: keys are ASCII, also where UTF-16 puts zeros between."""
    return sorted(in_text(data.replace(b"\x00", b"").decode("latin-1")))
