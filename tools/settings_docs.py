"""Writes docs/settings.md from the settings' own models; a test holds the two together."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from firelaunch.settings.app import Settings
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

An app's `firelaunch.toml` has the settings that are the same everywhere. The environment has those that differ between
a laptop and the cloud. The app reads both once, when it starts. It does not start if a key is missing, misspelt or of
the wrong type; the message names the key and what to do. `make docs` writes this page.

## firelaunch.toml
"""

ENVIRONMENTS = """\
### `[env.<name>]`

Another environment, such as `[env.staging]`: any of the settings above, one level deeper (`[env.staging.cloud]`,
`[env.staging.plans.free]`). What it names replaces what stands outside of `[env]`, key by key; the rest is the same.
`--env staging` chooses it, or `FIRELAUNCH_ENV`. [staging.md](staging.md) has an example.
"""

VARIABLES = {
    "FIRELAUNCH_MODE": "`embedded` (the default: a laptop, nothing else needed), `emulators`, or `cloud`.",
    "FIRELAUNCH_ENV": "The environment, a name under `[env]`; production if unset. A deploy with `--env` sets it.",
    "FIRELAUNCH_DATA": "Folder of the embedded mode's data, relative to `firelaunch.toml`; `.firelaunch` if unset.",
    "FIRELAUNCH_WEB": "On a laptop: folder of the built [web client](deploy.md#the-web-client), served at `/`. "
    "`firelaunch serve` sets it; where it is set already, even to nothing, the client is not built.",
    "OPENAI_API_KEY": "Key of OpenAI, or of a compatible server. On a laptop it switches the offline model off.",
    "OPENAI_BASE_URL": "A compatible server in place of OpenAI's own or of `models.openai.base_url`, such as "
    "`http://localhost:11434/v1` for Ollama. [providers.md](providers.md) has more.",
    "OPENAI_MODEL": "One model in place of all that `[models.openai]` names. On one's own machine it costs nothing; "
    "elsewhere its price must be known (`[prices]`).",
    "ANTHROPIC_API_KEY": "Key of Anthropic. On a laptop it switches the offline model off, with `[models.claude]`.",
    "ANTHROPIC_BASE_URL": "A server in place of Anthropic's own.",
    "FIRELAUNCH_JOBS_URL": "In place of `jobs.url`; a deploy sets it.",
    "FIRELAUNCH_JOBS_ACCOUNT": "In place of `jobs.service_account`; a deploy sets it.",
    "FIRELAUNCH_VERTEX_INDEX": "In place of `[index.vertex]`, as JSON; a deploy that made the index sets it.",
    "STRIPE_API_KEY": "A key of the Stripe account; it switches billing on. [billing.md](billing.md) has the rest.",
    "STRIPE_API_BASE": "Another server in place of Stripe's own, for tests; refused in the cloud.",
    "STRIPE_WEBHOOK_SECRET": "On a laptop: the signing secret of the webhooks that come to `POST /dev/stripe` "
    "([billing.md](billing.md#on-a-laptop)). Deployed, the function `stripe_webhook` has it.",
    "FIRELAUNCH_RETURN_URL": "On a laptop: in place of `billing.return_url`; refused in the cloud. "
    "`firelaunch dev` sets it.",
    "FIRELAUNCH_MEMBERSHIP_URL": "On a laptop: in place of `membership.url`; refused in the cloud. "
    "`firelaunch dev` sets it.",
    "GOOGLE_CLOUD_PROJECT": "In place of `cloud.project`; an environment that names its own project keeps that.",
    "DATABASE_URL": "PostgreSQL with pgvector, where `index.backend` is `pgvector`: `postgresql://user:password@host/db`.",
    "OTEL_EXPORTER_OTLP_HEADERS": "Headers for whoever receives telemetry, which may hold a key; "
    "[telemetry.md](telemetry.md#variables) has the other variables of OpenTelemetry's.",
    "FIRESTORE_EMULATOR_HOST": "Host and port of the Firestore emulator; needed in `emulators` mode, refused in the "
    "cloud.",
    "FIREBASE_AUTH_EMULATOR_HOST": "Host and port of the Auth emulator; refused in the cloud.",
    "K_SERVICE": "Set by Cloud Run. Whatever is for development alone then refuses to start.",
    "PORT": "Port to listen on; 8080 if unset. Cloud Run sets it.",
    "HOST": "Address to listen on; if unset, all in cloud mode and 127.0.0.1 alone otherwise.",
    "CONCURRENCY": "Requests at a time; `cloud.concurrency` of the app's settings if unset.",
}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name, field in Settings.model_fields.items():
        if not field.exclude:
            parts += _sections(name, field)
    parts.append(ENVIRONMENTS)
    parts.append("## Environment\n")
    parts.append(_table(("variable", "what it does"), ((f"`{name}`", text) for name, text in VARIABLES.items())))
    return "\n".join(parts)


def _sections(name: str, field: FieldInfo) -> Iterator[str]:
    model = _model(field.annotation)
    if model is None:
        yield f"### `[{name}]`\n\n{field.description}\n"
        return
    title, _, purpose = (model.__doc__ or "").strip().partition(": ")
    yield f"### {title.replace('``', '`')}\n\n{_sentence(purpose)}\n"
    own = {key: f for key, f in model.model_fields.items() if _model(f.annotation) is None}
    yield _table(("key", "value", "default", "what it does"), (_row(key, f) for key, f in own.items()))
    inner = {_model(f.annotation): f for f in model.model_fields.values() if _model(f.annotation)}
    for nested in inner.values():
        yield from _sections(name, nested)


def _row(key: str, field: FieldInfo) -> tuple[str, ...]:
    return f"`{key}`", _kind(field), _default(field), field.description or ""


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as ``X``, ``X | None`` or ``dict[str, X]``."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _kind(field: FieldInfo) -> str:
    annotation, limits = field.annotation, [_limit(item) for item in field.metadata]
    names: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if get_origin(annotation) is Literal:
        return ", ".join(f'`"{choice}"`' for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list of texts"
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) in {Union, types.UnionType}:
        annotation = next(kind for kind in get_args(annotation) if kind is not types.NoneType)
    if any(get_origin(kind) is dict for kind in get_args(field.annotation)):
        return "text or table"
    if "dollars" in (field.description or "").lower():
        return "dollars"
    return ", ".join([names.get(annotation, "text"), *filter(None, limits)])


def _limit(item: Any) -> str:
    words = {"ge": "{:,} or more", "le": "{:,} at most", "max_length": "{:,} characters at most"}
    return ", ".join(text.format(getattr(item, name)) for name, text in words.items() if hasattr(item, name))


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return ""
    if isinstance(field.default, tuple):
        return "`[]`"
    return f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default}`"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _sentence(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
