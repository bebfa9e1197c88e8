"""Writes tests/terraform_schema.json: what the Google provider of Terraform takes, for the resources that we use.

The provider's own schema comes from its binary, which the Terraform registry has. HashiCorp published the same as typed
bindings on PyPI (cdktf-cdktf-provider-google), generated from that schema: resources, arguments, types and which are
required. This reads those:

    pip download --no-deps cdktf-cdktf-provider-google==16.12.1 && python tools/terraform_schema.py cdktf_*.whl
"""

# ruff: noqa: T201 - a command line tool

import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "tests" / "terraform_schema.json"
PREFIX = "@cdktf/provider-google."
RESOURCE = re.compile(r'^(resource|data) "(\w+)"', re.MULTILINE)
LINK = re.compile(r"/docs/(?:resources|data-sources)/\w+#(\w+) ")
META = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners"}


def main():
    """Read the wheel that is named, and write the file."""
    types, version = bindings(Path(sys.argv[1]))
    files = ROOT.glob("deploy/terraform/**/*.tf")
    used = sorted({found for path in files for found in RESOURCE.findall(path.read_text())})
    resources = {
        f"{kind}.{name}": of(types, f"{PREFIX}{module(kind, name)}.{pascal(kind, name)}") for kind, name in used
    }
    made = {
        "provider": "hashicorp/google",
        "version": version,
        "source": f"PyPI, {Path(sys.argv[1]).name}",
        "resources": resources,
    }
    TARGET.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {len(resources)} resources of {version}")


def bindings(wheel):
    """The types of the bindings by their names, and the provider's version."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(archive.read(name))) as packed:
            assembly = json.load(packed.extractfile("package/.jsii"))
            readme = packed.extractfile("package/README.md").read().decode()
    return assembly["types"], re.search(r"provider version ([\d.]+)", readme)[1]


def of(types, name):
    """A resource's arguments, and the names of what it exports."""
    exports = {snake(item["name"]) for item in types[name]["properties"]} - META
    return {"arguments": fields(types, f"{name}Config"), "exports": sorted(x for x in exports if "_input" not in x)}


def snake(name):
    """``accountId`` as Terraform writes it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def pascal(kind, name):
    """``google_cloud_tasks_queue`` as the bindings' class name."""
    words = name.removeprefix("google_").split("_")
    return ("DataGoogle" if kind == "data" else "") + "".join(word.capitalize() for word in words)


def module(kind, name):
    """Its module's name."""
    whole = pascal(kind, name)
    return whole[0].lower() + whole[1:]


def fields(types, name, depth=0):
    """The arguments of a resource or a block: each one's type, and whether it is required."""
    found = {}
    if depth > 12:
        return found
    for item in types[name].get("properties", []):
        link = LINK.search(item.get("docs", {}).get("remarks", ""))
        own = link[1] if link else snake(item["name"])
        if own in META:
            continue
        found[own] = {"type": shape(types, item["type"], depth), "required": not item.get("optional", False)}
    return found


def shape(types, kind, depth):
    """A type in Terraform's words; a block is a table of its arguments."""
    if "primitive" in kind:
        return {"boolean": "bool", "any": "any"}.get(kind["primitive"], kind["primitive"])
    if "union" in kind:
        (real,) = [option for option in kind["union"]["types"] if option.get("fqn") != "cdktf.IResolvable"]
        return shape(types, real, depth)
    if "collection" in kind:
        element = shape(types, kind["collection"]["elementtype"], depth)
        if isinstance(element, dict):
            return element
        return f"{'map' if kind['collection']['kind'] == 'map' else 'list'}({element})"
    if kind["fqn"].startswith("cdktf."):
        return "any"
    return {"block": fields(types, kind["fqn"], depth + 1)}


if __name__ == "__main__":
    main()
