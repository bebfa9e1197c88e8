"""Firebase Hosting: sites, versions with their files, releases
(https://firebase.google.com/docs/hosting/api-deploy, https://firebase.google.com/docs/reference/hosting/rest)."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from .base import Call, Refusal, Route, not_found

__all__ = ["Hosting", "SiteVersion"]

_API = "firebasehosting.googleapis.com"
_SITE = re.compile(r"[a-z0-9][a-z0-9-]{4,28}[a-z0-9]")
_HASH = re.compile(r"[0-9a-f]{64}")
_SERVED = {"headers", "rewrites", "redirects", "cleanUrls", "trailingSlashBehavior", "appAssociation", "i18n"}


@dataclass
class SiteVersion:
    """A version of a site.

    Attributes:
        files: by path, the hash of each.
    """

    name: str
    config: dict[str, Any]
    labels: dict[str, str]
    status: str = "CREATED"
    files: dict[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        return {"name": self.name, "status": self.status, "config": self.config, "labels": self.labels}


class Hosting:
    """State and routes.

    Attributes:
        sites: those of the project.
        taken: names of other projects' sites.
        contents: by hash, what was uploaded.
        releases: by site, the names of the versions that were released, the latest first.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self.sites: set[str] = set()
        self.taken: set[str] = set()
        self.versions: dict[str, SiteVersion] = {}
        self.contents: dict[str, bytes] = {}
        self.releases: dict[str, list[str]] = {}

    def routes(self) -> list[Route]:
        """Every route."""
        sites, site = f"{_API}/v1beta1/projects/([^/]+)/sites", f"{_API}/v1beta1/sites/([^/]+)"
        version = rf"{_API}/v1beta1/(sites/[^/]+/versions/\w+)"
        return [
            Route("GET", f"{sites}/([^/]+)", self._site, "firebasehosting.sites.get"),
            Route("POST", sites, self._create_site, "firebasehosting.sites.create"),
            Route("GET", f"{site}/releases", self._list_releases, "firebasehosting.sites.get"),
            Route("POST", f"{site}/releases", self._release, "firebasehosting.sites.update"),
            Route("POST", f"{site}/versions", self._create_version, "firebasehosting.sites.update"),
            Route("POST", f"{version}:populateFiles", self._populate, "firebasehosting.sites.update"),
            Route("PATCH", version, self._finalize, "firebasehosting.sites.update"),
            Route(
                "POST",
                rf"{_API}/upload/(sites/[^/]+/versions/\w+)/files/(\w+)",
                self._upload,
                "firebasehosting.sites.update",
            ),
        ]

    def live(self, site: str) -> SiteVersion | None:
        """The version that a site serves."""
        released = self.releases.get(site, [])
        return self.versions[released[0]] if released else None

    def content(self, site: str, path: str) -> bytes:
        """What a site serves at a path."""
        version = self.live(site)
        assert version is not None
        return gzip.decompress(self.contents[version.files[path]])

    def _site(self, _: Call, project: str, site: str) -> Any:
        if project != self.project or site not in self.sites:
            raise not_found("Requested entity")
        return {
            "name": f"projects/{project}/sites/{site}",
            "defaultUrl": f"https://{site}.web.app",
            "type": "USER_SITE",
        }

    def _create_site(self, call: Call, project: str) -> Any:
        site = call.query.get("siteId", "")
        if not _SITE.fullmatch(site):
            raise _invalid(f"Invalid name: `{site}` is not a valid site ID.")
        if site in self.taken:
            raise _invalid(f"Invalid name: `{site}` is reserved by another project; try something like `{site}-1a2b3`.")
        if site in self.sites:
            raise Refusal(409, "ALREADY_EXISTS", "Requested entity already exists")
        self.sites.add(site)
        return self._site(call, project, site)

    def _known(self, site: str) -> None:
        if site not in self.sites:
            raise Refusal(403, "PERMISSION_DENIED", "The caller does not have permission")

    def _list_releases(self, _: Call, site: str) -> Any:
        self._known(site)
        found = [{"version": self.versions[name].shown(), "type": "DEPLOY"} for name in self.releases.get(site, [])]
        return {"releases": found} if found else {}

    def _create_version(self, call: Call, site: str) -> Any:
        self._known(site)
        config = call.json.get("config", {})
        unknown = {*config} - _SERVED
        if unknown:
            raise _invalid(f"Invalid JSON payload received. Unknown name \"{min(unknown)}\" at 'version.config'.")
        for entry in (*config.get("headers", []), *config.get("rewrites", [])):
            if not ("glob" in entry) ^ ("regex" in entry):
                raise _invalid("A glob or a regex is required.")
        name = f"sites/{site}/versions/{len(self.versions) + 1:016x}"
        self.versions[name] = SiteVersion(name, config, call.json.get("labels", {}))
        return self.versions[name].shown()

    def _open(self, name: str) -> SiteVersion:
        version = self.versions.get(name)
        if version is None:
            raise not_found("Requested entity")
        if version.status != "CREATED":
            raise _precondition(f"Version is {version.status}, and takes no files.")
        return version

    def _populate(self, call: Call, name: str) -> Any:
        version, files = self._open(name), call.json["files"]
        for path, digest in files.items():
            if not path.startswith("/") or not _HASH.fullmatch(digest):
                raise _invalid(f"Invalid file: {path}")
        version.files.update(files)
        required = sorted({digest for digest in files.values() if digest not in self.contents})
        url = f"https://upload-{_API}/upload/{name}/files"
        return {"uploadUrl": url, **({"uploadRequiredHashes": required} if required else {})}

    def _upload(self, call: Call, name: str, digest: str) -> Any:
        version = self._open(name)
        if call.headers.get("content-type") != "application/octet-stream":
            raise _invalid("Content-Type must be application/octet-stream.")
        if digest not in version.files.values() or hashlib.sha256(call.body).hexdigest() != digest:
            raise _invalid("The hash of the content is not the one that the version has.")
        try:
            gzip.decompress(call.body)
        except OSError:
            raise _invalid("The content is not gzipped.") from None
        self.contents[digest] = call.body
        return b""

    def _finalize(self, call: Call, name: str) -> Any:
        version = self._open(name)
        if call.query.get("updateMask") != "status" or call.json != {"status": "FINALIZED"}:
            raise _invalid("Only the status can be changed, to FINALIZED.")
        missing = {*version.files.values()} - {*self.contents}
        if missing:
            raise _precondition(f"{len(missing)} files of the version were not uploaded.")
        version.status = "FINALIZED"
        return version.shown()

    def _release(self, call: Call, site: str) -> Any:
        self._known(site)
        name = call.query.get("versionName", "")
        version = self.versions.get(name)
        if version is None or not name.startswith(f"sites/{site}/"):
            raise not_found("Requested entity")
        if version.status != "FINALIZED":
            raise _precondition(f"Version is {version.status}: it has to be FINALIZED first.")
        self.releases.setdefault(site, []).insert(0, name)
        return {
            "name": f"sites/{site}/releases/{len(self.releases[site])}",
            "version": version.shown(),
            "type": "DEPLOY",
        }


def _invalid(said: str) -> Refusal:
    return Refusal(400, "INVALID_ARGUMENT", said)


def _precondition(said: str) -> Refusal:
    return Refusal(400, "FAILED_PRECONDITION", said)
