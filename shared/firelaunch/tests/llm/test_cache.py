"""The cache of answers: who gets which, what a hit costs, how much is kept, and that equal questions are asked once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from firelaunch.errors import ModelError, ModelTimeout, ModelUnavailable
from firelaunch.llm.cache import AnswerCache, BoundedCache
from firelaunch.llm.cache_key import answer_key
from firelaunch.llm.types import Chunk, Shape
from firelaunch.scope import Scope
from firelaunch.testing.apps import SETTINGS, User, events, sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn
from hypothesis import given
from hypothesis import strategies as st

CACHED = SETTINGS + "\n[cache]\nanswers = true\n"

WORDS = st.sampled_from(["a", "ab", "b", "", '"', "a\n", "ä"])
UIDS = st.sampled_from(["ada", "bob", "a", '"', "None", "null"])
QUESTIONS = st.tuples(
    st.sampled_from([("demo", None), ("demo-b", None)]) | st.tuples(st.sampled_from(["demo", "demo-b"]), UIDS),
    st.sampled_from(["openai", "vertex"]),
    st.sampled_from(["m", "m2"]),
    st.lists(st.tuples(st.sampled_from(["user", "system"]), WORDS), max_size=3).map(tuple),
    st.sampled_from([1, 10]),
    st.sampled_from([None, 0.0, 1.0]),
    st.sampled_from([None, "a", "b"]),
)


def key_of(question: Any) -> str:
    (app_id, uid), provider, model, messages, most, heat, form = question
    shape = None if form is None else Shape(form, {"title": form}, {})
    asked: Any = [{"role": role, "content": content} for role, content in messages]
    return answer_key(Scope(app_id, uid), provider, model, asked, most, heat, shape)


@given(one=QUESTIONS, other=QUESTIONS)
def test_two_questions_have_one_key_only_when_all_of_them_is_the_same_and_their_owner_too(one: Any, other: Any) -> None:
    assert (key_of(one) == key_of(other)) is (one == other)


@given(texts=st.lists(st.text(max_size=5), min_size=1, max_size=3), uids=st.lists(UIDS, min_size=2, max_size=2))
def test_no_two_owners_ever_share_a_key(texts: list[str], uids: list[str]) -> None:
    messages: Any = [{"role": "user", "content": text} for text in texts]
    scopes = {Scope(app, uid) for app in ("demo", "demo-b") for uid in [*uids, None]}
    keys = {answer_key(scope, "openai", "m", messages, 1, None, None) for scope in scopes}
    assert len(keys) == len(scopes)


def ask_alone(turn: Turn) -> Iterator[Chunk]:
    """A workflow whose prompt is the message alone, shared by all where the message says so."""
    reuse: Any = turn.text.split()[0] if turn.text.split()[0] in {"app", "never"} else "owner"
    yield from turn.llm.stream([{"role": "user", "content": turn.text}], reuse=reuse)


def cached_app(make_app: Any, model: ModelServer, settings: str = CACHED) -> Any:
    return make_app(settings, answer=ask_alone, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)


def say(user: User, text: str) -> Any:
    return user.send(user.new_chat(), text).get_json()


def test_the_same_question_of_the_same_user_is_answered_again_for_nothing_and_says_so(
    make_app: Any, model: ModelServer
) -> None:
    app = cached_app(make_app, model)
    ada = sign_in(app, "ada")
    first, second = say(ada, "Hello"), say(ada, "Hello")
    assert second["message"]["text"] == first["message"]["text"] == "Hello from the model."
    assert (first["usage"]["cached"], second["usage"]["cached"]) == (False, True)
    assert (second["usage"]["cost_micro_usd"], second["usage"]["input_tokens"]) == (0, 0)
    assert second["usage"]["model"] == first["usage"]["model"]
    usage = ada.get("/v1/usage").get_json()
    assert (usage["requests"], usage["cost_micro_usd"]) == (2, first["usage"]["cost_micro_usd"])
    assert usage["reserved_micro_usd"] == 0
    record = app.services.store.get(app.services.store.scope.request(second["request_id"])).data
    assert record["usage"]["cached"] is True
    streamed = list(events(ada.stream(ada.new_chat(), "Hello")))
    assert [name for name, _ in streamed] == ["start", "delta", "done"]
    assert streamed[-1][1]["usage"]["cached"] is True
    assert len(model.requests) == 1


def test_no_other_user_is_given_it_unless_the_workflow_says_that_the_prompt_is_shared(
    make_app: Any, model: ModelServer
) -> None:
    app = cached_app(make_app, model)
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    for user in (ada, bob):
        assert say(user, "Hello")["usage"]["cached"] is False
    assert [say(user, "app news")["usage"]["cached"] for user in (ada, bob)] == [False, True]
    assert [say(ada, "never again")["usage"]["cached"] for _ in range(2)] == [False, False]


def test_it_is_off_unless_the_settings_turn_it_on(make_app: Any, model: ModelServer) -> None:
    ada = sign_in(cached_app(make_app, model, SETTINGS), "ada")
    assert [say(ada, "Hello")["usage"]["cached"] for _ in range(2)] == [False, False]
    assert len(model.requests) == 2


@pytest.mark.parametrize("reply", [Reply(finish="length"), Reply(["Sorry."], refusal=True), Reply([], finish="length")])
def test_an_answer_that_was_cut_refused_or_empty_is_not_kept(make_app: Any, model: ModelServer, reply: Reply) -> None:
    ada = sign_in(cached_app(make_app, model), "ada")
    model.script = [reply]
    ada.send(ada.new_chat(), "Hello")
    assert say(ada, "Hello")["usage"]["cached"] is False


def test_an_answer_that_broke_off_or_was_left_or_came_from_a_fallback_is_not_kept(
    make_app: Any, model: ModelServer
) -> None:
    settings = CACHED.replace("[limits]", '[limits]\non_disconnect = "stop"')
    ada = sign_in(cached_app(make_app, model, settings), "ada")
    model.script = [Reply(cut_after=2)]
    list(events(ada.stream(ada.new_chat(), "Hello")))
    left = ada.stream(ada.new_chat(), "Hello")
    next(events(left))
    left.close()
    model.script = [Fault(401)]
    assert say(ada, "Hello")["message"]["model"] == "gpt-5-mini"
    asked = len(model.requests)
    assert say(ada, "Hello")["usage"]["cached"] is False
    assert len(model.requests) == asked + 1


def test_an_extraction_is_kept_when_it_fits_and_asked_again_when_it_did_not(make_app: Any, model: ModelServer) -> None:
    ada = sign_in(cached_app(make_app, model), "ada")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = {"text": "Five.", "schema": schema}
    bad, good = Reply(["{}"]), Reply([json.dumps({"n": 5})])
    model.script = [bad, bad, bad, good]
    assert ada.post("/v1/extract", body).status_code == 502
    assert ada.post("/v1/extract", body).get_json()["data"] == {"n": 5}
    assert len(model.requests) == 4
    model.script = [good]
    assert ada.post("/v1/extract", body).get_json()["usage"]["cached"] is False
    again = ada.post("/v1/extract", body).get_json()
    assert (again["data"], again["usage"]["cached"], again["usage"]["cost_micro_usd"]) == ({"n": 5}, True, 0)
    assert len(model.requests) == 5


def test_equal_questions_at_the_same_time_are_asked_once(make_app: Any, model: ModelServer) -> None:
    model.default = Reply(pace=0.1)
    app = cached_app(make_app, model)
    users = [sign_in(app, "ada") for _ in range(8)]
    chats = [user.new_chat() for user in users]
    answers: list[Any] = []

    def run(user: User, chat: str) -> None:
        answers.append(user.send(chat, "Hello").get_json())

    threads = [threading.Thread(target=run, args=pair) for pair in zip(users, chats, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer["message"]["text"] for answer in answers} == {"Hello from the model."}
    assert sorted(answer["usage"]["cached"] for answer in answers) == [False] + [True] * 7
    assert len(model.requests) == 1


class Asked:
    """A question whose answer the test lets go on."""

    def __init__(self, error: ModelError | None = None) -> None:
        self.calls = 0
        self.hits = 0
        self.go_on = threading.Event()
        self._error = error

    def ask(self) -> Iterator[Chunk]:
        self.calls += 1
        yield Chunk("Hel")
        assert self.go_on.wait(10)
        if self._error is not None:
            raise self._error
        yield Chunk("lo", finish="stop")

    def hit(self) -> None:
        self.hits += 1

    def through(self, cache: AnswerCache, tick: Callable[[], None] = lambda: None) -> Iterator[Chunk]:
        return cache.answer("key", self.ask, hit=self.hit, tick=tick)


def time_is_up() -> None:
    raise ModelTimeout


def text_of(chunks: Iterator[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_who_waits_for_anothers_answer_waits_no_longer_than_the_request_may() -> None:
    cache, asked = AnswerCache(60, 10, 100_000), Asked()
    first = asked.through(cache)
    next(first)
    with pytest.raises(ModelTimeout):
        text_of(asked.through(cache, time_is_up))
    asked.go_on.set()
    assert text_of(first) == "lo"
    assert text_of(asked.through(cache)) == "Hello"
    assert (asked.calls, asked.hits) == (1, 1)


@pytest.mark.parametrize("ending", ["fails", "is left"])
def test_when_the_first_one_fails_or_is_left_the_others_ask_for_themselves(ending: str) -> None:
    cache = AnswerCache(60, 10, 100_000)
    failing, other = Asked(ModelUnavailable()), Asked()
    other.go_on.set()
    first = failing.through(cache)
    next(first)
    said: list[str] = []
    waiting = [threading.Thread(target=lambda: said.append(text_of(other.through(cache)))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    if ending == "fails":
        failing.go_on.set()
        with pytest.raises(ModelUnavailable):
            list(first)
    else:
        first.close()  # type: ignore[attr-defined]
    for thread in waiting:
        thread.join(10)
    assert said == ["Hello"] * 3
    assert failing.calls == 1


def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    now = [0.0]
    cache, asked = AnswerCache(60, 10, 100_000, lambda: now[0]), Asked()
    asked.go_on.set()
    for now[0], calls in ((0.0, 1), (59.0, 1), (61.0, 2)):
        text_of(asked.through(cache))
        assert asked.calls == calls


@given(sizes=st.lists(st.integers(0, 40_000), max_size=60), entries=st.integers(1, 10))
def test_no_more_is_kept_than_the_bounds_say(sizes: list[int], entries: int) -> None:
    cache: BoundedCache[int] = BoundedCache(60, entries, 65_536)
    for number, size in enumerate(sizes):
        cache.put(str(number), size, size)
        assert len(cache) <= entries
        assert sum(kept for n in range(number + 1) if (kept := cache.get(str(n))) is not None) <= 65_536
    if sizes:
        assert cache.get(str(len(sizes) - 1)) == sizes[-1]


def test_what_is_larger_than_all_the_room_is_not_kept_and_pushes_nothing_out() -> None:
    cache: BoundedCache[int] = BoundedCache(60, 10, 65_536)
    cache.put("a", 1, 10)
    cache.put("b", 2, 70_000)
    assert (cache.get("a"), cache.get("b")) == (1, None)
