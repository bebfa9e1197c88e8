"""Service tiers and regions have their prices."""

from __future__ import annotations

import subprocess
import sys
from decimal import ROUND_CEILING
from pathlib import Path

import pytest
from firelaunch.errors import SettingsError
from firelaunch.llm.prices import Prices
from firelaunch.llm.types import TokenCounts
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Price, Settings
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.models import ModelServer
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TieredPrices
from hypothesis import given
from hypothesis import strategies as st

USED = TokenCounts(10_000, 4_000, 1_000)
MODEL = "gpt-5.4-mini"


def tiered(tier: str, more: str = "") -> str:
    return SETTINGS.replace("[models.openai]\n", f'[models.openai]\nservice_tier = "{tier}"\n') + more


def built(folder: Path, text: str, **environ: str) -> Services:
    return build(Settings.load(write_app(folder, text), environ))


def test_flex_is_asked_for_and_costs_half(tmp_path: Path, make_app: object, model: ModelServer) -> None:
    full = Prices("openai", {}).cost(MODEL, USED)
    services = built(tmp_path, tiered("flex"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    assert services.gateway.prices.cost(MODEL, USED) == -(-full // 2)
    ada = sign_in(make_app(tiered("flex"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")  # type: ignore[operator]
    ada.send(ada.new_chat(), "Hi")
    assert model.requests[-1]["service_tier"] == "flex"


def test_no_tier_is_asked_for_by_default(make_app: object, model: ModelServer) -> None:
    ada = sign_in(make_app(OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")  # type: ignore[operator]
    ada.send(ada.new_chat(), "Hi")
    assert "service_tier" not in model.requests[-1]


def test_priority_needs_prices_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'priority', and no price of that tier is known"):
        built(tmp_path, tiered("priority"), OPENAI_API_KEY="k")
    prices = "".join(f'\n[prices."{name}"]\ninput = 2\noutput = 9\n' for name in (MODEL, "gpt-5.4-nano", "gpt-5-mini"))
    services = built(tmp_path, tiered("priority", prices), OPENAI_API_KEY="k")
    assert services.gateway.prices.cost(MODEL, TokenCounts(10, 0, 10)) == 110


@pytest.mark.parametrize(("location", "tenths"), [("global", 10), ("eu", 11), ("europe-west1", 11)])
def test_claude_on_vertex_ai_costs_a_tenth_more_outside_of_global(tmp_path: Path, location: str, tenths: int) -> None:
    models = f'location = "{location}"\nchat = "claude-sonnet-5-5"\ncheap = "gemini-3.5-flash-lite"\n'
    text = SETTINGS.replace('provider = "openai"', 'provider = "vertex"') + f"\n[models.vertex]\n{models}"
    services = built(tmp_path, text, FIRELAUNCH_MODE="cloud", GOOGLE_CLOUD_PROJECT="p-12345")
    assert services.gateway.prices.cost("claude-sonnet-5-5", TokenCounts(10_000)) == 2_000 * tenths
    gemini = Prices("vertex", {}).cost("gemini-3.5-flash-lite", USED)
    assert services.gateway.prices.cost("gemini-3.5-flash-lite", USED) == gemini


AUDIO_MODELS = [
    ("vertex", "gemini-2.5-flash"), ("vertex", "gemini-2.5-pro"), ("vertex", "gemini-3.8-flash"),
    ("openai", "gpt-audio"), ("openai", "gpt-audio-mini"), ("openai", MODEL),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model"), AUDIO_MODELS)
@given(st.data())
def test_a_recording_costs_what_the_table_says_and_never_more_than_is_reserved(
    provider: str, model: str, data: st.DataObject
) -> None:
    asked = data.draw(st.integers(0, 300_000))
    bound = asked + data.draw(st.integers(0, 1_000))
    audio_bound = data.draw(st.integers(0, asked))
    audio = data.draw(st.integers(0, audio_bound))
    cached_audio = data.draw(st.integers(0, audio))
    cached = cached_audio + data.draw(st.integers(0, asked - audio))
    used = TokenCounts(asked, cached, 50, audio=audio, cached_audio=cached_audio)
    prices = Prices(provider, {})
    assert prices.cost(model, used) <= prices.most(model, bound, 50, audio_tokens=audio_bound)
    table = {"vertex": "google", "openai": "openai"}[provider]
    usage = Usage(
        input_tokens=asked, cache_read_tokens=cached, output_tokens=50, input_audio_tokens=audio,
        cache_audio_read_tokens=cached_audio,
    )  # fmt: skip
    exact = calc_price(usage, model, provider_id=table).total_price * 1_000_000
    assert prices.cost(model, used) == exact.to_integral_value(ROUND_CEILING)


def test_a_price_of_the_settings_has_one_for_recordings() -> None:
    own = Price.model_validate({"input": "2", "output": "8", "audio_input": "30"})
    prices = Prices("openai", {"voice": own, "plain": Price.model_validate({"input": "2", "output": "8"})})
    used = TokenCounts(100, 0, 10, audio=40)
    assert prices.cost("voice", used) == 60 * 2 + 40 * 30 + 10 * 8
    assert prices.cost("plain", used) == 100 * 2 + 10 * 8
    assert [prices.has_audio(model) for model in ("voice", "plain", "gpt-audio", MODEL)] == [True, False, True, False]


def test_threads_that_need_the_table_first_and_at_once_all_find_it_whole() -> None:
    code = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from firelaunch.llm.prices import Prices
from firelaunch.llm.types import TokenCounts

sys.setswitchinterval(1e-6)
began = threading.Barrier(8)

def price(_):
    began.wait()
    return Prices("openai", {}).cost("gpt-5.4-mini", TokenCounts(1_000_000, 0, 0))

with ThreadPoolExecutor(8) as pool:
    print(len(set(pool.map(price, range(8)))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


SERVICES = {"openai": "openai", "vertex": "google", "claude": "anthropic"}


@pytest.mark.parametrize("provider", SERVICES)
def test_a_cost_is_the_tables_own_on_both_sides_of_each_tier(provider: str) -> None:
    service = next(known for known in get_snapshot().providers if known.id == SERVICES[provider])
    tiered = 0
    for model in service.models:
        try:
            prices = calc_price(Usage(input_tokens=1), model.id, provider_id=service.id).model_price
        except LookupError:  # a pattern, such as that of fine-tuned models
            continue
        kinds = [price for price in (prices.input_mtok, prices.output_mtok) if isinstance(price, TieredPrices)]
        tiered += len(kinds)
        starts = {0, *(tier.start for price in kinds for tier in price.tiers)}
        for tokens in sorted({start + more for start in starts for more in (0, 1, 2, 1_003)}):
            for cached, written in ((0, 0), (tokens // 3, 0), (0, tokens // 2), (tokens // 3, tokens // 2)):
                usage = Usage(
                    input_tokens=tokens, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=77
                )
                exact = calc_price(usage, model.id, provider_id=service.id).total_price * 1_000_000
                counted = TokenCounts(tokens, cached, 77, cache_write=written)
                cost = Prices(provider, {}).cost(model.id, counted)
                assert cost == exact.to_integral_value(ROUND_CEILING), (model.id, counted)
    assert tiered
