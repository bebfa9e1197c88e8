"""Load the settings of one app: ``firelaunch.toml`` has what is the same everywhere, the environment has the rest.

``Settings.load`` reads both once, at the start. It refuses missing, misspelt and dangerous settings, with an error that
names the key and the remedy. Nothing reads the environment afterwards.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ..errors import InvalidId, SettingsError
from ..scope import check_app_id
from ..telemetry.options import Options, read_options
from ..text_file import read_text_file
from .environments import chosen, environments, inherited_problems, overlaid, project_of
from .openai_server import AUTHORIZATION, OpenAIServer, base_url_problem
from .plans import (
    GUEST_PLAN,
    Billing,
    Budget,
    Plan,
    balance_faults,
    budget_problems,
    guest_problems,
    meter_faults,
    shared_prices,
)
from .schedules import JobSchedule
from .search import DocumentSettings, EmbedderKind, Embedding, IndexSettings, Search, VertexIndexSettings, with_vertex
from .sections import (
    AfterTurn,
    Alerts,
    Cache,
    Cloud,
    Cors,
    GroupSettings,
    Guardrails,
    Logs,
    Mcp,
    Price,
    PromptChoice,
    Rates,
    Telemetry,
)
from .sections import Section as _Section

__all__ = [
    "MODEL_KEYS",
    "PROVIDERS",
    "TELEMETRY_KEY",
    "AfterTurn",
    "AppSettings",
    "Billing",
    "Budget",
    "Cache",
    "Cloud",
    "Cors",
    "DocumentSettings",
    "Effort",
    "Environment",
    "GroupSettings",
    "Guardrails",
    "IdentitySettings",
    "IndexSettings",
    "JobSchedule",
    "JobSettings",
    "Limits",
    "Logs",
    "Mcp",
    "MembershipSettings",
    "Mode",
    "ModelChoice",
    "Models",
    "OpenAIChoice",
    "OpenAIServer",
    "Plan",
    "Price",
    "PromptChoice",
    "Provider",
    "Search",
    "Settings",
    "VertexChoice",
    "VertexIndexSettings",
    "read_settings",
]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model thinks, from least to most. Each model supports some of these values."""

Mode = Literal["embedded", "emulators", "cloud"]
Provider = Literal["openai", "vertex", "claude"]

PROVIDERS: Final[tuple[Provider, ...]] = get_args(Provider)

MODEL_KEYS: Final = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
"""The variables with keys of models' providers, which nothing needs that calls no model."""

TELEMETRY_KEY: Final = "OTEL_EXPORTER_OTLP_HEADERS"
"""The variable with the key of whoever receives telemetry."""

Role = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
SignIn = Literal["email_link", "password", "google", "anonymous"]
FirebaseAppId = Annotated[str, StringConstraints(pattern=r"^1:\d+:(web|ios|android):[0-9a-f]+$")]


def _app_id(value: Any) -> str:
    try:
        return check_app_id(value)
    except InvalidId as error:
        raise ValueError(error.message) from None


class AppSettings(_Section):
    """``[app]``: what the app is called."""

    id: Annotated[str, BeforeValidator(_app_id)] = Field(
        description="The app's id: its Cloud Run service and its part of the database."
    )
    name: str = Field(min_length=1, max_length=100, description="What people read.")
    description: str = Field(default="", max_length=500, description="One sentence on what the app does.")
    suggestions: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=6, description="Questions that the web client offers in an empty chat."
    )
    plan: str = Field(default="free", description="The plan of users who have none of their own; a name under [plans].")


class ModelChoice(_Section):
    """``[models.<provider>]``: which of a provider's models do what."""

    chat: str = Field(min_length=1, description="The model that answers.")
    cheap: str = Field(min_length=1, description="The model that answers once a user is over the plan's soft cap.")
    fallback: tuple[str, ...] = Field(default=(), description="Models tried in order when the one before fails.")
    others: tuple[str, ...] = Field(
        default=(), description='More models that your code may name, as in `turn.llm.complete(messages, model="...")`.'
    )
    effort: Effort | dict[str, Effort] = Field(
        default={},
        description='How much models think: "none", "minimal", "low", "medium", "high", "xhigh" or "max", for all, or '
        'by model, as in `{ "gpt-6-luna" = "low" }`. Without it a model thinks as its provider has it.',
    )

    show_thinking: bool = Field(
        default=False,
        description="Whether users see what models think before they answer, as far as the provider tells it.",
    )

    def effort_of(self, model: str) -> Effort | None:
        """Return how much ``model`` should think; None for its provider's default."""
        return self.effort.get(model) if isinstance(self.effort, dict) else self.effort

    def all(self) -> tuple[str, ...]:
        """Return every configured model, each once."""
        return tuple(dict.fromkeys((self.chat, self.cheap, *self.fallback, *self.others)))


class OpenAIChoice(ModelChoice):
    """``[models.openai]``: the same, and where another server answers in OpenAI's place."""

    base_url: str = Field(
        default="",
        description='Another server with OpenAI\'s API, such as "https://openrouter.ai/api/v1"; OPENAI_API_KEY is then '
        "its key. A query string goes along. OPENAI_BASE_URL overrides it.",
    )
    api_key_header: str = Field(
        default=AUTHORIZATION,
        pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$",
        description='The header of that server\'s key: "api-key" for Azure.',
    )
    attachments: tuple[Literal["image", "pdf", "audio"], ...] = Field(
        default=("image",),
        description='What that server\'s models take beside text: "image", "pdf" (as `file` parts) and "audio" (as '
        "`input_audio` parts). What OpenAI's own take is known.",
    )
    service_tier: Literal["", "flex", "priority"] = Field(
        default="",
        description='OpenAI\'s "flex" halves prices, for slower answers that are refused more often. "priority" needs '
        "the tier's prices under [prices]. If empty, the server decides.",
    )


SafetyCategory = Literal["harassment", "hate_speech", "sexually_explicit", "dangerous_content"]
SafetyThreshold = Literal["block_low_and_above", "block_medium_and_above", "block_only_high", "block_none", "off"]


class VertexChoice(ModelChoice):
    """``[models.vertex]``: the same, and where Google's models are called."""

    location: str = Field(
        default="global",
        pattern=r"^(global|eu|us|[a-z]+-[a-z]+\d+)$",
        description='Where Vertex AI answers: "global", a region, or "eu" or "us", where the processing then stays. '
        "Gemini 3 and later are in no region.",
    )
    searches: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Web searches by Google that are reserved for each answer of Gemini's that calls no tools. "
        "With 0 it doesn't search.",
    )
    safety: dict[SafetyCategory, SafetyThreshold] = Field(
        default={},
        description="From which probability on Gemini holds an answer back, by category, as in "
        '`{ harassment = "block_only_high" }`. Google decides for the others.',
    )


class Models(_Section):
    """``[models]``: who answers."""

    provider: Provider = Field(description="Whose models the deployed app calls.")
    openai: OpenAIChoice | None = Field(default=None, description="Models when the provider is OpenAI, or compatible.")
    vertex: VertexChoice | None = Field(
        default=None,
        description="Models when the provider is Vertex AI: Gemini's, and Claude's by their names there.",
    )
    claude: ModelChoice | None = Field(
        default=None, description="Models when the provider is Anthropic, with a key of its own."
    )

    def of(self, provider: str) -> ModelChoice | None:
        """Return the models of a provider; None if none are named."""
        choice: ModelChoice | None = getattr(self, provider)
        return choice

    def named(self) -> dict[str, ModelChoice]:
        """Return the models of each provider whose models are named."""
        return {name: choice for name in PROVIDERS if (choice := self.of(name)) is not None}


class Limits(_Section):
    """``[limits]``: what one request may take."""

    message_characters: int = Field(default=16_000, ge=1, le=100_000, description="Length of a user's message at most.")
    image_bytes: int = Field(
        default=3_500_000, ge=1_024, le=5_000_000, description="Bytes of an image in a message at most."
    )
    attachment_bytes: int = Field(
        default=10_000_000,
        ge=1_024,
        le=20_000_000,
        description="Bytes of another file in a message at most: a PDF, a recording, or a text of up to 500,000.",
    )
    history_messages: int = Field(default=12, ge=0, le=200, description="Earlier messages a model is shown at most.")
    prompt_tokens: int = Field(
        default=4_000, ge=0, description="Tokens reserved for the prompt around history and message."
    )
    max_output_tokens: int = Field(default=1_024, ge=1, description="Tokens of an answer at most.")
    thinking_tokens: int = Field(
        default=4_096, ge=0, description="Tokens that a model which thinks may use before its answer, on top of those."
    )
    request_seconds: int = Field(default=120, ge=1, le=3600, description="Seconds for an answer, with all retries.")
    first_token_seconds: int = Field(default=60, ge=1, le=3600, description="Silence before a stream's first token.")
    between_tokens_seconds: int = Field(default=30, ge=1, le=3600, description="Silence between two of its tokens.")
    approval_seconds: int = Field(
        default=86_400,
        ge=10,
        le=2_592_000,
        description="Seconds that a tool's call waits for the user's approval. After that it can't be approved.",
    )
    checkpoint_seconds: float = Field(
        default=1.0,
        ge=0.2,
        le=60,
        description="Seconds between two checkpoints, from which an answer is resumed.",
    )
    on_disconnect: Literal["continue", "stop"] = Field(
        default="continue",
        description="What becomes of an answer whose client has left: it is finished and kept, or ended at once.",
    )
    write_seconds: float = Field(
        default=30,
        ge=0.1,
        le=600,
        description="Silence of a client that reads nothing, or does not end its request, after which it has left.",
    )
    body_seconds: float = Field(
        default=300, ge=1, le=3600, description="Seconds for all of a request's body, however large it is."
    )
    requests_at_a_time: int = Field(
        default=0,
        ge=0,
        description="Requests of one user that one instance answers at a time, with streams; 0 for half of "
        "`cloud.concurrency`, and 8 at least.",
    )
    queue_seconds: float = Field(
        default=5,
        ge=0.1,
        le=60,
        description="Seconds that a request waits for a thread of its instance. After that it is a 503 `overloaded`.",
    )
    body_bytes: int = Field(default=262_144, ge=1_024, description="Bytes of a request's body at most.")
    public_requests_per_minute: int = Field(
        default=600, ge=1, description="Requests to the app's own public routes that one instance takes in a minute."
    )
    own_requests_per_minute: int = Field(
        default=600,
        ge=0,
        description="Requests of one user to the app's own routes that one instance takes in a minute; 0 for no limit.",
    )
    schema_bytes: int = Field(default=16_384, ge=64, le=262_144, description="Bytes of an extraction's schema at most.")


class IdentitySettings(_Section):
    """``[identity]``: which Firebase ID tokens the deployed app takes."""

    tenant: str = Field(
        default="", description="Identity Platform tenant whose users alone may sign in; empty for the project's own."
    )
    check_revoked: bool = Field(
        default=False, description="Ask Firebase Auth about every token's user: a revoked token ends at once."
    )
    app_check: tuple[FirebaseAppId, ...] = Field(
        default=(),
        description="Firebase app ids (1:1234:web:abcd) whose App Check tokens requests must carry; none: no check.",
    )
    app_check_for: Literal["all", "guests"] = Field(
        default="all",
        description='Whose requests must carry them: everybody\'s, or "guests": those of users without an account, and '
        "those to public routes that call a model.",
    )
    sign_in: tuple[SignIn, ...] = Field(
        default=(),
        description="Ways to sign in that a deploy switches on in Firebase Authentication; it switches none off. "
        '"google" takes an OAuth client of yours (docs/auth.md). Other ways are switched on in the console.',
    )


class MembershipSettings(_Section):
    """``[membership]``: who may join the deployed app. ``firelaunch publish`` tells the membership function."""

    join: Literal["open", "invite", "domain"] = Field(
        default="invite",
        description="Anybody who signs in, holders of an invitation, or verified e-mail addresses of `domains`.",
    )
    domains: tuple[str, ...] = Field(default=(), description='E-mail domains such as "example.com", for "domain".')
    roles: tuple[Role, ...] = Field(
        default=("viewer", "member", "editor", "admin"),
        description="The app's roles, the least first: an invitation never gives a member a lesser one than theirs.",
    )
    url: str = Field(
        default="",
        pattern=r"^(https://[A-Za-z0-9.-]+(:\d+)?/?|http://(localhost|127\.0\.0\.1)(:\d+)?/?)?$",
        description="Address of the membership function, as its deployment prints it, for the page `/ops`.",
    )

    @model_validator(mode="after")
    def _domains_where_they_count(self) -> Self:
        if (self.join == "domain") != bool(self.domains):
            raise ValueError('domains go with join = "domain": name at least one there, and none otherwise')
        if len(set(self.roles)) < len(self.roles):
            raise ValueError("roles names one of them twice")
        return self


class JobSettings(_Section):
    """``[jobs]``: work that is done outside of requests, and the Cloud Tasks queue that brings it in the cloud."""

    url: str = Field(
        default="", description="Address of the deployed service, which Cloud Tasks calls; a deploy knows it."
    )
    service_account: str = Field(
        default="", description="E-mail of the account that Cloud Tasks signs as; a deploy knows it."
    )
    queue: str = Field(default="", description="The Cloud Tasks queue, in cloud.region; the app's id if left out.")
    max_attempts: int = Field(default=8, ge=1, le=100, description="Tries of a job, after which it is dead.")
    backoff_seconds: float = Field(default=5, gt=0, description="Longest pause before the second try; it then doubles.")
    backoff_max_seconds: float = Field(default=600, gt=0, description="Longest pause of all.")
    lease_seconds: float = Field(default=60, gt=0, description="After which a silent worker's job is taken back.")
    workers: int = Field(default=2, ge=1, le=32, description="Jobs at a time, on a laptop.")
    keep_days: int = Field(default=30, ge=1, le=365, description="Days that the record of a finished job is kept.")


class Environment(_Section):
    """The settings that differ between a laptop and the cloud, from the process's environment."""

    mode: Mode = "embedded"
    name: str = ""
    data: Path = Path(".firelaunch")
    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None
    openai_model: str | None = None
    anthropic_api_key: SecretStr | None = None
    anthropic_base_url: str | None = None
    stripe_api_key: SecretStr | None = None
    stripe_api_base: str | None = None
    stripe_webhook_secret: SecretStr | None = None
    return_url: str = ""
    membership_url: str = ""
    database_url: SecretStr | None = None
    jobs_url: str = ""
    jobs_account: str = ""
    vertex_index: str = ""
    firestore_emulator: str | None = None
    auth_emulator: str | None = None
    web: Path | None = None
    otel: dict[str, str] = Field(default={})
    on_cloud_run: bool = False

    @property
    def development(self) -> bool:
        """Whether dev tokens and the offline model are allowed."""
        return self.mode != "cloud"


_CLOUD_UPLOAD_BYTES = 31 * 2**20

_VARIABLES = {
    "FIRELAUNCH_MODE": "mode",
    "FIRELAUNCH_ENV": "name",
    "FIRELAUNCH_DATA": "data",
    "FIRELAUNCH_JOBS_URL": "jobs_url",
    "FIRELAUNCH_JOBS_ACCOUNT": "jobs_account",
    "FIRELAUNCH_VERTEX_INDEX": "vertex_index",
    "FIRELAUNCH_WEB": "web",
    "FIRELAUNCH_RETURN_URL": "return_url",
    "FIRELAUNCH_MEMBERSHIP_URL": "membership_url",
    "OPENAI_API_KEY": "openai_api_key",
    "OPENAI_BASE_URL": "openai_base_url",
    "OPENAI_MODEL": "openai_model",
    "ANTHROPIC_API_KEY": "anthropic_api_key",
    "ANTHROPIC_BASE_URL": "anthropic_base_url",
    "STRIPE_API_KEY": "stripe_api_key",
    "STRIPE_API_BASE": "stripe_api_base",
    "STRIPE_WEBHOOK_SECRET": "stripe_webhook_secret",
    "DATABASE_URL": "database_url",
    "FIRESTORE_EMULATOR_HOST": "firestore_emulator",
    "FIREBASE_AUTH_EMULATOR_HOST": "auth_emulator",
}


class Settings(_Section):
    """The settings of one app. They are frozen and passed as an argument, never looked up globally."""

    app: AppSettings
    cloud: Cloud = Cloud()
    models: Models
    prices: dict[str, Price] = Field(default={})
    index: IndexSettings = IndexSettings()
    search: Search = Search()
    documents: DocumentSettings = DocumentSettings()
    limits: Limits = Limits()
    rates: Rates = Rates()
    cache: Cache = Cache()
    plans: dict[str, Plan]
    groups: GroupSettings = GroupSettings()
    budget: Budget = Budget()
    billing: Billing = Billing()
    prompts: dict[str, PromptChoice] = Field(default={})
    guardrails: Guardrails = Guardrails()
    logs: Logs = Logs()
    telemetry: Telemetry = Telemetry()
    alerts: Alerts = Alerts()
    after_turn: AfterTurn = AfterTurn()
    identity: IdentitySettings = IdentitySettings()
    membership: MembershipSettings = MembershipSettings()
    cors: Cors = Cors()
    mcp: Mcp = Mcp()
    jobs: JobSettings = JobSettings()
    schedules: dict[str, JobSchedule] = Field(default={})
    environment: Environment = Field(default=Environment(), exclude=True)
    root: Path = Field(default=Path(), exclude=True)

    @classmethod
    def load(cls, path: Path, environ: Mapping[str, str]) -> Settings:
        """Read ``path`` (TOML) and the environment, and check them against each other.

        Raises:
            SettingsError: a key is missing, misspelt, of the wrong type or not allowed here. The message names each
                such key and its remedy.
        """
        data, environment = read_settings(path), _environment(environ, path.parent)
        settings = cls._of(path, data, environment)
        if not environment.on_cloud_run:  # where a start has no time for what it does not use
            for other in sorted({"", *environments(data)} - {environment.name}):
                cls._of(path, data, environment.model_copy(update={"name": other}))
        project = project_of(data, environ)
        if project:
            settings = settings.model_copy(update={"cloud": settings.cloud.model_copy(update={"project": project})})
        given = {
            "jobs": {"url": environment.jobs_url, "service_account": environment.jobs_account},
            "billing": {"return_url": environment.return_url},
            "membership": {"url": environment.membership_url},
        }
        sections = {
            name: getattr(settings, name).model_copy(update={key: value for key, value in keys.items() if value})
            for name, keys in given.items()
        }
        index = with_vertex(settings.index, environment.vertex_index)
        settings = settings.model_copy(update={**sections, "index": index})
        problems = [*inherited_problems(data, environment.name), *_problems(settings, environ)]
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    @classmethod
    def _of(cls, path: Path, data: Mapping[str, Any], environment: Environment) -> Self:
        """The settings of one environment as the file has them.

        Raises:
            SettingsError: as :meth:`load`; a key of ``[env.NAME]`` is named as that.
        """
        merged = overlaid(data, environment.name)
        for key in ("environment", "root"):
            if key in merged:
                raise SettingsError(f"{path.name}: [{key}] is not a section of this file; take it out.")
        try:
            return cls.model_validate({**merged, "environment": environment, "root": path.parent})
        except ValidationError as error:
            over = environments(data).get(environment.name, {})
            raise SettingsError("\n".join(_explain(path.name, error, environment.name, over))) from None

    @property
    def mcp_resource(self) -> str:
        """The address of ``POST /mcp`` as agents call it; empty if neither the settings nor a deploy names it."""
        return self.mcp.resource or (f"{self.jobs.url.rstrip('/')}/mcp" if self.jobs.url else "")

    @property
    def page_origins(self) -> tuple[str, ...]:
        """The origins of web pages that may call the API: those of ``cors``, and the site of the app's own client."""
        return (*self.cors.origins, *self.cloud.site_origins)

    @property
    def telemetry_options(self) -> Options | None:
        """The telemetry that this process sends, and its receiver; None for none. On a laptop, variables alone decide.

        Raises:
            SettingsError: a variable of OpenTelemetry's has a value that doesn't work here.
        """
        own = self.telemetry
        endpoint = "" if self.environment.development else own.endpoint
        return read_options(self.environment.otel, endpoint, own.sample, content=own.content, metrics=own.metrics)

    @property
    def database(self) -> str:
        """The id of the app's Firestore database."""
        return "(default)" if self.cloud.database == "shared" else self.cloud.database_id or self.app.id

    @property
    def guests(self) -> bool:
        """Whether the app takes users without an account."""
        return GUEST_PLAN in self.plans

    @property
    def has_groups(self) -> bool:
        """Whether the app has groups of users."""
        return any(plan.groups for plan in self.plans.values())

    @property
    def upload_bytes(self) -> int:
        """The most bytes of a file in a request.

        Cloud Run ends an HTTP/1 request at 32 MiB, and the form around the file takes some of them
        (https://cloud.google.com/run/quotas#request_limits).
        """
        limit = self.documents.file_bytes
        return limit if self.environment.development else min(limit, _CLOUD_UPLOAD_BYTES)

    @property
    def provider(self) -> Provider | Literal["offline"]:
        """The model provider of this process.

        On a laptop it is the one whose key is there (the deployed app's if both are), and offline without a key.
        """
        env, deployed = self.environment, self.models.provider
        if not env.development:
            return deployed
        here: dict[Provider, object] = {
            "openai": env.openai_api_key or env.openai_base_url,
            "claude": env.anthropic_api_key and self.models.claude,
        }
        usable = [provider for provider, key in here.items() if key]
        return deployed if deployed in usable else next(iter(usable), "offline")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Settings that stop nothing and are probably mistakes: a sentence each, with its mend."""
        env = self.environment
        if env.openai_model and self.provider == "offline":
            return (
                "OPENAI_MODEL has no effect, and the offline model answers: set OPENAI_API_KEY, or OPENAI_BASE_URL for "
                "a server of your own, or unset OPENAI_MODEL.",
            )
        return ()

    @property
    def openai_server(self) -> OpenAIServer:
        """The server with OpenAI's API, for models, embeddings and moderation.

        The header of the settings' server is not that of another one in OPENAI_BASE_URL.
        """
        choice, url = self.models.openai, self.environment.openai_base_url
        own_url, header = (choice.base_url, choice.api_key_header) if choice else ("", AUTHORIZATION)
        if url and own_url and url != own_url:
            return OpenAIServer(url)
        return OpenAIServer(url or own_url or None, header)

    @property
    def embedder(self) -> EmbedderKind:
        """The embedder of this process: on a laptop none, unless the settings name one that works there."""
        embedder, env = self.index.embedder, self.environment
        if not env.development:
            return self.embedding.kind
        if embedder == "local":
            return "local"
        # A developer's own server may offer no embeddings, so the settings have to name "openai".
        return "openai" if embedder == "openai" and (env.openai_api_key or env.openai_base_url) else "none"

    @property
    def embedding_location(self) -> str:
        """The location where Vertex AI embeds. It may differ from Gemini's, as not all locations have all models."""
        return self.index.location or self.cloud.region

    @property
    def embedding(self) -> Embedding:
        """The embedding model of the deployed app."""
        embedder = self.index.embedder
        # Anthropic has no embedding models. Vertex AI's need no key in a Google Cloud project.
        provider = "vertex" if self.models.provider == "claude" else self.models.provider
        return self.index.embedding(provider if embedder == "provider" else embedder, self.index.backend)

    @property
    def choice(self) -> ModelChoice:
        """The models that this process uses. OPENAI_MODEL, if set, replaces all OpenAI models."""
        models = {"offline": "offline", "openai": self.environment.openai_model}
        model = models.get(self.provider)
        if model:
            return ModelChoice(chat=model, cheap=model)
        choice = self.models.of(self.provider)
        if choice is None:
            raise SettingsError(
                f"firelaunch.toml: [models.{self.provider}] is missing: name its chat and cheap models."
            )
        return choice


def read_settings(path: Path) -> dict[str, Any]:
    """What a settings file holds, not checked.

    Raises:
        SettingsError: it is not there, or no TOML.
    """
    try:
        return tomllib.loads(read_text_file(path))
    except FileNotFoundError:
        raise SettingsError(f"{path} is not there: run from an app's folder, or make an app with 'make app'.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path.name} is not valid TOML: {error}.") from None


def _environment(environ: Mapping[str, str], root: Path) -> Environment:
    for name in environ:
        if name.startswith("FIRELAUNCH_") and name not in _VARIABLES:
            raise SettingsError(f"{name} is not a variable of firelaunch{_nearest(name, list(_VARIABLES))}.")
    values: dict[str, Any] = {field: environ[name] for name, field in _VARIABLES.items() if environ.get(name)}
    values["name"] = chosen(environ)
    values["data"] = root / values.get("data", ".firelaunch")
    values["otel"] = {name: value for name, value in environ.items() if name.startswith("OTEL_")}
    values["on_cloud_run"] = bool(environ.get("K_SERVICE"))
    try:
        return Environment.model_validate(values)
    except ValidationError:
        modes = "embedded, emulators or cloud"
        raise SettingsError(f"FIRELAUNCH_MODE is {values.get('mode')!r}: set it to {modes}.") from None


def _group_problems(settings: Settings) -> Iterator[str]:
    groups = settings.groups
    if groups.chats_paid_by is None:
        return
    if not settings.has_groups:
        yield "firelaunch.toml: groups.chats_paid_by is set, and no plan has groups: give one `groups = 3`."
    if groups.chats_on_erase is None:
        yield (
            "firelaunch.toml: groups.chats_on_erase is missing: say what becomes of the messages of an erased user in "
            "chats of groups: 'delete', 'anonymize', or 'hand_over', by which they name an owner of the group."
        )


def _database_problems(settings: Settings) -> Iterator[str]:
    database, app = settings.cloud.database_id, settings.app.id
    if database and settings.cloud.database != "dedicated":
        yield 'firelaunch.toml: cloud.database_id is set: it goes with cloud.database = "dedicated" alone.'
    if database and not (database == app or database.startswith(f"{app}-")):
        yield (
            f"firelaunch.toml: cloud.database_id is {database!r}: it has to begin with '{app}-', so that no app names "
            "another one's database."
        )


def _server_problems(settings: Settings) -> Iterator[str]:
    env, choice = settings.environment, settings.models.openai
    urls = {"OPENAI_BASE_URL": env.openai_base_url}
    urls["firelaunch.toml: models.openai.base_url"] = choice.base_url if choice else ""
    for name, url in urls.items():
        problem = base_url_problem(url, development=env.development) if url else None
        if problem is not None:
            yield f"{name} {problem}."


def _problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:  # noqa: C901 - a line for each rule
    env = settings.environment
    if env.on_cloud_run:
        if env.development:
            yield (
                f"FIRELAUNCH_MODE is {env.mode!r} on Cloud Run (K_SERVICE is set): dev tokens and the offline model "
                "are for development. Set FIRELAUNCH_MODE=cloud."
            )
        for name in ("FIRESTORE_EMULATOR_HOST", "FIREBASE_AUTH_EMULATOR_HOST"):
            if environ.get(name):
                yield f"{name} is set on Cloud Run (K_SERVICE is set): tokens would go unchecked. Unset it."
    elif env.mode == "cloud" and (env.firestore_emulator or env.auth_emulator):
        yield "An emulator host is set in cloud mode: unset it, or set FIRELAUNCH_MODE=emulators."
    if env.web and not env.development:
        yield "FIRELAUNCH_WEB is set in cloud mode: Firebase Hosting serves the web client. Unset it."
    if (env.return_url or env.membership_url) and not env.development:
        yield (
            "FIRELAUNCH_RETURN_URL and FIRELAUNCH_MEMBERSHIP_URL are a laptop's: in cloud mode unset them, and set "
            "billing.return_url and membership.url in firelaunch.toml."
        )
    if env.stripe_api_base and not env.development:
        yield "STRIPE_API_BASE is set in cloud mode: Stripe's key would go elsewhere. Unset it."
    if env.stripe_api_key and not settings.billing.return_url:
        yield "firelaunch.toml: billing.return_url is empty: name the page that Stripe leads back to."
    yield from shared_prices(settings.plans, settings.billing.top_ups)
    yield from balance_faults(settings.plans, settings.billing.top_ups)
    yield from budget_problems(settings.budget, settings.plans)
    yield from meter_faults(settings.plans)
    yield from guest_problems(settings.plans, settings.app.plan)
    if settings.identity.app_check_for == "guests" and not (settings.identity.app_check and settings.guests):
        yield (
            "firelaunch.toml: identity.app_check_for is 'guests': name your clients in identity.app_check, and a plan "
            "[plans.guest]."
        )
    yield from _group_problems(settings)
    yield from _database_problems(settings)
    yield from _server_problems(settings)
    try:
        settings.telemetry_options  # noqa: B018 - raises
    except SettingsError as error:
        yield str(error)
    if env.mode == "emulators" and not env.firestore_emulator:
        yield "FIRESTORE_EMULATOR_HOST is not set: emulators mode needs it, for example 127.0.0.1:8080."
    if env.mode == "cloud" and not settings.cloud.project:
        yield "firelaunch.toml: cloud.project is empty: name the Google Cloud project, or set GOOGLE_CLOUD_PROJECT."
    if env.mode == "cloud" and settings.models.provider == "openai" and not env.openai_api_key:
        yield "OPENAI_API_KEY is not set: cloud mode with models.provider = 'openai' needs it."
    if env.mode == "cloud" and settings.models.provider == "claude" and not env.anthropic_api_key:
        yield "ANTHROPIC_API_KEY is not set: cloud mode with models.provider = 'claude' needs it."
    if env.mode == "cloud" and settings.guardrails.moderation == "openai" and not env.openai_api_key:
        yield "OPENAI_API_KEY is not set: guardrails.moderation = 'openai' needs it in cloud mode."
    if settings.models.of(settings.models.provider) is None:
        yield f"firelaunch.toml: [models.{settings.models.provider}] is missing: name its chat and cheap models."
    if settings.app.plan not in settings.plans:
        yield f"firelaunch.toml: app.plan is {settings.app.plan!r}, and there is no [plans.{settings.app.plan}]."


def _explain(file: str, error: ValidationError, environment: str, over: Mapping[str, Any]) -> Iterator[str]:
    """A line for each error; ``over`` is what the environment lays over the rest."""
    for item in error.errors(include_url=False):
        place = f"env.{environment}." if _within(item["loc"], over) else ""
        key = place + ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            siblings = [place + name for name in _siblings(item["loc"])]
            yield f"{file}: {key} is not a setting{_nearest(key, siblings)}."
        elif item["type"] == "missing":
            yield f"{file}: {key} is missing: add it; docs/settings.md says what it means."
        else:
            message = item["msg"].removeprefix("Value error, ")
            yield f"{file}: {key} is {item['input']!r}: {message[0].lower()}{message[1:].rstrip('.')}."


def _within(place: tuple[str | int, ...], over: Any) -> bool:
    """Whether a key, or the table that lacks it, stands in ``over``."""
    for part in place[:-1]:
        if not isinstance(over, dict) or str(part) not in over:
            return False
        over = over[str(part)]
    return bool(over) and (not isinstance(over, dict) or str(place[-1]) in over or len(place) > 1)


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}? Correct it" if near else "; take it out"


def _siblings(place: tuple[str | int, ...]) -> list[str]:
    """Return the full names of the settings that may stand in the place of ``place``."""
    model: Any = Settings
    parts = iter(place[:-1])
    for part in parts:
        kind = model.model_fields[str(part)].annotation if _is_section(model) else None
        model = next((inner for inner in (kind, *getattr(kind, "__args__", ())) if _is_section(inner)), None)
        if getattr(kind, "__origin__", None) is dict:
            next(parts, None)  # a table of tables ([plans.<name>]): the file chooses the name
    prefix = "".join(f"{part}." for part in place[:-1])
    return [prefix + name for name in model.model_fields] if _is_section(model) else []


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
