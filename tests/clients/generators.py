"""The generators of clients: how each is run, what it makes is compiled, and a round trip is made by it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import ROOT

from .packages import javascript, python

__all__ = ["GENERATORS", "SHORT", "ClientFault", "Generator", "Work", "name_faults"]

_CALLS = Path(__file__).parent / "calls"
_SECONDS = 300
_TSC = ("--strict", "--target", "es2022", "--module", "node16", "--lib", "es2023,dom,dom.iterable", "--skipLibCheck")


class ClientFault(Exception):
    """A client could not be generated, compiled or called, or has names that nobody would give; the message says so."""


@dataclass(frozen=True)
class Work:
    """What a generator works with.

    Attributes:
        document: the file with the OpenAPI document.
        folder: an empty folder for the client. For JavaScript it lies below its packages.
    """

    document: Path
    folder: Path


Step = Callable[[Work], None]


@dataclass(frozen=True)
class Generator:
    """One generator.

    Attributes:
        home: where the folder of the client has to lie, if anywhere.
        compile: makes what can be run; None where there is no compiler for the language here.
        call: the command of the round trip, without the app's address.
    """

    name: str
    generate: Step
    compile: Step | None = None
    call: Callable[[Work], Sequence[str | Path]] | None = None
    home: Callable[[], Path | None] = lambda: None

    def round_trip(self, work: Work, url: str) -> Any:
        """What the client was told, by a round trip to the app at ``url``.

        Raises:
            ClientFault: the client ended with an error.
        """
        assert self.call is not None
        return json.loads(run(*self.call(work), url, folder=work.folder))


def run(*command: str | Path, folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it said.

    Raises:
        ClientFault: it failed.
    """
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    if done.returncode:
        words = " ".join(str(word) for word in command[:4])
        raise ClientFault(f"{words} ended with {done.returncode}:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout


_OF_GROUPS = re.compile(r"(?i)(?:new_?)?group|invite|join|(?:new_?|list_?)?dish")
"""Matches the names of the models of groups and of the example's kitchens, which apps without groups don't have."""


def name_faults(names: Sequence[str]) -> list[str]:
    """The names of models or operations that a generator had to make up, and more than there may be."""
    made_up = [
        name for name in names if re.search(r"(?i)inline|anyof|oneof|allof|\d(response|request)|type_?\d|_?\d+$", name)
    ]
    others = [name for name in names if not _OF_GROUPS.match(name)]
    return made_up + ([f"{len(others)} models"] if len(others) >= 100 else [])


# JavaScript


def _bin(package: str, name: str) -> Path:
    return javascript(package) / "node_modules" / ".bin" / name


def _openapi_typescript(work: Work) -> None:
    target = work.folder / "generated" / "schema.d.ts"
    run(_bin("js", "openapi-typescript"), work.document, "-o", target, folder=work.folder)


def _hey_api(work: Work) -> None:
    run(_bin("js_long", "openapi-ts"), "-i", work.document, "-o", work.folder / "generated", folder=work.folder)


def _tsc(package: str, script: str) -> Step:
    def compile_script(work: Work) -> None:
        shutil.copy(_CALLS / script, work.folder)
        run(_bin(package, "tsc"), *_TSC, script, folder=work.folder)

    return compile_script


def _openapi_fetch(work: Work) -> None:
    _tsc("js", "openapi_fetch.ts")(work)
    imports, lines = _documented("ts")
    given = ["declare const auth: { currentUser: { getIdToken(): Promise<string> } };", "declare const picked: File;"]
    body = ["export async function documented() {", *lines, "}"]
    text = "\n".join([*imports, *given, *body]).replace('"./schema"', '"./generated/schema"')
    (work.folder / "documented.ts").write_text(text)
    run(_bin("js", "tsc"), *_TSC, "--noEmit", "documented.ts", folder=work.folder)


def _documented(language: str) -> tuple[list[str], list[str]]:
    """The imports and the other lines of what docs/clients.md shows in a language."""
    page = (ROOT / "docs" / "clients.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    return imports, [line for line in lines if line not in imports]


def _node(script: str) -> Callable[[Work], Sequence[str | Path]]:
    return lambda work: ("node", work.folder / script)


# Python


def _openapi_python_client(work: Work) -> None:
    config = work.folder / "config.json"
    types = dict.fromkeys(("application/zip", "image/jpeg", "image/png", "image/webp"), "application/octet-stream")
    config.write_text(json.dumps({"post_hooks": [], "content_type_overrides": types}))
    words = ("generate", "--fail-on-warning", "--meta", "none", "--config", config, "--path", work.document)
    run(
        python("short") / "openapi-python-client",
        *words,
        "--output-path",
        work.folder / "generated",
        folder=work.folder,
    )
    _check_names([path.stem for path in (work.folder / "generated" / "models").glob("[a-z]*.py")])


def _own_script(_work: Work, script: str) -> list[str]:
    return [script]


def _with_documented(work: Work, script: str) -> list[str]:
    imports, lines = _documented("python")
    text = "\n".join([*imports, "token = ''", *lines]).replace("from client", "from generated")
    (work.folder / "documented.py").write_text(text)
    return [script, "documented.py"]


def _python_compile(environment: str, script: str, scripts: Callable[[Work, str], list[str]] = _own_script) -> Step:
    def compile_script(work: Work) -> None:
        shutil.copy(_CALLS / script, work.folder)
        run(python(environment) / "python", "-m", "compileall", "-q", ".", folder=work.folder)
        # What the script says of types is checked by what the client says of them.
        words = ("--python-executable", python(environment) / "python", "--follow-imports=silent", "--no-incremental")
        run(sys.executable, "-m", "mypy", *words, "--config-file=", *scripts(work, script), folder=work.folder)

    return compile_script


def _python_call(environment: str, script: str) -> Callable[[Work], Sequence[str | Path]]:
    return lambda work: (python(environment) / "python", work.folder / script)


# openapi-generator, whose Java archive is in its Python package


def _openapi_generator(language: str, models: str, upload: str, folder: str = "generated") -> Step:
    def generate(work: Work) -> None:
        target = work.folder / folder
        words = ("generate", "-g", language, "-i", work.document, "-o", target)
        run(python("long") / "openapi-generator-cli", *words, folder=work.folder)
        sources = [path for path in target.glob(models) if path.stem not in {"__init__", "index"}]
        _check_names([path.stem for path in sources])
        if len(sources) < 50:
            raise ClientFault(f"{language}: {len(sources)} models")
        text = "".join(path.read_text() for path in target.rglob("*ocuments*pi.*") if "test" not in path.name)
        text += "".join(path.read_text() for path in target.rglob("DocumentsAPI.swift"))
        if not re.search(upload, text):
            raise ClientFault(f"{language}: no upload that takes a file")

    return generate


def _check_names(names: Sequence[str]) -> None:
    faults = name_faults(names)
    if faults:
        raise ClientFault(f"names that a generator made up: {', '.join(faults)}")


GENERATORS = (
    Generator(
        "openapi-typescript + openapi-fetch",
        _openapi_typescript,
        _openapi_fetch,
        _node("openapi_fetch.js"),
        lambda: javascript("js"),
    ),
    Generator(
        "openapi-python-client",
        _openapi_python_client,
        _python_compile("short", "python_client.py", _with_documented),
        _python_call("short", "python_client.py"),
    ),
    Generator(
        "hey-api",
        _hey_api,
        _tsc("js_long", "hey_api.ts"),
        _node("hey_api.js"),
        lambda: javascript("js_long"),
    ),
    Generator(
        "openapi-generator typescript-fetch",
        _openapi_generator("typescript-fetch", "models/*.ts", r"interface UploadDocumentRequest \{[^}]*file: Blob"),
        _tsc("js_long", "typescript_fetch.ts"),
        _node("typescript_fetch.js"),
        lambda: javascript("js_long"),
    ),
    Generator(
        "openapi-generator python",
        _openapi_generator(
            "python", "openapi_client/models/*.py", r"def upload_document\(\s+self,\s+file: Union\[StrictBytes", "."
        ),
        _python_compile("long", "generator_python.py"),
        _python_call("long", "generator_python.py"),
    ),
    Generator(
        "openapi-generator kotlin",
        _openapi_generator("kotlin", "src/main/**/models/*.kt", r"fun uploadDocument\(file: java\.io\.File,"),
    ),
    Generator(
        "openapi-generator swift6",
        _openapi_generator("swift6", "Sources/**/Models/*.swift", r"func uploadDocument\(file: URL,"),
    ),
    Generator(
        "openapi-generator dart",
        _openapi_generator("dart", "lib/model/*.dart", r"uploadDocument\(MultipartFile file,"),
    ),
)
SHORT = GENERATORS[:2]
"""The fast ones, which the tests run each time."""
