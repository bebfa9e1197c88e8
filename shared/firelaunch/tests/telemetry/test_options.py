"""OpenTelemetry's variables switch telemetry on and off, and a value that cannot work ends the start."""

from __future__ import annotations

import pytest
from firelaunch.errors import SettingsError
from firelaunch.telemetry.options import Sampler, read_options
from firelaunch.telemetry.spans import Parent
from hypothesis import given
from hypothesis import strategies as st

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_RESOURCE_ATTRIBUTES": "a=b"},
        {ENDPOINT: ""},
        {ENDPOINT: "http://localhost:4318", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_telemetry_is_off_unless_an_endpoint_or_an_exporter_is_named(environ: dict[str, str]) -> None:
    assert read_options(environ) is None


def test_an_endpoint_takes_traces_and_metrics_below_it() -> None:
    options = read_options({ENDPOINT: "https://collector.example/otlp/"})
    assert options is not None
    assert (options.traces, options.metrics) == ("otlp", "otlp")
    assert options.traces_connection.endpoint == "https://collector.example/otlp/v1/traces"
    assert options.metrics_endpoint == "https://collector.example/otlp/v1/metrics"
    assert options.content is False


def test_an_endpoint_of_traces_alone_takes_no_metrics_and_is_taken_as_it_is() -> None:
    options = read_options({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://here:1/mine"})
    assert options is not None
    assert (options.traces_connection.endpoint, options.metrics) == ("http://here:1/mine", "none")


def test_the_settings_hold_where_no_variable_says_otherwise() -> None:
    options = read_options({}, "https://telemetry.googleapis.com", 0.25, content=True)
    assert options is not None
    assert (options.traces_connection.endpoint, options.sampler) == (
        "https://telemetry.googleapis.com/v1/traces",
        Sampler(0.25),
    )
    assert options.content is True
    environ = {ENDPOINT: "http://here", "OTEL_TRACES_SAMPLER": "always_on"}
    environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "false"
    options = read_options(environ, "https://telemetry.googleapis.com", 0.25, content=True)
    assert options is not None
    assert (options.traces_connection.endpoint, options.sampler, options.content) == (
        "http://here/v1/traces",
        Sampler(),
        False,
    )


def test_headers_and_attributes_are_pairs_whose_values_may_be_percent_encoded() -> None:
    environ = {
        ENDPOINT: "http://here",
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20cGs6c2s=, x-other = 1 ,nonsense,=none",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "3",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=staging",
        "OTEL_SERVICE_NAME": "mine",
    }
    options = read_options(environ)
    assert options is not None
    connection = options.traces_connection
    assert connection.headers == {"Authorization": "Basic cGs6c2s=", "x-other": "1"}
    assert (connection.seconds, connection.gzip) == (3.0, True)
    assert options.resource == {"service.name": "mine", "deployment.environment.name": "staging"}
    assert "cGs6c2s" not in repr(options)


@pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("0.5", 0.5), ("2500", 2.5)])
def test_a_timeout_is_in_seconds_as_in_python_or_in_milliseconds_as_specified(text: str, seconds: float) -> None:
    options = read_options({ENDPOINT: "http://here", "OTEL_EXPORTER_OTLP_TIMEOUT": text})
    assert options is not None
    assert options.traces_connection.seconds == seconds


def test_the_console_needs_no_endpoint() -> None:
    options = read_options({"OTEL_TRACES_EXPORTER": "console"})
    assert options is not None
    assert (options.traces, options.metrics) == ("console", "none")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "lots"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "nan"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        (ENDPOINT, "collector:4318"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    environ = {ENDPOINT: "http://here", "OTEL_TRACES_SAMPLER": "traceidratio", name: value}
    with pytest.raises(SettingsError, match=value if name == ENDPOINT else name):
        read_options(environ)


IDS = st.integers(min_value=1, max_value=2**128 - 1)


@given(IDS, st.booleans(), st.sampled_from(["always_on", "always_off", "traceidratio"]), st.floats(0, 1))
def test_a_sampler_decides_by_the_trace_or_by_the_caller(trace: int, flag: bool, name: str, ratio: float) -> None:
    environ = {ENDPOINT: "http://here", "OTEL_TRACES_SAMPLER_ARG": repr(ratio)}
    caller = Parent(trace, 1, flag)
    plain = read_options({**environ, "OTEL_TRACES_SAMPLER": name})
    following = read_options({**environ, "OTEL_TRACES_SAMPLER": f"parentbased_{name}"})
    assert plain is not None
    assert following is not None
    expected = {"always_on": True, "always_off": False}.get(name, trace % 2**64 < round(ratio * 2**64))
    assert plain.sampler.samples(trace, caller) is plain.sampler.samples(trace, None) is expected
    assert following.sampler.samples(trace, None) is expected
    assert following.sampler.samples(trace, caller) is flag
