"""The environment variables that an app reads, by who gives them to its deployed service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from .resources import Service
from .secrets import is_key_name

__all__ = ["KINDS", "left_behind", "own_variables"]

Kind = Literal["deploy", "secret", "person", "laptop", "platform"]

KINDS: Mapping[str, Kind] = {
    "FIRELAUNCH_MODE": "deploy",
    "FIRELAUNCH_ENV": "deploy",
    "FIRELAUNCH_JOBS_URL": "deploy",
    "FIRELAUNCH_JOBS_ACCOUNT": "deploy",
    "FIRELAUNCH_VERTEX_INDEX": "deploy",
    "GOOGLE_CLOUD_PROJECT": "deploy",
    "CONCURRENCY": "deploy",
    "OPENAI_API_KEY": "secret",
    "ANTHROPIC_API_KEY": "secret",
    "STRIPE_API_KEY": "secret",
    "DATABASE_URL": "secret",
    "OTEL_EXPORTER_OTLP_HEADERS": "secret",
    "OPENAI_BASE_URL": "person",
    "OPENAI_MODEL": "person",
    "ANTHROPIC_BASE_URL": "person",
    "FIRELAUNCH_DATA": "laptop",
    "FIRELAUNCH_WEB": "laptop",
    "FIRELAUNCH_RETURN_URL": "laptop",
    "FIRELAUNCH_MEMBERSHIP_URL": "laptop",
    "STRIPE_API_BASE": "laptop",
    "STRIPE_WEBHOOK_SECRET": "laptop",
    "FIRESTORE_EMULATOR_HOST": "laptop",
    "FIREBASE_AUTH_EMULATOR_HOST": "laptop",
    "HOST": "laptop",
    "PORT": "platform",
    "K_SERVICE": "platform",
}
"""Each variable of docs/settings.md. The deploy sets its own and keeps secrets in Secret Manager; what a person sets on
this machine may lead to this machine, and goes along only when they say so; some hold on a laptop alone."""

_WHY_NO_SECRET = {
    "OPENAI_API_KEY": "nothing in its settings is of OpenAI",
    "ANTHROPIC_API_KEY": 'its models.provider is not "claude"',
    "STRIPE_API_KEY": "none of its plans has a stripe_price, and it has no billing.top_ups",
    "DATABASE_URL": 'its index.backend is not "pgvector"',
    "OTEL_EXPORTER_OTLP_HEADERS": "its telemetry.endpoint names no receiver that takes headers",
}


def own_variables(file: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an app's ``.env`` that are the founder's own code's, and none of firelaunch's."""
    return {name: value for name, value in file.items() if name not in KINDS}


def left_behind(
    shell: Mapping[str, str], file: Mapping[str, str], service: Service, more: Iterable[str]
) -> Iterator[str]:
    """Name the variables that the app has on this machine and will not have where it is deployed.

    No value is in what is said: it may be a key.

    Args:
        shell: the environment of this process, of which firelaunch's own variables count.
        file: the app's ``.env``, all of which counts: the founder's code may read it.
        more: the arguments for gcloud; what they set is not left behind.
    """
    given = {name for word in more for name in re.findall(r"(?:^|[=,;|#~@%^])([A-Za-z_][A-Za-z0-9_]*)=", word)}
    given |= {*service.environ, *service.secrets}
    here = dict.fromkeys(name for name in (*KINDS, *file) if (shell.get(name) or file.get(name)) and name not in given)
    plain = [name for name in here if KINDS.get(name, "person") == "person" and not is_key_name(name)]
    if plain:
        pairs = ",".join(f"{name}=${name}" if shell.get(name) else f"{name}=VALUE" for name in plain)
        flag = _flag("env-vars", pairs)
        yield f"{_listed(plain)} set here, and the deployed app will not have {_them(plain)}; {flag}"
    keys = [name for name in here if name not in KINDS and is_key_name(name)]
    if keys:
        pairs = ",".join(f"{name}={service.name}-{name.lower().replace('_', '-')}:1" for name in keys)
        yield (
            f"{_listed(keys)} set here, and the deployed app will not have {_them(keys)}; put {_them(keys)} into "
            f"Secret Manager, let {service.account} read {_them(keys)}, and {_flag('secrets', pairs)}"
        )
    for name in here:
        if KINDS.get(name) == "secret":
            yield f"{name} is set here, and the deployed app will not have it, because {_WHY_NO_SECRET[name]}"


def _flag(kind: str, pairs: str) -> str:
    return f'to pass on: -- --update-{kind}="{pairs}"'


def _listed(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"
