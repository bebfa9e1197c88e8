"""HTTP transcripts in a page of Markdown: read, play, and compare with what a server answers.

A block ``http`` holds a request and, from the line ``HTTP/1.1 STATUS REASON`` on, its answer. Words in capitals are
values: an answer binds those that are new, and requests and later answers have them again. ``...`` at the end of an
object stands for further fields. A comment before a block says how it is played: ``LEAVES`` or ``UNTIL``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["LEAVES", "UNTIL", "Mismatch", "Player", "Transcript", "transcripts"]

LEAVES, UNTIL = "leaves after the last event", "until it is so"

_BLOCK = re.compile(r"(?:^<!-- (?P<how>[^>]+?) -->\n)?^```http\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_MORE = re.compile(r",\s*\.\.\.(?=\s*\})")
_GIVE_UP_SECONDS = 30.0
_OTHERS = {"GET", "POST", "PUT", "DELETE", "HTTP"}


class Mismatch(AssertionError):
    """A server's answer is not the page's."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One request and its answer, as a page has them."""

    how: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: str
    status: int
    answer_headers: Mapping[str, str]
    answer: str


def transcripts(page: str) -> Iterator[Transcript]:
    """Read a page's transcripts, in order."""
    for block in _BLOCK.finditer(page):
        asked, _, answered = block["text"].partition("\nHTTP/1.1 ")
        request, body = _message(asked)
        method, url = request[0].split(" ")
        answer, content = _message(answered)
        yield Transcript(
            *(block["how"] or "", method, url, _headers(request[1:]), body),
            *(int(answer[0].split(" ")[0]), _headers(answer[1:]), content),
        )


def _message(text: str) -> tuple[list[str], str]:
    head, _, body = text.strip("\n").partition("\n\n")
    return head.splitlines(), body


def _headers(lines: list[str]) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines)


@dataclass(slots=True)
class Player:
    """Plays transcripts, each with the values of those before.

    Args:
        client: sends the requests.
        hosts: where the page's hosts are, as "scheme://host:port/path".
        values: those that are known before the first.
    """

    client: httpx.Client
    hosts: Mapping[str, str]
    values: dict[str, str] = field(default_factory=dict)

    def play(self, transcript: Transcript) -> None:
        """Send the request, and compare the answer.

        Raises:
            Mismatch: the answer is another one.
        """
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                self._play(transcript)
            except Mismatch:
                if transcript.how != UNTIL or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)
            else:
                return

    def _play(self, transcript: Transcript) -> None:
        headers = {name: self._filled(value) for name, value in transcript.headers.items()}
        body = self._filled(transcript.body)
        if "multipart" in headers.get("Content-Type", ""):
            body = body.replace("\n", "\r\n") + "\r\n"
        url = httpx.URL(self._filled(transcript.url))
        target = self.hosts[url.host] + url.raw_path.decode()
        with self.client.stream(transcript.method, target, headers=headers, content=body.encode() or None) as response:
            self._compare_heads(transcript, response)
            if "text/event-stream" in response.headers.get("Content-Type", ""):
                wanted = _events(transcript.answer.splitlines())
                some = _first(response.iter_lines(), wanted) if transcript.how == LEAVES else response.iter_lines()
                self._compare(wanted, _events(some), "events")
            elif transcript.answer:
                self._compare(_json(transcript.answer), json.loads(response.read()), "body")
            elif response.read():
                raise Mismatch(f"{transcript.url}: a body where the page has none: {response.text}")

    def _compare_heads(self, transcript: Transcript, response: httpx.Response) -> None:
        if response.status_code != transcript.status:
            said = response.read().decode()
            raise Mismatch(f"{transcript.method} {transcript.url}: {response.status_code} {said}")
        for name, value in transcript.answer_headers.items():
            self._compare(value, response.headers.get(name), name)

    def _compare(self, page: Any, server: Any, where: str) -> None:
        if isinstance(page, dict) and isinstance(server, dict):
            more = page.get("...") is Ellipsis
            missing = {*page} - {*server} - {"..."}
            extra = set() if more else {*server} - {*page}
            if missing or extra:
                raise Mismatch(f"{where}: the page alone has {sorted(missing)}, the server alone {sorted(extra)}")
            for name in page:
                if name != "...":
                    self._compare(page[name], server[name], f"{where}.{name}")
        elif isinstance(page, list) and isinstance(server, list) and len(page) == len(server):
            for number, (one, other) in enumerate(zip(page, server, strict=True)):
                self._compare(one, other, f"{where}[{number}]")
        elif isinstance(page, str) and isinstance(server, str):
            self._compare_texts(page, server, where)
        elif page != server:
            raise Mismatch(f"{where}: the page has {page!r}, the server {server!r}")

    def _compare_texts(self, page: str, server: str, where: str) -> None:
        if _is_name(page):
            same = self.values.setdefault(page, server) == server
        elif _TIME.fullmatch(page):
            same = bool(_TIME.fullmatch(server)) and len(page) == len(server)
        else:
            same = page == server
        if not same:
            raise Mismatch(f"{where}: the page has {page!r}, the server {server!r}")

    def _filled(self, text: str) -> str:
        return _NAME.sub(lambda name: self.values.get(name[0], name[0]), text)


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and text not in _OTHERS


def _json(text: str) -> Any:
    def hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: Ellipsis if name == "..." else value for name, value in pairs}

    return json.loads(_MORE.sub(', "...": 0', text), object_pairs_hook=hook)


def _events(lines: Any) -> list[dict[str, Any]]:
    """The events of a stream. Pieces of text that follow each other are one, as they may be cut anywhere."""
    events: list[dict[str, Any]] = []
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = _json(line.removeprefix("data: "))
            if name == "delta" and events and events[-1]["event"] == "delta":
                events[-1]["data"]["text"] += data["text"]
            else:
                events.append({"event": name, "data": data})
    return events


def _first(lines: Iterator[str], wanted: list[dict[str, Any]]) -> Iterator[str]:
    """The lines up to the event that ends what is wanted."""
    seen = ""
    for line in lines:
        yield line
        seen += f"{line}\n"
        if _size(_events(seen.splitlines())) >= _size(wanted):
            return


def _size(events: list[dict[str, Any]]) -> tuple[int, int]:
    return len(events), len(events[-1]["data"].get("text", "")) if events else 0
