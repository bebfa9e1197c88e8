"""Runs gcloud, and makes the few requests that it has no command for with gcloud's own login."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from . import secrets
from .delays import Delay, delay_of, disabled_api, pauses
from .resources import PERMISSIONS

__all__ = ["QUOTA_MEND", "Command", "CommandFailed", "Request", "Tools", "gcloud", "refuse_secrets"]

_SECONDS = 60.0
_LOGGED_OUT = re.compile(
    r"active account|gcloud auth login|Reauthentication|invalid_grant|UNAUTHENTICATED"
    r"|Failed to authenticate",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"RESOURCE_EXHAUSTED|\b429\b|quota (?:exceeded|limit|violated)|exceed\w* .{0,80}quota", re.IGNORECASE
)
QUOTA_MEND = "a quota is used up; see it, and ask for more: https://console.cloud.google.com/iam-admin/quotas"
_FORBIDDEN = re.compile(r"PERMISSION_DENIED|does not have permission|HTTPError 403|\b403\b|forbidden", re.IGNORECASE)
_EXISTS = re.compile(r"ALREADY_EXISTS|already exists", re.IGNORECASE)
_ENVIRON = re.compile(r"--(?:set|update)-env-vars(?![a-z-])")
_OPERATION_SECONDS = 2.0
_OPERATION_POLLS = 150
_TELL_POLLS = 2
"""How often an operation that is waited for is asked for, and after how many polls a line says that it goes on."""

_SHOWN = 1_000
"""Characters of a request's body that are printed whole; rules are longer."""


class CommandFailed(Exception):
    """A step cannot be done. ``mend`` is what to do about it, a command where one helps. One that is ``passing`` is the
    network's or Google's own, and may not come again."""

    def __init__(self, message: str, mend: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.mend = mend
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Command:
    """One call of a tool. ``stdin`` may hold a secret: it is never shown. ``text`` on standard input holds none. A
    ``long`` one shows what it says. With ``exists_ok``, a refusal because the thing is there already counts as done:
    another deploy was first."""

    argv: tuple[str, ...]
    stdin: str | None = None
    long: bool = False
    text: str | None = None
    exists_ok: bool = False

    def __str__(self) -> str:
        given = " < (the key, from the environment)" if self.stdin is not None else ""
        given += f" <<< {shlex.quote(self.text)}" if self.text is not None else ""
        return shlex.join(self.argv) + given


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a Google API that gcloud has no command for.

    Args:
        body: JSON.
        content: bytes that are sent as they are, in place of a body.
        then: given the answer, the request that follows.
        operations: where the long-running operation that it begins is asked for by its name; empty where its answer is
            no operation.
        awaited: whether to wait for the end of that operation, whose response is then the answer.
        project: whose quota is used, where the address does not name it.
        hidden: more of the body, which holds secrets and is never shown.
        settled: what the API says where everything is so already.
        there: of a GET, whether "not found" is an error: what it asks for has to be there.
    """

    method: str
    url: str
    body: Mapping[str, Any] | None = None
    then: Callable[[Any], Request] | None = None
    operations: str = ""
    awaited: bool = False
    project: str = ""
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False)
    settled: str = ""
    there: bool = False
    content: bytes | None = field(default=None, repr=False)

    def quota(self) -> dict[str, str]:
        """The header that names whose quota is used: some APIs want one with a person's token. The resource manager is
        asked before the project has its APIs on, and wants none."""
        project = self.quota_project
        if not project or "//cloudresourcemanager." in self.url:
            return {}
        return {"X-Goog-User-Project": project}

    @property
    def quota_project(self) -> str:
        """The project that the call counts for; empty where the address names none."""
        found = re.search(r"/projects/([^/:]+)", self.url)
        return self.project or (found[1] if found else "")

    def __str__(self) -> str:
        """Return the request as a shell command. A long body is cut."""
        said = f"curl -X {self.method} '{self.url}' -H \"Authorization: Bearer $(gcloud auth print-access-token)\""
        said += "".join(f" -H '{name}: {value}'" for name, value in self.quota().items())
        if self.content is not None:
            said += " -H 'Content-Type: application/octet-stream' --data-binary @FILE"
        if self.body is not None:
            text = json.dumps({**self.body, **dict.fromkeys(self.hidden, "NOT_SHOWN")}, ensure_ascii=False)
            shown = text if len(text) < _SHOWN else f"{text[:120]} ..."
            said += f" -H 'Content-Type: application/json' -d {shlex.quote(shown)}"
        return said


def gcloud(
    *args: str,
    project: str,
    stdin: str | None = None,
    long: bool = False,
    text: str | None = None,
    exists_ok: bool = False,
) -> Command:
    """A command of gcloud that asks nothing and answers in JSON."""
    return Command(("gcloud", *args, f"--project={project}", "--quiet", "--format=json"), stdin, long, text, exists_ok)


class Tools:
    """Runs the commands and requests of a deploy.

    Args:
        environ: of the tools; endpoint overrides in it hold for requests too.
        say: shows a line of what a long command does.
        pause: waits that many seconds.
        token: an access token, where one is at hand; else gcloud is asked.
        patient: whether to wait for what was just made and is not known everywhere yet; who only looks made nothing.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        say: Callable[[str], object],
        pause: Callable[[float], object] = time.sleep,
        token: str = "",
        *,
        patient: bool = True,
    ) -> None:
        self._environ = dict(environ)
        self._say = say
        self._pause = pause
        self._seen: dict[Command, Any] = {}
        self._token = token
        self._patient = patient
        self._consumers: set[str] = set()
        self._apis_on: set[str] = set()
        self._running: list[Request] = []
        self._announced: Delay | None = None
        self.clock_ahead: float | None = None
        """Seconds by which this machine's clock is ahead of Google's; None before a request was answered."""

    def pause(self, seconds: float) -> None:
        """Wait so long."""
        self._pause(seconds)

    def say(self, line: str) -> None:
        """Show a line of how it goes."""
        self._say(line)

    def warn(self, text: str) -> None:
        """Show what is worth knowing, and stops nothing."""
        first, *more = text.splitlines()
        self._say(f"warning: {first}")
        for line in more:
            self._say(f"    {line}")

    def expect_on(self, apis: Iterable[str], *projects: str) -> None:
        """Wait for these APIs from now on where Google says that they are off: they are on, or being turned on.

        Args:
            projects: id and number of the project in which they are.
        """
        self._apis_on.update(apis)
        self._consumers.update(projects)

    def check_installed(self) -> None:
        """Raises Failed where gcloud is not on the PATH."""
        if shutil.which("gcloud", path=self._environ.get("PATH")) is None:
            raise CommandFailed(
                "gcloud is not on the PATH", "install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install"
            )

    def read(self, command: Command, *, fresh: bool = False) -> Any:
        """Return a reading command's answer. It is asked for once a run, unless ``fresh``.

        Raises:
            CommandFailed: it did not answer.
        """
        if fresh or command not in self._seen:
            self._seen[command] = self.run(command)
        return self._seen[command]

    def run(self, command: Command, again: Callable[[], Command] | None = None) -> Any:
        """Run a command; its JSON, or None where it printed none.

        Args:
            again: the command of a further try, where that is another one.

        Raises:
            CommandFailed: it ended with an error.
        """
        for patience in self._tries():
            code, out, err = self._run(command)
            if code == 0:
                return _json(out)
            if command.exists_ok and _EXISTS.search(err):
                return None
            if not patience(err):
                break
            command = again() if again else command
        said = "" if command.long else f"\n{_last_words(err or out)}"
        raise CommandFailed(f"{command}{said}", _mend(err + out))

    def request(self, request: Request) -> Any:
        """The JSON that a Google API answers; None where it says that there is no such thing.

        Raises:
            CommandFailed: it refused, or cannot be reached.
        """
        for patience in self._tries():
            status, body = self._send(request)
            if status == 404 and request.method == "GET" and not request.there:
                return None
            if status < 400:
                return self._answer(request, body)
            error = body.get("error", {})
            # Somebody else's deploy was first, or an earlier try of this one.
            if request.operations and error.get("status") == "ALREADY_EXISTS":
                return body
            if request.settled and request.settled in str(error.get("message")):
                return body
            said = f"{status} {error.get('message', '')}"
            told = (
                f"{said} {error.get('status', '')} {json.dumps(error.get('details', []))} service: {_api(request.url)}"
            )
            self._end_operations()
            if not patience(told):
                break
        raise CommandFailed(f"{request.method} {request.url}: {said}", _mend(told), passing=status >= 500)

    def _answer(self, request: Request, body: Any) -> Any:
        if request.awaited:
            body = self._end(request, body)
        elif request.operations and body.get("name") and not body.get("done"):
            self._running.append(Request("GET", f"{request.operations}/{body['name']}"))
            self._end_operations()
        return self.request(request.then(body)) if request.then else body

    def _end(self, begun: Request, operation: Any) -> Any:
        """The response of an operation, once that has come to its end.

        Raises:
            CommandFailed: it ended with an error, or not in time.
        """
        asked = Request("GET", f"{begun.operations}/{operation.get('name')}", project=begun.quota_project)
        for poll in range(_OPERATION_POLLS):
            if operation.get("done"):
                break
            if poll == _TELL_POLLS:
                most = _OPERATION_POLLS * _OPERATION_SECONDS / 60
                self.say(f"waiting, {most:.0f} minutes at most: {begun.url.rpartition('/')[2]} goes on at Google")
            self._pause(_OPERATION_SECONDS)
            operation = self.request(asked) or {"done": True}
        if not operation.get("done"):
            raise CommandFailed(
                f"{begun.method} {begun.url}: it has not come to its end", "run the same command again", passing=True
            )
        error = operation.get("error")
        if error:
            raise CommandFailed(f"{begun.method} {begun.url}: {error.get('message')}", _mend(json.dumps(error)))
        return operation.get("response", {})

    def _end_operations(self) -> None:
        """Forget the operations that have come to their end: what was refused because of them can be tried again."""
        self._running = [each for each in self._running if not _ended(self._send(each))]

    def _tries(self) -> Iterator[Callable[[str], bool]]:
        """Yield, for each try, what decides on a further one by what was said; it waits where there is one."""
        waiting: tuple[Delay, Iterator[float]] | None = None

        def patience(said: str) -> bool:
            nonlocal waiting
            delay = delay_of(said, api_is_on=self._is_on(said)) if self._patient else None
            if delay is None:
                return False
            if waiting is None or waiting[0] is not delay:
                waiting = (delay, pauses(delay))
                if delay is not self._announced:
                    self.say(f"waiting, {delay.seconds / 60:.0f} minutes at most: {delay.reason}")
                self._announced = delay
            seconds = next(waiting[1], None)
            if seconds is None:
                return False
            self._pause(seconds)
            return True

        while True:
            yield patience

    def _is_on(self, said: str) -> bool:
        off = disabled_api(said)
        if off is None or not self._apis_on:
            return False
        return (not off.api or off.api in self._apis_on) and (not off.project or off.project in self._consumers)

    def _send(self, request: Request) -> tuple[int, Any]:
        status, body = self._sent(request)
        if status == 401:  # a token lasts an hour at most, and waiting may take that long
            self._token = ""
            status, body = self._sent(request)
        return status, body

    def _sent(self, request: Request) -> tuple[int, Any]:
        import requests

        url, headers = self._override(request.url), {"Authorization": f"Bearer {self.token()}", **request.quota()}
        body = None if request.body is None else {**request.body, **request.hidden}
        headers |= {} if request.content is None else {"Content-Type": "application/octet-stream"}
        try:
            answer = requests.request(
                request.method, url, json=body, data=request.content, headers=headers, timeout=_SECONDS
            )
            self.clock_ahead = _ahead(answer.headers.get("Date"))
            return answer.status_code, answer.json() if answer.content else {}
        except (requests.RequestException, ValueError) as error:
            raise CommandFailed(f"{request.method} {request.url}: {error}", "try again", passing=True) from None

    def token(self) -> str:
        """gcloud's access token.

        Raises:
            CommandFailed: nobody is logged in.
        """
        if not self._token:
            code, out, err = self._run(Command(("gcloud", "auth", "print-access-token", "--quiet")))
            if code or not out.strip():
                raise CommandFailed(f"gcloud gives no token: {_last_words(err)}", _mend(err))
            self._token = out.strip()
        return self._token

    def identity_token(self, audience: str) -> str | None:
        """A token by which a private service lets the caller in; None where this login can have none."""
        code, out, _ = self._run(
            Command(("gcloud", "auth", "print-identity-token", f"--audiences={audience}", "--quiet"))
        )
        if code:  # people's logins take no audience
            code, out, _ = self._run(Command(("gcloud", "auth", "print-identity-token", "--quiet")))
        return out.strip() if code == 0 else None

    def _override(self, url: str) -> str:
        """gcloud's own way to name another endpoint; a token goes there, so it is this machine or has TLS."""
        parts = urlsplit(url)
        api = parts.netloc.split(".")[0].rpartition("-")[2].upper()  # Vertex AI has a host for each region
        base = self._environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}")
        if base is None:
            return url
        where = urlsplit(base)
        if where.scheme != "https" and where.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise CommandFailed(
                f"{base} is no https address, and a token is not sent without TLS", "unset the override"
            )
        return url.replace(f"https://{parts.netloc}/", f"{base.rstrip('/')}/", 1)

    def _run(self, command: Command) -> tuple[int, str, str]:
        given = command.text if command.stdin is None else command.stdin
        try:
            process = subprocess.Popen(  # noqa: S603 - commands of this package's own making, and no shell
                command.argv,
                env=self._environ,
                stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except FileNotFoundError:
            raise CommandFailed(f"{command.argv[0]} is not on the PATH", "install it") from None
        try:
            if not command.long:
                out, err = process.communicate(given)
                return process.returncode, out, err
            return self._follow(process)
        except BaseException:  # Ctrl-C: what is begun here does not go on behind whoever called
            process.kill()
            process.wait()
            raise

    def _follow(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Show what a command says while it says it. Its answer is small, so that reading it last blocks nothing."""
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        said = []
        for line in process.stderr:
            said.append(line)
            if line.strip():
                self._say(line.rstrip())
        out = process.stdout.read()
        return process.wait(), out, "".join(said)


def refuse_secrets(args: tuple[str, ...]) -> None:
    """Raises Failed where an argument holds a secret: other users of the machine and its shell's history see it, and
    whoever may see the service."""
    for before, arg in zip(("", *args), args, strict=False):
        kinds = [kind for _, kind in secrets.in_text(arg)]
        if _ENVIRON.match(arg) or _ENVIRON.fullmatch(before):
            kinds += [f"a value for {name}" for name in secrets.key_names(arg)]
        if kinds:
            raise CommandFailed(
                f"an argument looks like {kinds[0]}; it would be in the service's settings, for all to read who may",
                "put it into Secret Manager, and pass --update-secrets=NAME=secret:latest",
            )


def _api(url: str) -> str:
    """The API's name: that of the host, without the region that some put before it."""
    host = urlsplit(url).netloc
    return f"{host.split('.')[0].rpartition('-')[2]}.googleapis.com"


def _ended(answer: tuple[int, Any]) -> bool:
    status, operation = answer
    return status >= 400 or bool(operation.get("done"))


def _ahead(date: str | None) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None


def _json(out: str) -> Any:
    try:
        return json.loads(out)
    except ValueError:
        return None


def _last_words(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return "\n".join(lines[-12:])


def _mend(said: str) -> str:
    if _LOGGED_OUT.search(said):
        return "gcloud auth login"
    off = disabled_api(said)
    if off and off.api:
        return (
            f"gcloud services enable {off.api} --project={off.project or 'PROJECT'}; a service account's calls count "
            "for the project that it was made in, so that this may be another one than the app's (docs/ci.md)"
        )
    if _QUOTA.search(said):
        return QUOTA_MEND
    if "billing" in said.lower():
        return "see that the project has a billing account: gcloud billing projects describe PROJECT"
    if _FORBIDDEN.search(said):
        return f"ask for {_role(said)}, and run the same command again: it goes on where it stopped"
    return "mend what it says, and run the same command again: it goes on where it stopped"


def _role(said: str) -> str:
    """That which has the permission of which an API speaks, or another of its service."""
    named = re.search(r"permission '?((\w+)\.\w+\.\w+)", said, re.IGNORECASE)
    if named is None:
        return "the role that is missing"
    of_service = (role for permission, role in PERMISSIONS.items() if permission.startswith(f"{named[2]}."))
    return PERMISSIONS.get(named[1]) or next(of_service, "the role that is missing")
