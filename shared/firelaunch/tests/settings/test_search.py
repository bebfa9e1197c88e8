"""Where the deployed app keeps its documents, and what makes their vectors, as its settings say or by default."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from firelaunch.documents.reembed import Reembedding
from firelaunch.errors import SettingsError
from firelaunch.rag.versions import Versions
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.services.build_search import wanted_version
from firelaunch.settings.app import Settings
from firelaunch.store.base import Create, Set
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import write_app
from firelaunch_cli.commands import main
from firelaunch_cli.deploy.vertex import deployed_index_problems
from firelaunch_cli.doctor.app import app_checks
from support import APP_CODE

CLOUD = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "demo-project", "OPENAI_API_KEY": "sk-test"}


def settings(folder: Path, index: str = "", provider: str = "openai", **environ: str) -> Settings:
    path = write_app(folder)
    text = path.read_text().replace('provider = "openai"', f'provider = "{provider}"')
    text += '\n[models.vertex]\nchat = "gemini-3.5-flash"\ncheap = "gemini-3.5-flash"\n'
    path.write_text(f"{text}\n[index]\n{index}\n")
    (path.parent / "app" / "__init__.py").write_text(APP_CODE)
    return Settings.load(path, environ)


@pytest.mark.parametrize(
    ("provider", "index", "model", "dimensions"),
    [
        ("openai", "", "text-embedding-3-small", 1536),
        ("vertex", "", "gemini-embedding-001", 768),
        ("openai", 'embedder = "vertex"', "gemini-embedding-001", 768),
        ("vertex", 'backend = "pgvector"', "gemini-embedding-001", 3072),
        ("vertex", "dimensions = 1536", "gemini-embedding-001", 1536),
        ("openai", 'model = "text-embedding-3-large"', "text-embedding-3-large", 768),
        ("openai", 'embedder = "local"', "", 384),
    ],
)
def test_by_default_firestore_keeps_vectors_of_the_providers_model_that_it_can_search(
    tmp_path: Path, provider: str, index: str, model: str, dimensions: int
) -> None:
    loaded = settings(tmp_path, index, provider, **CLOUD)
    assert loaded.index.backend == ("pgvector" if "pgvector" in index else "firestore")
    assert (loaded.embedding.model, loaded.embedding.length) == (model, dimensions)
    assert list(deployed_index_problems(loaded)) == []
    version = wanted_version(loaded)
    assert (version.backend, version.model) == (loaded.index.backend, model)
    assert version.dimensions in {0, dimensions}, "what the app asks for is what the deploy made the index for"


@pytest.mark.parametrize(
    ("index", "environ", "kind"),
    [
        ("", {}, "none"),
        ("", {"OPENAI_API_KEY": "sk-test"}, "none"),
        ("", {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "none"),
        ('embedder = "openai"', {}, "none"),
        ('embedder = "openai"', {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "openai"),
        ('embedder = "local"', {}, "local"),
    ],
)
def test_on_a_laptop_words_alone_are_searched_unless_an_embedder_that_works_there_is_named(
    tmp_path: Path, index: str, environ: dict[str, str], kind: str
) -> None:
    """A model server of one's own need not embed, so that nothing is asked of it unless the settings say so."""
    loaded = settings(tmp_path, index, **environ)
    assert (loaded.embedder, wanted_version(loaded).backend) == (kind, "embedded")


@pytest.mark.parametrize("environ", [CLOUD, {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1"}])
def test_without_an_embedder_firestore_is_searched_by_words_alone(tmp_path: Path, environ: dict[str, str]) -> None:
    loaded = settings(tmp_path, 'embedder = "none"', **environ)
    assert list(deployed_index_problems(loaded)) == []
    build(loaded)
    version = wanted_version(loaded)
    assert (version.backend, version.embedder, version.dimensions) == ("firestore", "none", 0)


REFUSED = [
    ('backend = "embedded"', "works on laptops alone", 'Set it to "firestore"'),
    ("dimensions = 3072", "Firestore takes 2048", "set it to that or less"),
    ('model = "some-other-model"', "the length of the vectors of 'some-other-model' is not known", "set it to"),
]


@pytest.mark.parametrize(("index", "said", "mend"), REFUSED)
def test_what_cannot_work_once_deployed_is_refused_with_its_mend_at_the_start_by_deploy_and_by_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, said: str, mend: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        build(settings(tmp_path, index, **CLOUD))
    assert said in str(refused.value)
    assert mend in str(refused.value)

    on_a_laptop = settings(tmp_path, index)
    build(on_a_laptop)
    findings = [f for f in app_checks(on_a_laptop.root, {}) if f.status == "problem" and said in f.said]
    assert [mend in finding.said for finding in findings] == [True]

    monkeypatch.chdir(on_a_laptop.root)
    done = CliRunner().invoke(main, ["deploy", str(on_a_laptop.root), "--dry-run"])
    assert done.exit_code == 2
    assert said in done.output


def test_documents_that_a_cloud_run_instance_kept_to_itself_are_built_again_in_the_index_that_lasts(
    tmp_path: Path,
) -> None:
    """An app that was deployed with the embedded index has a version of it on record, which nothing can read."""
    store = ScopedStore(SQLiteStore(tmp_path / "data.sqlite3"), Scope("demo"))
    lost = wanted_version(settings(tmp_path / "laptop"))
    store.commit([Create(store.scope.index_state(), {"current": asdict(lost), "building": None, "old": []})])
    services = build(settings(tmp_path / "cloud", **CLOUD), store=SQLiteStore(tmp_path / "data.sqlite3"))
    versions: Versions = services.documents.versions
    assert versions.state() is None, "nothing can be searched"

    record: dict[str, Any] = {"status": "ready", "hash": "h", "characters": 9, "indexed": {lost.id: "h"}}
    ada = Scope("demo", "ada")
    store.commit([Set(ada.document("d1"), record), Set(ada.source("d1"), {"uid": "ada", "document": "d1"})])
    assert Reembedding(services.store, services.documents, services.metering).survey().missing == 1
    begun = versions.ensure_state()
    assert (begun.current, begun.all) == (versions.configured, (versions.configured,))
    assert versions.state() == begun
