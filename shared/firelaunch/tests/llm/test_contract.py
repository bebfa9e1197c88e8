"""What holds for every provider: OpenAI, Gemini, and Claude by key and on Vertex AI, each against its own fake."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from firelaunch.errors import AnswerFiltered, ModelError, ModelRefused, ModelUnavailable, OutputLimitReached
from firelaunch.llm.attachments import Attachment, takes_of
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.claude import ClaudeProvider, ClaudeWithKey
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.providers.openai_responses import OpenAIResponsesProvider
from firelaunch.llm.providers.vertex import vertex_provider
from firelaunch.llm.types import FinishedCall, Message, Provider, TokenCounts
from firelaunch.testing.chat_rules import openai_refusal
from firelaunch.testing.claude import ClaudeReply, ClaudeServer
from firelaunch.testing.documents import lines_of, pdf
from firelaunch.testing.gemini import GeminiReply, GeminiServer
from firelaunch.testing.http import HttpAnswer
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.testing.openai_responses import ResponsesReply, ResponsesServer
from firelaunch.testing.recordings import mp3, wav
from pydantic import BaseModel

pytest.importorskip("google.cloud.aiplatform_v1")

ASK: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Are you there?"},
]


USED = TokenCounts(10, 0, 4)
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"


class Credentials:
    valid, token = True, "token"


@dataclass(frozen=True)
class Answer:
    """What a model answers, whoever serves it. ``tokens`` counts cached ones among the prompt's."""

    words: Sequence[str] = ("Well", ", hello.")
    thoughts: str = ""
    tokens: TokenCounts = USED
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    finish: str = "stop"
    pause: float = 0.0
    cut: bool = False


class Meter:
    """The account that pays: it notes what is covered, released and spent."""

    def __init__(self, prices: Prices) -> None:
        self.prices, self.covered, self.calls = prices, 0, list[FinishedCall]()

    def cover(self, micro_usd: int) -> None:
        self.covered += micro_usd

    def release(self, micro_usd: int) -> None:
        self.covered -= micro_usd

    def spend(self, call: FinishedCall) -> None:
        assert call.micro_usd == (self.prices.cost(call.model, call.tokens) if call.charged else 0)
        assert call.micro_usd <= self.covered
        self.calls.append(call)

    def reuse(self, model: str) -> None:
        raise AssertionError(model)

    @property
    def paid(self) -> list[TokenCounts]:
        return [call.tokens for call in self.calls if call.charged]


class Served:
    """A provider, its fake, and how the fake is told what to answer."""

    def __init__(self, server: Any, provider: Provider, table: str, model: str, fallback: str) -> None:
        self.server, self.provider, self.model, self.fallback = server, provider, model, fallback
        self.prices = Prices(table, {})
        self.meter = Meter(self.prices)
        self.gateway = Gateway(provider, self.prices, [fallback], 50, 2_000, pause=lambda *_: None, jitter=lambda: 0.0)

    def will(self, *answers: Answer) -> None:
        raise NotImplementedError

    def will_fail(self, status: int, times: int) -> None:
        raise NotImplementedError

    @property
    def models_called(self) -> list[str]:
        raise NotImplementedError

    @property
    def bodies(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def session(self, *, streamed: bool) -> Any:
        return self.gateway.answering(self.meter, self.model, 30, streamed=streamed)


class OpenAI(Served):
    def will(self, *answers: Answer) -> None:
        for answer in answers:
            usage = (answer.tokens.input, answer.tokens.cached_input, answer.tokens.output)
            calls = [(name, json.dumps(arguments)) for name, arguments in answer.calls]
            self.server.script.append(
                Reply(
                    answer.words, usage, answer.pause, calls=calls, finish=answer.finish, thoughts=answer.thoughts,
                    thinking_tokens=answer.tokens.reasoning, audio_tokens=answer.tokens.audio,
                    cut_after=len(answer.words) + bool(answer.thoughts) if answer.cut else None,
                )
            )  # fmt: skip

    def will_fail(self, status: int, times: int) -> None:
        self.server.script += [Fault(status)] * times

    @property
    def models_called(self) -> list[str]:
        return self.server.models_called()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return self.server.requests


class Gemini(Served):
    def will(self, *answers: Answer) -> None:
        finishes = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
        for answer in answers:
            counts = answer.tokens
            usage = (counts.input, counts.cached_input, counts.output - counts.reasoning, counts.reasoning)
            reply = GeminiReply(
                answer.words, answer.thoughts, usage, answer.calls, finish=finishes[answer.finish], cut=answer.cut
            )
            reply = replace(reply, audio=counts.audio, cached_audio=counts.cached_audio)
            self.server.replies.append(replace(reply, pause=answer.pause))

    def will_fail(self, status: int, times: int) -> None:
        self.server.script += [HttpAnswer(status, {"error": {"code": status, "message": "no", "status": "X"}})] * times

    @property
    def models_called(self) -> list[str]:
        return [path.rpartition("/")[2].partition(":")[0] for path, _ in self.server.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.server.requests]


class Responses(Gemini):
    def will(self, *answers: Answer) -> None:
        incomplete = {"stop": "", "length": "max_output_tokens", "content_filter": "content_filter"}
        for answer in answers:
            counts = answer.tokens
            usage = (counts.input, counts.cached_input, counts.output, counts.reasoning)
            reply = ResponsesReply(answer.words, answer.thoughts, usage, answer.calls, incomplete[answer.finish])
            self.server.replies.append(replace(reply, cut=answer.cut, pause=answer.pause))

    @property
    def models_called(self) -> list[str]:
        return [body["model"] for body in self.bodies]


class Claude(Gemini):
    def will(self, *answers: Answer) -> None:
        finishes = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
        for answer in answers:
            counts = answer.tokens
            plain = counts.input - counts.cached_input - counts.cache_write
            usage = (plain, counts.cached_input, counts.cache_write, counts.output, counts.reasoning)
            reply = ClaudeReply(
                answer.words, answer.thoughts, "", usage, answer.calls, finishes[answer.finish], answer.cut
            )
            self.server.replies.append(replace(reply, pause=answer.pause))

    def will_fail(self, status: int, times: int) -> None:
        error = {"type": "error", "error": {"type": "some_error", "message": "no"}}
        self.server.script += [HttpAnswer(status, error)] * times

    @property
    def models_called(self) -> list[str]:
        return [body.get("model") or path.rpartition("/")[2].partition(":")[0] for path, body in self.server.requests]


def openai() -> Iterator[Served]:
    with ModelServer() as server:
        provider = OpenAICompatibleProvider("openai", "k", server.base_url)
        yield OpenAI(server, provider, "openai", "gpt-6-luna", "gpt-5-mini")


def openai_responses() -> Iterator[Served]:
    with ResponsesServer() as server:
        provider = OpenAIResponsesProvider("openai", "k", server.base_url)
        yield Responses(server, provider, "openai", "gpt-6-luna", "gpt-5-mini")


def gemini() -> Iterator[Served]:
    with GeminiServer() as server:
        provider = vertex_provider("p-12345", "global", Credentials(), server.url)
        yield Gemini(server, provider, "vertex", "gemini-3.5-flash", "gemini-2.5-flash")


def claude() -> Iterator[Served]:
    with ClaudeServer() as server:
        provider = ClaudeProvider("claude", ClaudeWithKey("k", server.url))
        yield Claude(server, provider, "claude", "claude-sonnet-5-5", "claude-haiku-4-5")


def claude_on_vertex() -> Iterator[Served]:
    with ClaudeServer() as server:
        provider = vertex_provider("p-12345", "global", Credentials(), server.url)
        yield Claude(server, provider, "vertex", "claude-sonnet-5-5", "claude-haiku-4-5@20251001")


@pytest.fixture(params=[openai, openai_responses, gemini, claude, claude_on_vertex], ids=lambda maker: maker.__name__)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    maker: Callable[[], Iterator[Served]] = request.param
    yield from maker()


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    answer: bool = request.param
    return answer


def said(chunks: Sequence[Any]) -> str:
    return "".join(chunk.text for chunk in chunks)


def finish_of(chunks: Sequence[Any]) -> str | None:
    return next((chunk.finish for chunk in reversed(chunks) if chunk.finish), None)


def test_a_text_arrives_with_its_finish_and_what_it_used_is_paid(served: Served, streamed: bool) -> None:
    served.will(Answer(("Caf\u00e9 ", '"\\n" ', "\U0001f375", " ", "\nend"), tokens=TokenCounts(12, 0, 7)))
    session = served.session(streamed=streamed)
    chunks = list(session.stream(ASK))
    assert said(chunks) == 'Caf\u00e9 "\\n" \U0001f375 \nend'
    assert (session.finish, served.meter.paid) == ("stop", [TokenCounts(12, 0, 7)])
    assert served.models_called == [served.model]
    assert "Be brief." in json.dumps(served.bodies[0])


def test_a_long_stream_loses_no_word(served: Served) -> None:
    words = [f"word {number} \u00e9\n" for number in range(300)]
    served.will(Answer(words))
    assert said(list(served.session(streamed=True).stream(ASK))) == "".join(words)


def test_images_of_the_message_and_of_the_history_arrive_beside_their_texts(served: Served, streamed: bool) -> None:
    first, second = Attachment("image/png", PNG + b"1"), Attachment("image/jpeg", JPEG)
    history: list[Message] = [
        {"role": "user", "content": "Look.", "attachments": [first]},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "And this?"},
    ]
    served.will(Answer())
    session = served.session(streamed=streamed)
    session.attachments = (second,)
    list(session.stream(history))
    body = json.dumps(served.bodies[0])
    places = [body.index(part) for part in ("Look.", first.base64, "Yes?", "And this?", second.base64)]
    assert sorted(places[:2]) < [places[2]] < sorted(places[3:])
    assert body.count(first.base64) == body.count(second.base64) == 1


def attachment(media_type: str, data: bytes, name: str, tokens: int = 500) -> Attachment:
    return Attachment(media_type, data, name, tokens, pages=int(media_type == "application/pdf"))


PDF = attachment("application/pdf", pdf([lines_of("A page.")]), "report")
WAV = attachment("audio/wav", wav(), "question.wav", 32)
MP3 = attachment("audio/mpeg", mp3(), "question.mp3", 43)
TEXT = attachment("text/csv", b"city,rain\nOslo,```2\n", "rain.csv")


def test_a_pdf_and_a_text_of_the_message_arrive_at_every_provider(served: Served, streamed: bool) -> None:
    served.will(Answer())
    session = served.session(streamed=streamed)
    session.attachments = (PDF, TEXT)
    assert said(list(session.stream(ASK))) == "Well, hello."
    body = json.dumps(served.bodies[0])
    assert body.count(PDF.base64) == 1
    assert json.dumps(TEXT.text)[1:-1] in body
    assert body.index("rain.csv") < body.index("Are you there?")


@pytest.mark.parametrize("recording", [WAV, MP3], ids=["wav", "mp3"])
def test_a_recording_is_paid_as_what_it_is_where_a_model_takes_it(
    served: Served, streamed: bool, recording: Attachment
) -> None:
    if not isinstance(served, OpenAI) and type(served) is not Gemini:
        pytest.skip("takes no recordings")
    used = TokenCounts(100, 40, 4, audio=32, cached_audio=0 if isinstance(served, OpenAI) else 20)
    served.will(Answer(tokens=used))
    session = served.session(streamed=streamed)
    session.attachments = (recording,)
    list(session.stream(ASK))
    assert served.meter.paid == [used]
    assert json.dumps(served.bodies[0]).count(recording.base64) == 1


def test_a_recording_of_the_history_is_left_out_where_a_model_takes_none(served: Served) -> None:
    if isinstance(served, OpenAI) or type(served) is Gemini:
        pytest.skip("takes recordings")
    takes = takes_of("vertex" if "claude" in served.model else "openai", has_audio_price=lambda _: True)
    served.gateway = replace(served.gateway, takes=takes)
    history: list[Message] = [{"role": "user", "content": "", "attachments": [WAV]}, *ASK[2:]]
    served.will(Answer())
    assert said(list(served.session(streamed=True).stream(history))) == "Well, hello."
    body = json.dumps(served.bodies[0])
    assert WAV.base64 not in body
    assert "audio, is left out" in body


def test_a_model_that_takes_a_recording_answers_in_place_of_those_that_do_not_and_goes_on_too() -> None:
    for served in openai():
        takes = takes_of("openai", has_audio_price=served.prices.has_audio)
        named = {"chat": served.model, "voice": "gpt-audio-mini"}
        served.gateway = replace(served.gateway, takes=takes, named=named)
        served.server.refusal = openai_refusal
        served.will(Answer(), Answer(), Answer())
        session = served.session(streamed=True)
        session.attachments = (WAV,)
        list(session.stream(ASK))
        session.so_far = ({"role": "assistant", "content": "Well"}, {"role": "user", "content": "Go on."})
        list(session.stream(ASK))
        list(served.session(streamed=True).stream(ASK))
        assert served.models_called == ["gpt-audio-mini", "gpt-audio-mini", served.model]
        assert len(served.meter.paid) == 3  # each within what was covered


def test_two_tools_are_called_side_by_side_and_the_model_goes_on_twice(served: Served, streamed: bool) -> None:
    def get_weather(city: str, days: int = 1) -> dict[str, Any]:
        """The weather."""
        return {"city": city, "days": days}

    calls = [("get_weather", {"city": "Oslo", "days": 2}), ("get_weather", {"city": "T\u00f8nder", "days": None})]
    served.will(Answer(("Looking.",), "I look.", calls=calls), Answer((), "Again.", calls=calls[:1]), Answer())
    chunks = list(served.session(streamed=streamed).stream(ASK, tools=[get_weather]))
    assert said(chunks) == "Looking.\n\nWell, hello."
    uses = [chunk.tool for chunk in chunks if chunk.tool is not None and chunk.tool.done]
    assert [use.output for use in uses] == [
        {"city": c, "days": d} for c, d in [("Oslo", 2), ("T\u00f8nder", 1), ("Oslo", 2)]
    ]
    assert len(served.meter.paid) == 3
    assert served.models_called == [served.model] * 3
    assert json.dumps(served.bodies[2]).count("Oslo") >= 4  # two calls and two results


def test_a_model_that_may_call_no_more_tools_answers(served: Served) -> None:
    def note(text: str) -> str:
        """Take a note."""
        return text

    served.will(Answer((), calls=[("note", {"text": "a"})]), Answer())
    assert said(list(served.session(streamed=True).stream(ASK, tools=[note], tool_steps=1))) == "Well, hello."


def test_a_structured_answer_has_its_form(served: Served) -> None:
    class Found(BaseModel):
        item: str
        count: int | None = None

    served.will(Answer(('{"item": "tea", ', '"count": null}')))
    assert served.session(streamed=False).extract(Found, ASK) == Found(item="tea")
    assert '"count"' in json.dumps(served.bodies[0])


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter"])
def test_an_answer_says_how_it_ended(served: Served, streamed: bool, finish: str) -> None:
    served.will(Answer(finish=finish))
    chunks = list(served.session(streamed=streamed).stream(ASK))
    assert (said(chunks), finish_of(chunks)) == ("Well, hello.", finish)
    assert len(served.meter.paid) == 1


@pytest.mark.parametrize(("finish", "error"), [("length", OutputLimitReached), ("content_filter", AnswerFiltered)])
def test_an_empty_answer_that_would_be_empty_again_fails_with_its_cause_and_is_paid(
    served: Served, streamed: bool, finish: str, error: type[ModelError]
) -> None:
    served.will(Answer((), finish=finish))
    with pytest.raises(error):
        list(served.session(streamed=streamed).stream(ASK))
    assert len(served.models_called) == len(served.meter.paid) == 1


def test_an_empty_answer_is_asked_for_again(served: Served, streamed: bool) -> None:
    served.will(Answer(()), Answer())
    assert said(list(served.session(streamed=streamed).stream(ASK))) == "Well, hello."
    assert len(served.meter.paid) == 2


def test_cached_tokens_are_a_part_of_the_prompts_and_cost_less(served: Served, streamed: bool) -> None:
    tokens = TokenCounts(1_000, 900, 20)
    served.will(Answer(tokens=tokens))
    list(served.session(streamed=streamed).stream(ASK))
    (call,) = served.meter.calls
    assert call.tokens == tokens
    assert call.micro_usd < served.prices.cost(served.model, TokenCounts(1_000, 0, 20))


def test_what_a_model_thinks_is_paid_and_no_part_of_the_answer(served: Served, streamed: bool) -> None:
    tokens = TokenCounts(10, 0, 340, reasoning=300)
    served.will(Answer(thoughts="Let me think.", tokens=tokens))
    assert said(list(served.session(streamed=streamed).stream(ASK))) == "Well, hello."
    assert served.meter.paid == [tokens]


def test_what_a_model_thinks_is_told_before_the_answer_where_it_is_shown(served: Served, streamed: bool) -> None:
    served.gateway = replace(served.gateway, show_thinking=True, effort=lambda _: "low")
    served.will(Answer(thoughts="Let me think."))
    chunks = list(served.session(streamed=streamed).stream(ASK))
    assert "".join(chunk.thought for chunk in chunks) == "Let me think."
    assert said(chunks) == "Well, hello."


def test_what_a_model_thinks_before_it_is_cut_off_is_paid_by_its_text(served: Served) -> None:
    served.will(Answer((), "Let me think.", cut=True), Answer())
    list(served.session(streamed=True).stream(ASK))
    first, second = served.meter.paid
    assert (first.estimated, second.estimated) == (True, False)
    assert first.output >= len("Let me think.")


@pytest.mark.parametrize(
    ("status", "tries", "elsewhere"),
    [(400, 1, False), (401, 1, True), (403, 1, True), (404, 1, True), (429, 3, True), (500, 3, True), (503, 3, True),
     (529, 3, True)],
)  # fmt: skip
def test_failures_are_those_of_the_table_and_cost_nothing(
    served: Served, streamed: bool, status: int, tries: int, elsewhere: bool
) -> None:
    served.will_fail(status, 6)
    with pytest.raises(ModelRefused if status == 400 else ModelError):
        list(served.session(streamed=streamed).stream(ASK))
    assert served.models_called == [served.model] * tries + ([served.fallback] * tries if elsewhere else [])
    assert served.meter.paid == []


def test_a_stream_that_is_cut_after_words_fails_and_the_words_are_paid(served: Served) -> None:
    served.will(Answer(cut=True))
    with pytest.raises(ModelUnavailable):
        list(served.session(streamed=True).stream(ASK))
    ((tokens),) = served.meter.paid
    assert tokens.estimated
    assert tokens.output >= len("Well, hello.")


def test_a_stream_that_is_cut_before_words_is_tried_again(served: Served) -> None:
    served.will(Answer((), cut=True), Answer())
    assert said(list(served.session(streamed=True).stream(ASK))) == "Well, hello."
    assert served.models_called == [served.model] * 2


def test_leaving_closes_the_connection_to_the_provider(served: Served) -> None:
    served.will(Answer([f"{number} " for number in range(2_000)], pause=0.01))
    stream = served.session(streamed=True).stream(ASK)
    text = next(chunk.text for chunk in stream if chunk.text)
    stream.close()
    assert text.startswith("0 ")
    until = time.monotonic() + 10
    while not served.server.hung_up and time.monotonic() < until:
        time.sleep(0.01)
    assert served.server.hung_up == 1
    ((tokens),) = served.meter.paid
    assert tokens.estimated


def test_nothing_stays_covered(served: Served) -> None:
    served.will(Answer())
    served.will_fail(500, 1)
    list(served.session(streamed=True).stream(ASK))
    assert served.meter.covered == 0
