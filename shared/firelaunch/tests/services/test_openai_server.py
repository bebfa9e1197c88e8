"""Another server in OpenAI's place gets its query string and its key as it expects them, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable

from firelaunch.llm.moderation import OpenAIModeration
from firelaunch.rag.embed.openai_compatible import OpenAIEmbeddings
from firelaunch.server.app import App
from firelaunch.settings.openai_server import OpenAIServer
from firelaunch.testing.apps import SETTINGS, sign_in
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from firelaunch.testing.http import JsonServer
from firelaunch.testing.models import ModelServer


class Echo(JsonServer):
    """Answers as the moderation does."""

    def answer(self, path: str, body: object) -> object:  # noqa: ARG002 - of the base
        """Flag nothing."""
        return {"id": "modr", "model": "m", "results": [{"flagged": False}]}


def check_key(headers: dict[str, str]) -> None:
    assert headers["api-key"] == "the-key"
    assert "authorization" not in headers


def test_an_apps_own_server_gets_its_query_string_and_its_key_in_its_header(
    make_app: Callable[..., App], model: ModelServer
) -> None:
    """Azure's way: the settings name it, and the key is the environment's."""
    named = f'[models.openai]\nbase_url = "{model.base_url}/?api-version=1"\napi_key_header = "api-key"\n'
    app = make_app(SETTINGS.replace("[models.openai]\n", named), OPENAI_API_KEY="the-key")
    ada = sign_in(app, "ada")
    assert ada.send(ada.new_chat(), "Hello?").status_code == 200
    assert model.paths == ["/v1/chat/completions?api-version=1"]
    check_key(model.headers[0])


def test_so_do_embeddings() -> None:
    class Azure(OpenAIEmbeddingServer):
        def answer(self, path: str, body: object) -> object:
            return super().answer(path.removesuffix("?api-version=1"), body)

    with Azure() as server:
        azure = OpenAIServer(f"{server.base_url}/?api-version=1", "api-key")
        assert len(OpenAIEmbeddings("m", "the-key", azure).request(["a"], query=False, seconds=5).vectors) == 1
        assert server.requests[0][0] == "v1/embeddings?api-version=1"
        check_key(dict(server.headers[0]))


def test_so_does_moderation() -> None:
    with Echo() as server:
        OpenAIModeration("the-key", OpenAIServer(f"{server.url}/v1?api-version=1", "api-key"))("tea")
        assert server.requests[0][0] == "v1/moderations?api-version=1"
        check_key(dict(server.headers[0]))
