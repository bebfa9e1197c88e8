"""The ranking API and its role are there where the setting asks for them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch_cli.deploy.resources import FEATURE_APIS, Place, app_service, features

PLACE = Place("demo-project", "europe-west1", "1234")
ROLE = "roles/discoveryengine.viewer"


@pytest.mark.parametrize(
    ("reranker", "asks"),
    [
        ("none", False),
        ("cheap", False),
        ("semantic-ranker-default-004", True),
        ("semantic-ranker-fast-004", True),
    ],
)
def test_a_deploy_gives_the_role_and_enables_the_api_where_the_setting_names_a_ranking_model(
    tmp_path: Path, reranker: str, asks: bool
) -> None:
    toml = SETTINGS + f'\n[search]\nreranker = "{reranker}"\n'
    settings = Settings.load(write_app(tmp_path, toml), {})
    apis = {FEATURE_APIS[name] for name in features(settings)}
    assert ("discoveryengine.googleapis.com" in apis) == asks
    assert (ROLE in {role.name for role in app_service(settings, PLACE).roles}) == asks
