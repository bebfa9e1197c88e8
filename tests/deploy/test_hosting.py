"""The web client on Firebase Hosting: requests against the server that plays its API, and refuses as it documents."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.google import GoogleCloud
from fakes.google.base import TOKEN
from firelaunch.settings.app import Settings
from firelaunch.settings.web_client import client_config
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch_cli.deploy import hosting
from firelaunch_cli.deploy.gcloud import CommandFailed, Request, Tools
from firelaunch_cli.deploy.hosting import SiteVersion, site, site_files
from firelaunch_cli.deploy.resources import APIS, FEATURE_APIS, FEATURE_PERMISSIONS, Place, features
from firelaunch_cli.deploy.sign_in import GoogleClient, sign_in
from firelaunch_cli.deploy.steps import perform

PLACE, SITE = Place("demo-project", "europe-west1", "1234"), "acme-chat"
FIREBASE = {"apiKey": "AIza-x", "authDomain": "demo-project.firebaseapp.com", "projectId": "demo-project"}
FILES = {"/index.html": b"<div id=root>", "/assets/main-1a.js": b"start()", "/assets/main-1a.css": b"p{}"}
KEY = "sk-proj-" + "a1B2" * 12


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    with GoogleCloud() as cloud:
        cloud.account.apis |= {*APIS, FEATURE_APIS["hosting"]}
        cloud.account.firebase = True
        yield cloud
        assert cloud.unexpected == []


@pytest.fixture
def tools(cloud: GoogleCloud, tmp_path: Path) -> Tools:
    return Tools({**os.environ, **cloud.environ(tmp_path / "home")}, lambda _: None, lambda _: None, TOKEN)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(write_app(tmp_path / "app", f'{SETTINGS}\n[cloud]\nsite = "{SITE}"\n'), {})


def version(settings: Settings, files: dict[str, bytes] = FILES, **more: Any) -> SiteVersion:
    api, membership = "https://demo.run.app", "https://membership.run.app"
    given = {"mode": "cloud", "api": api, "membership": membership, "firebase": FIREBASE, **more}
    return SiteVersion(SITE, files, client_config(settings, **given))


def made(tools: Tools) -> int:
    return perform(site(PLACE, SITE), tools, lambda question: pytest.fail(question))


def test_the_site_serves_what_was_built_and_where_the_api_is(
    cloud: GoogleCloud, tools: Tools, settings: Settings
) -> None:
    assert (made(tools), made(tools)) == (1, 0)
    said = version(settings).release(tools, PLACE)
    assert said == f"{SITE}: 4 files, 4 of them new, at https://{SITE}.web.app"
    assert cloud.hosting.content(SITE, "/assets/main-1a.js") == b"start()"
    config = json.loads(cloud.hosting.content(SITE, "/config.json"))
    assert (config["api"], config["membership"]) == ("https://demo.run.app", "https://membership.run.app")
    assert config["firebase"] == FIREBASE
    live = cloud.hosting.live(SITE)
    assert live is not None
    assert live.config["rewrites"] == [{"glob": "**", "path": "/index.html"}]
    everything, assets = live.config["headers"]
    assert (everything["glob"], assets["glob"]) == ("**", "/assets/**"), "the last one that matches counts"
    assert everything["headers"]["Cache-Control"] == "no-cache"
    assert assets["headers"] == {"Cache-Control": "public, max-age=31536000, immutable"}
    assert everything["headers"]["X-Content-Type-Options"] == "nosniff"
    assert everything["headers"]["Strict-Transport-Security"].startswith("max-age=31536000")
    policy = everything["headers"]["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "connect-src 'self' https://demo.run.app https://membership.run.app https://" in policy


def test_a_second_deploy_sends_what_has_changed_alone(cloud: GoogleCloud, tools: Tools, settings: Settings) -> None:
    made(tools)
    version(settings).release(tools, PLACE)
    before = len(cloud.requests)
    assert version(settings).release(tools, PLACE) == f"{SITE}: nothing has changed at https://{SITE}.web.app"
    assert [request.split(" ")[0] for request in cloud.requests[before:]] == ["GET"]
    changed = {"/index.html": b"<div id=root2>", "/assets/main-2b.js": b"again()", "/assets/main-1a.css": b"p{}"}
    assert "4 files, 2 of them new" in version(settings, changed).release(tools, PLACE)
    live = cloud.hosting.live(SITE)
    assert live is not None
    assert sorted(live.files) == ["/assets/main-1a.css", "/assets/main-2b.js", "/config.json", "/index.html"]
    assert "4 files, 1 of them new" in version(settings, changed, api="https://new.run.app").release(tools, PLACE)


def test_what_fails_on_the_way_leaves_the_site_as_it_was_and_is_done_again(
    cloud: GoogleCloud, tools: Tools, settings: Settings
) -> None:
    made(tools)
    version(settings).release(tools, PLACE)
    changed = {**FILES, "/index.html": b"<div id=new>"}
    real = tools.request
    for fails in (":populateFiles", "/files/", "updateMask", "versionName"):

        def request(asked: Request, fails: str = fails) -> Any:
            if fails in asked.url:
                raise CommandFailed(f"{asked.url}: the network", "try again", passing=True)
            return real(asked)

        tools.request = request  # type: ignore[method-assign]
        with pytest.raises(CommandFailed):
            version(settings, changed).release(tools, PLACE)
        assert cloud.hosting.content(SITE, "/index.html") == b"<div id=root>"
    tools.request = real  # type: ignore[method-assign]
    version(settings, changed).release(tools, PLACE)
    assert cloud.hosting.content(SITE, "/index.html") == b"<div id=new>"


def test_many_files_go_in_several_calls(
    cloud: GoogleCloud, tools: Tools, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "_BATCH", 2)
    made(tools)
    version(settings).release(tools, PLACE)
    assert len([request for request in cloud.requests if request.endswith(":populateFiles")]) == 2
    assert cloud.hosting.content(SITE, "/index.html") == FILES["/index.html"]


def test_a_site_of_another_project_and_a_missing_right_name_their_mends(cloud: GoogleCloud, tools: Tools) -> None:
    cloud.hosting.taken.add(SITE)
    with pytest.raises(CommandFailed, match="reserved by another project") as failed:
        made(tools)
    assert "put another one into cloud.site" in failed.value.mend
    cloud.hosting.taken.clear()
    cloud.denied = {"firebasehosting.sites.create"}
    with pytest.raises(CommandFailed) as failed:
        made(tools)
    assert "roles/firebasehosting.admin" in failed.value.mend


def test_every_permission_that_is_asked_for_is_one_that_the_requests_take(
    cloud: GoogleCloud, tools: Tools, settings: Settings
) -> None:
    made(tools)
    version(settings).release(tools, PLACE)
    assert {cloud.permission_of(request) for request in cloud.requests} == {*FEATURE_PERMISSIONS["hosting"]}
    assert "hosting" in features(settings)


def test_users_may_sign_in_on_the_site(cloud: GoogleCloud, tools: Tools, settings: Settings) -> None:
    for step in sign_in(PLACE, settings, GoogleClient()):
        perform(step, tools, lambda _: True)
    assert {f"{SITE}.web.app", f"{SITE}.firebaseapp.com"} <= {*cloud.sign_in.config["authorizedDomains"]}


def test_a_client_with_a_secret_or_a_link_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>")
    (tmp_path / "config.json").write_text("{}")
    assert site_files(tmp_path) == {"/index.html": b"<p>"}, "the config is the deploy's own"
    (tmp_path / "assets" / "main.js").write_text(f"const k='{KEY}'")
    with pytest.raises(CommandFailed, match=r"main\.js looks like an API key"):
        site_files(tmp_path)
    (tmp_path / "assets" / "main.js").unlink()
    (tmp_path / "assets" / "notes").symlink_to("/etc/hostname")
    with pytest.raises(CommandFailed, match="is a link"):
        site_files(tmp_path)


def test_the_server_refuses_what_hosting_refuses(cloud: GoogleCloud, tools: Tools) -> None:
    def refused(method: str, path: str, body: dict[str, Any] | None = None, content: bytes | None = None) -> str:
        url = f"https://firebasehosting.googleapis.com/{path}"
        with pytest.raises(CommandFailed) as failed:
            tools.request(Request(method, url, body, content=content, project=PLACE.project))
        return str(failed.value)

    assert "not a valid site ID" in refused("POST", "v1beta1/projects/demo-project/sites?siteId=A_b", {})
    assert "permission" in refused("POST", "v1beta1/sites/nobodys/versions", {})
    made(tools)
    where = f"v1beta1/sites/{SITE}"
    assert "Unknown name" in refused("POST", f"{where}/versions", {"config": {"header": []}})
    url = f"https://firebasehosting.googleapis.com/{where}/versions"
    name = tools.request(Request("POST", url, {}, project=PLACE.project))["name"]
    plain = hashlib.sha256(b"plain").hexdigest()
    assert "Invalid file" in refused("POST", f"v1beta1/{name}:populateFiles", {"files": {"index.html": plain}})
    files = Request(
        "POST", f"https://firebasehosting.googleapis.com/v1beta1/{name}:populateFiles", {"files": {"/a": plain}}
    )
    tools.request(Request("POST", files.url, files.body, project=PLACE.project))
    assert "hash" in refused("POST", f"upload/{name}/files/{plain}", content=b"other")
    assert "not gzipped" in refused("POST", f"upload/{name}/files/{plain}", content=b"plain")
    assert "not uploaded" in refused("PATCH", f"v1beta1/{name}?updateMask=status", {"status": "FINALIZED"})
    assert "FINALIZED first" in refused("POST", f"{where}/releases?versionName={name}", {})
