"""Google's names lead to this machine: an image runs unchanged in cloud mode, as it would on Cloud Run.

The container is a mount namespace of its own: the image's files at their own paths, read-only like all else but /tmp,
under the image's user. Its hosts file has Google's and OpenAI's names lead to an address of this machine, where nginx
answers for them with certificates of an authority that only the container trusts. Behind nginx are the Firestore
emulator and the servers of ``firelaunch.testing``. The product knows nothing of it; it takes root, nginx and the tools
of util-linux.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fakes.cloud_storage import CloudStorageServer
from fakes.cloud_tasks import CloudTasksServer
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.embeddings import OpenAIEmbeddingServer, VertexEmbeddingServer
from firelaunch.testing.emulator import Emulator
from firelaunch.testing.gemini import GeminiServer
from firelaunch.testing.models import ModelServer

from .dockerfile import Image

__all__ = ["NAMES", "Container", "GoogleHere", "certificates", "why_not_here"]

NAMES = (
    *("firestore.googleapis.com", "storage.googleapis.com", "cloudtasks.googleapis.com", "www.googleapis.com"),
    *("metadata.google.internal", "api.openai.com"),
)
MODELS = ("aiplatform.googleapis.com", "europe-west1-aiplatform.googleapis.com")
"""Those of Vertex AI: Gemini's, and that of embeddings in the region."""
PORTS = (8081, 8082)
"""Of the instances."""

ACCESS_TOKEN = "an-access-token-of-the-service-account"

# The image's root, a hosts file, certificates, the base image's Python; folder, user, group; and a command.
_CONTAINER = r"""
set -eu
image=$1 hosts=$2 authorities=$3 base=$4 folder=$5 user=$6 group=$7
shift 7
mount --make-rprivate /
mount --bind "$hosts" /etc/hosts
mount --bind "$authorities" /etc/ssl/certs/ca-certificates.crt
mount --bind "$image/opt" /opt
mount --bind "$image/srv" /srv
# The base image's Python may lie where the image's user may not look, as in root's home.
mount --bind "$base" /mnt
hidden=/$(echo "$base" | cut -d/ -f2)
if [ "$hidden" != /usr ]; then
  mount -t tmpfs -o mode=755 tmpfs "$hidden"
  mkdir -p "$base"
  mount --bind /mnt "$base"
fi
mount -t tmpfs -o mode=1777 tmpfs /tmp
[ ! -d /dev/shm ] || mount -t tmpfs -o ro,mode=1777 tmpfs /dev/shm
for place in / /opt /srv /mnt "$hidden" "$base"; do mount -o remount,bind,ro "$place" 2>/dev/null || true; done
cd "$folder"
exec setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs --inh-caps=-all "$@"
"""


# A hosts file, certificates, and a folder; and a command.
_HERE = r"""
set -eu
hosts=$1 authorities=$2 folder=$3
shift 3
mount --make-rprivate /
mount --bind "$hosts" /etc/hosts
mount --bind "$authorities" /etc/ssl/certs/ca-certificates.crt
cd "$folder"
exec "$@"
"""


def why_not_here() -> str | None:
    """Why no container can be made on this machine; None where one can."""
    missing = [tool for tool in ("nginx", "unshare", "setpriv", "mount") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not there"
    tried = subprocess.run(["unshare", "--mount", "mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "it takes root, or the right to mount"


class Container:
    """One instance of an image that runs; ``client`` calls it."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.log = log
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def wait(self, path: str, seconds: float = 120) -> None:
        """Wait until it answers."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.client.get(path).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        """SIGKILL to all of it."""
        for pid in _family(self.process.pid):
            os.kill(pid, 9)
        self.process.wait()
        self.client.close()


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = children.read_text().split() if children.exists() else []
    return [pid, *(each for child in found for each in _family(int(child)))]


class GoogleHere:
    """A context manager: the cloud services of one project, and containers that reach nothing else by their names.

    Args:
        bucket, queue: the names of what the project has.
        account: whose access tokens the metadata server gives out.

    Attributes:
        model, storage, tasks, certificates: the servers behind the names.
        front: where Cloud Tasks reaches the service: any instance that runs.
    """

    def __init__(self, folder: Path, emulator: Emulator, project: str, bucket: str, queue: str, account: str) -> None:
        self.address = "127." + ".".join(str(1 + secrets.randbelow(253)) for _ in range(3))
        self.front = f"http://{self.address}:8000"
        self.project, self.account = project, account
        self.folder = folder
        self.emulator = emulator
        self.certificates = CertificateServer()
        self.storage = CloudStorageServer(bucket)
        self.model = ModelServer()
        self.embeddings = OpenAIEmbeddingServer(1536)
        self.tasks = CloudTasksServer(queue, certificates=self.certificates)
        self.model_servers(GeminiServer(), VertexEmbeddingServer())
        self._running: list[Container] = []

    def model_servers(self, gemini: GeminiServer, vertex: VertexEmbeddingServer) -> None:
        """Have these play Vertex AI's models, before anything is started."""
        self.gemini, self.vertex = gemini, vertex
        self._servers = (
            *(self.certificates, self.storage, self.model, self.embeddings, self.tasks),
            *(self.gemini, self.vertex),
        )

    def __enter__(self) -> Self:
        for server in self._servers:
            server.__enter__()
        self.folder.mkdir()
        certificates(self.folder, (*NAMES, *MODELS))
        hosts = [f"{self.address} {name}" for name in (*NAMES, *MODELS)]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        (self.folder / "nginx.conf").write_text(self._nginx())
        command = ["nginx", "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder), "-e", "stderr"]
        self._nginx_process = subprocess.Popen(command, stderr=(self.folder / "nginx.log").open("wb"))
        return self

    def __exit__(self, *_: object) -> None:
        for container in self._running:
            if container.process.poll() is None:
                container.kill()
        self._nginx_process.terminate()
        self._nginx_process.wait()
        for server in reversed(self._servers):
            server.__exit__(None, None, None)

    def run(
        self, image: Image, port: int, environ: Mapping[str, str], command: Sequence[str] | None = None
    ) -> Container:
        """Start an instance, or run another command of Python's in its container; ``port`` is one of PORTS."""
        user, _, group = image.user.partition(":")
        given = {name: value.replace("$PATH", "/usr/local/bin:/usr/bin:/bin") for name, value in image.environ.items()}
        trusted = "/etc/ssl/certs/ca-certificates.crt"
        trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"), trusted)
        around = {**given, **environ, **trust, "PORT": str(port), "HOST": self.address, "GCE_METADATA_IP": self.address}
        # gunicorn's own script names the path where the image was built here; a COPY in Docker keeps it.
        first, *rest = image.command
        command = ["/opt/venv/bin/python", *(command or ["-m", first.replace("-", "_"), *rest])]
        log = self.folder / f"instance-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    *("unshare", "--mount", "sh", "-c", _CONTAINER, "sh", str(image.root), str(self.folder / "hosts")),
                    *(
                        str(self.folder / "authority.pem"),
                        sys.base_prefix,
                        image.workdir,
                        user,
                        group or user,
                        *command,
                    ),
                ],
                env=around,
                stdout=out,
                stderr=out,
            )
        container = Container(process, f"http://{self.address}:{port}", log)
        self._running.append(container)
        return container

    def run_folder(self, folder: Path, command: Sequence[str], port: int, environ: Mapping[str, str]) -> Container:
        """Start an instance of a service from its folder, with this machine's Python and packages in place of an
        image's: Google's names lead here all the same."""
        trusted = "/etc/ssl/certs/ca-certificates.crt"
        trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"), trusted)
        plain = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}
        around = {**plain, **environ, **trust, "PORT": str(port), "HOST": self.address, "GCE_METADATA_IP": self.address}
        log = self.folder / f"instance-{port}.log"
        here = [str(self.folder / "hosts"), str(self.folder / "authority.pem"), str(folder)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _HERE, "sh", *here, *command], env=around, stdout=out, stderr=out
            )
        container = Container(process, f"http://{self.address}:{port}", log)
        self._running.append(container)
        return container

    def asked_for(self) -> set[str]:
        """Every name that was called, known here or not."""
        return {line.split()[0] for line in (self.folder / "access.log").read_text().splitlines()}

    def _nginx(self) -> str:
        def server(name: str, body: str, listen: str = "443 ssl") -> str:
            return f"server {{ listen {self.address}:{listen}; server_name {name}; {body} }}\n"

        def grpc(host: str, bearer: str) -> str:
            return (
                f'if ($http_authorization != "Bearer {ACCESS_TOKEN}") {{ return 401; }}\n'
                f"location / {{ grpc_pass grpc://{host}; {bearer} grpc_read_timeout 3600s; grpc_send_timeout 3600s; }}"
            )

        # The emulator takes an owner's token for one that no rules bind, as IAM has it for a service account.
        owner = 'grpc_set_header authorization "Bearer owner";'
        published = f"proxy_pass {self.certificates.url};"
        token = f'{{"access_token": "{ACCESS_TOKEN}", "expires_in": 3599, "token_type": "Bearer"}}'
        account = f'{{"email": "{self.account}", "aliases": ["default"], "scopes": ["cloud-platform"]}}'
        of_account = "/computeMetadata/v1/instance/service-accounts"
        metadata = f"""
            add_header Metadata-Flavor Google always; default_type application/json;
            location = / {{ return 200 ""; }}
            location = /computeMetadata/v1/project/project-id {{ return 200 "{self.project}"; }}
            location ~ ^{of_account}/[^/]+/token {{ return 200 '{token}'; }}
            location ~ ^{of_account}/[^/]+/$ {{ return 200 '{account}'; }}
            location / {{ return 404; }}"""
        instances = "".join(f"server {self.address}:{port} max_fails=0; " for port in PORTS)
        model, embed = self.model.base_url.removesuffix("/v1"), self.embeddings.url
        return (
            f"""
            user root; daemon off; worker_processes 1; pid {self.folder}/pid; error_log stderr warn;
            events {{ worker_connections 1024; }}
            http {{
            log_format names '$host $request_uri $status'; access_log {self.folder}/access.log names;
            client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
            fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
            client_max_body_size 0; proxy_buffering off; proxy_http_version 1.1; proxy_set_header Host $host;
            ssl_certificate {self.folder}/server.pem; ssl_certificate_key {self.folder}/server.key;
            server {{ listen {self.address}:443 ssl http2 default_server; server_name _; return 421; }}
            """
            + "".join(
                (
                    server("firestore.googleapis.com", grpc(self.emulator.host, owner), "443 ssl http2"),
                    server("cloudtasks.googleapis.com", grpc(self.tasks.host, ""), "443 ssl http2"),
                    server(
                        "storage.googleapis.com",
                        f"location / {{ proxy_pass {self.storage.url}; "
                        f"proxy_redirect {self.storage.url}/ https://storage.googleapis.com/; }}",
                    ),
                    server(
                        "www.googleapis.com",
                        "location = /robot/v1/metadata/x509/securetoken@system.gserviceaccount.com "
                        f"{{ {published} }} location = /oauth2/v1/certs {{ {published} }}",
                    ),
                    server(
                        "api.openai.com",
                        f"location /v1/embeddings {{ proxy_pass {embed}; }} location / {{ proxy_pass {model}; }}",
                    ),
                    server(
                        " ".join(MODELS),
                        f"location /google.cloud.aiplatform {{ grpc_pass grpc://{self.vertex.address}; }} "
                        f"location / {{ proxy_pass {self.gemini.url}; }}",
                        "443 ssl http2",
                    ),
                    server("metadata.google.internal", metadata, "80 default_server"),
                    f"upstream service {{ {instances} }}\n",
                    server(
                        "_",
                        "location / { proxy_pass http://service; proxy_next_upstream error timeout non_idempotent; }",
                        "8000",
                    ),
                )
            )
            + "}\n"
        )


def certificates(folder: Path, names: Sequence[str]) -> None:
    """An authority, and a certificate of its for every name."""

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, *, names: tuple[str, ...]) -> x509.Certificate:
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("an authority of tests"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        )
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
        return made.sign(authority, hashes.SHA256())

    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    (folder / "authority.pem").write_bytes(certificate("an authority of tests", authority, names=()).public_bytes(pem))
    (folder / "server.pem").write_bytes(certificate("server", own, names=tuple(names)).public_bytes(pem))
    (folder / "server.key").write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
