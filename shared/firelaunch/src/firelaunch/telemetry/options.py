"""Read what OpenTelemetry's environment variables say. Nothing of OpenTelemetry is imported here.

The variables: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/. For metrics, OpenTelemetry's exporter itself reads those
for headers, certificates, compression and timeouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args
from urllib.parse import unquote, urlsplit

from ..errors import SettingsError
from .spans import Parent

__all__ = ["Exporter", "Options", "OtlpConnection", "Sampler", "read_options"]

Exporter = Literal["otlp", "console", "none"]
Signal = Literal["traces", "metrics"]

_ROOT_SAMPLERS = ("always_on", "always_off", "traceidratio")
_SAMPLERS = (*_ROOT_SAMPLERS, *(f"parentbased_{name}" for name in _ROOT_SAMPLERS))
_LOW_BITS = 2**64
"""Ratios look at the lower half of a trace id, as OpenTelemetry's SDKs do, so that services decide alike."""

_MILLISECONDS = 1000
"""From which number on a timeout is one of milliseconds."""

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class Sampler:
    """Decides which traces are sent.

    Attributes:
        ratio: the share of traces, from 0 to 1.
        follows_parent: whether the caller's decision goes first.
    """

    ratio: float = 1.0
    follows_parent: bool = False

    def samples(self, trace_id: int, parent: Parent | None) -> bool:
        """Return whether a trace is sent."""
        if self.follows_parent and parent is not None:
            return parent.sampled
        return trace_id % _LOW_BITS < round(self.ratio * _LOW_BITS)


@dataclass(frozen=True, slots=True)
class OtlpConnection:
    """The options for sending traces.

    Attributes:
        endpoint: the whole address.
        seconds: for a request with all its retries.
        certificate: path of the certificates to trust; "" for the usual ones.
        client_certificate: path of a certificate, or of a certificate and its key.
    """

    endpoint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float = 10.0
    gzip: bool = False
    certificate: str = ""
    client_certificate: str | tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """The telemetry to send, and its receiver.

    Attributes:
        metrics_endpoint: the whole address for OTLP.
        resource: what the process is, as far as the environment says.
        content: whether spans hold what users and models write.
        queue: spans kept at most until they are sent; the oldest are dropped.
        batch: spans in one request at most.
        delay: seconds that spans wait for others.
        metrics_every: seconds between two reports of the metrics.
        text: characters of an attribute at most.
    """

    traces: Exporter = "none"
    metrics: Exporter = "none"
    traces_connection: OtlpConnection = OtlpConnection()
    metrics_endpoint: str = ""
    sampler: Sampler = Sampler()
    content: bool = False
    queue: int = 2048
    batch: int = 512
    delay: float = 5.0
    metrics_every: float = 60.0
    text: int = 16_384
    resource: Mapping[str, str] = field(default_factory=dict)


def read_options(
    environ: Mapping[str, str],
    endpoint: str = "",
    sample: float = 1.0,
    *,
    content: bool = False,
    metrics: bool = True,
) -> Options | None:
    """Return what the environment asks for, or None if it asks for nothing.

    Telemetry is on if an endpoint or an exporter is named, and ``OTEL_SDK_DISABLED`` is not "true".

    Args:
        endpoint, sample, content, metrics: as the settings have them. The environment overrides them.

    Raises:
        SettingsError: a variable has a value that this exporter cannot serve.
    """
    if _flag(environ, "OTEL_SDK_DISABLED"):
        return None
    named = _text(environ, "OTEL_EXPORTER_OTLP_ENDPOINT")
    traces, traces_endpoint = _signal(environ, "traces", named or endpoint)
    reports, metrics_endpoint = _signal(environ, "metrics", named or (endpoint if metrics else ""))
    if traces == reports == "none":
        return None
    return Options(
        traces,
        reports,
        _connection(environ, traces_endpoint) if traces == "otlp" else OtlpConnection(),
        metrics_endpoint,
        _sampler(environ, sample),
        _text(environ, _CAPTURE).lower() in {"true", "span_only", "span_and_event"} if _CAPTURE in environ else content,
        queue=max(1, int(_number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", 2048))),
        batch=max(1, int(_number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))),
        delay=max(0.0, _number(environ, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000),
        metrics_every=max(1.0, _number(environ, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000),
        text=max(1, int(_number(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", 16_384))),
        resource=_resource(environ),
    )


def _connection(environ: Mapping[str, str], endpoint: str) -> OtlpConnection:
    """Return how traces are sent to ``endpoint``."""

    def own(name: str) -> str:
        return _text(environ, f"OTEL_EXPORTER_OTLP_TRACES_{name}") or _text(environ, f"OTEL_EXPORTER_OTLP_{name}")

    compression, certificate, key = own("COMPRESSION") or "none", own("CLIENT_CERTIFICATE"), own("CLIENT_KEY")
    if compression not in {"none", "gzip"}:
        raise SettingsError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {compression!r}: name gzip or none.")
    seconds = _number({"OTEL_EXPORTER_OTLP_TIMEOUT": own("TIMEOUT")}, "OTEL_EXPORTER_OTLP_TIMEOUT", 10.0)
    # The specification has milliseconds, and OpenTelemetry's own exporter for Python takes seconds.
    seconds = seconds / 1000 if seconds >= _MILLISECONDS else seconds
    pair: str | tuple[str, str] | None = (certificate, key) if certificate and key else certificate or None
    return OtlpConnection(endpoint, _pairs(own("HEADERS")), seconds, compression == "gzip", own("CERTIFICATE"), pair)


def _resource(environ: Mapping[str, str]) -> dict[str, str]:
    name = _text(environ, "OTEL_SERVICE_NAME")
    return {**_pairs(_text(environ, "OTEL_RESOURCE_ATTRIBUTES")), **({"service.name": name} if name else {})}


def _pairs(text: str) -> dict[str, str]:
    """Read ``name=value,name=value``, in which values may be percent-encoded. What is no such pair is left out."""
    pairs = (part.partition("=") for part in text.split(","))
    return {name.strip(): unquote(value.strip()) for name, sign, value in pairs if sign and name.strip()}


def _signal(environ: Mapping[str, str], signal: Signal, endpoint: str) -> tuple[Exporter, str]:
    """Return the exporter of a signal, and where it sends to."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    own = _text(environ, f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    exporter = _text(environ, name) or ("otlp" if endpoint or own else "none")
    if exporter not in get_args(Exporter):
        raise SettingsError(f"{name} is {exporter!r}: name one of {', '.join(get_args(Exporter))}.")
    if exporter != "otlp":
        return cast("Exporter", exporter), ""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = _text(environ, variable) or "http/protobuf"
        if protocol != "http/protobuf":
            raise SettingsError(f"{variable} is {protocol!r}: firelaunch sends http/protobuf. Set it to that.")
    address = own or f"{(endpoint or 'http://localhost:4318').rstrip('/')}/v1/{signal}"
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"OTLP over HTTP needs an address that begins with http:// or https://, not {address!r}.")
    return "otlp", address


def _sampler(environ: Mapping[str, str], sample: float) -> Sampler:
    """Return the sampler of the environment. Without one all callers' traces are sampled alike, by ``sample``.

    OpenTelemetry's own default follows the caller. On Cloud Run that is Google's front end, which decides against most
    traces (https://cloud.google.com/run/docs/trace).
    """
    name = _text(environ, "OTEL_TRACES_SAMPLER")
    if not name:
        return Sampler(sample)
    if name not in _SAMPLERS:
        raise SettingsError(f"OTEL_TRACES_SAMPLER is {name!r}: name one of {', '.join(_SAMPLERS)}.")
    follows = name.startswith("parentbased_")
    kind = name.removeprefix("parentbased_")
    ratio = _number(environ, "OTEL_TRACES_SAMPLER_ARG", 1.0) if kind == "traceidratio" else float(kind == "always_on")
    if not 0 <= ratio <= 1:
        raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG is {ratio}: write a share from 0 to 1.")
    return Sampler(ratio, follows)


def _text(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _flag(environ: Mapping[str, str], name: str) -> bool:
    return _text(environ, name).lower() == "true"


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = _text(environ, name)
    try:
        number = float(text) if text else default
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e12:
        raise SettingsError(f"{name} is {text!r}: write a number.")
    return number
