"""Publish signing keys as Google does, and sign ID and App Check tokens with them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from jwt.algorithms import RSAAlgorithm

__all__ = ["CertificateServer"]


class _Key:
    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def certificate(self) -> str:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "securetoken.test")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .sign(self.private, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    @cached_property
    def jwk(self) -> dict[str, Any]:
        public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": "RS256", "use": "sig"}

    @cached_property
    def signer(self) -> Any:
        pem = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return crypt.RSASigner.from_string(pem, key_id=self.kid)  # type: ignore[no-untyped-call]


class CertificateServer:
    """A server of certificates, as a context manager. ``url`` serves certificates that verify the tokens of ``token``.

    Attributes:
        fetches: the number of requests for the certificates.
        status: the status of answers: 200, or a fault.
        max_age: seconds for the Cache-Control header.
        users: Firebase Auth's data of users, by uid: ``{"validSince": "<seconds>"}``, ``{"disabled": True}``. A uid
            that is not in it is unknown. ``toolkit_url`` serves them.
    """

    def __init__(self, max_age: int = 3600) -> None:
        self.fetches = 0
        self.status = 200
        self.max_age = max_age
        self.users: dict[str, dict[str, Any]] = {}
        self._keys = [_Key("key-1")]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/certificates"
        self.jwks_url = f"http://127.0.0.1:{self._server.server_port}/jwks"
        self.toolkit_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def certificate(self) -> str:
        """The newest certificate, as PEM."""
        return self._keys[-1].certificate

    def rotate(self) -> None:
        """Publish another key and sign with it from now on. The last two keys stay published."""
        self._keys = [*self._keys[-1:], _Key(f"key-{time.monotonic_ns()}")]

    def token(self, project: str, uid: Any, apps: Any = None, tenant: str | None = None, **claims: Any) -> str:
        """Return an ID token like those of Firebase Auth.

        Args:
            apps: the membership claim, such as ``{"demo": "member"}``; None for no such claim.
            claims: other claims; ``None`` removes a standard claim.
        """
        return self.sign(id_token_claims(project, uid, apps, tenant, claims))

    def app_check_token(self, project: str, client: Any, **claims: Any) -> str:
        """Return an App Check token for the client with that Firebase app id, of a project whose number is 1234.

        Args:
            claims: other claims; ``None`` removes a standard claim.
        """
        now = int(time.time())
        standard = {"iss": "https://firebaseappcheck.googleapis.com/1234", "iat": now, "exp": now + 3600, "sub": client}
        payload = {**standard, "aud": ["projects/1234", f"projects/{project}"], **claims}
        return self.sign({key: value for key, value in payload.items() if value is not None})

    def sign(self, payload: Mapping[str, Any]) -> str:
        """Return a token with any payload, signed (RS256) with the newest key."""
        encoded: bytes = jwt.encode(self._keys[-1].signer, dict(payload))  # type: ignore[no-untyped-call]
        return encoded.decode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.fetches += 1
                keys: Any = {key.kid: key.certificate for key in owner._keys}
                if self.path == "/jwks":
                    keys = {"keys": [key.jwk for key in owner._keys]}
                body = json.dumps(keys).encode()
                self.send_response(owner.status)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Cache-Control", f"public, max-age={owner.max_age}, must-revalidate, no-transform")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                ids = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                users = [{"localId": uid, **owner.users[uid]} for uid in ids.get("localId", []) if uid in owner.users]
                body = json.dumps({"users": users} if users else {}).encode()
                self.send_response(owner.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Log nothing, to keep the tests' output clean."""

        return Handler


def id_token_claims(project: str, uid: Any, apps: Any, tenant: str | None, others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of an ID token of ``project`` for ``uid``, valid for an hour from now."""
    now = int(time.time())
    firebase: dict[str, Any] = {"identities": {}, "sign_in_provider": "custom"}
    claims: dict[str, Any] = {
        "iss": f"https://securetoken.google.com/{project}",
        "aud": project,
        "auth_time": now,
        "user_id": uid,
        "sub": uid,
        "iat": now,
        "exp": now + 3600,
        "firebase": firebase if tenant is None else {**firebase, "tenant": tenant},
    }
    if apps is not None:
        claims["apps"] = apps
    claims.update(others)
    return {key: value for key, value in claims.items() if value is not None}
