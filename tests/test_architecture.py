"""Imports run one way, there are no circles, and only the composition root knows the adapters."""

from __future__ import annotations

import ast
import re

import imports
import pytest
from support import ROOT, TEMPLATE

ROWS = (
    "firelaunch.errors firelaunch.precedence firelaunch.shutdown",
    "firelaunch.scope firelaunch.slots firelaunch.telemetry firelaunch.text_file",
    "firelaunch.identity firelaunch.settings firelaunch.store",
    "firelaunch.billing firelaunch.events firelaunch.llm firelaunch.membership firelaunch.paging firelaunch.prompts "
    "firelaunch.push",
    "firelaunch.chats firelaunch.jobs firelaunch.metering firelaunch.rag",
    "firelaunch.documents firelaunch.records",
    "firelaunch.services",
    "firelaunch.worker",
    "firelaunch.turns",
    "firelaunch.api",
    "firelaunch.server",
    "firelaunch.functions firelaunch.testing firelaunch_cli.evals firelaunch_cli.rules firelaunch_cli.transfer",
    "firelaunch_cli.deploy",
    "firelaunch_cli.doctor firelaunch_cli.verify",
    "firelaunch_cli.commands firelaunch_cli.testing",
)
"""A room imports from itself, and from rooms in the rows above it."""

ADAPTERS = re.compile(
    r"""firelaunch\.(
        billing\.stripe | identity\.(app_check|firebase) | jobs\.(cloud_tasks|embedded|oidc) | llm\.providers\..*
        | membership\.firebase | push\.fcm | rag\.cloud_files | rag\.embed\.(local|openai_compatible|vertex)
        | rag\.index\.(embedded|firestore(_words)?|pgvector|vector_search|vertex) | store\.(firestore|sqlite)
        | telemetry\.(console|otlp_http|otlp_metrics)
    )""",
    re.VERBOSE,
)
COMPOSITION_ROOTS = {
    "firelaunch.services.build",
    "firelaunch.services.build_search",
    "firelaunch.functions.wiring",
}


@pytest.fixture(scope="module")
def graph() -> imports.Graph:
    return imports.read()


def test_a_room_imports_only_from_rooms_before_it(graph: imports.Graph) -> None:
    row_of = {room: number for number, rooms in enumerate(ROWS) for room in rooms.split()}
    for each in graph.imports:
        here, there = imports.room(each.by), imports.room(each.of)
        if here.startswith("rules_tester") or there.startswith("rules_tester") or here == "firelaunch_cli.__main__":
            continue
        assert there == here or row_of[there] < row_of[here], f"{each.by} imports {each.of}"


def test_no_files_and_no_rooms_import_one_another(graph: imports.Graph) -> None:
    assert imports.circles(graph.files()) == []
    assert imports.circles(graph.rooms()) == []


def test_the_house_has_few_floors_and_few_modules_at_its_top(graph: imports.Graph) -> None:
    assert len(imports.floors(graph.rooms())) <= 14
    top = ROOT / "shared" / "firelaunch" / "src" / "firelaunch"
    assert len(list(top.glob("*.py"))) <= 8


def test_firelaunch_imports_no_command_line_and_the_rules_tester_imports_nothing_of_ours(graph: imports.Graph) -> None:
    for each in graph.imports:
        here, there = (name.split(".")[0] for name in (each.by, each.of))
        assert there in {"firelaunch": {here}, "firelaunch_cli": {here, "firelaunch", "rules_tester"}}.get(here, {here})


def test_only_the_composition_roots_and_the_adapters_themselves_import_adapters(graph: imports.Graph) -> None:
    for each in graph.imports:
        if ADAPTERS.fullmatch(each.of) and each.by not in COMPOSITION_ROOTS:
            near = imports.room(each.by) in {imports.room(each.of), "firelaunch.testing"}
            assert near or ADAPTERS.fullmatch(each.by), f"{each.by} imports {each.of}"


def test_the_model_gateway_knows_nothing_of_billing(graph: imports.Graph) -> None:
    for each in graph.imports:
        if each.by.startswith("firelaunch.llm."):
            assert imports.room(each.of).split(".")[1] not in {"metering", "turns", "services", "store"}, each


def test_application_code_imports_no_store_no_scope_and_no_cloud_client() -> None:
    for path in [*TEMPLATE.glob("app/**/*.py"), *(ROOT / "shared/firelaunch/src/firelaunch/api").glob("*.py")]:
        tree = ast.parse(path.read_text())
        modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        modules += [alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names]
        for module in modules:
            assert not module.startswith(("google", "firebase_admin", "sqlite3")), f"{path}: {module}"
            assert module.split(".")[-1] not in {"scoped", "sqlite", "firestore", "scope", "store"}, f"{path}: {module}"


def test_the_template_imports_from_the_root_and_from_the_public_fakes_alone() -> None:
    for path in TEMPLATE.rglob("*.py"):
        for module in re.findall(r"^\s*from (firelaunch[\w.]*) import", path.read_text(), re.MULTILINE):
            assert module in {"firelaunch", "firelaunch_cli.testing"} or module.startswith("firelaunch.testing"), (
                f"{path}: {module}"
            )


def test_every_public_name_is_there_and_is_listed_in_the_docs() -> None:
    import firelaunch

    page = (ROOT / "docs" / "python.md").read_text()
    for name in firelaunch.__all__:
        assert getattr(firelaunch, name) is not None
        assert f"`{name}`" in page, name
    assert len(firelaunch.__all__) <= 55
    with pytest.raises(AttributeError):
        firelaunch.Nothing  # noqa: B018


def test_create_app_and_the_app_are_thin() -> None:
    files = {path: len(path.read_text().splitlines()) for path in TEMPLATE.rglob("*.py")}
    assert files[TEMPLATE / "app" / "__init__.py"] < 50
    assert sum(files.values()) < 350


def test_no_python_file_of_the_template_holds_jinja() -> None:
    for path in TEMPLATE.rglob("*.py"):
        assert "{{" not in path.read_text()
        assert "{%" not in path.read_text()


def test_a_public_class_has_one_name_in_the_whole_repo(graph: imports.Graph) -> None:
    """The API's schemas aside: clients know those by their names, and they may be what a class inside is called."""
    homes: dict[str, list[str]] = {}
    for module, path in graph.modules.items():
        if not module.startswith("firelaunch.api."):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}
