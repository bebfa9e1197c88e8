"""The names of spans, attributes and metrics.

Those that begin with ``gen_ai.`` are of OpenTelemetry's conventions for generative AI, version 0.1.0, which are all in
development (https://github.com/open-telemetry/semantic-conventions-genai). Those for HTTP, errors and databases are of
the general conventions, version 1.44.0 (https://github.com/open-telemetry/semantic-conventions). Those that begin with
``firelaunch.`` are our own. No other module has a name of a convention, so a new version changes this file alone.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "APP",
    "BATCH_SIZE",
    "CACHE_READ_TOKENS",
    "CACHE_WRITE_TOKENS",
    "CHAT",
    "COLLECTION",
    "CONVERSATION",
    "COST",
    "COST_DOLLARS",
    "DB_OPERATION",
    "EMBEDDINGS",
    "EMBEDDINGS_DURATION",
    "EMBEDDINGS_TOKENS",
    "ERROR",
    "EVENT",
    "EVENT_DEAD_JOB",
    "EVENT_SETTLED",
    "EXECUTE_TOOL",
    "FINISH_REASONS",
    "FIRST_CHUNK",
    "GENAI_VERSION",
    "HTTP_DURATION",
    "INFERENCE_DURATION",
    "INFERENCE_FIRST_CHUNK",
    "INPUT_MESSAGES",
    "INPUT_TOKENS",
    "JOB_ATTEMPT",
    "JOB_DURATION",
    "JOB_ID",
    "JOB_KIND",
    "JOB_OUTCOME",
    "METHOD",
    "MODALITY",
    "MODEL",
    "OPERATION",
    "OUTPUT_MESSAGES",
    "OUTPUT_TOKENS",
    "PASSAGES",
    "PROMPT",
    "PROVIDER",
    "PROVIDERS",
    "PURPOSE",
    "REASONING_TOKENS",
    "REQUEST",
    "RERANK",
    "RETRIEVAL",
    "ROUTE",
    "SCHEMA_URL",
    "SEARCH_MODE",
    "SPENT",
    "STATUS",
    "STEP",
    "STREAM",
    "TOOL_ARGUMENTS",
    "TOOL_CALL",
    "TOOL_DURATION",
    "TOOL_NAME",
    "TOOL_RESULT",
    "TOOL_TYPE",
    "USED_CACHE_READ",
    "USED_CACHE_WRITE",
    "USED_INPUT",
    "USED_OUTPUT",
    "USED_REASONING",
]

GENAI_VERSION: Final = "0.1.0"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""Of the general conventions: those for generative AI have published no schema yet."""

# General conventions.
METHOD: Final = "http.request.method"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
ERROR: Final = "error.type"
DB_OPERATION: Final = "db.operation.name"
COLLECTION: Final = "db.collection.name"
BATCH_SIZE: Final = "db.operation.batch.size"
HTTP_DURATION: Final = "http.server.request.duration"

# Generative AI: spans.
OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"
EXECUTE_TOOL: Final = "execute_tool"
RETRIEVAL: Final = "retrieval"
RERANK: Final = "rerank"
"""Not of the conventions, which have no name for it."""
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
STREAM: Final = "gen_ai.request.stream"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
CONVERSATION: Final = "gen_ai.conversation.id"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL: Final = "gen_ai.tool.call.id"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"

PROVIDERS: Final = {"vertex": "gcp.vertex_ai", "claude": "anthropic"}
"""The convention's names of our providers, where they differ."""

# Generative AI: metrics.
INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
INFERENCE_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
USED_INPUT: Final = "gen_ai.client.inference.usage.input_tokens"
USED_OUTPUT: Final = "gen_ai.client.inference.usage.output_tokens"
USED_CACHE_READ: Final = "gen_ai.client.inference.usage.cache_read.input_tokens"
USED_CACHE_WRITE: Final = "gen_ai.client.inference.usage.cache_write.input_tokens"
USED_REASONING: Final = "gen_ai.client.inference.usage.reasoning.output_tokens"
MODALITY: Final = "gen_ai.token.modality"
EMBEDDINGS_DURATION: Final = "gen_ai.client.embeddings.duration"
EMBEDDINGS_TOKENS: Final = "gen_ai.client.embeddings.operation.input_tokens"
TOOL_DURATION: Final = "gen_ai.execute_tool.duration"

# Our own.
COST: Final = "firelaunch.cost.micro_usd"
"""The call's cost in the ledger, in micro-dollars."""

COST_DOLLARS: Final = "gen_ai.usage.cost"
"""The call's cost in dollars. No convention has it; Langfuse reads it (https://langfuse.com/integrations/native/opentelemetry)."""

SPENT: Final = "firelaunch.cost"
"""Counter of micro-dollars."""

APP: Final = "firelaunch.app"
REQUEST: Final = "firelaunch.request.id"
PURPOSE: Final = "firelaunch.purpose"
PROMPT: Final = "firelaunch.prompt"
STEP: Final = "firelaunch.step"
PASSAGES: Final = "firelaunch.retrieval.passages"
SEARCH_MODE: Final = "firelaunch.retrieval.mode"
JOB_ID: Final = "firelaunch.job.id"
JOB_KIND: Final = "firelaunch.job.kind"
JOB_ATTEMPT: Final = "firelaunch.job.attempt"
JOB_OUTCOME: Final = "firelaunch.job.outcome"
JOB_DURATION: Final = "firelaunch.job.duration"

# Fields of log lines, by which a deploy's alerts find them.
EVENT: Final = "event"
EVENT_SETTLED: Final = "request_settled"
"""A request was settled: ``kind``, ``outcome``, ``error``, ``cost_micro_usd``, ``total_ms``, and ``first_token_ms`` of
an answer that was streamed."""

EVENT_DEAD_JOB: Final = "job_dead"
"""A job is dead: ``kind``."""
