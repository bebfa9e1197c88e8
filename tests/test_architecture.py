"""Imports run one way, and only wiring knows the adapters."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support import ROOT, TEMPLATE

SOURCE = ROOT / "shared" / "src" / "firelaunch"

ORDER = [
    ["errors", "lifecycle"],
    ["environments", "telemetry", "text_file"],
    ["scope"],
    ["settings_sections"],
    ["plans", "search_settings"],
    ["settings"],
    ["store", "prompt_lock"],
    ["transfer", "billing"],
    ["admission", "identity", "llm", "prompts", "chats"],
    ["rag", "jobs", "stream", "push", "document_views"],
    ["slots", "incoming"],
    ["documents"],
    ["document_traces"],
    ["grounding"],
    ["usage", "said"],
    ["checkpoints"],
    ["model_calls", "ui_stream"],
    ["services"],
    ["uploads"],
    ["worker"],
    ["after_turn", "paid_search"],
    ["answering"],
    ["guardrails", "named", "resume"],
    ["turn", "batch", "billing_jobs", "ingest_work", "reembed", "erasure", "notify", "rollup"],
    ["ingest", "reembed_job"],
    ["upkeep"],
    ["api"],
    ["search_wiring"],
    ["web", "wiring"],
    ["membership"],
    ["connections", "hub"],
    ["serving", "gunicorn_worker", "gunicorn_logger"],
    ["functions"],
    ["testing"],
    ["rules"],
    ["deploy"],
    ["verify"],
    ["doctor"],
    ["cli"],
    ["__main__", "__init__"],
]
"""A room imports from its own row's own room, and from rows above it."""

ADAPTERS = (
    "jobs.embedded",
    "jobs.cloud_tasks",
    "jobs.oidc",
    "store.sqlite",
    "store.firestore",
    "llm.providers",
    "identity.firebase",
    "identity.app_check",
    "membership.firebase",
    "push.fcm",
    "billing.stripe",
    "rag.index.embedded",
    "rag.index.firestore",
    "rag.index.pgvector",
    "rag.index.vertex",
    "rag.index.vector_search",
    "rag.embed.local",
    "rag.embed.openai_compatible",
    "rag.embed.vertex",
    "rag.cloud_files",
)


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """What a file of firelaunch imports from firelaunch, by names such as "store.base"."""
    package = list(path.relative_to(SOURCE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            found += [".".join([*base, alias.name]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("firelaunch."):
            found.append(str(node.module).removeprefix("firelaunch."))
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_from_rooms_before_it(path: Path) -> None:
    row_of = {room: number for number, rooms in enumerate(ORDER) for room in rooms}
    here = room_of(path)
    for name in imports(path):
        there = name.split(".")[0]
        assert there == here or row_of[there] < row_of[here], f"{here} imports {name}"


def test_only_wiring_and_the_adapters_themselves_import_adapters() -> None:
    """``wiring`` for the services, ``functions/wiring`` for the functions."""
    allowed = {"wiring", "search_wiring", "testing", "store", "llm", "identity", "membership"}
    allowed |= {"jobs", "rag", "push", "billing"}
    for path in FILES:
        if room_of(path) not in allowed and path != SOURCE / "functions" / "wiring.py":
            assert not [name for name in imports(path) if name.startswith(ADAPTERS)], path


def test_the_model_gateway_knows_nothing_of_billing() -> None:
    for path in (SOURCE / "llm").rglob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] in {"usage", "turn", "services", "store"}]


def test_application_code_imports_no_store_no_scope_and_no_cloud_client() -> None:
    for path in [*TEMPLATE.glob("app/**/*.py"), *(SOURCE / "api").glob("*.py")]:
        text = path.read_text()
        tree = ast.parse(text)
        modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        modules += [alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names]
        for module in modules:
            assert not module.startswith(("google", "firebase_admin", "sqlite3")), f"{path}: {module}"
            assert module.split(".")[-1] not in {"scoped", "sqlite", "firestore", "scope", "store"}, f"{path}: {module}"


def test_create_app_and_the_app_are_thin() -> None:
    files = {path: len(path.read_text().splitlines()) for path in TEMPLATE.rglob("*.py")}
    assert files[TEMPLATE / "app" / "__init__.py"] < 50
    assert sum(files.values()) < 350


def test_no_python_file_of_the_template_holds_jinja() -> None:
    for path in TEMPLATE.rglob("*.py"):
        assert "{{" not in path.read_text()
        assert "{%" not in path.read_text()
