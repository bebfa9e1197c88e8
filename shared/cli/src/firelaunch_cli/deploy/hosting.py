"""Put a built web client on a Firebase Hosting site, by the REST API: https://firebase.google.com/docs/hosting/api-deploy."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firelaunch.settings.web_client import ASSETS_CACHING, PAGE_CACHING, client_headers

from . import secrets
from .gcloud import CommandFailed, Request, Tools
from .resources import Place
from .steps import Step

__all__ = ["SiteVersion", "site", "site_files"]

_API = "https://firebasehosting.googleapis.com/v1beta1"

_BATCH = 1_000
"""Files of one call of populateFiles, as the Firebase CLI has it."""

_LABEL = "firelaunch-digest"
_DIGEST_CHARACTERS = 40
_YEAR = 31_536_000
_CONFIG = "config.json"


def site(place: Place, name: str) -> Step:
    """Return the step after which the project has the site."""
    sites = f"{_API}/projects/{place.project}/sites"
    return Step(
        f"Firebase Hosting site {name}, for the web client",
        (Request("GET", f"{sites}/{name}"),),
        lacks=lambda a: [] if a[0] else [Request("POST", f"{sites}?siteId={name}", {})],
        mend="where the name is another project's, put another one into cloud.site; where a permission is missing, ask "
        f"for roles/firebasehosting.admin in {place.project}",
    )


def site_files(dist: Path) -> dict[str, bytes]:
    """Read the files of a built client, by their paths on the site.

    Raises:
        CommandFailed: one is a link, or holds a secret.
    """
    files = {}
    for path in sorted(dist.rglob("*")):
        name = path.relative_to(dist).as_posix()
        if path.is_symlink():
            raise CommandFailed(f"{path} is a link, and what it leads to would be public", "put the file itself there")
        if path.is_file() and name != _CONFIG:
            files[f"/{name}"] = path.read_bytes()
            found = [kind for _, kind in secrets.in_bytes(files[f"/{name}"])]
            if secrets.in_name(name) or found:
                what = found[0] if found else "a file for secrets"
                raise CommandFailed(
                    f"{path} looks like {what}, and would be public", "take it out of web/: clients hold no secrets"
                )
    return files


@dataclass(frozen=True, slots=True)
class SiteVersion:
    """The files that a site is to serve.

    Args:
        site: its id.
        files: the client's, by path.
        config: what ``/config.json`` says.
    """

    site: str
    files: Mapping[str, bytes]
    config: Mapping[str, Any]

    def release(self, tools: Tools, place: Place) -> str:
        """Upload what the site does not have, and serve it; nothing where it serves the same already.

        Returns:
            what happened, in a sentence.

        Raises:
            CommandFailed: the API refused. The site serves what it served.
        """
        where, address = f"{_API}/sites/{self.site}", f"https://{self.site}.web.app"
        if self._is_live(tools.request(Request("GET", f"{where}/releases?pageSize=1", project=place.project))):
            return f"{self.site}: nothing has changed at {address}"
        version = tools.request(Request("POST", f"{where}/versions", self._version(), project=place.project))["name"]
        packed = {path: gzip.compress(data, 9, mtime=0) for path, data in self._contents().items()}
        sent = sum(self._upload(tools, place, version, part) for part in _parts(packed))
        final = {"status": "FINALIZED"}
        tools.request(Request("PATCH", f"{_API}/{version}?updateMask=status", final, project=place.project))
        tools.request(Request("POST", f"{where}/releases?versionName={version}", {}, project=place.project))
        return f"{self.site}: {len(packed)} files, {sent} of them new, at {address}"

    def explain(self, project: str) -> list[str]:
        """Return the lines of a dry run."""
        where, version = f"{_API}/sites/{self.site}", f"sites/{self.site}/versions/VERSION"
        acts = [
            Request("POST", f"{where}/versions", self._version(), project=project),
            Request(
                "POST", f"{_API}/{version}:populateFiles", {"files": {"/index.html": "SHA256_OF_GZIP"}}, project=project
            ),
            Request("PATCH", f"{_API}/{version}?updateMask=status", {"status": "FINALIZED"}, project=project),
            Request("POST", f"{where}/releases?versionName={version}", {}, project=project),
        ]
        return [
            f"the web client at https://{self.site}.web.app, where web/ or its config has changed",
            f"    look  {Request('GET', f'{where}/releases?pageSize=1', project=project)}",
            "    do    npm ci && npm run build, in web/",
            *(f"    do    {act}" for act in acts),
            "    mend  run the same command again; the site serves what it served until the last request",
        ]

    @property
    def serving(self) -> dict[str, Any]:
        """The headers and rewrites of the site. Of headers that several entries set, the last counts
        (https://github.com/firebase/firebase-tools/issues/9467)."""
        common = client_headers(self.config) | {
            "Cache-Control": PAGE_CACHING,
            "Strict-Transport-Security": f"max-age={_YEAR}; includeSubDomains",
        }
        return {
            "headers": [
                {"glob": "**", "headers": common},
                {"glob": "/assets/**", "headers": {"Cache-Control": ASSETS_CACHING}},
            ],
            "rewrites": [{"glob": "**", "path": "/index.html"}],
        }

    def _version(self) -> dict[str, Any]:
        return {"config": self.serving, "labels": {_LABEL: self._digest()}}

    def _digest(self) -> str:
        hashes = {path: hashlib.sha256(content).hexdigest() for path, content in self._contents().items()}
        whole = json.dumps([hashes, self.serving], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST_CHARACTERS]

    def _is_live(self, listed: Any) -> bool:
        latest: dict[str, Any] = next(iter((listed or {}).get("releases", [])), {})
        labels = latest.get("version", {}).get("labels", {})
        return bool(latest.get("type", "DEPLOY") != "SITE_DISABLE" and labels.get(_LABEL) == self._digest())

    def _contents(self) -> dict[str, bytes]:
        return {**self.files, f"/{_CONFIG}": json.dumps(self.config, ensure_ascii=False, indent=1).encode()}

    def _upload(self, tools: Tools, place: Place, version: str, packed: Mapping[str, bytes]) -> int:
        """Add files to a version; how many of them had to be sent."""
        hashes = {path: hashlib.sha256(data).hexdigest() for path, data in packed.items()}
        said = tools.request(
            Request("POST", f"{_API}/{version}:populateFiles", {"files": hashes}, project=place.project)
        )
        wanted = said.get("uploadRequiredHashes", [])
        by_hash = {hashes[path]: data for path, data in packed.items()}
        for digest in wanted:
            sent = Request("POST", f"{said['uploadUrl']}/{digest}", content=by_hash[digest], project=place.project)
            tools.request(sent)
        return len(wanted)


def _parts(files: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    paths = sorted(files)
    for start in range(0, len(paths), _BATCH):
        yield {path: files[path] for path in paths[start : start + _BATCH]}
