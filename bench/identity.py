"""Measure how long a token takes to verify: an ID token by firebase-admin alone and by ours, new and seen, a dev token.

The certificates are served over HTTP as Google serves them, with their max-age; all tokens are RS256.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

import firebase_admin
from firebase_admin import auth
from firelaunch.identity import DevIdentity
from firelaunch.identity.firebase import FirebaseIdentity, LazyCredential
from firelaunch.testing.certificates import CertificateServer

from bench.report import Report, size

PROJECT = "demo-bench"
ROUNDS, BATCH = size((15, 100), (2, 5))


def main() -> None:
    """Measure and report."""
    report = Report("identity")
    with CertificateServer() as google:
        token = google.token(PROJECT, "ada", {"demo": "member"})
        new = iter([google.token(PROJECT, f"user{n}", {"demo": "member"}) for n in range(ROUNDS * BATCH + 1)])
        ours = FirebaseIdentity(PROJECT, "demo", certificates_url=google.url)
        dev = DevIdentity("demo", secrets.token_bytes(32))
        dev_token = dev.issue("ada")
        cases: dict[str, Callable[[], Any]] = {
            "firebase-admin alone": plain(google, token),
            "Firebase ID token": lambda: ours.verify(next(new)),
            "Firebase ID token, seen before": lambda: ours.verify(token),
            "dev token": lambda: dev.verify(dev_token),
        }
        for work in cases.values():
            work()
        # The cases take turns, so that all of them see the same machine.
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, work in cases.items():
                began = time.process_time()
                for _ in range(BATCH):
                    work()
                found[name].append((time.process_time() - began) / BATCH)
    middle = {name: statistics.median(times) for name, times in found.items()}
    for name, seconds in middle.items():
        report.row(name, "CPU to verify", seconds * 1e6, "us")
    report.ratio(
        "firebase_admin_vs_ours", middle["firebase-admin alone"] / middle["Firebase ID token"], more_is_better=True
    )
    report.write()


def plain(google: CertificateServer, token: str) -> Callable[[], Any]:
    """firebase-admin with its own HTTP cache, pointed at the local certificates."""
    app = firebase_admin.initialize_app(LazyCredential(), {"projectId": PROJECT}, "bench")
    client = auth.Client(app)
    client._token_verifier.id_token_verifier.cert_url = google.url
    return lambda: client.verify_id_token(token)
