"""Set up what an app does outside of requests: its own jobs, its schedules, and its handlers of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BadRequest, SettingsError
from ..jobs import Kind
from ..jobs.schedules import Schedules
from ..services.bundle import Services
from ..shutdown import Shutdown
from ..worker import Handlers
from ..worker.event_handlers import EventHandler
from ..worker.event_jobs import EventJobs
from ..worker.job_definitions import JobDefinition
from ..worker.tasks.fan_out import fan_out_handlers
from ..worker.tasks.record_texts import search_events
from .declared import Declared
from .scheduler import Scheduler

__all__ = ["Background", "background"]


@dataclass(frozen=True, slots=True)
class Background:
    """The work of an app outside of requests.

    Attributes:
        handlers: the handlers of all kinds of jobs, firelaunch's own and the app's.
        schedules: calls the ticks of the app's schedules.
        events: enqueues the jobs of events.
    """

    handlers: Handlers
    schedules: Schedules
    events: EventJobs

    def observe(self, services: Services) -> None:
        """Have the app's writes and files set off its handlers, where Google's services do not tell of them."""
        if any(trigger.source == "write" for trigger in self.events.triggers):
            services.store.observe(self.events)
        if any(trigger.source == "upload" for trigger in self.events.triggers):
            services.documents.files(services.store.scope).observe(self.events.uploaded)

    def start(self, services: Services, shutdown: Shutdown) -> None:
        """Start to call ticks, where Cloud Scheduler does not."""
        if services.settings.schedules:
            Scheduler(self.schedules, services.settings.schedules, shutdown).start()


def background(services: Services, declared: Declared, ours: Handlers, more: Handlers | None) -> Background:
    """Check what the app declares, and return it wired.

    Args:
        ours: the handlers of firelaunch's kinds, together with ``more``.
        more: the handlers that the app gave to ``init_app``.

    Raises:
        SettingsError: a name is taken, a schedule has no job, or a pattern names what is not the app's own.
    """
    own = _own(declared, ours)
    kinds = {name: kind for name, (kind, _) in {**(more.known if more else {}), **own.known}.items()}
    wanted = services.settings.schedules
    problems = list(_schedule_problems(services, kinds))
    if problems:
        raise SettingsError("\n".join(problems))
    schedules = Schedules(
        services.store, services.jobs, wanted, {name: kind for name, kind in kinds.items() if name in wanted}
    )
    handlers = Handlers(fan_out_handlers(schedules, ours))
    for kind, handler in own.known.values():
        handlers.on(kind)(handler)
    owners = {collection.name: collection.owner for collection in declared.collections}
    events = [*declared.events, *search_events(declared.collections)]
    return Background(handlers, schedules, EventJobs(services, events, owners))


def _own(declared: Declared, ours: Handlers) -> Handlers:
    """Return the handlers of the jobs and events that the app declares."""
    own = Handlers()
    definitions: list[tuple[Any, str, type[Any], str]] = [(job, "jobs", JobDefinition, "@job") for job in declared.jobs]
    events = [*declared.events, *search_events(declared.collections)]
    definitions += [(handler, "events", EventHandler, "@on_write or @on_upload") for handler in events]
    for definition, argument, wanted, decorator in definitions:
        if not isinstance(definition, wanted):
            raise SettingsError(f"App({argument}=[...]) takes functions under {decorator}, and not {definition!r}.")
        name = definition.kind.name
        if name in ours.known or name in own.known or name == "fan_out":
            raise SettingsError(
                f"App({argument}=[...]): there is a job {name!r} already, firelaunch's or yours. Choose another name."
            )
        own.on(definition.kind)(definition.handle if isinstance(definition, EventHandler) else definition)
    return own


def _schedule_problems(services: Services, known: Mapping[str, Kind[Any]]) -> Iterator[str]:
    for name in services.settings.schedules:
        if name not in known:
            jobs = ", ".join(sorted(known)) or "none"
            yield f"firelaunch.toml: schedules.{name}: there is no such job in App(jobs=[...]). There are: {jobs}."
            continue
        try:
            known[name].payload_of()
        except BadRequest as error:
            yield f"firelaunch.toml: schedules.{name}: {error.message} A schedule has no payload: give it a default."
