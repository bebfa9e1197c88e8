"""Whoever is not in a group gets nothing of it, by any route that can name one: the routes are taken from OpenAPI."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, User, run_jobs, sign_in
from firelaunch.worker.tasks.export import EXPIRE, Expiry

WITH_GROUPS = SETTINGS + 'groups = 5\n\n[groups]\nchats_paid_by = "group"\nchats_on_erase = "anonymize"\n'
SECRET = "xylophone"
FOR_STRANGERS = {"/v1/groups/{group}/join"}
"""Routes that are for those who are not in the group. An invitation decides there."""


@pytest.fixture
def app(make_app: Any) -> App:
    made: App = make_app(WITH_GROUPS)
    return made


@pytest.fixture
def users(app: App) -> dict[str, User]:
    members = {uid: sign_in(app, uid) for uid in ("ada", "bob", "cat", "eve")}
    return {**members, "boss": sign_in(app, "boss", role="admin")}


@pytest.fixture
def group(app: App, users: dict[str, User]) -> dict[str, str]:
    """A group with something of everything in it, from which Bob, who was an owner, has been removed."""
    ada, bob = users["ada"], users["bob"]
    found = {"group": ada.post("/v1/groups", {"name": f"The {SECRET}"}).get_json()["id"]}
    path = f"/v1/groups/{found['group']}"
    found["invite"] = ada.post(f"{path}/invites", {"uses": 9}).get_json()["invite"]
    bob.post(f"{path}/join", {"invite": found["invite"], "name": SECRET})
    ada.patch(f"{path}/members/bob", {"role": "owner"})
    uploaded = bob.upload("attic.txt", f"The {SECRET} is in the attic.".encode(), group=found["group"])
    found["document"] = uploaded.get_json()["id"]
    found["job"] = uploaded.get_json()["job_id"]
    found["export"] = bob.post(f"{path}/exports", {}).get_json()["id"]
    found["chat"] = ada.post("/v1/chats", {"title": SECRET, "group": found["group"]}).get_json()["id"]
    said = ada.post(f"/v1/chats/{found['chat']}/messages", {"text": SECRET, "group": found["group"]})
    found["message"] = said.get_json()["message"]["id"]
    run_jobs(app)
    file = f"/v1/documents/{found['document']}/file?group={found['group']}"
    found["link"], found["own_link"] = (user.get(file).get_json()["url"] for user in (bob, ada))
    exported = f"{path}/exports/{found['export']}"
    found["export_link"], found["own_export_link"] = (user.get(exported).get_json()["url"] for user in (bob, ada))
    found["cursor"] = bob.get(f"{path}/members?limit=1").get_json()["next_cursor"]
    assert ada.delete(f"{path}/members/bob").status_code == 204
    return found


def operations(app: App) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, the path and a body of each route that can name a group."""
    document = app.test_client().get("/openapi.json?admins=true").get_json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names = {parameter.get("name") for parameter in operation.get("parameters", ())}
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            schema = document["components"]["schemas"].get(name, {})
            takes = "group" in schema.get("properties", {})
            if takes or "group" in names:
                yield method, path, {**(schema.get("example") or {}), **({"group": None} if takes else {})}


def tried(user: User, method: str, path: str, body: dict[str, Any], ids: dict[str, str]) -> Any:
    """Ask a route for the group, with ids that there are in it."""
    one = next((kind for kind in ("document", "job", "export", "chat") if kind in path), "group")
    target = path.replace("{group}", ids["group"]).replace("{id}", ids[one]).replace("{uid}", "ada")
    target = target.replace("{message}", ids["message"]).replace("{file}", "f1")
    query = "" if "{group}" in path else f"?group={ids['group']}"
    content = {**body, **({"group": ids["group"]} if "group" in body else {})}
    send = getattr(user.client, method)
    options = {"json": content} if method in {"post", "put", "patch"} else {}
    return send(target + query, headers={"Authorization": f"Bearer {user.token}"}, **options)


@pytest.mark.parametrize("who", ["eve", "bob", "boss"])
def test_no_route_lets_a_stranger_a_removed_owner_or_an_admin_into_a_group(
    app: App, users: dict[str, User], group: dict[str, str], who: str
) -> None:
    store = app.services.store  # type: ignore[attr-defined]
    root = f"apps/demo/groups/{group['group']}"
    before = {path: store.get(path) for path in store.tree(root)}
    routes = [each for each in operations(app) if each[1] not in FOR_STRANGERS]
    assert len(routes) > 20
    for method, path, body in routes:
        answer = tried(users[who], method, path, body, group)
        # A body may be refused before the group is looked at; nothing else is said of it than that it is not there.
        assert answer.status_code in {400, 403, 404, 405}, (method, path, answer.status_code, answer.data[:200])
        assert SECRET not in answer.get_data(as_text=True), (method, path)
        if answer.status_code == 403:
            assert answer.get_json()["error"]["code"] == "removed", (method, path)
    assert {path: store.get(path) for path in store.tree(root)} == before, "nothing was written either"


@pytest.mark.parametrize("who", ["ada", "cat"])
def test_no_route_leads_anybody_into_a_deleted_group_whose_data_is_still_there(
    app: App, users: dict[str, User], group: dict[str, str], who: str
) -> None:
    path = f"/v1/groups/{group['group']}"
    invite = users["ada"].post(f"{path}/invites", {}).get_json()["invite"]
    users["cat"].post(f"{path}/join", {"invite": invite})
    users["ada"].patch(f"{path}/members/cat", {"role": "owner"})
    assert users["ada"].delete(path).status_code == 202
    store = app.services.store  # type: ignore[attr-defined]
    root = f"apps/demo/groups/{group['group']}"
    before = {each: store.get(each) for each in store.tree(root)}
    assert f"{root}/members/cat" in before, "no job has run yet"
    for method, route, body in (each for each in operations(app) if each[1] not in FOR_STRANGERS):
        answer = tried(users[who], method, route, body, group)
        assert answer.status_code in {400, 404, 405}, (method, route, answer.status_code, answer.data[:200])
        assert SECRET not in answer.get_data(as_text=True), (method, route)
    assert {each: store.get(each) for each in store.tree(root)} == before


def test_a_member_of_the_group_is_let_in_by_the_same_requests(
    app: App, users: dict[str, User], group: dict[str, str]
) -> None:
    """So that the refusals above are not those of requests that nobody could make."""
    read = [each for each in operations(app) if each[0] == "get"]
    let_in = [path for method, path, body in read if tried(users["ada"], method, path, body, group).status_code == 200]
    assert {"/v1/groups/{group}", "/v1/groups/{group}/members", "/v1/groups/{group}/exports/{id}"} <= set(let_in)
    assert {"/v1/chats", "/v1/chats/{id}", "/v1/chat/{id}"} <= set(let_in)
    assert {"/v1/documents", "/v1/documents/{id}", "/v1/documents/{id}/text", "/v1/jobs/{id}"} <= set(let_in)


def test_ids_of_a_group_lead_nowhere_without_it_or_with_another(users: dict[str, User], group: dict[str, str]) -> None:
    ada, bob = users["ada"], users["bob"]
    others = bob.post("/v1/groups", {"name": "Bob's"}).get_json()["id"]
    places = ("", f"?group={others}", "?library=true")
    document = f"/v1/documents/{group['document']}"
    for user in (ada, bob):
        for place in places:
            for path in (document, f"{document}/text", f"{document}/file"):
                assert user.get(path + place).status_code == 404, (path, place)
            assert user.delete(document + place).status_code in {403, 404}
    assert bob.get(f"/v1/jobs/{group['job']}?group={others}").status_code == 404
    assert bob.get(f"/v1/groups/{others}/exports/{group['export']}").status_code == 404
    assert bob.get(f"/v1/groups/{others}/members?cursor={group['cursor']}").status_code == 400


def test_an_editor_neither_sees_nor_cancels_the_owners_export_though_its_id_can_be_computed(
    app: App, users: dict[str, User], group: dict[str, str]
) -> None:
    ada, cat = users["ada"], users["cat"]
    path = f"/v1/groups/{group['group']}"
    invite = ada.post(f"{path}/invites", {"role": "editor"}).get_json()["invite"]
    cat.post(f"{path}/join", {"invite": invite})
    place = app.services.store.scope.of_group(group["group"])  # type: ignore[attr-defined]
    expiry = app.services.jobs.prepare(place, EXPIRE, Expiry(export=group["export"]), key=group["export"])  # type: ignore[attr-defined]
    for job in (group["export"], expiry.job_id):
        for user, status in ((cat, 404), (users["eve"], 404), (ada, 200)):
            assert user.get(f"/v1/jobs/{job}?group={group['group']}").status_code == status
        assert cat.post(f"/v1/jobs/{job}/cancel?group={group['group']}").status_code == 404
    assert ada.post(f"/v1/jobs/{expiry.job_id}/cancel?group={group['group']}").status_code == 200
    assert cat.get(f"/v1/jobs/{group['job']}?group={group['group']}").status_code == 200


@pytest.mark.parametrize(
    "name", ["../{group}", "{group}/members/ada", "group~{group}", "{group}%2f..%2f{group}", "{group} ", "*", "__x__"]
)
def test_ids_that_are_none_name_no_group(users: dict[str, User], group: dict[str, str], name: str) -> None:
    tried_id = name.format(group=group["group"])
    for user in (users["ada"], users["bob"]):
        assert user.post("/v1/search", {"query": SECRET, "group": tried_id}).status_code in {400, 404}
        answer = user.client.get(
            "/v1/documents", query_string={"group": tried_id}, headers={"Authorization": f"Bearer {user.token}"}
        )
        assert answer.status_code in {400, 404}
        assert user.upload("x.txt", b"x", group=tried_id).status_code in {400, 404}


def test_a_user_named_as_a_group_is_nobody(app: App, group: dict[str, str]) -> None:
    impostor = sign_in(app, f"group~{group['group']}")
    assert impostor.get("/v1/documents").status_code in {400, 401, 403}
    assert SECRET not in impostor.get("/v1/documents").get_data(as_text=True)


def test_a_removed_members_invitations_cursors_and_links_end(
    app: App, users: dict[str, User], group: dict[str, str]
) -> None:
    ada, bob = users["ada"], users["bob"]
    path = f"/v1/groups/{group['group']}"
    second = sign_in(app, "bob-again")
    for user in (bob, second):
        assert user.post(f"{path}/join", {"invite": group["invite"]}).status_code == 403
    assert bob.get(f"{path}/members?limit=1&cursor={group['cursor']}").status_code == 404
    assert ada.get(f"{path}/members?limit=1&cursor={group['cursor']}").status_code == 200
    for name in ("link", "export_link"):
        assert fetched(app, group[name]) == 404, name
        assert fetched(app, group[f"own_{name}"]) == 200, "those of who is still an owner work"
        # The part that names the member is signed.
        about = group[f"own_{name}"].partition("?key=")[2].partition(".")[0]
        assert fetched(app, group[name].replace(group[name].partition("?key=")[2].partition(".")[0], about)) == 404
    assert fetched(app, group["own_link"].replace(group["document"], "d" + "0" * 31)) == 404
    ada.delete(f"/v1/documents/{group['document']}?group={group['group']}")
    assert fetched(app, group["own_link"]) == 404


def test_a_link_to_a_groups_export_ends_when_who_got_it_is_no_owner_any_more(
    app: App, users: dict[str, User], group: dict[str, str]
) -> None:
    ada, cat, path = users["ada"], users["cat"], f"/v1/groups/{group['group']}"
    invite = ada.post(f"{path}/invites", {}).get_json()["invite"]
    cat.post(f"{path}/join", {"invite": invite})
    ada.patch(f"{path}/members/cat", {"role": "owner"})
    cats = cat.get(f"{path}/exports/{group['export']}").get_json()["url"]
    file = cat.get(f"/v1/documents/{group['document']}/file?group={group['group']}").get_json()["url"]
    assert (fetched(app, cats), fetched(app, file)) == (200, 200)
    ada.patch(f"{path}/members/cat", {"role": "viewer"})
    assert (fetched(app, cats), fetched(app, file)) == (404, 200), "viewers read documents, and export nothing"
    ada.delete(path)
    for link in (file, group["own_link"], group["own_export_link"]):
        assert fetched(app, link) == 404, "the group is deleted, and no job has run yet"


def fetched(app: App, link: str) -> int:
    """Return the status of a link that anybody follows, without a token."""
    return int(app.test_client().get(link.removeprefix("http://localhost")).status_code)


def test_an_agent_of_a_stranger_or_a_removed_owner_finds_nothing(users: dict[str, User], group: dict[str, str]) -> None:
    call = {"name": "search", "arguments": {"query": SECRET, "group": group["group"]}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    assert SECRET in users["ada"].post("/mcp", request).get_data(as_text=True).replace(f'"query": "{SECRET}"', "")
    for who in ("eve", "bob", "boss"):
        answer = users[who].post("/mcp", request)
        assert answer.get_json()["result"]["isError"] is True
        assert "attic" not in answer.get_data(as_text=True)


def test_an_agent_finds_nothing_in_a_deleted_group(users: dict[str, User], group: dict[str, str]) -> None:
    ada, cat, path = users["ada"], users["cat"], f"/v1/groups/{group['group']}"
    invite = ada.post(f"{path}/invites", {"role": "editor"}).get_json()["invite"]
    cat.post(f"{path}/join", {"invite": invite})
    tools = {"search": {"query": "x"}, "list_chats": {}, "ask": {"text": "x", "chat_id": group["chat"]}}
    for ended in (False, True):
        for name, arguments in tools.items():
            params = {"name": name, "arguments": {**arguments, "group": group["group"]}}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            result = cat.post("/mcp", body, Accept="application/json").get_json()["result"]
            assert result.get("isError", False) is ended, (name, result)
        ada.delete(path)


def test_an_export_of_a_user_holds_nothing_of_a_group_that_removed_them(
    app: App, users: dict[str, User], group: dict[str, str]
) -> None:
    import zipfile

    job = users["bob"].post("/v1/me/exports").get_json()["id"]
    run_jobs(app)
    archive = zipfile.ZipFile(io.BytesIO(users["bob"].get(f"/v1/me/exports/{job}/file").data))
    assert SECRET not in "".join(archive.read(name).decode("utf-8", "replace") for name in archive.namelist())
