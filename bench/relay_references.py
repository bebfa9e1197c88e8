"""The usual ways to relay a model's stream, as their documentation shows them, for ``bench/relay.py``."""

# Annotations are evaluated, as FastAPI looks up what a route takes among a module's names, and these are a function's.

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any


def fastapi_app() -> Any:
    """FastAPI with AsyncOpenAI."""
    from fastapi import FastAPI, Request
    from fastapi.responses import StreamingResponse
    from openai import AsyncOpenAI

    app, client = FastAPI(), AsyncOpenAI()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        messages = (await request.json())["messages"]

        async def events() -> AsyncIterator[str]:
            text, usage = "", None
            options: Any = {"include_usage": True}
            answer = await client.chat.completions.create(
                model=os.environ["MODEL"], messages=messages, stream=True, stream_options=options
            )
            async for chunk in answer:
                usage = chunk.usage or usage
                if chunk.choices and chunk.choices[0].delta.content:
                    text += chunk.choices[0].delta.content
                    yield f"data: {json.dumps({'text': chunk.choices[0].delta.content})}\n\n"
            used = usage.completion_tokens if usage else 0
            yield f"data: {json.dumps({'characters': len(text), 'tokens': used})}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


def flask_app() -> Any:
    """Flask with the openai package's stream."""
    from flask import Flask, Response, request
    from openai import OpenAI

    app, client = Flask("reference"), OpenAI()

    @app.post("/v1/chat/completions")
    def chat() -> Response:
        messages = request.get_json()["messages"]

        def events() -> Iterator[str]:
            text, usage = "", None
            options: Any = {"include_usage": True}
            answer = client.chat.completions.create(
                model=os.environ["MODEL"], messages=messages, stream=True, stream_options=options
            )
            for chunk in answer:
                usage = chunk.usage or usage
                if chunk.choices and chunk.choices[0].delta.content:
                    text += chunk.choices[0].delta.content
                    yield f"data: {json.dumps({'text': chunk.choices[0].delta.content})}\n\n"
            used = usage.completion_tokens if usage else 0
            yield f"data: {json.dumps({'characters': len(text), 'tokens': used})}\n\n"

        return Response(events(), mimetype="text/event-stream")

    return app
