"""What comes after -- reaches gcloud, beside what the deploy itself says."""

from __future__ import annotations

from pathlib import Path

import pytest
from firelaunch_cli.deploy.gcloud import CommandFailed
from firelaunch_cli.deploy.gcloud_args import joined
from firelaunch_cli.deploy.release import deploy_command
from hypothesis import given
from hypothesis import strategies as st

from .gcloud_parser import refusals
from .test_release import PLACE, SERVICE
from .world import gcloud_is_there

OWN = ("run", "--set-env-vars=^;^A=1,2;B=x", "--labels=a=b", "--memory=1Gi")


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ((), OWN),
        (("--cpu=2", "--vpc-egress", "all-traffic"), (*OWN, "--cpu=2", "--vpc-egress", "all-traffic")),
        (("--update-env-vars=C=3",), ("run", "--set-env-vars=^;^A=1,2;B=x;C=3", *OWN[2:])),
        (("--set-env-vars", "B=y,C=3"), ("run", "--set-env-vars=^;^A=1,2;B=y;C=3", *OWN[2:])),
        (
            ("--update-env-vars=^#^C=a;b,c", "--cpu=2"),
            ("run", "--set-env-vars=^|^A=1,2|B=x|C=a;b,c", *OWN[2:], "--cpu=2"),
        ),
        (("--update-secrets=K=key:latest",), (*OWN, "--set-secrets=K=key:latest")),
        (("--update-labels=c=d",), (*OWN[:2], "--labels=a=b,c=d", OWN[3])),
        (("--update-env-vars=C=a=b",), ("run", "--set-env-vars=^;^A=1,2;B=x;C=a=b", *OWN[2:])),
    ],
)
def test_maps_go_into_the_flag_that_is_there_and_the_rest_follows(
    more: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    assert joined(OWN, more) == wanted


@pytest.mark.parametrize("more", [("--update-env-vars",), ("--set-env-vars=A",), ("--update-secrets", "=x")])
def test_what_is_no_map_is_refused(more: tuple[str, ...]) -> None:
    with pytest.raises(CommandFailed, match="wants NAME=VALUE"):
        joined(OWN, more)


@given(st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), st.text("abc,;|# =^", max_size=9), max_size=4))
def test_no_value_is_lost_or_torn(values: dict[str, str]) -> None:
    more = tuple(f"--update-env-vars=^@^{name}={value}" for name, value in values.items())
    (flag,) = joined(("--set-env-vars=OWN=1",), more)
    text = flag.partition("=")[2]
    separator, text = (text[1], text[3:]) if text.startswith("^") else (",", text)
    assert dict(item.split("=", 1) for item in text.split(separator)) == {"OWN": "1", **values}


@pytest.mark.skipif(not gcloud_is_there(), reason="the Google Cloud CLI is not installed")
def test_gcloud_takes_variables_secrets_and_labels_beside_the_deploys_own(tmp_path: Path) -> None:
    more = ("--update-env-vars=X=1", "--update-secrets=Y=y:latest", "--update-labels=team=me", "--cpu", "2")
    command = deploy_command(PLACE, SERVICE, tmp_path, {"a": "b"}, more=more)
    assert refusals([command.argv[1:]], tmp_path) == {}
