"""The documents cannot drift: their commands run, and what they list is what there is."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import firelaunch.settings.app
import pytest
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import run_jobs, sign_in
from support import MAKE_HERE, ROOT, clean_environ, copy_repo, copy_template, free_port

BLOCK = re.compile(r"(?:^<!-- (?P<how>[\w ]+) -->\n)?^```sh\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAGES = [page for page in DOCUMENTS if BLOCK.search(page.read_text())]

SERVER = """
( exec {command} ) &
server=$!
trap 'kill $server; wait $server || true' EXIT
for i in $(seq 3000); do  # the first start builds the web client
  curl -sf localhost:{port}/ready >/dev/null && break
  kill -0 $server
  sleep 0.1
done
curl -sf localhost:{port}/ready >/dev/null
"""

GROUPS = 'groups = 1\n[groups]\nchats_paid_by = "writer"\nchats_on_erase = "anonymize"\n'
"""Settings that go on from a plan's: the plan has groups, and groups have chats."""


def script(text: str, port: int) -> Iterator[str]:
    """A page's commands as one bash script, so that a block finds the variables of those before it."""
    yield "set -euo pipefail"
    for block in BLOCK.finditer(text.replace("8080", str(port))):
        commands, how = block["commands"], block["how"]
        if how == "server":
            yield SERVER.format(command=commands.strip(), port=port)
        elif how == "press Enter":
            yield f"printf '%20s' '' | tr ' ' '\\n' | {commands}"
        elif how == "dry run":
            yield commands.replace("make ", "make -n ")
        else:
            assert how is None, f"no way to run {how!r} is known"
            yield commands


@pytest.mark.skipif(shutil.which("curl") is None, reason="the documents' commands use curl, which is not there")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_document_works_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    repo = copy_repo(tmp_path / "repo")
    command = ["bash", "-c", "\n".join(script(page.read_text(), free_port()))]
    env = clean_environ(**MAKE_HERE)
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if page.name == "README.md":
        assert "Hello" in done.stdout
        assert "event: done" in done.stdout
        assert re.search(r'"citations": ?\[\{"number": ?1', done.stdout), "the document was asked about"
        assert re.search(r'"requests": ?3', done.stdout)


def test_the_page_of_settings_is_the_settings_own() -> None:
    tool: Any = load(ROOT / "tools" / "settings_docs.py")
    assert (ROOT / "docs" / "settings.md").read_text() == tool.page(), "write it anew: make docs"


def test_the_costs_of_a_month_are_those_of_the_prices_and_of_what_a_turn_reads_and_writes(tmp_path: Path) -> None:
    from bench.turn import HISTORIES, turns

    tool: Any = load(ROOT / "tools" / "cost_docs.py")
    text = (ROOT / "docs" / "which-settings.md").read_text()
    assert text == tool.page(text), "write it anew: make docs"
    figures = turns(tmp_path / "app", min(HISTORIES))
    assert (figures["read"], figures["written"]) == (tool.READS, tool.WRITES)
    chat, documents, _ = tool.SHAPES
    assert tool.month(100, chat) < tool.month(100, documents) < tool.month(1_000, chat)


def test_the_price_to_try_a_budget_has_the_cheaper_model_answer_before_the_budget_refuses(tmp_path: Path) -> None:
    folder = copy_template(tmp_path / "app")
    settings = folder / "firelaunch.toml"
    (price,) = re.findall(r"^\[prices\.offline\]\n.*?(?=^```)", (ROOT / "docs/metering.md").read_text(), re.M | re.S)
    in_a_minute = settings.read_text().replace("requests_per_minute = 20", "requests_per_minute = 1000")
    settings.write_text(f"{in_a_minute}\n{price}")
    app = App("budget")
    workflow: Any = load(folder / "app" / "workflow.py")
    init_app(app, build(Settings.load(settings, {"FIRELAUNCH_DATA": str(tmp_path / "data")})), workflow.answer)
    ada = sign_in(app, "ada")
    ada.upload("README.md", (ROOT / "README.md").read_bytes())
    run_jobs(app)
    chat, cheaper = ada.new_chat(), []
    while (answer := ada.send(chat, "How do I make an app?")).status_code == 200:
        cheaper.append(answer.get_json()["usage"]["cheaper_model"])
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (429, "budget_exceeded")
    assert "This request may cost up to $" in answer.get_json()["error"]["message"]
    assert (cheaper[0], cheaper[-1]) == (False, True)


def test_the_limits_of_scale_are_those_of_what_a_turn_costs() -> None:
    tool: Any = load(ROOT / "tools" / "scale_docs.py")
    text = (ROOT / "docs" / "scale.md").read_text()
    assert text == tool.page(text), "write it anew: make docs"
    for row in tool.ROWS:
        if (most := tool.at_most(row)) is not None:
            assert not tool.gives(row, most), "the table says that so many users are no problem"
            assert tool.gives(row, 2 * most)


def test_each_page_is_in_the_index_by_task_and_the_site_has_each_page_once() -> None:
    site: Any = load(ROOT / "tools" / "docs_site.py")
    sections = [entry for section in site.navigation() for pages in section.values() for entry in pages]
    listed = {place for entry in sections for place in entry.values()}
    there = {site.place_of(page).as_posix() for page in site.pages()}
    assert there - listed - {"security.md"} == set(), "link them from docs/README.md"
    assert listed <= there


def test_the_sites_links_lead_to_its_pages_and_links_to_code_become_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Any = load(ROOT / "tools" / "docs_site.py")
    monkeypatch.setattr(site, "PICTURES", tmp_path)
    readme = site.page(ROOT / "README.md")
    assert "](docs/" not in readme
    assert "](contributing.md)" in readme
    for page in site.pages():
        for target in re.findall(r"\]\((?!\w+:)([^)#\s]+)", site.page(page)):
            there = (Path("/") / site.place_of(page).parent / target).resolve().relative_to("/")
            assert there in {site.place_of(each) for each in site.pages()}, f"{page.name}: {target}"


def test_a_picture_stands_where_its_page_says_if_it_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Any = load(ROOT / "tools" / "docs_site.py")
    monkeypatch.setattr(site, "PICTURES", tmp_path)
    page = ROOT / "docs" / "concepts" / "documents.md"
    assert "chat.png" not in site.page(page)
    (tmp_path / "chat.png").touch()
    assert "](../pictures/chat.png)\n" in site.page(page)


def test_the_table_of_rates_is_that_of_the_routes() -> None:
    tool: Any = load(ROOT / "tools" / "limits_docs.py")
    page = (ROOT / "docs" / "limits.md").read_text()
    assert page == tool.page(page), "write it anew: make docs"


def test_the_picture_of_the_architecture_is_of_the_imports_as_they_are() -> None:
    tool: Any = load(ROOT / "tools" / "architecture_docs.py")
    assert (ROOT / "docs" / "architecture.md").read_text() == tool.page(), "draw it anew: make docs"


def test_every_file_and_function_that_the_architectures_page_names_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    source = ROOT / "shared" / "firelaunch" / "src" / "firelaunch"
    named = set(re.findall(r"`((?!tests/)[a-z_]+/[a-z_/]+\.py)`", page))
    assert len(named) > 15
    for name in named:
        assert (source / name).is_file(), name
    functions = re.findall(r"`([a-z_/]+\.py)`, `(?:(\w+)\.)?(\w+)`", page)
    assert len(functions) > 8
    for name, _, function in functions:
        assert re.search(rf"(def|class) {function}\b", (source / name).read_text()), f"{name}: {function}"


def test_every_variable_that_is_read_is_listed_and_no_other() -> None:
    tool: Any = load(ROOT / "tools" / "settings_docs.py")
    read = set(re.findall(r'"([A-Z][A-Z0-9_]+[A-Z0-9])"', Path(firelaunch.settings.app.__file__).read_text()))
    serving = (Path(firelaunch.__file__).parent / "server" / "gunicorn_config.py").read_text()
    read |= set(re.findall(r"environ\.get\([\"'](\w+)", serving))
    assert set(tool.VARIABLES) == read - set(firelaunch.settings.app.__all__)


def test_the_apps_example_of_an_environment_names_only_variables_that_are_read() -> None:
    tool: Any = load(ROOT / "tools" / "settings_docs.py")
    example = next((ROOT / "template").glob("*/.env.example")).read_text()
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) <= set(tool.VARIABLES)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_between_documents_lead_to_a_file_and_to_a_heading_in_it() -> None:
    for page in DOCUMENTS:
        for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file.read_text()), f"{page.name}: {target}#{anchor}"


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raised_codes() -> set[tuple[str, str]]:
    """Each error that the API may answer: its status and its code."""
    import firelaunch.identity.base  # errors take their place in the tree when their module is imported
    import firelaunch.membership.claims
    import firelaunch.membership.invites
    import firelaunch.membership.removals
    import firelaunch.services.groups
    from firelaunch.errors import FirelaunchError
    from firelaunch.server.app import _CODES

    def tree(kind: type[FirelaunchError]) -> Iterator[tuple[str, str]]:
        yield str(kind.status), kind.code
        for below in kind.__subclasses__():
            if not below.__name__.startswith("_"):
                yield from tree(below)

    codes = set(tree(FirelaunchError)) | {(str(status), code) for status, code in _CODES.items()}
    assert firelaunch.identity.base.IdentityUnavailable.code in {code for _, code in codes}
    assert firelaunch.membership.invites.InviteInvalid.code in {code for _, code in codes}
    return codes


def test_the_table_of_errors_lists_each_code_with_its_status_and_no_other() -> None:
    listed = set()
    for row in (ROOT / "docs" / "api.md").read_text().splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) > 3 and cells[1].isdigit():
            listed |= {(cells[1], code) for code in re.findall(r"`(\w+)`", cells[2])}
    assert listed == raised_codes()


def test_each_error_code_has_a_section_with_its_status_its_cause_and_its_mend() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == {code for _, code in raised_codes()}
    for status, code in raised_codes():
        first, _, rest = sections[code].partition(". ")
        assert first == status or first == "In a job's `error`", code
        cause, _, mend = rest.partition("**Mend:** ")
        assert cause.startswith("**Cause:** "), code
        assert len(mend.strip()) > 20, code


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_each_code_that_a_page_names_after_a_status_is_an_errors(page: Path) -> None:
    if page.parent.name != "adr":  # decisions tell what was so when they were made
        text = re.sub(r"\s+", " ", page.read_text())
        named = set()
        for status, codes in re.findall(r"\b([45]\d\d),? ((?:(?:, | and | or )?`[a-z_]+`)+)", text):
            named |= {(status, code) for code in re.findall(r"`(\w+)`", codes)}
        assert named <= raised_codes()


def test_the_table_of_sizes_has_the_settings_defaults() -> None:
    from firelaunch.errors import size_text
    from firelaunch.settings.app import Settings
    from firelaunch.settings.plans import Plan

    page = (ROOT / "docs" / "limits.md").read_text()
    rows = re.findall(r"^\|[^|]+\| ([^|]+) \| `(\w+)\.([\w.<>]+)` \| 4", page, re.MULTILINE)
    sizes = page[page.index("## Sizes") : page.index("## Exact")]
    assert len(rows) == sizes.count("\n| ") - 3, "each row but the two of its head, and that without a setting"
    for default, section, key in rows:
        model: Any = Plan if section == "plans" else Settings.model_fields[section].annotation
        value = model.model_fields[key.rpartition(".")[2]].default
        shown = size_text(value) if key.endswith("bytes") else f"{value:,}"
        assert default.removesuffix(" characters") == shown, key


def test_the_page_on_data_moves_a_users_records_to_a_group(tmp_path: Path) -> None:
    from firelaunch.server.app import App, init_app
    from firelaunch.services.build import build
    from firelaunch.settings.app import Settings
    from firelaunch.testing.apps import SETTINGS, sign_in, write_app

    page = (ROOT / "docs" / "data.md").read_text()
    found = re.search(
        r"^```python\n(.*?)^```$", page[page.index("### From users to groups") :], re.MULTILINE | re.DOTALL
    )
    assert found is not None
    module: dict[str, Any] = {"__name__": "kitchen"}
    exec(compile(found[1], "data.md", "exec", dont_inherit=True), module)  # noqa: S102 - our own page
    meals, group_meals = module["meals"], module["group_meals"]
    lists = firelaunch.crud(meals), firelaunch.crud(group_meals)
    app = App("kitchen", routes=[module["routes"], *lists], collections=[meals, group_meals])
    init_app(app, build(Settings.load(write_app(tmp_path, SETTINGS + "groups = 1\n"), {})), lambda _: ())
    ada = sign_in(app, "ada")
    group = ada.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    ada.post("/api/meals", {"name": "Dinner"})
    assert [ada.post(f"/api/groups/{group}/moved-meals").get_json()["meals"] for _ in range(2)] == [1, 0]
    assert ada.get("/api/meals").get_json()["items"] == []
    assert [meal["name"] for meal in ada.get(f"/api/groups/{group}/group_meals").get_json()["items"]] == ["Dinner"]


def test_the_table_of_routes_lists_each_route_and_no_other(tmp_path: Path) -> None:
    from firelaunch.server.app import App, init_app
    from firelaunch.services.build import build
    from firelaunch.settings.app import Settings
    from firelaunch.testing.apps import SETTINGS, write_app

    settings = write_app(
        tmp_path, SETTINGS + 'groups = 1\n[jobs]\nurl = "https://x.run.app"\nservice_account = "jobs@x"\n'
    )
    laptop, cloud = {}, {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}
    apps = []
    for environ in (laptop, cloud):
        apps.append(App("docs"))
        init_app(apps[-1], build(Settings.load(settings, environ)), lambda _: ())
    served = {
        f"{method} {str(rule).replace('<', '{').replace('>', '}')}"
        for app in apps
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    text = (ROOT / "docs" / "api.md").read_text()
    listed = {found.partition("?")[0] for found in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", text)}
    assert listed == served - {"GET /docs/{file}"}


def test_the_page_on_routes_and_the_tests_of_the_page_on_testing_fit_together(tmp_path: Path) -> None:
    from firelaunch.server.app import App, init_app
    from firelaunch.services.build import build
    from firelaunch.settings.app import Settings
    from firelaunch.testing.apps import sign_in, write_app

    def blocks(page: str) -> list[str]:
        return re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)

    module: dict[str, Any] = {"__name__": "greetings"}
    exec(blocks("routes.md")[0], module)  # noqa: S102 - our own page
    tests: dict[str, Any] = {"App": App, "sign_in": sign_in}
    exec(next(block for block in blocks("testing.md") if "def test_" in block), tests)  # noqa: S102
    app = App("greetings", routes=[module["routes"]])
    init_app(app, build(Settings.load(write_app(tmp_path), {})), lambda _: ())
    run = [name for name in tests if name.startswith("test_")]
    assert len(run) == 3
    for name in run:
        tests[name](app)


def test_the_page_on_teams_makes_records_that_a_group_shares(tmp_path: Path) -> None:
    from firelaunch.server.app import App, init_app
    from firelaunch.services.build import build
    from firelaunch.settings.app import Settings
    from firelaunch.testing.apps import SETTINGS, sign_in, write_app

    page = (ROOT / "docs" / "teams.md").read_text()
    module: dict[str, Any] = {"__name__": "kitchen"}
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    exec(compile(code, "teams.md", "exec", dont_inherit=True), module)  # noqa: S102 - our own page
    app = App("kitchen", routes=[module["routes"]], collections=[module["meals"], module["diary"]])
    init_app(app, build(Settings.load(write_app(tmp_path, SETTINGS + GROUPS), {})), module["answer"])
    ada = sign_in(app, "ada")
    group = ada.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    assert ada.post(f"/api/groups/{group}/meals", {"name": "Dinner"}).status_code == 201
    assert ada.get(f"/api/groups/{group}/dinners").get_json()["items"][0]["added_by"] == "ada"
    assert tool_outputs(ada, "Find meals", group) == [["Dinner, added by ada"]]
    assert tool_outputs(ada, "Find meals") == [[]]


def test_the_page_on_tools_has_a_tool_that_works_in_a_users_and_in_a_groups_chat(tmp_path: Path) -> None:
    import firelaunch
    from firelaunch.server.app import App, init_app
    from firelaunch.services.build import build
    from firelaunch.settings.app import Settings
    from firelaunch.testing.apps import SETTINGS, sign_in, write_app
    from pydantic import Field

    page = (ROOT / "docs" / "tools.md").read_text()
    code = [
        block for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "remind" in block
    ]
    names = ("Chunk", "Collection", "Message", "Record", "Turn", "UserId")
    module: dict[str, Any] = {"__name__": "reminding", "Field": Field, "Iterator": Iterator}
    module |= {name: getattr(firelaunch, name) for name in names}
    exec(compile("\n".join(code), "tools.md", "exec", dont_inherit=True), module)  # noqa: S102 - our own page
    app = App("reminding", collections=[module["reminders"], module["team_reminders"]])
    services = build(Settings.load(write_app(tmp_path, SETTINGS + GROUPS), {}))
    init_app(app, services, module["answer"])
    ada = sign_in(app, "ada")
    group = ada.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    kept = {
        "apps/demo/users/ada/reminders": None,
        f"apps/demo/groups/{group}/team_reminders": group,
    }
    for number, (path, place) in enumerate(kept.items(), 1):
        assert tool_outputs(ada, "Remind me", place) == ["kept"]
        assert len([each for each in services.store.tree("apps/demo") if "reminders/" in each]) == number
        assert len(list(services.store.tree(path))) == 1


def tool_outputs(user: Any, text: str, group: str | None = None) -> list[Any]:
    """Send a message, in a new chat of the user's or the group's, and return what its tools answered."""
    place = {"group": group} if group else {}
    chat = user.post("/v1/chats", place).get_json()["id"]
    answer = user.post(f"/v1/chats/{chat}/messages", {"text": text, **place}).get_json()
    assert [use["error"] for use in answer["message"]["tools"]] == [None], answer
    return [use["output"] for use in answer["message"]["tools"]]


def test_the_page_on_an_app_of_ones_own_quotes_the_example_as_it_is() -> None:
    example = ROOT / "examples" / "mealcoach"
    page = (ROOT / "docs" / "your-app.md").read_text()
    quoted = re.findall(r"^```(python|toml|text)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(quoted) > 8
    for language, text in quoted:
        first, _, rest = text.partition("\n")
        names = {"python": first.removeprefix("# "), "toml": "firelaunch.toml", "text": "firestore.rules"}
        assert (rest if language == "python" else text) in (example / names[language]).read_text(), text


def public_names(modules: Iterable[str]) -> set[str]:
    """Return the names of modules, and of those below ``firelaunch.testing``."""
    source = Path(firelaunch.__file__).parent
    files = [file for name in modules for file in files_of(source, name)]
    return {name for file in [source / "__init__.py", *files] for name in exported(file)} | set(firelaunch.__all__)


def files_of(source: Path, module: str) -> list[Path]:
    place = source.joinpath(*module.split(".")[1:])
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def exported(file: Path) -> set[str]:
    """Return the functions and classes that a module lists in its ``__all__``."""
    tree = ast.parse(file.read_text())
    listed = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    names = {str(ast.literal_eval(each)) for node in listed for each in getattr(node, "elts", ())}
    return names & {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def parsed(codes: Iterable[str]) -> list[ast.AST]:
    """Return all nodes of the pieces of code that are whole."""
    nodes: list[ast.AST] = []
    for code in codes:
        with suppress(SyntaxError):
            nodes += ast.walk(ast.parse(textwrap.dedent(code)))
    return nodes


def root_of_call(node: ast.AST) -> str | None:
    """Return the name that a call begins with: "services" of ``services.llm.extract(text)``."""
    if not isinstance(node, ast.Call):
        return None
    function: ast.AST = node
    while isinstance(function, ast.Call | ast.Attribute):
        function = function.func if isinstance(function, ast.Call) else function.value
    return function.id if isinstance(function, ast.Name) else None


def test_every_name_of_ours_that_a_page_calls_or_imports_is_public_or_defined_on_the_page() -> None:
    rows = re.findall(r"^\| (`firelaunch\..*?) \|", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE)
    modules = [module for row in rows for module in re.findall(r"`(firelaunch\.[a-z_.]+)`", row)]
    public = public_names(modules)
    source = Path(firelaunch.__file__).parent
    internal = {name for file in source.rglob("*.py") for name in exported(file)} - public
    assert "services" in internal
    wrong = []
    for page in DOCUMENTS:
        if page.parent.name == "adr":
            continue  # these say why firelaunch is as it is, to those who work on it
        text = page.read_text()
        blocks = parsed(re.findall(r"^ *```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL))
        spans = parsed(
            re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL))
        )
        given = {"routes", "OpenAIProvider"}  # an app's own, as docs/routes.md makes them; and pydantic-ai's
        given |= {node.arg for node in blocks if isinstance(node, ast.arg)}
        given |= {node.name for node in blocks if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        given |= {node.id for node in blocks if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        called = {name for node in (*blocks, *spans) if (name := root_of_call(node)) is not None}
        wrong += [f"{page.name}: {name}()" for name in sorted((called & internal) - given)]
        for node in blocks:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("firelaunch."):
                module = str(node.module)
                if not any(f"{module}.".startswith(f"{each}.") for each in modules):
                    wrong.append(f"{page.name}: from {module} import ...")
    assert wrong == []


def test_the_help_of_make_lists_each_target_and_fits_80_columns() -> None:
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line for line in said.splitlines() if len(line) > 80] == []
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"^  make ([a-z-]+)", said, re.MULTILINE)) == sorted(targets)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(targets)
