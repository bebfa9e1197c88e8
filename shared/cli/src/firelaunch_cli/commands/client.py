"""A client of an app on this machine, on the standard library alone."""

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
    """Calls the app at ``url``, as the user of ``token`` once there is one.

    Raises (every method): ClickException where the app answers with an error; OSError where it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.token: str | None = None
        # Straight to this machine, whatever proxy the environment names.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> dict[str, Any]:
        """The JSON at ``path``."""
        with self._open("GET", path, None) as answer:
            return _object(answer)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON that is answered."""
        with self._open("POST", path, body) as answer:
            return _object(answer)

    def upload(self, path: str, name: str, content: bytes, **form: str) -> dict[str, Any]:
        """The JSON that is answered to a file, and to the fields of a form beside it."""
        mark = secrets.token_hex(16)
        disposition = f"--{mark}\r\nContent-Disposition: form-data; name"
        fields = "".join(f'{disposition}="{field}"\r\n\r\n{value}\r\n' for field, value in form.items())
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = (fields + head).encode() + content + f"\r\n--{mark}--\r\n".encode()
        with self._send("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={mark}"}) as answer:
            return _object(answer)

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events that are answered, as they come: each one's name and data."""
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
    said: str = answer.read().decode(errors="replace")
    try:
        reason: str = json.loads(said)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return said[:500]
    return reason


def _object(answer: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.load(answer)
    return said
