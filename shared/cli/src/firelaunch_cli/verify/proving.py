"""Give proofs the app as its users call it, and Google's APIs as its accounts and you call them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from firelaunch.settings.app import Settings

from ..deploy.gcloud import Tools
from ..deploy.release import Release
from ..deploy.resources import Place
from .access import Access
from .manifest import Manifest
from .resources import bucket_of, place_of, users_of

if TYPE_CHECKING:
    import httpx

__all__ = ["FIRESTORE", "STORAGE", "Proving", "ReceivedEvent", "Unproved"]

FIRESTORE = "https://firestore.googleapis.com/v1"
STORAGE = "https://storage.googleapis.com/storage/v1/b"

_TIMEOUT = 60.0
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0


class Unproved(Exception):
    """A proof does not hold.

    Args:
        expected: what would have been right.
        seen: what was there.
        where: where to look, such as a page of the console.
    """

    def __init__(self, expected: str, seen: str, where: str) -> None:
        super().__init__(f"expected: {expected}; seen: {seen}; look at: {where}")
        self.expected, self.seen, self.where = expected, seen, where


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One server-sent event, and the seconds since its request was sent."""

    name: str
    data: Any
    seconds: float


@dataclass
class Proving:
    """One run's app, deployed, for its proofs.

    Args:
        app_url, functions_url: the services' addresses, as Cloud Run says them.
        release: of the app's further revisions, with what is passed to ``gcloud run deploy``.
        lacks: what proofs do not have, of :data:`.proofs.Need`, and why.
        memory: what one proof leaves to a later one, such as a document's id.
        clock: seconds, of which differences are taken.
    """

    manifest: Manifest
    settings: Settings
    tools: Tools
    access: Access
    app_url: str
    functions_url: str
    release: Callable[[tuple[str, ...]], Release]
    indexes: Mapping[str, Any]
    lacks: Mapping[str, str] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    @property
    def app(self) -> str:
        """The app's id, which is its database's too."""
        return self.manifest.app

    @property
    def place(self) -> Place:
        """The project and the region."""
        return place_of(self.manifest)

    @property
    def bucket(self) -> str:
        """That of the app's files."""
        return bucket_of(self.manifest)

    @property
    def ada(self) -> str:
        """The uid of the user who does most."""
        return users_of(self.manifest)[0]

    @property
    def eve(self) -> str:
        """The uid of the user who must not see what is Ada's."""
        return users_of(self.manifest)[1]

    @property
    def documents(self) -> str:
        """Where the app's database is, as Firestore's REST API has it."""
        return f"{FIRESTORE}/projects/{self.manifest.project}/databases/{self.app}/documents"

    def below(self, uid: str) -> str:
        """The path of a user's data."""
        return f"apps/{self.app}/users/{quote(uid, safe='')}"

    def console(self, page: str) -> str:
        """A page of the Google Cloud console."""
        return f"https://console.cloud.google.com/{page}?project={self.manifest.project}"

    @property
    def logs(self) -> str:
        """The command that shows the app's logs."""
        return (
            f"gcloud run services logs read {self.app} --region={self.manifest.region} "
            f"--project={self.manifest.project}"
        )

    def call(
        self, method: str, path: str, uid: str = "", *, token: str = "", base: str = "", **more: Any
    ) -> tuple[int, Any]:
        """The app's status and JSON.

        Args:
            uid: the user who calls; or ``token``, whoever holds that.
            base: another service's address.
            more: as httpx takes it.
        """
        bearer = token or (self.access.user_token(uid) if uid else "")
        return self._send(method, f"{base or self.app_url}{path}", bearer, {}, more)

    def google(
        self, method: str, url: str, token: str = "", *, open_to_all: bool = False, **more: Any
    ) -> tuple[int, Any]:
        """Google's status and JSON.

        Args:
            token: whose call it is; yours where there is none, unless it is ``open_to_all``.
        """
        mine = not token and not open_to_all
        headers = {"X-Goog-User-Project": self.manifest.project} if mine else {}
        return self._send(method, url, self.tools.token() if mine else token, headers, more)

    def _send(
        self, method: str, url: str, bearer: str, headers: Mapping[str, str], more: Mapping[str, Any]
    ) -> tuple[int, Any]:
        import httpx

        given = {**headers, **({"Authorization": f"Bearer {bearer}"} if bearer else {}), **more.get("headers", {})}
        rest = {name: value for name, value in more.items() if name != "headers"}
        try:
            answer = self._client.request(method, url, headers=given, **rest)
        except httpx.HTTPError as error:
            return 0, f"{type(error).__name__}: {error}"
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    @contextmanager
    def stream(self, uid: str, chat: str, text: str) -> Iterator[Iterator[ReceivedEvent]]:
        """A message of a user's, and its answer's events as they come; leaving the block closes the connection."""
        begun = self.clock()
        headers = {"Authorization": f"Bearer {self.access.user_token(uid)}", "Accept": "text/event-stream"}
        url = f"{self.app_url}/v1/chats/{chat}/messages"
        with self._client.stream("POST", url, headers=headers, json={"text": text}) as answer:
            if answer.status_code != 200:
                answer.read()
                raise Unproved("a stream of the answer", f"{answer.status_code}: {answer.text[:300]}", self.logs)
            yield self._events(answer.iter_lines(), begun)

    def _events(self, lines: Iterator[str], begun: float) -> Iterator[ReceivedEvent]:
        name = ""
        for line in lines:
            field_name, _, value = line.partition(":")
            if field_name == "event":
                name = value.strip()
            elif field_name == "data" and name:
                yield ReceivedEvent(name, json.loads(value), self.clock() - begun)

    def until(self, check: Callable[[], Any], seconds: float) -> Any:
        """Return the first true result of ``check``, or its last result after ``seconds``."""
        give_up, pause = self.clock() + seconds, _SHORTEST_PAUSE
        while True:
            said = check()
            if said or self.clock() >= give_up:
                return said
            self.tools.pause(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def new_chat(self, uid: str) -> str:
        """The id of a new chat.

        Raises:
            Unproved: the app makes none.
        """
        status, said = self.call("POST", "/v1/chats", uid, json={})
        if status not in (200, 201):
            raise Unproved("a new chat", f"{status}: {said}", self.logs)
        return str(said["id"])

    def answers(self, uid: str, chat: str) -> list[Mapping[str, Any]]:
        """The answers that a chat has stored."""
        status, said = self.call("GET", f"/v1/chats/{chat}", uid)
        messages = said.get("messages", []) if status == 200 else []
        return [message for message in messages if message["role"] == "assistant"]

    @property
    def _client(self) -> httpx.Client:
        found: httpx.Client | None = self.memory.get("client")
        if found is None:
            import httpx

            found = self.memory["client"] = httpx.Client(timeout=_TIMEOUT)
        return found
