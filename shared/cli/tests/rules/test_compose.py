"""An app's own rules work for its members, and whatever they say they open nothing else to anybody."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firelaunch
import pytest
from firelaunch.scope import Scope, check_id
from firelaunch.store.reserved_paths import built, kept
from firelaunch.testing.emulator import Emulator, unsigned_token
from firelaunch_cli.rules.compose import Composed, CompositionRefused, compile_problems, compose
from firelaunch_cli.rules.fragment import Fragment
from firelaunch_cli.rules.paths import overlap, pattern
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from rules_tester.client import Operation, RestClient
from rules_tester.values import ReferenceValue

BASE = (Path(__file__).parents[4] / "firestore.rules").read_text()

NOTES = """\
// Notes are a user's own; boards are the app's.
function short(text) { return text is string && text.size() / 2 < 50; }

match /users/{uid}/notes/{note} {
  allow read, delete;
  allow create, update: if short(request.resource.data.text) // a ; and a ' in a comment
    && request.resource.data.keys().hasOnly(['text']);
}

match /boards/{board} {
  allow read: if true;
  match /posts/{post} {
    allow create: if request.auth.token.apps['notes'] == 'admin';
  }
}
"""

USERS: dict[str, dict[str, Any] | None] = {
    "ada": {"sub": "ada", "apps": {"notes": "member"}},
    "ann": {"sub": "ann", "apps": {"notes": "admin"}},
    "bob": {"sub": "bob", "apps": {"shop": "admin"}},
    "ada of the shop": {"sub": "ada", "apps": {"shop": "member"}},
    "no role": {"sub": "ada"},
    "stranger": None,
}


def fragment(text: str, app: str = "notes") -> Fragment:
    return Fragment(app, f"apps/{app}/firestore.rules", text)


def built_rules(*fragments: Fragment) -> Composed:
    return compose(BASE, fragments)


def refusals(text: str) -> list[str]:
    with pytest.raises(CompositionRefused) as refused:
        built_rules(fragment(text))
    return [str(problem) for problem in refused.value.problems]


class World:
    """An emulator project with documents, under rules that are changed."""

    def __init__(self, emulator: Emulator, project: str) -> None:
        self._emulator, self._project = emulator, project
        self._client = RestClient(emulator.host, project)
        self.base: dict[tuple[str, str, str], bool] = {}

    def put(self, *paths: str) -> None:
        self._client.put({path: {"text": "x"} for path in paths})

    def put_all(self, documents: dict[str, dict[str, Any]]) -> None:
        self._client.put(documents)

    def under(self, rules: Composed | str) -> World:
        text = rules if isinstance(rules, str) else rules.text
        self._emulator.load_rules(self._project, text)
        return self

    def may(self, user: str, kind: Any, path: str, **data: Any) -> bool:
        claims = USERS[user]
        token = None if claims is None else unsigned_token(self._project, claims)
        return self._client.allowed(Operation(kind, path, data), token)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def world(firestore_emulator: Emulator, firestore_project: str) -> Iterator[World]:
    found = World(firestore_emulator, firestore_project)
    yield found
    found.close()


def test_a_fragment_works_for_the_apps_members_and_for_nobody_else(world: World) -> None:
    world.put(
        "apps/notes/users/ada/notes/n", "apps/notes/boards/b", "apps/shop/users/ada/notes/n", "apps/shop/boards/b"
    )
    world.under(built_rules(fragment(NOTES)))
    assert world.may("ada", "get", "apps/notes/users/ada/notes/n")
    assert world.may("ada", "list", "apps/notes/users/ada/notes")
    assert world.may("ada", "create", "apps/notes/users/ada/notes/new", text="short")
    assert not world.may("ada", "create", "apps/notes/users/ada/notes/long", text="x" * 100)
    assert not world.may("ada", "create", "apps/notes/users/ada/notes/more", text="x", admin=True)
    assert world.may("ada", "get", "apps/notes/boards/b")
    assert not world.may("ada", "create", "apps/notes/boards/b/posts/p", text="x")
    assert world.may("ann", "create", "apps/notes/boards/b/posts/p", text="x")
    # Another member's notes are closed though the fragment's own allow has no condition at all.
    assert not world.may("ann", "get", "apps/notes/users/ada/notes/n")
    assert not world.may("ann", "list", "apps/notes/users/ada/notes")
    for user in ("bob", "ada of the shop", "no role", "stranger"):
        assert not world.may(user, "get", "apps/notes/users/ada/notes/n"), user
        assert not world.may(user, "create", "apps/notes/users/ada/notes/theirs", text="x"), user
        assert not world.may(user, "get", "apps/notes/boards/b"), user
        assert not world.may(user, "list", "apps/notes/boards"), user
    for user in USERS:
        assert not world.may(user, "get", "apps/shop/boards/b"), user
        assert not world.may(user, "get", "apps/shop/users/ada/notes/n"), user
        assert not world.may(user, "group", "notes"), user


GROUP_MEALS = """\
match /groups/{group}/meals/{meal} {
  allow read;
  allow create, update: if request.resource.data.text is string;
}
"""


def test_rules_below_a_group_are_for_its_members_by_their_role(world: World) -> None:
    world.put("apps/notes/groups/g/meals/m", "apps/notes/groups/other/meals/m", "apps/shop/groups/g/meals/m")
    roles = {"ada": "viewer", "ann": "editor", "bob": "owner"}
    world.put_all({f"apps/notes/groups/g/members/{uid}": {"role": role} for uid, role in roles.items()})
    world.put_all({"apps/shop/groups/g/members/ada": {"role": "owner"}})
    world.under(built_rules(fragment(GROUP_MEALS)))
    for user in ("ada", "ann"):
        assert world.may(user, "get", "apps/notes/groups/g/meals/m"), user
        assert world.may(user, "list", "apps/notes/groups/g/meals"), user
    assert world.may("ann", "create", "apps/notes/groups/g/meals/new", text="x")
    assert not world.may("ann", "create", "apps/notes/groups/g/meals/odd", text=1)
    assert not world.may("ada", "create", "apps/notes/groups/g/meals/mine", text="x")
    for user in ("bob", "ada of the shop", "no role", "stranger"):  # bob is an owner who left the app
        assert not world.may(user, "get", "apps/notes/groups/g/meals/m"), user
        assert not world.may(user, "create", "apps/notes/groups/g/meals/theirs", text="x"), user
    for user in USERS:
        assert not world.may(user, "get", "apps/notes/groups/other/meals/m"), user
        assert not world.may(user, "get", "apps/shop/groups/g/meals/m"), user
        assert not world.may(user, "delete", "apps/notes/groups/g/meals/m"), user


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("match /groups/{g}/meals/{m} { allow read, write; }", "write two allows"),
        ("match /groups/mine/meals/{m} { allow read; }", "names one group"),
        ("match /groups/{g} { allow read; }", "firelaunch keeps"),
        ("match /groups/{g}/members/{m} { allow read; }", "firelaunch keeps"),
        ("match /groups/{g}/invites/{m} { allow read; }", "firelaunch keeps"),
        ("match /groups/{g}/{rest=**} { allow read; }", "firelaunch keeps"),
        ("match /{any}/{g}/meals/{m} { allow read; }", "firelaunch keeps"),
        ("match /boards/{b} { allow read: if isGroupMember('shop', b); }", "take it out"),
        ("match /boards/{b} { allow read: if groupRole('shop', b) == 'owner'; }", "take it out"),
    ],
)
def test_a_fragment_reaches_no_group_but_by_the_guard_of_its_own_app(text: str, says: str) -> None:
    assert any(says in refusal for refusal in refusals(text)), refusals(text)


def test_groups_need_base_rules_that_know_them() -> None:
    base = re.sub(r"function isGroupMember.*?\n    }\n", "", BASE, flags=re.DOTALL)
    base = re.sub(r"      match /groups/\{group\} \{.*?\n      }\n", "", base, flags=re.DOTALL)
    with pytest.raises(CompositionRefused, match="have no groups"):
        compose(base, [fragment(GROUP_MEALS)])


def test_two_apps_may_use_the_same_names_each_for_its_own(world: World) -> None:
    world.put("apps/notes/boards/b", "apps/shop/boards/b")
    text = "function open() { return true; }\nmatch /boards/{b} { allow get: if open(); }"
    shut = text.replace("true", "false")
    world.under(built_rules(fragment(text), fragment(shut, "shop")))
    assert world.may("ada", "get", "apps/notes/boards/b")
    assert not world.may("bob", "get", "apps/shop/boards/b")


def test_what_is_built_marks_each_block_and_is_the_same_bytes_whatever_the_order() -> None:
    one, two = fragment(NOTES), fragment("match /carts/{c} { allow get; }", "shop")
    text = built_rules(one, two).text
    assert text == built_rules(two, one).text == built_rules(two, fragment(NOTES.replace("\n", "\r\n"))).text
    assert re.findall(r"// (\w+ app \w+)", text) == [
        "begin app notes",
        "end app notes",
        "begin app shop",
        "end app shop",
    ]
    assert built_rules(one, two).apps == ("notes", "shop")
    without = re.sub(r"\n    // begin app (\w+)\n.*?// end app \1\n", "", text, flags=re.DOTALL)
    assert without == BASE


def test_every_line_that_is_built_is_known_by_where_it_came_from() -> None:
    text = "// 1\n\nmatch /a/{b} {\n  // 4\n  function f(x) {\n    return x; }\n  allow get;\n}\n// 9"
    composed = built_rules(fragment(text), fragment(f"\n\n{text}", "shop"))
    found: dict[str, list[tuple[int, str]]] = {}
    for line, (file, number) in zip(composed.text.split("\n"), composed.origins, strict=True):
        found.setdefault(file, []).append((number, re.sub(": if is.*;", ";", line.strip())))
    for file, source, begins in (
        ("firestore.rules", BASE, 1),
        ("apps/notes/firestore.rules", text, 1),
        ("apps/shop/firestore.rules", text, 3),
    ):
        plain = [re.sub(": if is.*;", ";", line.strip()) for line in source.split("\n")]
        assert {*enumerate(plain, begins)} <= {*found[file]}
    assert len(found["firestore.rules"]) == BASE.count("\n") + 1


@pytest.mark.parametrize("text", ["", "// Nothing yet.\n", "/* nothing */"])
def test_without_rules_of_its_own_an_app_changes_nothing(text: str) -> None:
    assert built_rules().text == built_rules(fragment(text)).text == BASE


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/{document=**}", "app's own document"),
        ("/{any}/{id}", " more, which"),
        ("/members/{uid}", "members"),
        ("/members/ada/notes/{id}", "members"),
        ("/{any}/{id}/{rest=**}", " more, which"),
        ("/library/{document}", "library"),
        ("/library/{document}/comments/{id}", "library"),
        ("/jobs/{job}", "jobs"),
        ("/chunks/{chunk}", "chunks"),
        ("/chunks/{chunk=**}", "chunks"),
        ("/users/{uid}/chunks/{chunk}", "users/{}/chunks"),
        ("/{any}/{uid}/chunks/{chunk}", " more, which"),
        ("/users/{rest=**}/chunks/{chunk}", "users/{}"),
        ("/vectors/{vector}", "vectors"),
        ("/boards/{board}/chunks/{chunk}", ""),
        ("/requests/{r}", "requests"),
        ("/calls/{call}", "calls"),
        ("/billing_events/{event}", "billing_events"),
        ("/users/{uid}", "users/{}"),
        ("/users/ada", "users/{}"),
        ("/users/{uid}/{any}/{id}", " more, which"),
        ("/users/{rest=**}", "users/{}"),
        ("/users/{uid}/{rest=**}", "users/{}"),
        ("/users/{uid}/chats/{chat}", "users/{}/chats"),
        ("/users/{uid}/chats/{chat}/reactions/{id}", "users/{}/chats"),
        ("/users/{uid}/documents/{document}", "users/{}/documents"),
        ("/users/{uid}/usage/{day}", "users/{}/usage"),
        ("/notes/{rest=**}/{any}/{id}", ""),
        ("/{rest=**}/notes/{id}", " more, which"),
        ("/users/ada/notes/{id}", "names one user"),
        ("/notes", "path of a collection"),
        ("/users/{uid}/notes", "path of a collection"),
    ],
)
def test_a_match_that_reaches_what_the_base_keeps_is_refused(path: str, place: str) -> None:
    text = f"\n\nmatch {path} {{\n  allow get: if false;\n}}\n"
    if not place:
        assert built_rules(fragment(text)).apps == ("notes",)
        return
    (problem,) = refusals(text)
    assert problem.startswith("apps/notes/firestore.rules:4: ")
    assert place in problem
    first, _, rest = path[1:].partition("/")
    if rest:
        (nested,) = refusals(f"match /{first} {{ match /{rest} {{\n allow write; }} }}")
        assert problem.partition(": ")[2] == nested.partition(": ")[2]


def test_a_path_that_only_a_new_base_has_is_kept_as_well() -> None:
    base = BASE.replace(
        "match /members/{uid} {", "match /plans/{plan} { allow get: if isMember(app); }\nmatch /members/{uid} {"
    )
    with pytest.raises(CompositionRefused, match="plans"):
        compose(base, [fragment("match /plans/{plan} { allow get; }")])


def test_every_path_that_a_scope_can_build_is_kept() -> None:
    for name, path in built():
        document = path if len(path.split("/")) % 2 == 0 else f"{path}/x"
        assert any(overlap(place, tuple(document.split("/"))) for place in kept()), f"Scope.{name} leads to {path}"


def test_no_module_builds_a_path_that_no_scope_can() -> None:
    """The composer would not know of it."""
    source = Path(firelaunch.__file__).parent
    folders_of_the_bucket = {"uploads", "incoming"}
    names = {part for place in kept() for part in place} | {"users"} | folders_of_the_bucket
    for path in source.rglob("*.py"):
        if path.relative_to(source).parts[0] in {"testing", "scope.py"}:
            continue
        told = re.findall(r"f\"(?:apps/\{[^}]*\}|\{(?:[\w.]+\.)?root\})/(\w+)", path.read_text())
        assert set(told) <= names, f"{path} builds a path of its own: add a method to Scope"


@pytest.mark.parametrize(
    "method",
    [
        lambda self: f"{self.root}/boxes",
        lambda self, term: f"{self.root}/boxes/{term}",
        lambda self, term, shard: f"{self.root}/boxes/{check_id(term)}/shards/{shard + 1}",
        lambda self, day, *, library: f"{self.root}/{'shelf' if library else 'boxes'}/{day.isoformat()}",
        lambda self, terms: [f"{self.root}/boxes/{term}" for term in terms],
        property(lambda self: f"{self.root}/boxes"),
        lambda self: Scope.chats(self).replace("chats", "boxes"),
    ],
    ids=["collection", "document", "below a document", "by a switch", "several", "property", "a user's alone"],
)
def test_a_path_that_is_added_to_scope_is_kept_at_once(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"match {path} {{ allow read; }}" for path in ("/users/{u}/boxes/{id}", "/users/{u}/boxes/{r=**}")]
    assert all(built_rules(fragment(text)).apps for text in texts)
    monkeypatch.setattr(Scope, "boxes", method, raising=False)
    monkeypatch.setattr("firelaunch_cli.rules.fragment.kept", kept.__wrapped__)  # which a process derives once
    for text in texts:
        assert "boxes" in refusals(text)[0]
    assert built_rules(fragment("match /users/{u}/other/{id} { allow read; }")).apps


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (lambda self, name: f"{self.root}/{name}/x", "names a collection by its argument"),
        (lambda self, number: f"{self.root}/shard{number + 1 - 1}/x", "names a collection by its argument"),
        (lambda self, of: f"{self.root}/things/{of.key}", "add what it takes"),
    ],
    ids=["by a name", "by a number", "of something else"],
)
def test_a_path_of_scope_that_cannot_be_known_stops_the_composer(
    method: Any, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scope, "unknown", method, raising=False)
    monkeypatch.setattr("firelaunch_cli.rules.fragment.kept", kept.__wrapped__)  # which a process derives once
    with pytest.raises(TypeError, match=f"Scope.unknown .*{says}"):
        built_rules(fragment("match /notes/{n} { allow read; }"))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("match /a/{b} { allow get; }\n}\nmatch /x/{y} { allow get;", 2, "closes nothing"),
        ("match /a/{b} {\n allow get; }\n}}} service x {", 3, "closes nothing"),
        ("match /a/{b} {\n allow get;", 1, "not closed"),
        ("rules_version = '2';\n", 1, "rules_version"),
        ("\nservice cloud.firestore {\n}", 2, "service"),
        ("match /databases/{database}/documents/apps/{app} {\n allow get; }", 2, "matches no document"),
        ("match /a/{b} {\n allow get: if true) || (true; }", 2, "no statement"),
        ("match /a/{b} {\n allow get: true; }", 2, "begins with 'if'"),
        ("match /a/{b} {\n alow get; }", 2, "no statement"),
        ("match /a/$(b) {\n allow get; }", 1, "the path cannot be read"),
        ("match /../b/{c} {\n allow get; }", 1, "'..' names no collection"),
        ("match /a'/{b} {\n allow get; }", 1, '"a\'" names no collection'),
        ("match /a/* {\n allow get; }", 1, "'*' names no collection"),
        ("match /(default)/{b} {\n allow get; }", 1, "'(default)' names no collection"),
        ("match /a/{b} {\n allow get: if b == 'x; }", 2, "left open"),
        ("match /a/{b} {\n allow get; }\n/* open", 3, "comment is left open"),
        ("match /a/{b} {\n allow get; } // \x00", 2, "U+0000"),
        ("match /a/{b} {\n allow get; } // \r }", 2, "U+000D"),
        ("match /a/{b} {\n allow get; } // \u2028 }", 2, "U+2028"),
        ("\nfunction isMember(app) { return true; }\n", 2, "isMember would hide"),
        ("match /a/{b} {\n function isSelf(a, b) { return true; } allow get; }", 2, "isSelf would hide"),
        ("function debug(x) { return x; }", 1, "debug would hide"),
        ("match /a/{request} {\n allow get; }", 1, "{request} has a meaning"),
        ("match /a/{isMember} {\n allow get; }", 1, "{isMember} has a meaning"),
        ("match /users/{uid}/notes/{n} {\n match /x/{uid} { allow get; } }", 2, "stands twice"),
        ("function f() {\n let request = 1; return true; }", 2, "request has a meaning"),
        ("match /a/{b} {\n allow get: if get(b).data.x; }", 2, "looks documents up"),
        ("match /a/{b} {\n allow get: if !exists (b); }", 2, "looks documents up"),
        ("match /a/{b} {\n allow get: if b in\n existsAfter(b); }", 3, "looks documents up"),
        (
            "match /a/{b} {\n allow get: if get(/databases/$(database)/documents/apps/b).data.x; }",
            2,
            "may be another app's",
        ),
        ("match /a/{b} {\n allow get: if firestore.get(b); }", 2, "without firestore"),
        ("match /a/{b} {\n allow get: if isMembr('x'); }", 2, "no function isMembr"),
        ("// begin app shop\nmatch /a/{b} { allow get; }", 1, "mark around an app's block"),
        ("allow get: if true;", 1, "app's own document"),
        ("match /a/{b} {" * 30, 1, "nested more than"),
    ],
)
def test_a_fragment_that_is_no_plain_list_of_matches_is_refused_with_its_line(text: str, line: int, says: str) -> None:
    problems = refusals(text)
    assert any(p.startswith(f"apps/notes/firestore.rules:{line}: ") and says in p for p in problems), problems


ESCAPE = "; } } match /{r=**} { allow read, write: if true; } match /c { match /d/{e} { allow get: if true"


def escaping(left: str, right: str) -> str:
    """A fragment with code that would open everything, between pieces that might hide it from the composer alone."""
    return f"match /a/{{b}} {{ allow get: if {left}{ESCAPE}{right}; }}"


def test_a_quote_in_a_path_cannot_hide_code(world: World) -> None:
    """The compiler takes these quotes for parts of paths, so that what seems to be a string between them is code."""
    text = escaping("b == /x'", " && b == /y'")
    wrapped = built_rules(fragment("match /a/{b} { allow get; }")).text
    naive = wrapped.replace("match /a/{b} { allow get: if isMember('notes'); }", text)
    assert world.under(naive).may("stranger", "get", "apps/notes/users/ada")
    assert "closes nothing" in refusals(text)[0]


def test_all_problems_of_all_fragments_are_told_at_once() -> None:
    with pytest.raises(CompositionRefused) as refused:
        built_rules(
            fragment("match /jobs/{j} { allow get; }", "shop"),
            fragment("match /members/{m} { allow get;\n allow list: if nope(); }"),
        )
    places = [(problem.file, problem.line) for problem in refused.value.problems]
    assert places == [
        ("apps/notes/firestore.rules", 1),
        ("apps/notes/firestore.rules", 2),
        ("apps/notes/firestore.rules", 2),
        ("apps/shop/firestore.rules", 1),
    ]


LAST_LINE = len(BASE.splitlines())


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (lambda text: text.replace("'2'", "'1'"), 1, "'2'; is expected"),
        (lambda text: text.replace("function isSelf(app, uid)", "function isSelf(uid)"), 12, "bound by isSelf"),
        (lambda text: text.replace("isMember", "member"), 12, "bound by isMember"),
        (
            lambda text: text + "service x { function f() { return 1; } }",
            LAST_LINE,
            "beside the one service",
        ),
        (lambda text: text + "function f() { return 1; }", LAST_LINE, "beside the one service"),
        (lambda text: text.replace("service cloud.firestore", "service firebase.storage"), 9, "beside the one service"),
        (lambda _: built_rules(fragment(NOTES)).text, LAST_LINE, "a built file"),
    ],
)
def test_a_base_that_cannot_carry_fragments_is_refused(change: Callable[[str], str], line: int, says: str) -> None:
    with pytest.raises(CompositionRefused) as refused:
        compose(change(BASE), [fragment(NOTES)])
    (problem,) = refused.value.problems
    assert says in problem.message.replace('"', "'")
    assert problem.file == "firestore.rules"
    assert abs(problem.line - line) <= 2


def test_rules_that_are_too_large_for_firebase_are_refused() -> None:
    with pytest.raises(CompositionRefused, match="262144 bytes"):
        built_rules(fragment(f"// {'x' * 262144}\nmatch /a/{{b}} {{ allow get; }}"))


def test_a_condition_that_does_not_compile_is_told_by_the_fragments_own_line() -> None:
    bad = "// One.\n\nmatch /a/{b} {\n  allow get: if b ==\n    * 2;\n}\n"
    with pytest.raises(CompositionRefused) as refused:
        built_rules(fragment(NOTES), fragment(bad, "shop"))
    assert [(p.file, p.line) for p in refused.value.problems] == [("apps/shop/firestore.rules", 5)]
    assert "holds at least one" in refusals("match /a/{b} { }")[0]


def test_what_the_compiler_says_is_told_by_the_line_where_it_came_from(firestore_emulator: Emulator) -> None:
    """The parser refuses what the compiler does. Where an emulator of another release differs, its word is told too."""
    composed = built_rules(fragment(NOTES))
    assert compile_problems(composed, firestore_emulator) == []
    broken = Composed(composed.text.replace("== 'admin'", "== * 'admin'"), composed.apps, composed.origins)
    problems = compile_problems(broken, firestore_emulator)
    assert {(p.file, p.line) for p in problems} == {("apps/notes/firestore.rules", 13)}


@pytest.mark.parametrize(
    "text",
    [
        "match /a/{b} { allow get: if b == 'x' }",
        "match /a/{b} { allow get\n allow list: if true }",
        "match /a/{b=*} { allow get: if true // why ; }\n }",
        "match /a\n/{b} /* c */ { allow get: if resource.data.match == null || true }",
        "match /a/{b} { allow get: if true ? true : false; }",
        "match /a/{b} { allow /* if true; */ get /* : */ : /* if */ if /* ; */ b is string /* } */; }",
        "function own(allow_) { return allow_ } match /a/{b} { allow get: if own(true) }",
    ],
)
def test_however_an_allow_is_written_membership_comes_first(world: World, text: str) -> None:
    world.put("apps/notes/a/x")
    world.under(built_rules(fragment(text)))
    assert world.may("ada", "get", "apps/notes/a/x")
    assert not world.may("bob", "get", "apps/notes/a/x")
    assert not world.may("stranger", "get", "apps/notes/a/x")


TEAM = """\
match /teams/{team}/posts/{post} {
  allow read: if exists(/databases/$(database)/documents/apps/notes/teams/$(team)/people/$(request.auth.uid));
  allow create: if getAfter(/databases/$(database)/documents/apps/notes/limits/$(request.auth.uid)).data.posts <= 3;
}
"""


def test_a_look_up_of_the_apps_own_documents_decides(world: World) -> None:
    """Membership in a document, and a limit that another document of the same commit counts."""
    world.put("apps/notes/teams/t/people/ada", "apps/notes/teams/t/posts/p", "apps/shop/teams/t/people/ann")
    world.under(built_rules(fragment(TEAM)))
    assert world.may("ada", "get", "apps/notes/teams/t/posts/p")
    assert not world.may("ann", "get", "apps/notes/teams/t/posts/p")
    assert not world.may("stranger", "get", "apps/notes/teams/t/posts/p")
    assert not world.may("ada", "create", "apps/notes/teams/t/posts/q")


OWN_PATH = "/databases/$(database)/documents/apps/notes/x/$(b)"


@pytest.mark.parametrize(
    "path",
    [
        "/databases/$(database)/documents/apps/shop/x/$(b)",
        "/databases/$(database)/documents/apps/$(b)/x/$(b)",
        "/databases/$(database)/documents/apps/notes",
        "/databases/$(database)/documents/apps/notes/$(b)",
        "/databases/$(database)/documents/apps/notes/$(b)/x",
        "/databases/$(database)/documents/other/apps/notes/x/$(b)",
        "/databases/$(database)/documents/$(b)/apps/notes/x",
        "/databases/(default)/documents/apps/notes/x/$(b)",
        "/databases/$(b)/documents/apps/notes/x/$(b)",
        "/databases/$(request.path[1])/documents/apps/notes/x/$(b)",
        "/databases/{database}/documents/apps/notes/x/$(b)",
        "/databases/$(database)/documents/apps/{notes}/x/$(b)",
        "/$(b)/$(database)/documents/apps/notes/x/$(b)",
        "/databases/$(database)/$(b)/apps/notes/x/$(b)",
        "/databases/$(database)/documents/apps/notes-2/x/$(b)",
        "/databases/$(database)/documents/apps/notes%2F../x/$(b)",
        "b",
        "path('/databases/(default)/documents/apps/notes/x/y')",
        "resource.data.path",
        f"{OWN_PATH} == b ? b : b",
        f"[{OWN_PATH}][0]",
        f"{OWN_PATH}, {OWN_PATH}",
        "/apps/notes/x/$(b)",
        "",
    ],
)
@pytest.mark.parametrize("function", ["get", "exists", "getAfter", "existsAfter"])
def test_a_look_up_that_might_leave_the_app_is_refused(path: str, function: str) -> None:
    problems = refusals(f"match /a/{{b}} {{ allow get: if {function}({path}) != null; }}")
    assert any("may be another app's" in problem for problem in problems), problems


def test_a_variable_cannot_stand_for_the_database() -> None:
    for text in (
        f"function f(b) {{ let database = '(default)/documents/apps/shop'; return exists({OWN_PATH}); }}",
        f"match /a/{{database}} {{ allow get: if exists({OWN_PATH.replace('$(b)', 'y')}); }}",
        f"function f(b, database) {{ return exists({OWN_PATH}); }} match /a/{{b}} {{ allow get: if f(b, 'x/y'); }}",
    ):
        assert any("has a meaning already" in problem for problem in refusals(text)), text


def test_what_a_look_up_inserts_never_leads_out_of_the_app(world: World) -> None:
    """Slashes, dots and whole paths that a user sends only add segments behind the app's own."""
    world.put("apps/shop/x/y", "apps/notes/members/ada", "apps/notes/x/here", "apps/notes/a/b", "other/x")
    path = OWN_PATH.replace("(b)", "(request.resource.data.to)")
    world.under(built_rules(fragment(f"match /a/{{b}} {{ allow update: if exists({path}); }}")))
    assert world.may("ada", "update", "apps/notes/a/b", to="here")
    root = "databases/(default)/documents"
    texts = ["../../shop/x/y", f"/{root}/apps/shop/x/y", "../members/ada", "..", ".", "", "/", "a//b", "%2e%2e/x"]
    for to in (*texts, ReferenceValue("apps/shop/x/y"), ReferenceValue("other/x")):
        assert not world.may("ada", "update", "apps/notes/a/b", to=to), to


NAMES = [
    "notes",
    "chunks",
    "members",
    "users",
    "ada",
    "chats",
    "c",
    "jobs",
    "j",
    "library",
    "usage",
    "apps",
    "shop",
    "requests",
]
SEGMENTS = st.one_of(st.sampled_from(NAMES), st.just("{}"), st.just("{=**}"))
PATHS = st.lists(SEGMENTS, min_size=1, max_size=6)
PROBES = [
    "apps/{}/users/ada/chats/c/messages/m",
    *("/".join(["apps", "{}", *place[2:]]).replace("**", "x").replace("*", "ada") for place in kept()),
]
ELSEWHERE = ["other/x", "apps/shop/notes/n", "apps/shop/users/ada/notes/n", "apps/shop/notes/n/notes/n"]


def named(segments: list[str]) -> tuple[str, ...]:
    """Wildcards by names of their own."""
    return tuple(part.replace("{", f"{{w{n}", 1) for n, part in enumerate(segments))


def decisions(world: World) -> dict[tuple[str, str, str], bool]:
    """What each user may do with what the base keeps, and with what lies outside the app."""
    paths = [*(probe.format(app) for probe in PROBES for app in ("notes", "shop")), *ELSEWHERE]
    users = ("ada", "bob", "stranger")
    # Writes are undone by none of this, so they are of a kind that every base rule denies.
    kinds = ("get", "delete")
    return {(u, k, p): world.may(u, k, p) for u in users for k in kinds for p in paths}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATHS, PATHS, st.booleans())
@example(["notes", "{}"], ["{=**}"], True)
@example(["users", "{}", "notes", "{}"], ["{}", "{}"], True)
def test_no_match_of_a_fragment_opens_what_the_base_keeps_or_what_is_not_the_apps(
    world: World, one: list[str], two: list[str], nest: bool
) -> None:
    """What is refused is refused; with what is let through, every decision on other paths stays as it was."""
    first, second = named(one), named([*one, *two])[len(one) :]
    paths = "/".join(first), "/".join(second)
    inner = f"match /{paths[1]} {{ allow read, write: if true; }}"
    text = f"match /{paths[0]} {{ {inner} }}" if nest else f"match /{paths[0]} {{ allow read, write; }} {inner}"
    try:
        composed = built_rules(fragment(text))
    except CompositionRefused:
        return
    world.base = world.base or decisions(world.under(BASE))
    try:
        world.under(composed)
    except Exception as error:
        assert "compiling" in str(error)  # noqa: PT017 - a path may have two recursive wildcards
        assume(False)
    assert decisions(world) == world.base


PIECES = st.sampled_from(
    ["true", "b", " ", "\n", "'", '"', "/", "//", "/*", "*/", "\\", "\\'", "}", "{", "(", ")", "[", "]", ";", ":", ",",
     "==", "&&", "||", "/x'", "b'", "$(b)", "match /{r=**}", "allow read, write", "if", "?", "'}'", ".", "1"]
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=8), st.lists(PIECES, max_size=8))
@example(["b", "==", " ", "/x'"], ["==", " ", "/x'"])
@example(["'\\\\'"], ["'\\\\'"])
@example(["/*", "'", "*/"], ["/*", "'", "*/"])
@example(["true", "//", "'", "\n"], ["//", "'", "\n"])
@example(["'", "\\'", "'"], ["'", "\\'", "'"])
def test_no_text_of_a_condition_lets_code_escape_its_block(world: World, left: list[str], right: list[str]) -> None:
    try:
        composed = built_rules(fragment(escaping("".join(left), "".join(right))))
    except CompositionRefused:
        return
    try:
        world.under(composed)
    except Exception as error:
        assert "compiling" in str(error)  # noqa: PT017 - what does not compile opens nothing
        return
    assert not world.may("stranger", "get", "apps/notes/users/ada")
    assert not world.may("bob", "get", "other/x")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATHS, st.lists(st.sampled_from(NAMES), min_size=2, max_size=6).filter(lambda path: len(path) % 2 == 0))
@example(["a", "{=**}"], ["a", "b", "c", "d"])
@example(["notes", "{}", "{=**}"], ["notes", "n"])
def test_the_model_of_paths_is_that_of_the_emulator(world: World, segments: list[str], path: list[str]) -> None:
    assume(sum(part == "{=**}" for part in segments) < 2)
    match = named(segments)
    world.under(
        "rules_version = '2'; service cloud.firestore { match /databases/{database}/documents "
        f"{{ match /{'/'.join(match)} {{ allow get: if true; }} }} }}"
    )
    assert world.may("stranger", "get", "/".join(path)) == overlap(pattern(match), tuple(path))


@given(PATHS, PATHS, st.lists(st.sampled_from(NAMES), max_size=6))
def test_two_patterns_that_match_one_path_overlap(one: list[str], two: list[str], path: list[str]) -> None:
    first, second, third = pattern(named(one)), pattern(named(two)), tuple(path)
    assert overlap(first, second) == overlap(second, first)
    if overlap(first, third) and overlap(second, third):
        assert overlap(first, second)
