"""Call an app on this machine, with the standard library only."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import click

__all__ = ["Client"]

_ANSWER_SECONDS = 180.0


class Client:
    """A client of the app at ``url``. Once ``token`` is set, requests are sent as its user.

    Raises (every method): ClickException if the app answers with an error; OSError if it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.token: str | None = None
        # Connect directly, whatever proxy the environment names.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> dict[str, Any]:
        """Send a GET request and return the answer's JSON."""
        with self._open("GET", path, None) as answer:
            return _object(answer)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a POST request and return the answer's JSON."""
        with self._open("POST", path, body) as answer:
            return _object(answer)

    def upload(self, path: str, name: str, content: bytes, **form: str) -> dict[str, Any]:
        """Upload a file with the fields of ``form``, and return the answer's JSON."""
        boundary = secrets.token_hex(16)
        disposition = f"--{boundary}\r\nContent-Disposition: form-data; name"
        fields = "".join(f'{disposition}="{field}"\r\n\r\n{value}\r\n' for field, value in form.items())
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = (fields + head).encode() + content + f"\r\n--{boundary}--\r\n".encode()
        with self._send("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}) as answer:
            return _object(answer)

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Send a POST request and yield the answer's events as they arrive, each as its name and data."""
        with self._open("POST", path, body, Accept="text/event-stream") as answer:
            name = ""
            for raw in answer:
                field, _, value = raw.decode().rstrip("\r\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

    def _open(self, method: str, path: str, body: dict[str, Any] | None, **headers: str) -> Any:
        headers["Content-Type"] = "application/json"
        return self._send(method, path, None if body is None else json.dumps(body).encode(), headers)

    def _send(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Any:
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our own server
        try:
            return self._opener.open(request, timeout=_ANSWER_SECONDS)
        except urllib.error.HTTPError as error:
            raise click.ClickException(f"{method} {path} was answered with {error.code}: {_reason(error)}") from None


def _reason(answer: Any) -> str:
    text: str = answer.read().decode(errors="replace")
    try:
        reason: str = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return text[:500]
    return reason


def _object(answer: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.load(answer)
    return body
