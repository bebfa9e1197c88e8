"""Take in the routes that an app declares: check them at start, gate and bound their requests, and describe them."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dis import get_instructions
from hashlib import sha256
from ipaddress import IPv6Network
from itertools import pairwise
from types import CellType, ModuleType
from typing import Any

from flask import Response, g, request
from pydantic import BaseModel, PydanticSchemaGenerationError
from werkzeug.exceptions import ClientDisconnected
from werkzeug.routing import Map, Rule

from ..errors import NoUploadRoom, RateLimited, SettingsError, TooLarge, size_text
from ..identity import Caller
from ..identity.base import VISITOR, AnonymousAccount
from ..settings.app import Settings
from ..settings.plans import Plan
from ..slots import Pace, Room, Slots
from ..turns.attachments import MOST_ATTACHMENTS
from .base import CALLER_KEY, admins_only, backend, caller, data, need_feature
from .routes import Route, Routes, place_of
from .user_limits import UserLimits, no_place

__all__ = ["OwnRoutes"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_VERSION = re.compile(r"v\d+")
"""The first segment of this version of firelaunch's API, and of those to come."""

_WITH_FILES = frozenset({"chats.send", "ui.send"})
"""Routes whose bodies may hold files."""

_OURS = frozenset({"documents.content", "exports.download", "mcp.metadata", "mcp.metadata_of_mcp"})
"""Endpoints of firelaunch's own that need no token, and share the bounds of an app's public routes."""

_VISITORS = 4096
"""The number of ids under which calls by public routes are counted. The ids are a document each, and no address."""

_ARGUMENTS = frozenset({"body", "query", "path", "form", "header", "cookie", "raw"})
"""What a view may take: flask-openapi3 fills these in, and nothing else."""

_NO_PLACE = ExitStack()

_BODIES = 40_000_000
"""Bytes of messages' bodies with files that are read at a time. Each is in memory three times while it is read."""


def _no_room() -> NoUploadRoom:
    return NoUploadRoom("Too many files arrive just now. Try again.", retry_after=2)


_BODY_BYTES = 31 * 2**20
"""The most bytes of a body: Cloud Run ends an HTTP/1 request at 32 MiB (https://cloud.google.com/run/quotas#request_limits).
"""


class OwnRoutes:
    """An app's own routes.

    Args:
        declared: what the app was given as ``routes``.
        ours: firelaunch's own routes.
        collections: what the app was given as ``collections``.
        last_plan: returns the plan that a user had last, without reading anything.

    Raises:
        SettingsError: a route collides with another one or cannot be served. The message has the file and line.
    """

    def __init__(
        self,
        declared: Sequence[Routes],
        ours: Sequence[Routes],
        settings: Settings,
        collections: Sequence[object],
        last_plan: Callable[[str], Plan | None] = lambda _: None,
    ) -> None:
        problems = [*_problems(declared, ours, settings), *_undeclared(declared, collections)]
        if problems:
            raise SettingsError("\n".join(problems))
        self.declared = declared
        self._by_endpoint = {routes.endpoint(route): route for routes in declared for route in routes.routes}
        self._for_guests = {
            routes.endpoint(route) for routes in (*ours, *declared) for route in routes.routes if route.guests
        }
        self._limits = settings.limits
        self._bodies = Room(_BODIES, _no_room)
        self._pace = Pace(settings.limits.public_requests_per_minute)
        # Public routes leave most threads to users who are signed in.
        most = max(1, settings.cloud.concurrency // 4)
        self._slots = Slots(most, most, no_place, no_place)
        self._users = UserLimits(settings, last_plan)
        self._rates = {routes.endpoint(route): route.rate for routes in (*ours, *declared) for route in routes.routes}
        self._users_pace = Pace(settings.limits.own_requests_per_minute)
        self._users_slots = Slots(settings.cloud.concurrency, most, no_place, no_place)

    @property
    def public(self) -> list[str]:
        """The routes that need no token: "GET /api/menu"."""
        return [f"{each.method.upper()} {each.path}" for each in self._by_endpoint.values() if each.public]

    def is_public(self, endpoint: str | None) -> bool:
        """Return whether requests to ``endpoint`` need no token, and are bounded in all."""
        if endpoint in _OURS:
            return True
        route = self._by_endpoint.get(endpoint or "")
        return route is not None and route.public

    def enter(self) -> None:
        """Take a place for a request, until :meth:`leave`.

        All callers of public routes share some places; each user who is signed in has some, and some for own routes.

        Raises:
            RateLimited: all places are taken, or the requests of this minute are used up.
            TooLarge: the body is over the route's own limit.
            TooManyUploads, NoUploadRoom: the route takes a large body, and there is no room for another one.
        """
        route = self._by_endpoint.get(request.endpoint or "")
        public = self.is_public(request.endpoint)
        g.place = place = ExitStack()
        if not public and CALLER_KEY not in request.environ:  # a request inside another one has its place
            place.enter_context(self._users.held(caller(), self._rates.get(request.endpoint or "")))
        if request.endpoint in _WITH_FILES:
            self._make_room_for_files(place)
        if route is None and not public:
            return
        if route is not None and public and route.calls_model:
            g.visitor = backend().services.store.scope.of(_visitor(backend().services.metering.today()))
        user = "" if public else caller().uid
        pace, slots = (self._pace, self._slots) if public else (self._users_pace, self._users_slots)
        place.enter_context(_held(user, pace, slots))
        if route is not None and route.body_bytes is not None:
            if (request.content_length or 0) > route.body_bytes:
                raise TooLarge(f"The body has at most {size_text(route.body_bytes)}.")
            request.max_content_length = route.body_bytes + 1  # a body of this length counts as over it
            if not public:
                place.enter_context(backend().uploads.place(caller().scope))

    def _make_room_for_files(self, place: ExitStack) -> None:
        """Let a message's body be larger than others, if it is, and hold a place for it."""
        usual, size = self._limits.body_bytes, request.content_length
        chunked = size is None and request.environ.get("wsgi.input_terminated")
        if chunked:
            size = _peeked(request.environ, usual + 1)
        if (size or 0) <= usual:
            return
        files = max(MOST_ATTACHMENTS * self._limits.image_bytes, self._limits.attachment_bytes)
        most = min(usual + files * 4 // 3 + 4 * MOST_ATTACHMENTS, _BODY_BYTES)
        if (size or 0) > most:
            raise TooLarge(
                f"A message with files has a body of at most {size_text(most)} (limits.image_bytes and "
                "limits.attachment_bytes). Put larger ones up first: POST /v1/files."
            )
        request.max_content_length = most + 1
        place.enter_context(backend().uploads.place(caller().scope))
        place.enter_context(self._bodies.held(most if chunked else size or 0))

    def place_of_user(self, user: Caller) -> AbstractContextManager[None]:
        """Hold a place for other work of the app's own that a user asks for, within the same limits.

        Raises:
            RateLimited: all the user's places are taken, or the requests of this minute are used up.
        """
        return _held(user.uid, self._users_pace, self._users_slots)

    @staticmethod
    def leave() -> None:
        """Give up the request's place, if it has one."""
        g.pop("place", _NO_PLACE).close()

    @staticmethod
    def leave_with(response: Response) -> None:
        """Keep the request's place until ``response`` is sent, if it is a stream: Flask ends the request before."""
        if response.is_streamed and "place" in g:
            response.call_on_close(g.pop("place").close)

    def check_guest(self) -> None:
        """Check that the request's route is for guests, if the caller is one. Others are not, unless they say so.

        Raises:
            AnonymousAccount: it is not.
        """
        if caller().guest and request.endpoint is not None and request.endpoint not in self._for_guests:
            raise AnonymousAccount("Guests may not do this. Sign up, then get a new token.")

    def check_feature(self) -> None:
        """Check that the caller's plan has the feature that the request's route needs.

        Raises:
            FeatureMissing: it does not.
        """
        route = self._by_endpoint.get(request.endpoint or "")
        if route is not None and route.feature is not None:
            need_feature(route.feature)


def _peeked(environ: dict[str, Any], most: int) -> int:
    """Return how many bytes a body has whose length is not told, or ``most`` if it has as many, and keep them."""
    body = environ["wsgi.input"]
    try:
        head = io.BytesIO(body.read(most))
    except OSError:
        raise ClientDisconnected from None
    environ["wsgi.input"] = _Joined(head, body)
    return len(head.getbuffer())


class _Joined:
    """A body of which the first bytes were read."""

    def __init__(self, head: io.BytesIO, rest: Any) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        """Read bytes, as :meth:`io.RawIOBase.read` does: there may be fewer than asked for."""
        return self._head.read(size) or self._rest.read(size)


def _visitor(day: str) -> str:
    """Return the id under which calls by whoever sends a public request are counted: one of a bounded number.

    The number comes from the client's address, which no header of the client's own changes (``trust_hops``), and from
    the day, so that addresses share a number for a day at most.
    """
    address = request.remote_addr or ""
    if ":" in address:  # a client has as many IPv6 addresses as it likes, in one network
        with suppress(ValueError):
            address = str(IPv6Network(f"{address}/64", strict=False))
    return f"{VISITOR}{int.from_bytes(sha256(f'{day} {address}'.encode()).digest()[:8], 'big') % _VISITORS}"


@contextmanager
def _held(user: str, pace: Pace, slots: Slots) -> Iterator[None]:
    with slots.held(user):
        seconds = pace.admit(user)
        if seconds:
            raise RateLimited(retry_after=seconds)
        yield


def _problems(declared: Sequence[Any], ours: Sequence[Routes], settings: Settings) -> Iterator[str]:
    kept = {routes.name for routes in ours} | {routes.tag for routes in ours} | {"internal"}
    names: set[str] = set()
    first = {_first(route.path) for routes in ours for route in routes.routes} | {"internal"}
    features = {feature for plan in settings.plans.values() for feature in plan.features}
    seen: dict[tuple[str, str], Route] = {}
    for number, routes in enumerate(declared):
        if not isinstance(routes, Routes):
            yield f"App(routes=[...]): entry {number} is a {type(routes).__name__}: give a Routes, as meals.routes."
            continue
        yield from _problems_of_name(routes, kept, names)
        names.add(routes.name)
        for route in routes.routes:
            twin = seen.setdefault(route.key, route)
            found = [*_problems_of_path(route, first), *_problems_of_view(route)]
            found += _problems_of_gate(route, features, guests=settings.guests)
            if twin is not route:
                found.append(f"{place_of(twin.view)} has this path already. Change one of them")
            for problem in found:
                yield f"{route.method.upper()} {route.path}, {place_of(route.view)}: {problem}."


def _undeclared(declared: Sequence[Any], collections: Sequence[object]) -> Iterator[str]:
    for routes in declared:
        collection = getattr(routes, "collection", None)
        if collection is not None and collection not in collections:
            yield f"crud({collection.name!r}): the app does not declare the collection. Add it: App(collections=[...])."


def _problems_of_name(routes: Routes, kept: set[str], taken: set[str]) -> Iterator[str]:
    if not _NAME.fullmatch(routes.name):
        yield f"Routes({routes.name!r}): a name is 1 to 40 lower-case letters, digits, '_' and '-', a letter first."
    elif routes.name in kept:
        yield f"Routes({routes.name!r}): firelaunch's own routes have this name. Choose another one."
    elif routes.name in taken:
        yield f"Routes({routes.name!r}): other routes of the app have this name. Choose another one."
    elif routes.tag in kept:
        yield f"Routes({routes.name!r}, tag={routes.tag!r}): firelaunch's own routes have this tag. Choose another one."


def _problems_of_path(route: Route, first: set[str]) -> Iterator[str]:
    try:
        Map([Rule(route.path)])
    except (ValueError, LookupError, SyntaxError) as error:
        yield f"the path is not valid: {error}"
        return
    segment = _first(route.path)
    if segment in first or _VERSION.fullmatch(segment):
        yield f"paths below /{segment} are firelaunch's own. Choose another prefix, such as /api"
    elif "<" in segment:
        yield "the path begins with a placeholder, which could stand for any path. Begin it with a word"


def _first(path: str) -> str:
    return path.strip("/").partition("/")[0]


def _problems_of_view(route: Route) -> Iterator[str]:
    try:
        hints = route.hints
        route.served()
    except NameError as error:
        yield f"an annotation is not known: {error}. Import it at the top of the file, outside of TYPE_CHECKING"
        return
    except PydanticSchemaGenerationError:
        yield "pydantic cannot make JSON of what the view returns. Return a pydantic model, or a flask.Response"
        return
    if "return" not in hints:
        yield "say what the view returns: annotate it with a pydantic model, a list of them, None or flask.Response"
    yield from _problems_of_arguments(route, hints)


def _problems_of_arguments(route: Route, hints: Mapping[str, Any]) -> Iterator[str]:
    parameters = inspect.signature(route.view).parameters
    for name in parameters:
        if name not in _ARGUMENTS:
            yield f"the view cannot be given {name!r}: it takes body, query and path, each annotated with a model"
        elif name != "raw" and not _is_model(hints.get(name)):
            yield f"{name!r} is not annotated with a pydantic model"
    placeholders = re.findall(r"<(?:[^:>]*:)?([^>]*)>", route.path)
    fields = getattr(hints.get("path"), "model_fields", {}) if "path" in parameters else {}
    for name in placeholders:
        if name not in fields:
            model = f"{route.view.__name__.title().replace('_', '')}Path"
            yield f"no field of the view's 'path' takes <{name}>. Add one: class {model}(BaseModel): {name}: str"
    for name in fields:
        if name not in placeholders:
            yield f"'path' has a field {name!r}, and the path has no <{name}>"


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def _caller_of(view: Callable[..., Any]) -> str | None:
    """Return the call of a view that needs a caller, as "caller()"; None if it makes none itself."""
    loaded = list(_loaded(inspect.unwrap(view)))
    for value, following in pairwise([*loaded, None]):
        if any(value is each for each in (caller, admins_only, need_feature)):
            return f"{value.__name__}()"
        if value is data and (owner := getattr(following, "owner", None)) in {"user", "group"}:
            return f"data() with {following.name!r}, whose records are {owner}s' own"
    return None


def _loaded(view: Callable[..., Any]) -> Iterator[Any]:
    """Yield what a view's code refers to outside of itself, in order: functions, collections, a module's members."""
    code = getattr(view, "__code__", None)
    if code is None:
        return
    cells = zip(code.co_freevars, view.__closure__ or (), strict=True)
    outer = {name: cell.cell_contents for name, cell in cells if cell != CellType()}
    module: ModuleType | None = None
    for step in get_instructions(code):
        value: Any = None
        if step.opname == "LOAD_GLOBAL":
            value = view.__globals__.get(step.argval)
        elif step.opname == "LOAD_DEREF":
            value = outer.get(step.argval)
        elif module is not None and step.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            value = getattr(module, step.argval, None)
        module = value if isinstance(value, ModuleType) else None
        if value is not None and module is None:
            yield value


def _problems_of_gate(route: Route, features: set[str], *, guests: bool) -> Iterator[str]:
    if route.public and route.calls_model and not guests:
        yield (
            "nobody pays for the model that this public route calls. Add a plan for guests, [plans.guest], or take out "
            "public or calls_model"
        )
    if route.body_bytes is not None and not 1 <= route.body_bytes <= _BODY_BYTES:
        yield f"body_bytes is from 1 to {_BODY_BYTES:,}: Cloud Run ends a larger request"
    if route.public and (needless := _caller_of(route.view)):
        yield f"a public route has no caller, and the view calls {needless}. Take that out, or public"
    if route.feature is None:
        return
    if route.public:
        yield "a public route has no caller, and so no plan's features. Take out feature or public"
    elif route.feature not in features:
        yield (
            f"no plan switches on the feature {route.feature!r}. Add it to a plan in firelaunch.toml: "
            f'features = ["{route.feature}"]'
        )
