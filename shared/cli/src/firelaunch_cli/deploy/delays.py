"""Refusals that Google takes back by itself, with what a deploy waits for and how long at most.

Accounts, roles and APIs take minutes to hold everywhere, and control planes make one change at a time. Each of these
refusals looks like a mistake of yours, so a deploy tries again for as long as Google documents, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["API_IS_NEW", "DELAYS", "Delay", "DisabledApi", "delay_of", "disabled_api", "pauses"]

_LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Delay:
    """One kind of passing refusal.

    Args:
        refusal: finds it in what an API or gcloud says.
        reason: what is waited for, in the words of the progress line.
        seconds: how long at most.
    """

    refusal: re.Pattern[str]
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DisabledApi:
    """An API that is off, and the project in which it is: the consumer, by number or id. Empty where nobody says."""

    api: str
    project: str


API_IS_NEW = Delay(
    re.compile(r"SERVICE_DISABLED|has not been used in project|not enabled on project", re.IGNORECASE),
    "the API was turned on and does not answer everywhere yet",
    300,
)
"""Google's own message says "wait a few minutes". It is waited for only where this deploy turned the API on or saw it
on; nobody is going to turn on another project's."""

DELAYS = (
    # IAM is eventually consistent: an account usually within 60 seconds, a role within 2 minutes, at times 7 and more
    # (https://cloud.google.com/iam/docs/access-change-propagation).
    Delay(
        re.compile(
            r"Service account \S+ does not exist|Unknown service account"
            r"|denied on service account \S+ \(or it may not exist\)",
            re.IGNORECASE,
        ),
        "a new service account is not known everywhere yet",
        120,
    ),
    Delay(
        re.compile(r"Permission denied on secret", re.IGNORECASE),
        "the service's right to its secret does not hold everywhere yet",
        420,
    ),
    Delay(
        re.compile(
            r"could not resolve source|service account is missing required IAM permissions"
            r"|does not have storage\.objects\.\w+ access|uploadArtifacts\W+ denied",
            re.IGNORECASE,
        ),
        "the rights of the account that builds images do not hold everywhere yet",
        420,
    ),
    # https://cloud.google.com/eventarc/docs/troubleshooting: "it may take a few minutes".
    Delay(
        re.compile(r"using the Eventarc Service Agent|eventarc\.events\.receiveEvent", re.IGNORECASE),
        "Eventarc's own account is new in this project",
        420,
    ),
    Delay(
        re.compile(r"does not have permission to publish|pubsub\.topics\.publish on", re.IGNORECASE),
        "the right of Cloud Storage's own account does not hold everywhere yet",
        420,
    ),
    Delay(
        re.compile(r"CONFIGURATION_NOT_FOUND"),
        "Firebase Authentication was set up and does not answer everywhere yet",
        120,
    ),
    # Google's own message says "it could take up to 10 minutes to become available".
    Delay(
        re.compile(r"Cannot find metric\(s\) that match|metric referenced by the provided filter is unknown"),
        "Cloud Monitoring does not know a new metric yet",
        600,
    ),
    # Firestore answers so while it makes another index or field change of the database; the others, while somebody else
    # writes the same policy or service. https://cloud.google.com/apis/design/errors: ABORTED is for trying again.
    Delay(
        re.compile(r"\bABORTED\b|contention|underlying data changed", re.IGNORECASE),
        "another change is being made at the same time",
        600,
    ),
)

_LINK = re.compile(r"/apis/(?:api|library)/([\w.-]+\.googleapis\.com)\S*?[?&]project=([\w.:-]+)")
_BRACKETS = re.compile(r"API \[([\w.-]+)\] not enabled on project \[([\w.:-]+)\]")
_SERVICE = re.compile(r"service\W+([\w.-]+\.googleapis\.com)")
_CONSUMER = re.compile(r"consumer\W+projects/([\w.:-]+)|used in project ([\w.:-]+)")


def delay_of(said: str, *, api_is_on: bool = False) -> Delay | None:
    """Find what a refusal waits for; None where waiting does not help.

    Args:
        said: the API's status, message and reason, or gcloud's standard error.
        api_is_on: whether the API that it calls off is on or was just turned on.
    """
    if API_IS_NEW.refusal.search(said):
        return API_IS_NEW if api_is_on else None
    return next((delay for delay in DELAYS if delay.refusal.search(said)), None)


def disabled_api(said: str) -> DisabledApi | None:
    """Read which API is off, and in which project; None where the refusal is about something else."""
    if not API_IS_NEW.refusal.search(said):
        return None
    named = _LINK.search(said) or _BRACKETS.search(said)
    if named:
        return DisabledApi(named[1], named[2].rstrip("."))
    service, consumer = _SERVICE.search(said), _CONSUMER.search(said)
    return DisabledApi(service[1] if service else "", (consumer[1] or consumer[2]).rstrip(".") if consumer else "")


def pauses(delay: Delay) -> Iterator[float]:
    """Yield the seconds to wait before each further try, doubled up to half a minute, until the delay's are used up."""
    pause, left = 1.0, delay.seconds
    while left > 0:
        yield min(pause, left)
        left -= pause
        pause = min(2 * pause, _LONGEST_PAUSE)
