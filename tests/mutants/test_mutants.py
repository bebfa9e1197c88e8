"""The mutants are what they are said to be, and a change that a test notices is killed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from support import PYTHON, ROOT, clean_environ

pytest.importorskip("mutmut", reason="mutmut is not there: libcst has no wheel for Intel Macs")

from mutants.__main__ import BESIDE, EQUIVALENT, ROOMS, SOURCE, TESTS
from mutants.changes import mutants_of

_PROGRAM = """
from functools import cache

LIMIT = 3


def admit(used: int, /, most: int = 3) -> str:
    if used >= most or not most:
        raise ValueError(f"{used} of {most}")
    log.warning("%d", used + 1)
    return "yes" if used else "first"


class Wall:
    @property
    def open(self) -> bool:
        return True
"""


def test_each_small_change_of_what_stands_in_functions_is_made_once(tmp_path: Path) -> None:
    (file := tmp_path / "program.py").write_text(_PROGRAM)
    assert [mutant.id for mutant in mutants_of(file)] == [
        "admit: if used >= most or not most: -> if False:",
        "admit: if used >= most or not most: -> if True:",
        "admit: if used >= most or not most: -> if used >= most and not most:",
        "admit: if used >= most or not most: -> if used > most or not most:",
        "admit: if used >= most or not most: -> if used >= most or most:",
        'admit: raise ValueError(f"{used} of {most}") -> pass',
        'admit: return "yes" if used else "first" -> return "yes" if (used) and False else "first"',
        'admit: return "yes" if used else "first" -> return "yes" if (used) or True else "first"',
        "Wall.open: return True -> return False",
    ]


@pytest.mark.parametrize("name", [name for modules in ROOMS.values() for name in modules])
def test_every_mutant_of_a_module_is_a_program_and_has_an_id_of_its_own(name: str) -> None:
    mutants = mutants_of(SOURCE / f"{name}.py")
    for each in mutants:
        compile(each.source, name, "exec")
    assert len({each.id for each in mutants}) == len(mutants)


def test_the_short_form_plays_five_mutants_and_all_are_killed(tmp_path: Path) -> None:
    out = tmp_path / "mutants.json"
    done = subprocess.run(
        [PYTHON, "-m", "mutants"],
        env=clean_environ(SHORT="1", OUT=str(out), PYTHONPATH=str(ROOT / "tests")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    module = json.loads(out.read_text())["rooms"]["admission"]["slots"]
    assert (module["mutants"], module["killed"] + module["timeout"], module["score"]) == (5, 5, 100.0)


def test_each_mutant_that_is_allowed_is_there_and_says_why() -> None:
    for name, entries in (yaml.safe_load(EQUIVALENT.read_text()) or {}).items():
        ids = {each.id for each in mutants_of(SOURCE / f"{name}.py")}
        for entry in entries:
            assert entry["id"] in ids, f"{name} has no such mutant (any more)"
            assert len(entry["reason"]) > 20, entry["id"]


def test_the_tests_beside_each_room_are_there() -> None:
    assert BESIDE.keys() == ROOMS.keys()
    assert [name for names in BESIDE.values() for name in names if not (TESTS / name).exists()] == []
