"""The emulator harness: clients that act as users are bound by rules, and its absence is loud."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from firelaunch.store.base import Create
from firelaunch.testing import emulator as harness
from firelaunch.testing.emulator import Emulator, RulesError
from google.api_core.exceptions import PermissionDenied

ADA = {"sub": "ada", "apps": {"demo": "member"}}
OWN = """
rules_version = '2';
service cloud.firestore { match /databases/{db}/documents { match /people/{uid} {
  allow read: if request.auth.uid == uid && request.auth.token.apps.demo == 'member';
} } }
"""


def test_under_deny_all_rules_a_client_that_acts_as_a_user_is_denied(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    """The canary: the library's own client is an owner to the emulator, under which every rule seems to allow."""
    store = firestore_emulator.store(firestore_project)
    store.commit([Create("people/ada", {"n": 1})])
    for claims in (None, ADA, {**ADA, "apps": {"demo": "admin"}}):
        acting = firestore_emulator.client_as(firestore_project, claims)
        with pytest.raises(PermissionDenied):
            acting.document("people/ada").get()
        with pytest.raises(PermissionDenied):
            list(acting.collection("people").stream())
        with pytest.raises(PermissionDenied):
            acting.document("people/ada").set({"n": 2})
    assert firestore_emulator.client(firestore_project).document("people/ada").get().to_dict() == {"n": 1}


def test_a_client_that_acts_as_a_user_is_that_user_to_the_rules(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    firestore_emulator.store(firestore_project).commit([Create("people/ada", {"n": 1})])
    firestore_emulator.load_rules(firestore_project, OWN)
    assert firestore_emulator.client_as(firestore_project, ADA).document("people/ada").get().to_dict() == {"n": 1}
    for claims in (None, {**ADA, "sub": "bob"}, {**ADA, "apps": {}}):
        with pytest.raises(PermissionDenied):
            firestore_emulator.client_as(firestore_project, claims).document("people/ada").get()


def test_rules_that_do_not_compile_are_refused_with_their_line(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    with pytest.raises(RulesError, match="L1:"):
        firestore_emulator.load_rules(firestore_project, "no rules at all")


def test_projects_and_databases_share_neither_data_nor_rules(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    other = f"{firestore_project}-2"
    firestore_emulator.store(firestore_project).commit([Create("people/ada", {"n": 1})])
    firestore_emulator.load_rules(firestore_project, OWN)
    assert firestore_emulator.store(other).get("people/ada") is None
    assert firestore_emulator.store(firestore_project, "named").get("people/ada") is None
    with pytest.raises(PermissionDenied):
        firestore_emulator.client_as(other, ADA).document("people/ada").get()
    firestore_emulator.clear(firestore_project)
    assert firestore_emulator.store(firestore_project).get("people/ada") is None


def test_the_cloud_clis_emulator_is_found_first_and_then_firebase_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = tmp_path / "sdk" / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
    cached = tmp_path / "home" / ".cache" / "firebase" / "emulators" / "cloud-firestore-emulator-v1.19.8.jar"
    for jar in (cli, cached):
        jar.parent.mkdir(parents=True)
        jar.touch()
    monkeypatch.setattr(harness, "_cloud_sdk_roots", lambda: [tmp_path / "sdk"])
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert harness.find_jar() == cli
    cli.unlink()
    assert harness.find_jar() == cached


def test_a_download_that_is_not_the_official_release_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "fake.jar"
    fake.write_bytes(b"not it")
    monkeypatch.setattr(harness, "_RELEASE_URL", fake.as_uri())
    with pytest.raises(harness.EmulatorUnavailable, match="SHA-256"):
        harness._download(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_where_there_is_no_network_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_RELEASE_URL", (tmp_path / "missing.jar").as_uri())
    assert harness._download(tmp_path / "cache") is None
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.parametrize("required", ["", "1"], ids=["optional", "required"])
def test_without_an_emulator_tests_are_skipped_with_one_loud_line_or_fail(
    tmp_path: Path, required: str, workers: tuple[str, ...]
) -> None:
    tests = tmp_path / "test_it.py"
    tests.write_text("def test_a(emulator_store): pass\n\ndef test_b(emulator_store): pass\n\ndef test_c(): pass\n")
    environ: dict[str, Any] = {"PATH": str(tmp_path), "HOME": str(tmp_path), "REQUIRE_EMULATOR": required}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, str(tests)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    if required:
        assert done.returncode == 1
        assert "no Firestore emulator, and REQUIRE_EMULATOR=1" in done.stdout
        assert "1 passed" in done.stdout
    else:
        assert done.returncode == 0
        assert done.stdout.count("tests were SKIPPED for want of the Firestore emulator: install Java") == 1
        assert "1 passed, 2 skipped" in done.stdout


def test_the_emulator_ends_with_the_process_that_owns_it(tmp_path: Path, firestore_emulator: Emulator) -> None:
    code = (
        "import os, signal; os.environ.pop('FIRESTORE_EMULATOR_HOST', None); "
        "from firelaunch.testing.emulator import Emulator; e = Emulator.start(); print(e._process.pid, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    watcher = int(started.stdout)
    for _ in range(100):
        if not Path(f"/proc/{watcher}").exists():
            return
        subprocess.run(["sleep", "0.1"], check=True)
    pytest.fail("the emulator outlived its owner by ten seconds")


def test_the_emulator_believes_tokens_that_firestore_would_not(
    firestore_emulator: Emulator, firestore_project: str
) -> None:
    """So no test of rules shows that these are refused: that is Google's part."""
    firestore_emulator.store(firestore_project).commit([Create("people/ada", {"n": 1})])
    firestore_emulator.load_rules(firestore_project, OWN)
    for wrong in ({"exp": 1, "iat": 0}, {"aud": "other"}, {"iss": "https://accounts.google.com"}, {"iat": 2**40}):
        acting = firestore_emulator.client_as(firestore_project, {**ADA, **wrong})
        assert acting.document("people/ada").get().exists
