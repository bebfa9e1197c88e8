"""The telemetry of a served app: one trace for all that a request causes, and nothing if nobody asked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from firelaunch.telemetry import names
from firelaunch.testing.collector import OtlpCollector, ReceivedSpan
from firelaunch.testing.models import Fault, ModelServer, Reply
from support import PYTHON, Server, clean_environ, copy_template
from test_relay import change_workflow, wait_until

HAS_A_TOOL = """
def answer(turn):
    def weather(city: str) -> str:
        \"\"\"Look up the weather.\"\"\"
        return f"SECRET-RESULT of {city}"

    turn.passages
    yield from turn.llm.stream([{"role": "user", "content": turn.text}], tools=[weather])
"""


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as made:
        yield made


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as made:
        yield made


@pytest.fixture
def priced(tmp_path: Path) -> Path:
    """The template's app, whose workflow has a tool, and whose answers are followed by a job."""
    folder = copy_template(tmp_path / "my-app")
    change_workflow(folder, HAS_A_TOOL)
    settings = folder / "firelaunch.toml"
    settings.write_text(settings.read_text() + "\n[after_turn]\ntitles = true\n")
    return folder


def start(serve: Callable[..., Server], folder: Path, models: ModelServer, **environ: str) -> Server:
    return serve(folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=models.base_url, **environ)


def child_names(spans: list[ReceivedSpan], parent: ReceivedSpan) -> list[str]:
    return [span.name for span in spans if span.parent == parent.id]


def named(spans: list[ReceivedSpan], name: str) -> ReceivedSpan:
    (found,) = (span for span in spans if span.name == name)
    return found


CALLS_A_TOOL = Reply(calls=[("weather", json.dumps({"city": "SECRET-CITY"}))], usage=(100, 40, 7))
ANSWERS = Reply(words=("SECRET", " words"), usage=(200, 0, 5))


def test_a_turn_with_documents_a_tool_and_a_job_is_one_trace_whose_costs_are_the_ledgers(
    priced: Path, serve: Callable[..., Server], collector: OtlpCollector, models: ModelServer
) -> None:
    server = start(serve, priced, models, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    ada = server.sign_in("ada")
    chat = ada.new_chat()
    files = {"file": ("llamas.md", b"# Llamas\n\nSECRET-DOCUMENT: llamas eat grass.")}
    document = ada.client.post("/v1/uploads", headers=ada.headers, files=files).json()["id"]
    wait_until(lambda: ada.call("GET", f"/v1/documents/{document}").json()["status"] == "ready")
    models.script = [Fault(500), CALLS_A_TOOL, ANSWERS]
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    told = ada.send(
        chat,
        "SECRET-QUESTION: what do llamas eat?",
        Accept="text/event-stream",
        traceparent=f"00-{trace}-00f067aa0ba902b7-01",
    )
    assert "event: done" in told.text
    collector.wait_for(lambda: any(span.kind == "server" for span in collector.trace(trace)))
    request = named(collector.trace(trace), "POST /v1/chats/<id>/messages")
    assert (request.parent, request.kind) == ("00f067aa0ba902b7", "server")
    collector.wait_for(lambda: any(span.name == "job title" for span in collector.trace(trace)))
    spans = collector.trace(trace)
    assert sorted(child_names(spans, request)) == sorted(
        [
            "admission",
            "retrieval",
            "chat gpt-6.1-terra",
            "chat gpt-6.1-terra",
            "execute_tool weather",
            "chat gpt-6.1-terra",
            "commit",
            "job title",
        ]
    )
    assert child_names(spans, named(spans, "admission")) == ["read", "commit"]
    assert named(spans, "retrieval").attributes[names.PASSAGES] == 1
    failed, first, second = (span for span in spans if span.name == "chat gpt-6.1-terra")
    assert (failed.failed, failed.attributes[names.ERROR]) == (True, "model_unavailable")
    assert first.attributes | {names.FIRST_CHUNK: 0} == {
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.MODEL: "gpt-6.1-terra",
        names.STREAM: True,
        names.FIRST_CHUNK: 0,
        names.FINISH_REASONS: ["tool_calls"],
        names.INPUT_TOKENS: 100,
        names.CACHE_READ_TOKENS: 40,
        names.OUTPUT_TOKENS: 7,
        names.COST: first.attributes[names.COST],
        names.COST_DOLLARS: first.attributes[names.COST] / 1_000_000,
        names.PURPOSE: "turn",
        names.STEP: 1,
    }
    assert second.attributes[names.STEP] == 2
    job = named(spans, "job title")
    assert job.attributes[names.JOB_OUTCOME] == "succeeded"
    assert [name for name in child_names(spans, job) if name.startswith("chat ")] == ["chat gpt-6-luna"]
    wait_until(lambda: ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
    charged = ada.call("GET", "/v1/usage").json()["cost_micro_usd"]
    assert sum(span.attributes.get(names.COST, 0) for span in spans) == charged > 0
    everything = json.dumps([[span.name, span.attributes, span.resource] for span in collector.spans], default=str)
    assert "SECRET" not in everything
    assert "ada" not in everything.split('"')
    assert collector.refused == []


def test_contents_are_sent_if_asked_for(
    priced: Path, serve: Callable[..., Server], collector: OtlpCollector, models: ModelServer
) -> None:
    environ = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true", "OTEL_METRICS_EXPORTER": "none"}
    server = start(serve, priced, models, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **environ)
    ada = server.sign_in("ada")
    models.script = [CALLS_A_TOOL, ANSWERS]
    ada.send(ada.new_chat(), "SECRET-QUESTION")
    collector.wait_for(
        lambda: any(span.attributes.get(names.ROUTE, "").endswith("messages") for span in collector.spans)
    )
    tool = named(collector.spans, "execute_tool weather")
    assert json.loads(tool.attributes[names.TOOL_ARGUMENTS]) == {"city": "SECRET-CITY"}
    assert json.loads(tool.attributes[names.TOOL_RESULT]) == "SECRET-RESULT of SECRET-CITY"
    asked, answered = (span for span in collector.spans if span.name == "chat gpt-6.1-terra")
    assert json.loads(asked.attributes[names.INPUT_MESSAGES])[-1] == {
        "role": "user",
        "parts": [{"type": "text", "content": "SECRET-QUESTION"}],
    }
    assert json.loads(answered.attributes[names.OUTPUT_MESSAGES])[0]["parts"][0]["content"] == "SECRET words"


def test_the_metrics_have_the_tokens_the_costs_and_the_durations(
    priced: Path, serve: Callable[..., Server], collector: OtlpCollector, models: ModelServer
) -> None:
    environ = {"OTEL_TRACES_SAMPLER": "always_off"}
    server = start(serve, priced, models, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **environ)
    ada = server.sign_in("ada")
    models.script = [CALLS_A_TOOL, ANSWERS]
    ada.send(ada.new_chat(), "What?")
    charged = ada.call("GET", "/v1/usage").json()["cost_micro_usd"]
    server.process.terminate()
    server.process.wait(30)
    assert collector.spans == []
    points = collector.metrics
    assert sum(value for _, value in points[names.SPENT]) >= charged > 0
    terra = [(labels, value) for labels, value in points[names.USED_INPUT] if labels[names.MODEL] == "gpt-6.1-terra"]
    assert [value for _, value in terra] == [300]
    assert points[names.USED_CACHE_READ][0][1] == 40
    assert points[names.TOOL_DURATION][0][0][names.TOOL_NAME] == "weather"
    ((labels, (count, _)),) = [
        (labels, value) for labels, value in points[names.INFERENCE_DURATION] if labels[names.MODEL] == "gpt-6.1-terra"
    ]
    assert count == 2
    assert labels[names.PROVIDER] == "openai"
    routes = {labels[names.ROUTE] for labels, _ in points[names.HTTP_DURATION]}
    assert "/v1/chats/<id>/messages" in routes


def test_a_collector_that_hangs_delays_no_answer_and_fails_none(
    priced: Path, serve: Callable[..., Server], models: ModelServer
) -> None:
    with OtlpCollector(seconds=600) as collector:
        server = start(serve, priced, models, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        ada = server.sign_in("ada")
        chat = ada.new_chat()
        for _ in range(20):
            assert ada.send(chat, "Hello").status_code == 200
        assert collector.spans == []
        assert "Traceback" not in server.log.read_text()


def test_the_console_prints_a_trace_as_a_tree(priced: Path, serve: Callable[..., Server], models: ModelServer) -> None:
    server = start(serve, priced, models, OTEL_TRACES_EXPORTER="console")
    ada = server.sign_in("ada")
    models.script = [CALLS_A_TOOL, ANSWERS]
    ada.send(ada.new_chat(), "Hello")
    wait_until(lambda: "POST /v1/chats/<id>/messages  " in server.log.read_text())
    lines = server.log.read_text().splitlines()
    began = next(number for number, line in enumerate(lines) if "POST /v1/chats/<id>/messages  " in line)
    shown = [line.split("  ms")[0].rstrip() for line in lines[began - 1 : began + 8]]
    assert shown[0].startswith("trace ")
    assert shown[1].startswith("  POST /v1/chats/<id>/messages ")
    assert "status_code=200" in shown[1]
    assert shown[2].startswith("    admission ")
    assert shown[3].startswith("      read ")
    assert any(line.startswith("    execute_tool weather ") for line in shown)
    assert any(line.startswith("    chat gpt-6.1-terra ") and "micro_usd=" in line for line in shown)


def test_without_a_variable_nothing_of_telemetry_is_imported(app_folder: Path) -> None:
    code = (
        "import sys; from app import create_app; app = create_app(); "
        "c = app.test_client(); t = c.post('/dev/token', json={'uid': 'a'}).get_json()['token']; "
        "h = {'Authorization': 'Bearer ' + t}; chat = c.post('/v1/chats', json={}, headers=h).get_json()['id']; "
        "assert c.post(f'/v1/chats/{chat}/messages', json={'text': 'x'}, headers=h).status_code == 200; "
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=app_folder, env=clean_environ(), capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "firelaunch.telemetry.spans" in loaded
    unwanted = {"otlp", "outbox", "sinks", "console"}
    assert not loaded & {f"firelaunch.telemetry.{name}" for name in unwanted}
    assert not {name for name in loaded if name.partition(".")[0] == "opentelemetry"}
