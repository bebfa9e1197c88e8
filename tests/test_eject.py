"""``firelaunch eject`` and ``firelaunch data``, as people run them."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from commands import firelaunch
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import User, run_jobs, sign_in
from support import copy_repo


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A copy of this repo with two apps, each with rules of its own; one has been talked to."""
    repo = copy_repo(tmp_path / "repo")
    for name in ("demo", "other"):
        made = firelaunch(repo, "new", "--no-input", f"app_slug={name}", "project=old-project")
        assert made.returncode == 0, made.stderr
        (repo / "apps" / name / "firestore.rules").write_text(f"match /{name}_notes/{{id}} {{ allow read; }}\n")
        _declare(repo / "apps" / name / "app" / "__init__.py", f"{name}_notes")
    settings = Settings.load(repo / "apps" / "demo" / "firelaunch.toml", {})
    services = build(settings)
    app = App("test")
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    ada = sign_in(app, "ada")
    assert ada.send(ada.new_chat(), "Remember me").status_code == 200
    services.store.close()
    return repo


def _declare(path: Path, collection: str) -> None:
    """Give the app a collection of its own, with a query that needs an index."""
    text = path.read_text()
    assert text.count("App(__name__") == 1
    text = text.replace("App(__name__", "App(__name__, collections=[notes]")
    model = "class Note(firelaunch.Record):\n    kind: str\n    at: datetime\n\n\n"
    own = f'notes = firelaunch.Collection("{collection}", Note, queries=[("kind", "-at")])\n\n\n'
    head, create = text.split("def create_app", 1)
    imports = "import firelaunch\nfrom datetime import datetime\n\n\n"
    path.write_text(f"{head}{imports}{model}{own}def create_app{create}")


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_app_its_rules_and_its_data_are_ready_to_move_and_nothing_changes_here(repo: Path) -> None:
    (repo / "apps/demo/.env").write_text("OPENAI_API_KEY=sk-secret-of-this-machine\n")
    before = (repo / "apps/demo/firelaunch.toml").read_text()
    done = firelaunch(repo, "eject", "demo", "--to", "new-project")
    assert done.returncode == 0, done.stderr
    out = repo / "build" / "eject" / "demo"

    settings = tomllib.loads((out / "app/firelaunch.toml").read_text())
    assert settings["cloud"] == {"project": "new-project", "region": "europe-west1", "database": "shared"}
    changed = [line for line in (out / "app/firelaunch.toml").read_text().splitlines() if line not in before]
    assert changed == ['project = "new-project"']
    assert (repo / "apps/demo/firelaunch.toml").read_text() == before
    assert not (out / "app/.env").exists()
    assert not (out / "app/.firelaunch").exists()

    rules = (out / "firestore.rules").read_text()
    assert "demo_notes" in rules
    assert "other_notes" not in rules
    assert json.loads((out / ".firebaserc").read_text())["projects"]["default"] == "new-project"
    indexes = json.loads((out / "firestore.indexes.json").read_text())["indexes"]
    base = json.loads((repo / "firestore.indexes.json").read_text())["indexes"]
    assert [
        each["collectionGroup"] for each in indexes if each not in base and each["collectionGroup"] != "chunks"
    ] == ["demo_notes"]
    assert [each for each in base if each not in indexes] == []

    header, *lines, end = documents(out / "data.jsonl")
    assert header["app"] == "demo"
    assert end["documents"] == len(lines)
    assert any("Remember me" in json.dumps(line) for line in lines)
    assert "left out" in done.stdout, "there are no users on a laptop"
    steps = (out / "STEPS.md").read_text()
    assert "firelaunch data import demo data.jsonl" in steps
    assert "$" not in steps.replace("$(", "")
    assert "users.json" not in steps, "it was left out"
    assert [line.partition(".")[0] for line in steps.splitlines() if line[:1].isdigit()] == list("123456789")


def test_steps_of_an_app_outside_of_the_repo_and_without_a_project_name_only_what_is_there(
    repo: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    app = (repo / "apps" / "demo").rename(tmp_path / "elsewhere" / "demo")
    text = (app / "firelaunch.toml").read_text()
    (app / "firelaunch.toml").write_text(text.replace('project = "old-project"', 'project = ""'))
    done = firelaunch(app, "eject", "--to", "new-project", "--no-data")
    assert done.returncode == 0, done.stderr
    assert (app / "build" / ".gitignore").read_text() == "*\n"
    steps = (app / "build" / "eject" / "demo" / "STEPS.md").read_text()
    assert steps.startswith("# Moving demo to new-project\n")
    for absent in ("OLD_PROJECT", "users.json", "data.jsonl", "remove-iam-policy-binding", "gs://"):
        assert absent not in steps


def test_what_names_something_of_the_old_project_does_not_go_along(repo: Path) -> None:
    """The next deploy makes the new project's own index of vectors, and takes its own bucket."""
    path = repo / "apps/demo/firelaunch.toml"
    named = '[index.vertex]\nindex = "1"\ndomain = "d.example"\nendpoint = "2"\ndeployed = "mine"\n\n[documents]\n'
    text = path.read_text().replace('"firestore"', '"vertex"\nembedder = "openai"')
    text = text.replace('database = "shared"', 'database = "dedicated"\ndatabase_id = "demo-20261128-2215"')
    path.write_text(text.replace("[membership]", f'{named}bucket = "old-files"\nlibrary = 7\n\n[membership]'))
    done = firelaunch(repo, "eject", "demo", "--to", "new-project", "--no-data")
    assert done.returncode == 0, done.stderr
    settings = tomllib.loads((repo / "build/eject/demo/app/firelaunch.toml").read_text())
    assert settings["index"] == {"backend": "vertex", "embedder": "openai"}
    assert settings["documents"] == {"library": 7}
    assert "database_id" not in settings["cloud"]
    assert settings["membership"] == {"join": "invite"}


def test_the_data_comes_back_in_another_database(repo: Path, tmp_path: Path) -> None:
    assert firelaunch(repo, "data", "export", "demo", "data.jsonl").returncode == 0
    elsewhere = {"FIRELAUNCH_DATA": str(tmp_path / "elsewhere")}
    asked = firelaunch(repo, "data", "import", "demo", "data.jsonl", **elsewhere)
    assert asked.returncode == 1, "nobody agreed"
    done = firelaunch(repo, "data", "import", "demo", "data.jsonl", "--yes", **elsewhere)
    assert done.returncode == 0, done.stderr
    assert firelaunch(repo, "data", "export", "demo", "again.jsonl", **elsewhere).returncode == 0
    assert (repo / "again.jsonl").read_bytes() == (repo / "data.jsonl").read_bytes()
    for agreed in ((), ("--yes",)):
        other = firelaunch(repo, "data", "import", "other", "data.jsonl", *agreed)
        assert other.returncode == 1
        assert "no export of other" in other.stderr
        assert "Write the documents" not in other.stdout, "the file is looked at before it is asked"


def _with_groups(folder: Path, data: Path) -> tuple[App, dict[str, User]]:
    """The app of ``folder`` on the database and files in ``data``, and three of its users."""
    services = build(Settings.load(folder / "firelaunch.toml", {"FIRELAUNCH_DATA": str(data)}))
    app = App("test")
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    app.services = services  # type: ignore[attr-defined]
    return app, {uid: sign_in(app, uid) for uid in ("ada", "bob", "eve")}


def test_groups_move_with_their_members_chats_and_documents_and_work_there(repo: Path, tmp_path: Path) -> None:
    folder, here, there = repo / "apps" / "demo", tmp_path / "here", tmp_path / "there"
    settings = folder / "firelaunch.toml"
    text = settings.read_text().replace("[plans.free]\n", "[plans.free]\ngroups = 3\n", 1)
    settings.write_text(f'{text}\n[groups]\nchats_paid_by = "group"\nchats_on_erase = "delete"\n')
    app, users = _with_groups(folder, here)
    ada, bob = users["ada"], users["bob"]
    group = ada.post("/v1/groups", {"name": "Family", "member_name": "Ada"}).get_json()["id"]
    code = ada.post(f"/v1/groups/{group}/invites", {"role": "editor", "uses": 2}).get_json()["invite"]
    assert bob.post(f"/v1/groups/{group}/join", {"invite": code, "name": "Bob"}).status_code == 200
    chat = ada.post("/v1/chats", {"group": group}).get_json()["id"]
    ada.post(f"/v1/chats/{chat}/messages", {"text": "Remember figs", "group": group})
    document = ada.upload("attic.txt", b"The xylophone is in the attic.", group=group).get_json()["id"]
    run_jobs(app)
    spent = ada.get(f"/v1/usage?group={group}").get_json()
    app.services.store.close()  # type: ignore[attr-defined]

    assert firelaunch(repo, "data", "export", "demo", "groups.jsonl", FIRELAUNCH_DATA=str(here)).returncode == 0
    moved = firelaunch(repo, "data", "import", "demo", "groups.jsonl", "--yes", FIRELAUNCH_DATA=str(there))
    assert moved.returncode == 0, moved.stderr
    for name in ("files", "index"):  # in the cloud, the bucket, and documents of the database
        shutil.copytree(here / name, there / name)

    app, users = _with_groups(folder, there)
    ada, bob, eve = users["ada"], users["bob"], users["eve"]
    members = {each["uid"]: (each["role"], each["name"]) for each in _items(bob, f"/v1/groups/{group}/members")}
    assert members == {"ada": ("owner", "Ada"), "bob": ("editor", "Bob")}
    assert [each["id"] for each in _items(bob, "/v1/groups")] == [group]
    assert bob.get(f"/v1/chats/{chat}?group={group}").get_json()["messages"][0]["author"] == "Ada"
    assert bob.post(f"/v1/chats/{chat}/messages", {"text": "And dates", "group": group}).status_code == 200
    assert bob.get(f"/v1/usage?group={group}").get_json()["requests"] == spent["requests"] + 1
    assert bob.get(f"/v1/documents/{document}?group={group}").get_json()["status"] == "ready"
    found = bob.post("/v1/search", {"query": "Where is the xylophone?", "group": group}).get_json()["passages"]
    assert [each["title"] for each in found] == ["attic.txt"]
    assert eve.get(f"/v1/chats/{chat}?group={group}").status_code == 404
    assert eve.post(f"/v1/groups/{group}/join", {"invite": code, "name": "Eve"}).status_code == 200
    assert ada.delete(f"/v1/groups/{group}/members/bob").status_code == 204
    assert bob.get(f"/v1/chats/{chat}?group={group}").status_code == 404
    boss = sign_in(app, "boss", role="admin")
    told = [each["what"] for each in _items(boss, "/v1/ops/audit")]
    assert {"group.made", "invitation.made", "member.removed"} <= set(told), told
    app.services.store.close()  # type: ignore[attr-defined]


def _items(user: User, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = user.get(path).get_json()["items"]
    return items


@pytest.mark.parametrize(("to", "says"), [("old-project", "already"), ("../x", "6 to 30"), ("", "6 to 30")])
def test_a_project_that_will_not_do_is_refused(repo: Path, to: str, says: str) -> None:
    done = firelaunch(repo, "eject", "demo", "--to", to)
    assert done.returncode != 0
    assert says in done.stderr
    assert not (repo / "build" / "eject").exists()
