"""A new module is declared in code of any form, and every other line of the code stays as it is."""

from __future__ import annotations

import ast

import pytest
from firelaunch_cli.commands.source_edits import declare, declares

LISTS = [
    ("[]", "[new.x]"),
    ("[a.x]", "[a.x, new.x]"),
    ("[a.x,]", "[a.x, new.x,]"),
    ("[(a.x)]", "[(a.x), new.x]"),
    ("(a.x,)", "(a.x, new.x,)"),
    ("()", "(new.x,)"),
    ("[\n    a.x,\n]", "[\n    a.x,\n    new.x,\n]"),
    ("[\n    a.x\n]", "[\n    a.x,\n    new.x,\n]"),
    ("[\n]", "[\n    new.x,\n]"),
    ("[  # all of them\n]", "[  # all of them\n    new.x,\n]"),
    ("[\n    a.x  # one, two]\n]", "[\n    a.x,  # one, two]\n    new.x,\n]"),
    ("[\n    a.x,\n    # b.x: not yet\n]", "[\n    a.x,\n    # b.x: not yet\n    new.x,\n]"),
    ("[a.x,\n b.x]", "[a.x,\n b.x, new.x]"),
    ("[\n\ta.x, b.x,\n]", "[\n\ta.x, b.x,\n\tnew.x,\n]"),
    ("[\n    f(\n        a.x\n    ),\n]", "[\n    f(\n        a.x\n    ),\n    new.x,\n]"),
    ("[*few, 'é', a.x]", "[*few, 'é', a.x, new.x]"),
]


@pytest.mark.parametrize(("before", "after"), LISTS)
def test_a_list_of_any_form_takes_one_more(before: str, after: str) -> None:
    """Written into the call, in a variable, and in one with a type."""
    for frame in (
        "y = 'é', App('é', routes=LIST)",
        "few = LIST\nApp('é', routes=few)",
        "few: list = LIST\nm.App(routes=few)",
    ):
        text = f"from . import b, new\n\n{frame}\n"
        changed = declare(text.replace("LIST", before), "new", "routes", "new.x")
        assert changed == text.replace("LIST", after)
        ast.parse(changed)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("App()", "App(events=[new.x])"),
        ("App(a, jobs=[\n    b,\n])", "App(a, jobs=[\n    b,\n], events=[new.x])"),
        ("App(\n    a,\n    jobs=[b],  # each\n)", "App(\n    a,\n    jobs=[b],  # each\n    events=[new.x],\n)"),
        ("App(\n    a, jobs=[b]\n)", "App(\n    a, jobs=[b],\n    events=[new.x],\n)"),
        (
            "App(\n    a,\n    jobs=[\n        b,\n    ],\n)",
            "App(\n    a,\n    jobs=[\n        b,\n    ],\n    events=[new.x],\n)",
        ),
    ],
)
def test_a_call_without_the_argument_gets_it(before: str, after: str) -> None:
    assert (
        declare(f"from . import new\nx = {before}\n", "new", "events", "new.x") == f"from . import new\nx = {after}\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from . import a, z", "from . import a, new, z"),
        ("from . import a", "from . import a, new"),
        ("from . import a as b, z as y", "from . import a as b, new, z as y"),
        ("from . import (\n    a,\n    z,\n)", "from . import (\n    a,\n    new,\n    z,\n)"),
        ("from . import (\n    a  # first\n)", "from . import (\n    a,  # first\n    new,\n)"),
        ("from . import a, \\\n    z", "from . import a, \\\n    new, z"),
        ("from . import a\nfrom . import z", "from . import a, new\nfrom . import z"),
        ("import os\n\nfrom .a import b", "import os\n\nfrom . import new\nfrom .a import b"),
        ("import os", "import os\n\nfrom . import new"),
    ],
)
def test_the_module_is_imported_beside_the_others(before: str, after: str) -> None:
    assert declare(f"{before}\nApp()\n", "new", "routes", "new.x") == f"{after}\nApp(routes=[new.x])\n"


@pytest.mark.parametrize(
    "text",
    [
        "App(",
        "x = 1",
        "App()\nApp()",
        "App(**more)",
        "App(routes=a + [b])",
        "App(routes=make())",
        "few = [a]\nfew += [b]\nApp(routes=few)",
        "from . import *\nApp()",
    ],
)
def test_what_is_not_written_as_a_list_is_left_alone(text: str) -> None:
    assert declare(text, "new", "routes", "new.x") is None


def test_it_tells_whether_an_argument_is_there_in_whichever_form() -> None:
    assert declares("firelaunch.App(routes=a + [b])", "routes")
    assert not declares("App(events=[])", "routes")
    assert not declares("App(", "routes")
