"""What a deploy would change is shown, by app, and no app's live rules are dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.rules_api import RulesApi
from firelaunch_cli.commands.rules import command
from firelaunch_cli.rules.compare import compare
from firelaunch_cli.rules.compose import compose, keep_others
from firelaunch_cli.rules.fragment import Fragment
from firelaunch_cli.rules.live import LiveError, fetch

BASE = (Path(__file__).parents[4] / "firestore.rules").read_text()
BOARDS = "match /boards/{board} {\n  allow read;\n}\n"


def built(**fragments: str) -> str:
    return compose(BASE, [Fragment(app, app, text) for app, text in fragments.items()]).text


def member(app: str) -> str:
    return f"request.auth.token.apps['{app}'].matches('[a-z0-9_-]{{1,32}}')"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base and two apps, of which one has rules of its own; the current folder."""
    (tmp_path / "firestore.rules").write_text(BASE)
    for app in ("notes", "shop"):
        (tmp_path / "apps" / app).mkdir(parents=True)
        (tmp_path / "apps" / app / "firelaunch.toml").write_text(f'[app]\nid = "{app}"\n')
    (tmp_path / "apps/notes/firestore.rules").write_text(BOARDS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def api() -> Iterator[RulesApi]:
    with RulesApi() as server:
        yield server


@pytest.fixture
def signed_in(api: RulesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(api.credentials_file(tmp_path)))


def run(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(command, words, **options)


def test_blocks_of_apps_that_are_elsewhere_are_kept_as_a_clone_with_all_apps_would_compose_them() -> None:
    whole = built(a=BOARDS, m=BOARDS, z=BOARDS)
    for here in ({"a"}, {"m"}, {"a", "z"}, set()):
        new = built(**dict.fromkeys(here, BOARDS))
        kept = keep_others(new, whole, here)
        assert kept.text == whole
        assert kept.apps == tuple(sorted({"a", "m", "z"} - here))
    assert keep_others(BASE, None, ()).text == BASE
    assert keep_others(built(a=BOARDS), whole, {"a", "m", "z"}).text == built(a=BOARDS)


def test_a_live_block_that_holds_more_than_its_apps_match_is_not_kept() -> None:
    whole = built(m=BOARDS)
    for inside in (
        "match /apps/m {} match /{rest=**} { allow read; }",
        "match /apps/other { allow read; }",
        "match /apps/{any} { allow read; }",
        "match /apps/m { } } match /x {",
        "",
    ):
        changed = whole.replace(
            whole[whole.index("    match /apps/m") : whole.index("    // end app m")], f"{inside}\n"
        )
        assert keep_others(BASE, changed, ()).text == BASE, inside


def test_the_difference_is_told_by_app() -> None:
    live = built(notes=BOARDS, old=BOARDS, same=BOARDS)
    new = built(notes=BOARDS.replace("read", "get"), same=BOARDS, young=BOARDS)
    found = compare(live, new)
    assert (found.added, found.changed, found.removed) == (("young",), ("notes",), ("old",))
    assert not found.base_changed
    assert compare(live, live).lines == ()
    assert compare(None, new).added == ("notes", "same", "young")
    assert compare(live, new.replace("size() <= 200", "size() <= 300")).base_changed


@pytest.mark.parametrize(
    "live",
    [
        built(old=BOARDS),
        built(old=BOARDS).replace("// end app old", ""),
        built(old=BOARDS).replace("// begin app old", "").replace("// end app old", ""),
        BASE.replace("match /apps/{app} {", "match /apps { match /old/b/{c} { allow get; } }\nmatch /apps/{app} {"),
        built(old=BOARDS).replace("\n", "\r\n"),
    ],
)
def test_a_live_block_that_would_go_is_found_however_it_is_written(live: str) -> None:
    assert compare(live, built(notes=BOARDS)).removed == ("old",)


def test_marks_without_rules_are_no_block_that_is_kept() -> None:
    new = built(notes=BOARDS) + "// begin app old\n// end app old\n// match /databases/{d}/documents/apps/old/x {}"
    assert compare(built(notes=BOARDS, old=BOARDS), new).removed == ("old",)


def test_a_deploy_that_would_drop_an_apps_live_rules_is_refused_by_name(repo: Path) -> None:
    (repo / "live").write_text(built(notes=BOARDS, shop=BOARDS, old=BOARDS))
    done = run("diff", "--live", "live")
    assert done.exit_code == 1
    assert "app shop: removed" in done.output
    assert "would drop the live rules of old, shop" in done.output
    assert run("diff", "--live", "live", "--drop", "old").exit_code == 1
    allowed = run("diff", "--live", "live", "--drop", "old", "--drop", "shop")
    assert allowed.exit_code == 0
    (repo / "apps/shop/firestore.rules").write_text(BOARDS)
    assert run("diff", "--live", "live", "--drop", "old").exit_code == 0


def test_the_difference_is_a_unified_diff_in_colour_on_a_terminal_alone(repo: Path) -> None:
    (repo / "live").write_text(built(notes=BOARDS.replace("read", "get")))
    done = run("diff", "--live", "live")
    assert done.exit_code == 0
    assert "-        allow get: if isMember('notes');\n+        allow read: if isMember('notes');\n" in done.output
    assert "app notes: changed" in done.output
    assert "\x1b" not in done.output
    assert "\x1b[32m+        allow read" in run("diff", "--live", "live", color=True).output
    (repo / "live").write_text(built(notes=BOARDS))
    assert run("diff", "--live", "live").output == "Nothing would change.\n"


def test_the_result_as_json_holds_the_same(repo: Path) -> None:
    (repo / "live").write_text(built(old=BOARDS))
    done = run("diff", "--live", "live", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report.pop("diff")[0] == "--- live"
    assert report == {
        "live": True,
        "changed": True,
        "base_changed": False,
        "apps": {"added": ["notes"], "changed": [], "removed": ["old"]},
        "refused": ["old"],
        "kind": "opens",
        "opens": [f"users can now read apps/notes/boards/*, where {member('notes')}"],
        "closes": [f"users can no longer read apps/old/boards/*, where {member('old')}"],
    }


def test_comments_and_order_open_and_close_nothing(repo: Path) -> None:
    (repo / "live").write_text(built(notes="// why\n" + BOARDS.replace("{board}", "{b}")))
    done = run("diff", "--live", "live", "--exit-code")
    assert (done.exit_code, "Nobody can do more or less than before." in done.output) == (0, True)


@pytest.mark.parametrize(
    ("live", "code", "says"),
    [
        (BOARDS.replace("allow read", "allow read, delete"), 3, "users can no longer delete apps/notes/boards/*"),
        (BOARDS.replace("allow read", "allow get"), 4, "users can now list apps/notes/boards/*"),
    ],
)
def test_the_exit_code_says_what_a_deploy_would_do_where_it_is_asked_for(
    repo: Path, live: str, code: int, says: str
) -> None:
    (repo / "live").write_text(built(notes=live))
    done = run("diff", "--live", "live", "--exit-code")
    assert (done.exit_code, says in done.output) == (code, True), done.output
    assert run("diff", "--live", "live").exit_code == 0


def test_the_live_rules_are_fetched_with_the_accounts_token(api: RulesApi, repo: Path, signed_in: None) -> None:
    api.release("demo", built(notes=BOARDS))
    done = run("diff", "--project", "demo", "--endpoint", api.url)
    assert (done.exit_code, done.output) == (0, "Nothing would change.\n")
    assert api.paths == ["/v1/projects/demo/releases/cloud.firestore", "/v1/projects/demo/rulesets/00000000"]


def test_another_databases_rules_are_its_own(api: RulesApi, repo: Path, signed_in: None) -> None:
    api.release("demo", built(notes=BOARDS))
    api.release("demo", built(old=BOARDS), name="cloud.firestore/app-old")
    done = run("diff", "--project", "demo", "--database", "app-old", "--endpoint", api.url)
    assert done.exit_code == 1
    assert "would drop the live rules of old" in done.output
    assert api.paths[0] == "/v1/projects/demo/releases/cloud.firestore/app-old"


def test_the_default_databases_release_may_carry_its_name(api: RulesApi, repo: Path, signed_in: None) -> None:
    api.release("demo", built(old=BOARDS), name="cloud.firestore/(default)")
    assert fetch("demo", endpoint=api.url) == built(old=BOARDS)


def test_where_nothing_was_released_all_is_new(api: RulesApi, repo: Path, signed_in: None) -> None:
    done = run("diff", "--project", "demo", "--endpoint", api.url)
    assert done.exit_code == 0
    assert "No rules were ever deployed" in done.output
    assert "app notes: added" in done.output


def test_an_account_without_the_right_is_told_which_it_needs(api: RulesApi, repo: Path, signed_in: None) -> None:
    api.release("demo", BASE)
    api.rights = False
    done = run("diff", "--project", "demo", "--endpoint", api.url)
    assert done.exit_code == 2
    assert "403" in done.output
    assert "roles/firebaserules.viewer" in done.output


def test_no_credentials_and_bad_ones_are_told_apart_from_no_rules(
    api: RulesApi, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.oauth2.credentials import Credentials

    api.release("demo", BASE)
    assert httpx.get(f"{api.url}/v1/projects/demo/releases/cloud.firestore", trust_env=False).status_code == 401
    with pytest.raises(LiveError, match="Google refused the credentials"):
        fetch("demo", endpoint=api.url, credentials=Credentials("stale"))  # type: ignore[no-untyped-call]
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(repo / "none.json"))
    done = run("diff", "--project", "demo", "--endpoint", api.url)
    assert done.exit_code == 2
    assert "gcloud auth application-default login" in done.output


def test_a_ruleset_that_is_not_one_file_is_refused(api: RulesApi, repo: Path, signed_in: None) -> None:
    api.release("demo", BASE, BASE)
    with pytest.raises(LiveError, match="holds 2 files"):
        fetch("demo", endpoint=api.url)


def test_a_token_goes_to_no_address_without_tls(repo: Path, signed_in: None) -> None:
    done = run("diff", "--project", "demo", "--endpoint", "http://rules.example.com")
    assert done.exit_code == 2
    assert "not sent without TLS" in done.output


def test_an_api_that_is_not_there_is_told(repo: Path, signed_in: None) -> None:
    with RulesApi() as gone:
        url = gone.url
    assert run("diff", "--project", "demo", "--endpoint", url).exit_code == 2


@pytest.mark.parametrize("words", [("diff",), ("diff", "--live", "firestore.rules", "--project", "demo")])
def test_the_live_rules_are_named_in_one_way(repo: Path, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert "either --live" in done.output


def test_build_writes_what_compiles(repo: Path, firestore_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    done = run("build", "--out", "build/firestore.rules")
    assert done.exit_code == 0, done.output
    assert (repo / "build/firestore.rules").read_text() == built(notes=BOARDS) == run("build").stdout
    (repo / "apps/notes/firestore.rules").write_text("\nmatch /a/{b} {\n  allow get: if b == ;\n}")
    done = run("build", "--out", "build/bad.rules")
    assert done.exit_code == 1
    assert "apps/notes/firestore.rules:3: a value is expected here" in done.output
    assert not (repo / "build/bad.rules").exists()


def test_without_java_build_says_how_to_go_on(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    done = run("build", "--out", "out.rules")
    assert done.exit_code == 2
    assert "no Java found" in done.output
    assert "--no-compile" in done.output
    assert not (repo / "out.rules").exists()
    done = run("build", "--out", "out.rules", "--no-compile")
    assert done.exit_code == 0
    assert "not compiled" in done.stderr
    assert (repo / "out.rules").read_text() == built(notes=BOARDS)


def test_a_fragment_that_is_refused_leaves_nothing_written(repo: Path) -> None:
    (repo / "apps/shop/firestore.rules").write_text("match /members/{m} {\n allow get; }")
    done = run("build", "--no-compile", "--out", "out.rules")
    assert done.exit_code == 1
    assert "apps/shop/firestore.rules:2: " in done.output
    assert not (repo / "out.rules").exists()
    assert run("diff", "--live", "firestore.rules").exit_code == 1


@pytest.mark.parametrize("out", ["firestore.rules", "apps/notes/firestore.rules", "apps/shop/built.rules"])
def test_build_does_not_write_over_what_it_is_built_from(repo: Path, out: str) -> None:
    done = run("build", "--no-compile", "--out", out)
    assert done.exit_code == 2
    assert (repo / "apps/notes/firestore.rules").read_text() == BOARDS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda apps: (apps / "shop").rename(apps / "Shop"), "no app id"),
        (lambda apps: (apps / "shop").rename(apps / "store"), "rename the folder"),
        (lambda apps: (apps / "shop/firelaunch.toml").write_text("[app"), "cannot be read"),
        (lambda apps: (apps / "shop/firelaunch.toml").write_text("app = 1"), "cannot be read"),
        (lambda apps: (apps / "shop/firestore.rules").write_bytes(b"\xff"), "not UTF-8"),
    ],
)
def test_a_folder_that_is_not_the_apps_own_is_refused(repo: Path, change: Any, says: str) -> None:
    (repo / "apps/shop/firestore.rules").write_text(BOARDS)
    change(repo / "apps")
    done = run("build", "--no-compile")
    assert done.exit_code == 2
    assert says in done.output
