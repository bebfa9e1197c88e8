"""Scans and pictures: a model reads their pages if the plan says so, each page is paid, and none is paid twice."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.rag.parse import pictures
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.models import ModelServer, Reply
from PIL import Image, ImageDraw

READING = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "50"\npicture_pages = 2')


def scan(*texts: str, kind: str = "PDF") -> bytes:
    """A file whose pages are pictures of texts."""
    pages = []
    for text in texts:
        page = Image.new("RGB", (600, 800), "white")
        ImageDraw.Draw(page).text((50, 50), text, fill="black", font_size=40)
        pages.append(page)
    out = io.BytesIO()
    pages[0].save(out, kind, **({"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}))
    return out.getvalue()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(Reply(("NONE",), (900, 0, 5))) as made:
        yield made


def site_of(folder: Path, server: ModelServer, settings: str) -> Any:
    return embedded_site(folder, settings=settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=server.base_url)


@pytest.fixture
def site(tmp_path: Path, server: ModelServer) -> Iterator[Site]:
    with site_of(tmp_path, server, READING) as made:
        yield made


def put_up(user: User, name: str, content: bytes) -> dict[str, Any]:
    answer = user.upload(name, content)
    assert answer.status_code in {200, 202}, answer.text
    return dict(user.document(answer.get_json()["id"]))


def test_the_sandbox_draws_the_pages_of_a_scan_and_of_pictures_within_bounds(tmp_path: Path) -> None:
    for name, content, count in (
        ("a.pdf", scan("one", "two"), 2),
        ("a.tiff", scan("one", "two", "three", kind="TIFF"), 3),
        ("a.png", scan("one", kind="PNG"), 1),
        ("a.webp", scan("one", kind="WEBP"), 1),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with path.open("rb") as file:
            drawn = list(pictures(file, name))
        assert [number for number, _ in drawn] == list(range(1, count + 1))
        for _, picture in drawn:
            with Image.open(io.BytesIO(picture)) as page:
                assert page.format == "JPEG"
                assert max(page.size) <= 2_048


def test_a_scan_is_read_by_the_model_as_far_as_the_plan_goes_and_each_page_is_paid(
    site: Site, server: ModelServer
) -> None:
    ada = sign_in(site.app, "ada")
    server.script = [Reply(("# Lease\n\nWalruses pay rent.",), (900, 0, 20)), Reply(("Otters do not.",), (900, 0, 9))]
    document = put_up(ada, "scan.pdf", scan("one", "two", "three"))
    assert (document["status"], document["cost_micro_usd"] > 0) == ("ready", True)
    assert [warning["message"][:6] for warning in document["warnings"]] == ["1 of 3"]
    (first, *_) = ada.post("/v1/search", {"query": "walruses"}).get_json()["passages"]
    assert (first["page"], "Walruses pay rent." in first["text"]) == (1, True)
    assert len(server.requests) == 2
    shown = server.requests[0]["messages"][-1]["content"]
    (url,) = [part["image_url"]["url"] for part in shown if part["type"] == "image_url"]
    assert base64.b64decode(url.partition(",")[2]).startswith(b"\xff\xd8\xff")
    usage = ada.get("/v1/usage").get_json()
    assert usage["cost_micro_usd"] >= document["cost_micro_usd"]
    assert usage["reserved_micro_usd"] == 0


def test_a_picture_is_read_and_one_without_text_is_refused_with_what_to_do(site: Site, server: ModelServer) -> None:
    ada = sign_in(site.app, "ada")
    server.script = [Reply(("Gate 7 opens at nine.",), (900, 0, 9))]
    assert put_up(ada, "sign.png", scan("sign", kind="PNG"))["status"] == "ready"
    assert ada.post("/v1/search", {"query": "gate"}).get_json()["passages"][0]["title"] == "sign.png"
    failed = put_up(ada, "sky.png", scan("", kind="PNG"))
    assert (failed["status"], failed["error"]["problem"]) == ("failed", "picture")


def test_without_the_plans_word_no_model_sees_a_picture(tmp_path: Path, server: ModelServer) -> None:
    with site_of(tmp_path, server, JOB_SETTINGS) as site:
        ada = sign_in(site.app, "ada")
        assert put_up(ada, "a.pdf", scan("one"))["error"]["problem"] == "no_text"
        assert put_up(ada, "a.png", scan("one", kind="PNG"))["error"]["problem"] == "picture"
    assert server.requests == []


def test_a_page_that_was_read_is_not_paid_again_when_the_next_one_fails(site: Site, server: ModelServer) -> None:
    ada = sign_in(site.app, "ada")
    server.script = [Reply(("Walruses.",), (900, 0, 3)), *[Reply(error_after=0)] * 2, Reply(("Otters.",), (900, 0, 3))]
    server.default = Reply(("Otters.",), (900, 0, 3))
    assert put_up(ada, "a.pdf", scan("one", "two"))["status"] == "ready"
    first = [body for body in server.requests if _picture(body) == _picture(server.requests[0])]
    assert len(first) == 1


def _picture(body: dict[str, Any]) -> str:
    return str([part for part in body["messages"][-1]["content"] if part["type"] == "image_url"])
