"""Documents of groups: members put them up and find them, and nobody else does, by whatever route, link or search."""

from __future__ import annotations

import io
from typing import Any

import pytest
from firelaunch.scope import Scope
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in
from firelaunch.worker.tasks.erase import erasure_of

WITH_GROUPS = SETTINGS + "groups = 5\n"
SECRET = b"The xylophone is kept in the attic."


@pytest.fixture
def app(make_app: Any) -> App:
    made: App = make_app(WITH_GROUPS)
    return made


def new_group(owner: User, **members: User) -> str:
    group: str = owner.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    for role, user in members.items():
        code = owner.post(f"/v1/groups/{group}/invites", {"role": role}).get_json()["invite"]
        assert user.post(f"/v1/groups/{group}/join", {"invite": code}).status_code == 200
    return group


def put_up(app: App, user: User, name: str, **form: str) -> str:
    # A search leaves out passages that it has already, so each text has a word of its own.
    answer = user.upload(name, SECRET + f" So says {name.partition('.')[0]}.".encode(), **form)
    assert answer.status_code == 202, answer.get_json()
    run_jobs(app)
    document: str = answer.get_json()["id"]
    return document


def found(user: User, **body: Any) -> list[tuple[str, bool]]:
    answer = user.post("/v1/search", {"query": "Where is the xylophone?", **body})
    assert answer.status_code == 200, answer.get_json()
    return [(passage["title"], passage["library"]) for passage in answer.get_json()["passages"]]


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_each_group_user_and_library_finds_its_own_documents_and_no_others(app: App) -> None:
    ada, bob, eve = (sign_in(app, uid) for uid in ("ada", "bob", "eve"))
    boss = sign_in(app, "boss", role="admin")
    first, second = new_group(ada, viewer=bob), new_group(ada)
    put_up(app, ada, "own.txt")
    put_up(app, ada, "first.txt", group=first)
    put_up(app, ada, "second.txt", group=second)
    put_up(app, boss, "library.txt", library="true")
    library = ("library.txt", True)
    assert sorted(found(ada)) == [library, ("own.txt", False)]
    for user in (ada, bob):
        assert sorted(found(user, group=first)) == [("first.txt", False), library]
        assert found(user, group=first, library=False) == [("first.txt", False)]
    assert found(bob) == [library]
    assert found(ada, group=second, library=False) == [("second.txt", False)]
    for user, group in ((bob, second), (eve, first), (boss, first)):
        assert code_of(user.post("/v1/search", {"query": "xylophone", "group": group})) == (404, "not_found")
    names = [each["name"] for each in bob.get(f"/v1/documents?group={first}").get_json()["items"]]
    assert names == ["first.txt"]
    assert [each["name"] for each in ada.get("/v1/documents").get_json()["items"]] == ["own.txt"]


def test_a_document_of_a_group_is_reached_by_role_and_by_no_other_way(app: App) -> None:
    ada, bob, cat, eve = (sign_in(app, uid) for uid in ("ada", "bob", "cat", "eve"))
    group, other = new_group(ada, editor=bob, viewer=cat), new_group(ada)
    document = put_up(app, bob, "attic.txt", group=group)
    path = f"/v1/documents/{document}"
    for user in (ada, bob, cat):
        assert user.get(f"{path}?group={group}").get_json()["status"] == "ready"
        assert user.get(f"{path}/text?group={group}").get_json()["text"].startswith(SECRET.decode())
        assert user.get(f"{path}/file?group={group}").status_code == 200
        assert code_of(user.get(path)) == (404, "not_found"), "it is nobody's own"
        assert code_of(user.get(f"{path}?library=true")) == (404, "not_found")
    assert code_of(ada.get(f"{path}?group={other}")) == (404, "not_found")
    assert code_of(cat.upload("more.txt", SECRET, group=group)) == (403, "forbidden")
    assert code_of(cat.delete(f"{path}?group={group}")) == (403, "forbidden")
    for route in (path, f"{path}/text", f"{path}/file", "/v1/documents"):
        assert code_of(eve.get(f"{route}?group={group}")) == (404, "not_found")
    assert code_of(eve.upload("more.txt", SECRET, group=group)) == (404, "not_found")
    assert code_of(eve.delete(f"{path}?group={group}")) == (404, "not_found")
    assert code_of(eve.post("/v1/documents", {"url": "https://example.com/a", "group": group})) == (404, "not_found")
    assert code_of(ada.get(f"{path}?group={group}&library=true")) == (400, "invalid_request")
    assert code_of(ada.post("/v1/documents", {"upload": "a.txt", "group": group})) == (404, "not_found")
    assert found(cat, group=group) == [("attic.txt", False)]
    assert bob.delete(f"{path}?group={group}").status_code == 204
    assert found(cat, group=group) == []


def found_by_agent(user: User, group: str) -> Any:
    arguments = {"query": "Where is the xylophone?", "group": group}
    request = {"name": "search", "arguments": arguments}
    answer = user.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": request}).get_json()
    return answer["result"]


def test_an_agent_finds_what_its_user_does_and_nothing_in_a_group_of_others(app: App) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group = new_group(ada)
    put_up(app, ada, "attic.txt", group=group)
    passages = found_by_agent(ada, group)["structuredContent"]["passages"]
    assert [passage["title"] for passage in passages] == ["attic.txt"]
    refused = found_by_agent(bob, group)
    assert refused["isError"] is True
    assert "xylophone" not in str(refused)


def test_a_removed_member_finds_and_reads_nothing_with_their_old_token(app: App) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group = new_group(ada, editor=bob)
    document = put_up(app, bob, "attic.txt", group=group)
    ada.delete(f"/v1/groups/{group}/members/bob")
    assert code_of(bob.get(f"/v1/documents/{document}?group={group}")) == (404, "not_found")
    assert code_of(bob.get(f"/v1/documents?group={group}")) == (404, "not_found")
    assert code_of(bob.post("/v1/search", {"query": "xylophone", "group": group})) == (404, "not_found")
    assert code_of(bob.upload("attic.txt", b"other", group=group)) == (404, "not_found")
    assert found(ada, group=group) == [("attic.txt", False)]


def test_the_groups_plan_counts_its_documents_and_not_the_members(make_app: Any) -> None:
    app = make_app(WITH_GROUPS + "documents = 1\n")
    ada = sign_in(app, "ada")
    group = new_group(ada)
    put_up(app, ada, "own.txt")
    put_up(app, ada, "first.txt", group=group)
    assert code_of(ada.upload("second.txt", SECRET, group=group)) == (409, "too_many_documents")


def test_with_a_group_its_documents_files_and_index_entries_are_erased(app: App) -> None:
    ada = sign_in(app, "ada")
    group = new_group(ada)
    put_up(app, ada, "own.txt")
    put_up(app, ada, "attic.txt", group=group)
    services: Any = app.services  # type: ignore[attr-defined]
    uid = str(Scope("demo").of_group(group).uid)
    report = erasure_of(services).report(uid)
    assert report.found["index_entries"] == report.found["documents"] == 1
    assert ada.delete(f"/v1/groups/{group}").status_code == 202
    run_jobs(app)
    assert erasure_of(services).report(uid).found == {}
    assert found(ada) == [("own.txt", False)]


def test_a_users_erasure_leaves_the_groups_documents_to_the_group(app: App) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    group = new_group(ada, editor=bob)
    put_up(app, bob, "attic.txt", group=group)
    erasure_of(app.services).run("bob")  # type: ignore[attr-defined]
    assert found(ada, group=group) == [("attic.txt", False)]
    assert [path for path in app.services.store.tree(f"apps/demo/groups/{group}") if "bob" in path] == []  # type: ignore[attr-defined]


def test_an_export_holds_no_documents_of_groups(app: App) -> None:
    import zipfile

    ada = sign_in(app, "ada")
    put_up(app, ada, "attic.txt", group=new_group(ada))
    job = ada.post("/v1/me/exports").get_json()["id"]
    run_jobs(app)
    archive = zipfile.ZipFile(io.BytesIO(ada.get(f"/v1/me/exports/{job}/file").data))
    assert not [name for name in archive.namelist() if b"xylophone" in archive.read(name)]
