"""A part of the matrix in a few seconds (`make deny-matrix` runs the whole), and proof that it would see a leak."""

from __future__ import annotations

from functools import cache

import pytest
from firelaunch.store.reserved_paths import built, kept
from firelaunch.testing.emulator import Emulator
from firelaunch_cli.rules import fragment
from support import ROOT

from deny_matrix.attempts import attempts, on_own_collections, own_places, places
from deny_matrix.composed import composed
from deny_matrix.rest import Rest
from deny_matrix.run import DENY_ALL, check_that_rules_bind, run
from deny_matrix.table import ALLOWED, MODEL, OWN, allows, role_in
from deny_matrix.tokens import PRINCIPAL, TOKENS

RULES = (ROOT / "firestore.rules").read_text()

WEAKENED = {
    "no uid is compared": (
        "&& request.auth.uid == uid",
        "",
        "bob, an admin of alpha: get (rest) apps/alpha/users/ada",
    ),
    "any signed-in user is a member": (
        "request.auth.token.apps[app].matches('[a-z0-9_-]{1,32}')",
        "request.auth != null",
        "ada, a member of beta: listen to a query (listen) apps/alpha",
    ),
    "a role may be anything": (".matches('[a-z0-9_-]{1,32}')", " != null", "ada, a role is a map: listen"),
    "more than two fields may change": (".hasOnly(", ".hasAny(", "rename and change the count"),
    "a title may be longer": ("size() <= 200", "size() <= 201", "rename too long"),
    "a title may be a list": ("request.resource.data.title is string", "true", "rename to a list"),
    "archived may be text": ("request.resource.data.archived is bool", "true", "archive with text"),
    "users write their own plan": (
        "match /users/{uid} {",
        "match /users/{uid} { allow write: if isSelf(app, uid);",
        "change a field of the server (rest) apps/alpha/users/ada should",
    ),
    "users make chats": (
        "allow update: if",
        "allow create: if isSelf(app, uid); allow update: if",
        "create (client) apps/alpha/users/ada/chats",
    ),
    "what lies below chunks is open": ("match /chunks/{chunk}", "match /chunks/{chunk=**}", "k1/parts/p1"),
    "members are listed": (
        "match /members/{uid} {",
        "match /members/{uid} { allow list: if isMember(app);",
        "/members",
    ),
    "any member of the app reads groups": (
        "isMember(app) && groupRole(app, group) in ['viewer', 'editor', 'owner']",
        "isMember(app)",
        "mallory, an admin of alpha, a member of beta: get (rest) apps/alpha/groups",
    ),
    "whoever has a role in a group reads it, also one that is none": (
        "groupRole(app, group) in ['viewer', 'editor', 'owner']",
        "groupRole(app, group) != null",
        "groups/seen-by-ada",
    ),
    "viewers rename a group's chats": ("in ['editor', 'owner']", "!= null", "groups/read-by-ada/chats/c1"),
    "a membership of a group elsewhere will do": (
        "documents/apps/$(app)/groups",
        "documents/apps/gamma/groups",
        "groups/left-by-ada",
    ),
    "who left a group is known by the entry that stays": (
        "get(/databases/$(database)/documents/apps/$(app)/groups/$(group)/members/$(request.auth.uid)).data.role",
        "get(/databases/$(database)/documents/apps/$(app)/users/$(request.auth.uid)/memberships/$(group)).data.role",
        "groups/left-by-ada",
    ),
    "a collection group is open to the signed-in": (
        "match /apps/{app} {",
        "match /{path=**}/chats/{chat} { allow read: if request.auth != null; } match /apps/{app} {",
        "the group",
    ),
}


def test_the_rules_answer_as_the_table_says(firestore_emulator: Emulator) -> None:
    sample = attempts()[::14]

    report = run(firestore_emulator, RULES, sample, jobs=2)

    assert report.holds, report.as_json()["examples"]
    assert report.allowed + report.denied == len(sample)


@cache
def texts() -> tuple[str, ...]:
    return tuple(map(str, attempts()))


@pytest.mark.parametrize(("old", "new", "aim"), WEAKENED.values(), ids=WEAKENED)
def test_a_rule_that_is_weakened_shows_as_leaks(firestore_emulator: Emulator, old: str, new: str, aim: str) -> None:
    assert old in RULES
    aimed = [attempt for attempt, text in zip(attempts(), texts(), strict=True) if aim in text]
    aimed = aimed[:: 1 + len(aimed) // 200]

    assert not run(firestore_emulator, RULES, aimed, jobs=1).leaks
    assert run(firestore_emulator, RULES.replace(old, new), aimed, jobs=1).leaks


def test_a_rule_that_denies_too_much_shows_as_well(firestore_emulator: Emulator) -> None:
    wanted = [attempt for attempt in attempts() if attempt.allowed and "usage" in attempt.operation.target]

    report = run(firestore_emulator, RULES.replace("match /usage/{day}", "match /used/{day}"), wanted[:50], jobs=1)

    assert len(report.refused) == 50


def test_a_client_that_rules_do_not_bind_is_found_out(firestore_emulator: Emulator, firestore_project: str) -> None:
    """Such as the Python client of an emulator, which adds an owner's token to every call."""
    rest = Rest(firestore_emulator.host, firestore_project)
    bound = firestore_emulator.client_as(firestore_project, {"sub": "ada"})
    owner = firestore_emulator.client(firestore_project)

    firestore_emulator.load_rules(firestore_project, DENY_ALL)
    check_that_rules_bind(rest, None, bound)
    for token, client in (("owner", bound), (None, owner)):
        with pytest.raises(RuntimeError, match="do not bind"):
            check_that_rules_bind(rest, token, client)


def test_the_matrix_has_five_thousand_distinct_attempts_and_each_token_at_each_place() -> None:
    keys = {(a.token, a.operation.way, a.operation.name, a.operation.target) for a in attempts()}
    assert len(keys) == len(attempts()) >= 5000
    assert {a.token for a in attempts()} == set(TOKENS)
    assert set(PRINCIPAL) <= set(TOKENS)
    for token in TOKENS:
        reached = {a.operation.target for a in attempts() if a.token == token}
        assert {place.path for place in places()} <= reached


def test_every_document_that_the_server_can_address_is_in_the_matrix() -> None:
    shapes = {tuple(place.template.split("/")[::2]) for place in places()}
    for name, path in built():
        document = path if len(path.split("/")) % 2 == 0 else f"{path}/x"
        assert tuple(document.split("/")[::2]) in shapes, f"Scope.{name} leads to {path}"


def test_rules_with_apps_own_in_them_answer_as_the_table_says(firestore_emulator: Emulator) -> None:
    sample = attempts()[5::14]

    report = run(firestore_emulator, composed(RULES), sample, jobs=2)

    assert report.holds, report.as_json()["examples"]
    assert report.allowed + report.denied == len(sample)


def test_clients_of_another_user_or_app_reach_nothing_of_an_apps_own_collections(firestore_emulator: Emulator) -> None:
    """Whatever the app's rules open to its own users."""
    sample = on_own_collections()[::5]
    assert {attempt.allowed for attempt in sample} == {True, False}

    report = run(firestore_emulator, composed(RULES), sample, jobs=2)

    assert report.holds, report.as_json()["examples"]
    assert report.allowed + report.denied == len(sample)


@pytest.mark.parametrize("guard", ["isSelf('alpha', uid)", "isMember('alpha')"])
def test_a_guard_that_the_composer_forgets_shows_as_leaks(firestore_emulator: Emulator, guard: str) -> None:
    rules = composed(RULES)
    assert guard in rules
    foreign = [attempt for attempt in on_own_collections() if not attempt.allowed and attempt.operation.way == "rest"]

    assert run(firestore_emulator, rules.replace(guard, "true"), foreign[::20], jobs=1).leaks


@pytest.mark.parametrize("collection", ["chunks", "postings"])
@pytest.mark.parametrize("place", ["apps/*/{}/**", "apps/*/users/*/{}/**"])
def test_a_composer_that_forgets_a_collection_is_found_out(
    place: str, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place.format(collection)
    without = tuple(other for other in kept() if other != tuple(place.split("/")))
    assert len(without) == len(kept()) - 1
    monkeypatch.setattr(fragment, "kept", lambda: without)
    with pytest.raises(AssertionError, match=f"opens what firelaunch keeps: .*{collection}"):
        composed(RULES)


def test_the_table_allows_nothing_outside_the_data_model_and_no_one_without_a_role() -> None:
    assert set(ALLOWED) <= set(MODEL)
    for place in places():
        for right in ("get", "list", "group", "create", "rename", "change", "delete"):
            assert not allows(None, place, right)
            assert not allows({"sub": place.uid, "apps": {"gamma": "admin"}}, place, right)
            assert right in {"get", "list", "rename"} or not allows(TOKENS["ada, an admin of alpha"], place, right)


def test_nobody_but_a_member_is_allowed_anything_in_an_apps_own_collections() -> None:
    assert not set(OWN) & {*ALLOWED, *MODEL}
    for place in own_places():
        writes = place.role in {"editor", "owner"} and "left-by" not in place.template
        for right in ("get", "list", "create", "rename", "change", "delete"):
            assert not allows(None, place, right)
            assert not allows({"sub": place.uid, "apps": {"gamma": "admin"}}, place, right)
            may = writes or (place.role == "viewer" and right in {"get", "list"})
            assert allows({"sub": place.uid, "apps": {place.app: "member"}}, place, right) == may


def test_a_role_is_text_under_the_apps_own_name() -> None:
    assert role_in({"apps": {"alpha": "member"}}, "alpha") == "member"
    for claims in (None, {}, {"apps": None}, {"apps": ["alpha"]}, {"apps": "alpha"}, {"apps": {"alpha": 1}}):
        assert role_in(claims, "alpha") is None
