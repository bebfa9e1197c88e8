"""What the modules of deploy/terraform come to, by Terraform itself and without the provider, which tests cannot get.

Each resource of the provider becomes a ``terraform_data``, which is built into Terraform, with the arguments as its
input. So every expression is evaluated with real variables, and what comes out can be checked against the schema.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
from support import ROOT

SOURCE = ROOT / "deploy" / "terraform"
BLOCK = re.compile(r'^(resource|data) "google_(\w+)" "(\w+)" \{\n(?:.*?^)?\}\n', re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r"(?<![\w.\"])(?:data\.)?google_(\w+)\.(\w+)((?:\[[^\[\]]*\])?)(\.(?=\w))?")
META = ("for_each", "count", "depends_on", "lifecycle", "provider")
DOMAIN = "demo-project.iam.gserviceaccount.com"
EXPORTS = {
    "service_account": {
        "email": '"${ACCOUNT}@' + DOMAIN + '"',
        "member": '"serviceAccount:${ACCOUNT}@' + DOMAIN + '"',
        "name": '"projects/demo-project/serviceAccounts/${ACCOUNT}@' + DOMAIN + '"',
    },
    "iam_workload_identity_pool": {"name": '"projects/1234/locations/global/workloadIdentityPools/github"'},
    "iam_workload_identity_pool_provider": {"name": '"the/provider"'},
    "project": {"number": '"1234"'},
    "vertex_ai_index": {"id": '"INDEX"'},
    "vertex_ai_index_endpoint": {"id": '"ENDPOINT"'},
    "storage_project_service_account": {
        "member": '"serviceAccount:service-1234@gs-project-accounts.iam.gserviceaccount.com"'
    },
}
"""What resources have once they are made, as far as ours ask for it."""


def blocks(path: Path) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """The resources of a file: "resource" or "data", the type without "google_", the name, and the body."""
    for found in BLOCK.finditer(path.read_text()):
        parsed = hcl2.loads(found[0])[found[1]][0]
        body = parsed[f'"google_{found[2]}"'][f'"{found[3]}"']
        yield found[1], found[2], found[3], body


def planned(folder: Path, variables: dict[str, Any], **more: str) -> dict[str, dict[str, Any]]:
    """The arguments of each resource by its address, such as ``module.app["demo"].google_service_account.app``."""
    copy = folder / "terraform"
    for path in SOURCE.rglob("*.tf"):
        target = copy / path.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(without_provider(path.read_text()))
    (copy / "firelaunch.auto.tfvars.json").write_text(json.dumps(variables))
    environ = {**os.environ, "CHECKPOINT_DISABLE": "1", **{f"TF_VAR_{key}": value for key, value in more.items()}}
    for arguments in (["init", "-input=false"], ["plan", "-input=false", "-out=plan"]):
        run(copy, environ, *arguments)
    plan = json.loads(run(copy, environ, "show", "-json", "plan"))
    return dict(resources(plan["planned_values"]["root_module"]))


def run(folder: Path, environ: dict[str, str], *arguments: str) -> str:
    terraform = shutil.which("terraform")
    assert terraform is not None
    done = subprocess.run(
        [terraform, *arguments, "-no-color"] if arguments[0] != "show" else [terraform, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resources(module: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in module.get("resources", []):
        address = re.sub(r"terraform_data\.(\w+?)__", r"google_\1.", item["address"])
        yield address, item["values"]["input"]
    for child in module.get("child_modules", []):
        yield from resources(child)


def without_provider(text: str) -> str:
    """The file with ``terraform_data`` in place of the provider's resources."""
    text = re.sub(r'^(terraform|provider "google") \{\n.*?^\}\n', "", text, flags=re.MULTILINE | re.DOTALL)
    made = BLOCK.sub(stand_in, text)
    return REFERENCE.sub(reference, made)


def reference(found: re.Match[str]) -> str:
    """What a resource exports is what it was given, and what it has besides."""
    return f"terraform_data.{found[1]}__{found[2]}{found[3]}{'.input.' if found[4] else ''}"


def stand_in(found: re.Match[str]) -> str:
    body = hcl2.loads(found[0])[found[1]][0][f'"google_{found[2]}"'][f'"{found[3]}"']
    kept = "".join(f"  {key} = {expression(value)}\n" for key, value in body.items() if key in META)
    arguments = {key: value for key, value in body.items() if key not in META}
    given = fields(arguments)
    for key, value in EXPORTS.get(found[2], {}).items():
        given[key] = value.replace("ACCOUNT", expression(body["account_id"])) if "account_id" in body else value
    inside = "".join(f"    {key} = {value}\n" for key, value in given.items())
    return f'resource "terraform_data" "{found[2]}__{found[3]}" {{\n{kept}  input = {{\n{inside}  }}\n}}\n'


def fields(body: dict[str, Any]) -> dict[str, str]:
    """Arguments and blocks as expressions."""
    found = {}
    for key, value in body.items():
        if key == "dynamic":
            found |= dict(dynamic(item) for item in value)
        elif not key.startswith("__"):
            found[key] = expression(value)
    return found


def dynamic(item: dict[str, Any]) -> tuple[str, str]:
    ((name, block),) = item.items()
    name = name.strip('"')
    (content,) = block["content"]
    inner = re.sub(rf"\b{name}\.value\b", f"each_{name}", as_object(fields(content)))
    return name, f"[for each_{name} in {expression(block['for_each'])} : {inner}]"


def as_object(given: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{expression(key)} = {value}" for key, value in given.items()) + " }"


def expression(value: Any) -> str:
    """What the parser gives, as Terraform reads it."""
    if isinstance(value, list):
        return "[" + ", ".join(expression(item) for item in value) + "]"
    if isinstance(value, dict):
        return as_object(fields(value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = str(value)
    return text[2:-1] if text.startswith("${") and text.endswith("}") else text
