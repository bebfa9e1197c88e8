"""Cloud Storage on a real socket, as far as firelaunch's files go: uploads in parts, copies, downloads, lists,
deletions.

It speaks the JSON API (https://cloud.google.com/storage/docs/json_api/v1) and refuses what that refuses: another
bucket, a part that does not follow the one before, a part that is no multiple of 256 KiB and not the last,
a deletion of another generation than is there.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["CloudStorageServer"]

_PART = 256 * 1024
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_REWRITE = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)")
_OBJECT = re.compile(r"/(?:download/)?storage/v1/b/([^/]+)/o(?:/([^/]+))?")


class CloudStorageServer:
    """A context manager: one bucket.

    Attributes:
        objects: what it holds, by name.
        url: where it listens; for ``api_endpoint`` of a client's options.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        self._sessions = count()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def begin(self, name: str) -> str:
        """An upload's session, at whose address the parts are put."""
        session = f"s{next(self._sessions)}"
        self.uploads[session] = (name, bytearray())
        return f"{self.url}/session/{session}"

    def part(self, session: str, said: str, content: bytes) -> tuple[int, dict[str, str], Any]:
        """Take in a part; the object is there with the last one."""
        found = _RANGE.fullmatch(said)
        name, held = self.uploads[session]
        if found is None:
            return 400, {}, _error(400, f"no such Content-Range: {said!r}")
        first, last, total = found.groups()
        if first is not None:
            if int(first) != len(held) or int(last) - int(first) + 1 != len(content):
                return 400, {}, _error(400, "the part does not follow the one before")
            if total == "*" and len(content) % _PART:
                return 400, {}, _error(400, "a part that is not the last has a multiple of 256 KiB")
            held += content
        if total != str(len(held)):
            return 308, {"Range": f"bytes=0-{len(held) - 1}"} if held else {}, None
        self.objects[name] = bytes(held)
        self.generations[name] = time.time_ns()
        return 200, {}, {**self.told(name), "size": str(len(held)), "crc32c": _checksum(held)}

    def told(self, name: str) -> dict[str, str]:
        """What a list says of an object."""
        return {"name": name, "bucket": self.bucket, "generation": str(self.generations.get(name, 1))}

    def rewrite(self, bucket: str, source: str, into: str, target: str) -> tuple[int, dict[str, str], Any]:
        """Copy an object on the server, in one call, as within one bucket and storage class
        (https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite)."""
        if {bucket, into} != {self.bucket} or source not in self.objects:
            return 404, {}, _error(404, f"No such object: {bucket}/{source}")
        self.objects[target] = self.objects[source]
        size = str(len(self.objects[target]))
        told = {"name": target, "bucket": self.bucket, "size": size}
        return 200, {}, {"done": True, "totalBytesRewritten": size, "objectSize": size, "resource": told}


def _checksum(content: bytes | bytearray) -> str:
    """Of what is held, as Cloud Storage tells it; the client library compares it with its own."""
    import google_crc32c

    return base64.b64encode(google_crc32c.Checksum(bytes(content)).digest()).decode()  # type: ignore[no-untyped-call]


def _ranged(asked: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, str], bytes]:
    """The part of a file that a Range header asks for; 416 where there is none."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if found is None:
        return 200, headers, content
    first, last = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
    if first >= len(content):
        return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
    return 206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1]


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _handler(server: CloudStorageServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a server's handler, with its routes in it
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            rewritten = _REWRITE.fullmatch(url.path)
            if rewritten is not None:
                self._body()
                self._say(*server.rewrite(*map(unquote, rewritten.groups())))
                return
            said = json.loads(self._body() or b"{}")
            if url.path != f"/upload/storage/v1/b/{server.bucket}/o" or query.get("uploadType") != ["resumable"]:
                self._say(404, {}, _error(404, f"{self.path} is not here"))
                return
            self._say(200, {"Location": server.begin(said.get("name") or query["name"][0])}, {})

        def do_PUT(self) -> None:
            session = self.path.rpartition("/")[2]
            if session not in server.uploads:
                self._say(404, {}, _error(404, "no such upload"))
                return
            self._say(*server.part(session, self.headers.get("Content-Range", ""), self._body()))

        def do_GET(self) -> None:
            name = self._named()
            if name is None:
                return
            if not name:
                asked = parse_qs(urlsplit(self.path).query)
                prefix, delimiter = asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0]
                names = sorted(each for each in server.objects if each.startswith(prefix))
                if delimiter:  # what lies deeper is summed up in "prefixes", which nothing here asks for
                    names = [each for each in names if delimiter not in each.removeprefix(prefix)]
                self._say(200, {}, {"items": [server.told(each) for each in names]})
            elif name not in server.objects:
                self._say(404, {}, _error(404, f"No such object: {server.bucket}/{name}"))
            else:
                content = server.objects[name]
                headers = {"Content-Type": "application/octet-stream", "x-goog-hash": f"crc32c={_checksum(content)}"}
                self._say(*_ranged(self.headers.get("Range", ""), headers, content))

        def do_DELETE(self) -> None:
            if self.path.startswith("/session/"):
                # https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload
                server.uploads.pop(self.path.rpartition("/")[2], None)
                self._say(499, {}, b"")
                return
            name = self._named()
            if name is not None:
                wanted = parse_qs(urlsplit(self.path).query).get("ifGenerationMatch")
                if name in server.objects and wanted not in (None, [server.told(name)["generation"]]):
                    self._say(412, {}, _error(412, "At least one of the pre-conditions you specified did not hold."))
                    return
                gone = server.objects.pop(name, None)
                self._say(*((204, {}, b"") if gone is not None else (404, {}, _error(404, "No such object"))))

        def _named(self) -> str | None:
            """The object of the request's path, "" for the bucket's list; None where another bucket was refused."""
            found = _OBJECT.fullmatch(urlsplit(self.path).path)
            if found is None or found[1] != server.bucket:
                self._say(404, {}, _error(404, "The specified bucket does not exist."))
                return None
            return unquote(found[2] or "")

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _say(self, status: int, headers: dict[str, str], body: Any) -> None:
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    return Handler
