"""The page at ``/`` in a real browser: what a founder sees of answers, documents, failures, and other users."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, NO_BROWSER, Page, browser, wait_until
from firelaunch.testing.documents import lines_of, pdf
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.testing.recordings import wav
from support import ROOT, Server, copy_template, served

pytestmark = pytest.mark.skipif(BROWSER is None, reason=NO_BROWSER)

DESKTOP, PHONE = (1280, 800), (390, 844)
SHOTS = ROOT / "build" / "tryout"


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(one_browser: Page) -> Iterator[Page]:
    """A page on a desktop's screen. Whatever a test does, its scripts throw nothing and break no policy."""
    one_browser.resize(*DESKTOP)
    one_browser.scheme("light")
    one_browser.complaints.clear()
    one_browser.requested.clear()
    yield one_browser
    assert one_browser.complaints == []


@pytest.fixture(scope="module")
def one_model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def model(one_model: ModelServer) -> ModelServer:
    """The model of the served app, as if it were new."""
    one_model.default = Reply()
    one_model.script.clear()
    one_model.requests.clear()
    one_model.hung_up = 0
    return one_model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, one_model: ModelServer) -> Iterator[Server]:
    """An app for all tests, each of which is another user of it."""
    folder = copy_template(tmp_path_factory.mktemp("served") / "my-app")
    with served(folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=one_model.base_url) as server:
        yield server


USERS = count(1)


@pytest.fixture
def uid() -> str:
    """A user that no other test is."""
    return f"ada-{next(USERS)}"


@pytest.fixture
def there(page: Page, server: Server, uid: str, model: ModelServer) -> Page:
    """The page of the served app, as that user."""
    page.go(f"{server.url}/#user={uid}")
    page.until("#uid", uid)
    page.until(".welcome", "My app")
    return page


def pieces(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def says(text: str, **more: Any) -> Reply:
    return Reply(words=pieces(text), **more)


def say(page: Page, text: str) -> None:
    page("document.getElementById('text').focus()")
    page.type(text)
    page.press("Enter")


def answered(page: Page, number: int = 1) -> None:
    wait_until(lambda: len(page.texts(".answer .used")) == number)


def exchange(page: Page, text: str) -> None:
    before = len(page.texts(".answer .used"))
    say(page, text)
    answered(page, before + 1)


def in_view(page: Page, selector: str) -> bool:
    """Whether the last such element lies within the screen, and nothing lies over its middle."""
    return bool(
        page(
            f"""(() => {{
              const element = [...document.querySelectorAll({json.dumps(selector)})].at(-1);
              const {{ left, right, top, bottom }} = element.getBoundingClientRect();
              const inside = left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight && right > left;
              return inside && element.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2));
            }})()"""
        )
    )


def shot(page: Page, name: str) -> None:
    page.screenshot(SHOTS / f"{name}.png")


def document_of(page: Page, folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(text)
    page.choose("#file", file)
    page.until("#files li", name)
    wait_until(lambda: any(name in each and "passage" in each for each in page.texts("#files li")))


def test_an_answer_is_shown_with_its_cost_and_the_app_with_its_name(there: Page, model: ModelServer) -> None:
    assert there("document.title") == "My app"
    assert there.texts("h1") == ["My app"]
    model.script = [says("Good day.")]
    exchange(there, "Hello")
    assert (there.texts(".user"), there.texts(".answer .text")) == (["Hello"], ["Good day."])
    assert "gpt-6.1-terra · 10 tokens in, 4 out · $0.0000" in there.texts(".used")[0]
    there.until("#usage", "1 request, $0.0000")
    there.until("#chats", "Hello")
    wait_until(lambda: there("document.title") == "Hello · My app")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_after_twenty_messages_the_input_is_on_the_screen_and_so_is_the_latest_answer(
    there: Page, model: ModelServer, server: Server, size: tuple[int, int], uid: str
) -> None:
    ada = server.sign_in(uid)
    chat = ada.new_chat()
    model.default = says(
        "An answer of some length. " * 12 + "\n\n```\n" + "wide " * 60 + "\n```\n\n| a | b |\n|-|-|\n|1|2|"
    )
    for number in range(9):
        ada.send(chat, f"Question {number} of a chat whose title is longer than a phone is wide")
    there.resize(*size, phone=size == PHONE)
    there.go(f"{server.url}/#user={uid}&chat={chat}")
    answered(there, 9)
    exchange(there, "Question 9 " + "and more " * 30)
    for scheme in ("light", "dark"):
        there.scheme(scheme)
        assert in_view(there, "#text")
        assert in_view(there, "#send")
        assert in_view(there, ".used")
        assert there("document.documentElement.scrollHeight <= innerHeight && scrollY === 0")
        # A page that is too wide is shown smaller by a phone, on a screen that counts as wider.
        assert there("[innerWidth, document.documentElement.scrollWidth]") == [size[0]] * 2
        shot(there, f"messages-{size[0]}-{scheme}")
    there("document.getElementById('log').scrollTop = 0")
    assert in_view(there, "#text")
    there.click("#to-end")
    wait_until(lambda: in_view(there, ".used"))
    say(there, "A line of its own.\n" * 60)
    assert in_view(there, "#text")


def test_whoever_reads_further_up_stays_there_while_more_comes(there: Page, model: ModelServer) -> None:
    model.script = [says("Word. " * 600)]
    exchange(there, "Much, please")
    model.script = [Reply(words=["More. \n\n"] * 60, pace=0.05)]
    say(there, "And more")
    there.until(".answer .text", "More.")
    there("document.getElementById('log').scrollTop = 10")
    there.until("#to-end")
    answered(there, 2)
    assert there("document.getElementById('log').scrollTop") == 10


def test_a_reload_keeps_the_chat_and_the_list_and_the_browsers_back_leads_to_the_one_before(
    there: Page, model: ModelServer
) -> None:
    exchange(there, "First chat")
    there.click("#new-chat")
    there.until(".welcome")
    exchange(there, "Second chat")
    costs = there.texts(".used")
    there.reload()
    there.until(".user", "Second chat")
    assert there.texts(".answer .text") == ["Hello from the model."]
    assert there.texts(".used") == costs
    wait_until(lambda: there.texts("#chats a") == ["Second chat", "First chat"])
    wait_until(lambda: there.texts("#chats [aria-current=page]") == ["Second chat"])
    there.click("#chats a", "First chat")
    there.until(".user", "First chat")
    assert there.texts(".user") == ["First chat"]
    there("history.back()")
    there.until(".user", "Second chat")
    exchange(there, "And on")
    assert len(model.requests[-1]["messages"]) == 4, "it goes on in the second chat"


def test_earlier_messages_and_older_chats_come_when_they_are_asked_for(there: Page, server: Server, uid: str) -> None:
    ada = server.sign_in(uid)
    chats = [ada.new_chat() for _ in range(32)]
    for number in range(18):
        ada.send(chats[-1], f"Question {number}")
    there.go(f"{server.url}/#user={uid}&chat={chats[-1]}")
    answered(there, 15)
    assert there.texts(".user")[0] == "Question 3"
    there("document.getElementById('log').scrollTop = 0")
    there.click(".messages > button", "Earlier messages")
    answered(there, 18)
    assert there.texts(".user") == [f"Question {number}" for number in range(18)]
    there("document.getElementById('more-chats').scrollIntoView()")
    there.click("#more-chats")
    wait_until(lambda: there("document.querySelectorAll('#chats li').length") == 32)


def test_a_chat_is_renamed_and_deleted(there: Page) -> None:
    exchange(there, "Hello")
    there.click("#rename")
    there.until("#question", "Rename this chat")
    there("document.getElementById('question-value').select()")
    there.type("Greetings")
    there.press("Enter")
    there.until("#chats", "Greetings")
    there.until("#title", "Greetings")
    there.click("#delete")
    there.until("#question", "deleted for good")
    there.press("Escape")
    there.until("#chats", "Greetings")
    there.click("#delete")
    there.click("#question-yes")
    there.until(".welcome")
    there.until("#chats", "None yet")


SHOWN = """## A heading

Some **bold**, *slanted*, ~~gone~~ and `code [1]`.
A line of its own with \u2028 in it.

1. one
   - a
   - b
2. two

| left | right |
|:-----|------:|
| a    | b     |

```python
print("<b>")
```

> quoted

<https://example.com/> [mail](mailto:a@example.com) https://example.com/x
"""


def test_markdown_is_shown_as_what_it_means(there: Page, model: ModelServer) -> None:
    model.script = [says(SHOWN)]
    exchange(there, "Show me")
    for selector, texts in {
        ".text h4": ["A heading"],
        ".text strong": ["bold"],
        ".text em": ["slanted"],
        ".text s": ["gone"],
        ".text :not(pre) > code": ["code [1]"],
        ".text ol > li > ul > li": ["a", "b"],
        ".text th": ["left", "right"],
        ".text pre code": ['print("<b>")'],
        ".code span": ["python"],
        ".text blockquote": ["quoted"],
        ".text a": ["https://example.com/", "mail", "https://example.com/x"],
    }.items():
        assert there.texts(selector) == texts, selector
    assert there("getComputedStyle(document.querySelectorAll('.text td')[1]).textAlign") == "right"
    assert there("[...document.querySelectorAll('.text a')].every((a) => a.rel.includes('noopener'))")
    shot(there, "markdown")


def test_a_text_that_grows_piece_by_piece_ends_as_the_whole_text_does(there: Page) -> None:
    text = (
        SHOWN + "\n\nfoo\n---\n\n- a\n\n  b\n\n- c\n\n    code\n\n~~~\n\n# no\n\n~~~\n\n\ta\r\n\r\nb\rc | d\n-|-\n1|2\n"
    )
    grown = there(
        f"""(async () => {{
          const {{ Markdown }} = await import("/tryout/markdown.js");
          const text = {json.dumps(text)};
          const [piecewise, at_once] = [document.createElement("div"), document.createElement("div")];
          const markdown = new Markdown(piecewise);
          for (let end = 1; end <= text.length; end += 1) markdown.update(text.slice(0, end));
          new Markdown(at_once).update(text);
          return [piecewise.innerHTML, at_once.innerHTML];
        }})()"""
    )
    assert grown[0] == grown[1]
    assert "<table>" in grown[0]


HOSTILE = """<script>window.harmed = 1</script>
<img src="https://evil.example/a.png" onerror="window.harmed = 1">
<svg onload="window.harmed = 1"><style>@import "https://evil.example/b.css"</style></svg>
<iframe src="javascript:parent.harmed = 1"></iframe>

![picture](https://evil.example/c.png) ![x](javascript:window.harmed=1) ![y](data:image/svg+xml,<svg/onload=harmed=1>)
[one](javascript:window.harmed=1) [two](JaVaScRiPt:window.harmed=1) [three](java&#115;cript:window.harmed=1)
[four](data:text/html,<script>harmed=1</script>) [five](vbscript:x) [six](/v1/me) [seven](//evil.example/)
[eight]( \x01javascript:window.harmed=1) [nine](https://evil.example/"onmouseover="window.harmed=1)
[1](https://evil.example/1) [**2**](https://evil.example/2) [3]

[3]: https://evil.example/3 "title"

| <img src=x onerror=harmed=1> | `</code><script>harmed=1</script>` |
|---|---|
| [a](javascript:harmed=1) | <b onclick=harmed=1>b</b> |

```"><img src=x onerror=harmed=1>
</code></pre><script>window.harmed = 1</script>
```
<a href="javascript:window.harmed=1" autofocus onfocus="window.harmed=1">x</a> <base href="https://evil.example/">
<meta http-equiv="refresh" content="0;url=https://evil.example/"> <form action="https://evil.example/"><input></form>
"""


def harmless(page: Page, server: Server) -> None:
    """Nothing of a hostile text ran, was made an element of its own, or had anything loaded."""
    assert page("window.harmed") is None
    own = (f"{server.url}/", "data:,", "about:blank")
    assert [each for each in page.requested if not each.startswith(own)] == []
    made = page("[...new Set([...document.querySelectorAll('#log *, #side *, #passage *')].map((e) => e.localName))]")
    assert not set(made) & {
        "script",
        "img",
        "svg",
        "iframe",
        "style",
        "base",
        "meta",
        "form",
        "object",
        "embed",
        "link",
    }
    attributes = page("[...document.querySelectorAll('#log *')].flatMap((e) => e.getAttributeNames())")
    assert not [name for name in attributes if name.startswith("on")]
    links = page("[...document.querySelectorAll('#log a, #passage a')].map((e) => [e.protocol, e.rel, e.innerText])")
    assert {protocol for protocol, _, _ in links} <= {"https:", "http:", "mailto:"}
    assert all("noopener" in rel for _, rel, _ in links)
    assert not [text for _, _, text in links if text.strip("[]").isdigit()], "no link passes for a citation"


def test_a_hostile_answer_is_text_while_it_comes_and_afterwards_and_when_it_is_loaded_anew(
    there: Page, model: ModelServer, server: Server
) -> None:
    model.default = says(HOSTILE)
    say(there, HOSTILE)
    there.until(".answer .text", "<script>")
    harmless(there, server)
    answered(there)
    harmless(there, server)
    there.reload()
    answered(there)
    harmless(there, server)
    assert there.texts(".user")[0].startswith("<script>window.harmed")


def test_a_hostile_document_is_text_in_the_list_and_in_its_passage(
    there: Page, model: ModelServer, server: Server, tmp_path: Path
) -> None:
    name = '<img src=x onerror="harmed=1">.md'
    document_of(there, tmp_path, name, f"# <svg onload=harmed=1> walrus\n\n{HOSTILE}")
    model.script = [says("So it says [1].")]
    exchange(there, "What of the walrus?")
    there.click(".cite")
    there.until("#passage mark", "<script>window.harmed = 1</script>")
    assert there.texts("#passage h2") == [name]
    harmless(there, server)


def test_the_browser_itself_refuses_html_and_scripts_that_the_page_would_write(there: Page) -> None:
    refused = "(() => {{ try {{ {}; return ''; }} catch (error) {{ return error.name; }} }})()"
    assert there(refused.format("document.body.innerHTML = '<b>x</b>'")) == "TypeError"
    assert there(refused.format("document.createElement('script').text = 'harmed = 1'")) == "TypeError"
    there("document.body.append(Object.assign(document.createElement('img'), {src: '/docs/swagger-ui.css'}))")
    wait_until(lambda: there("1") and any("img-src" in each for each in there.complaints))
    there.complaints.clear()


HANDBOOK = "\n\n".join(
    f"# {name}\n\n" + f"This is what the handbook says of {name}. " * 16 for name in ("Leave", "Pay", "Tools")
)


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_citation_opens_the_passage_at_its_place_in_its_document(
    there: Page, model: ModelServer, server: Server, uid: str, tmp_path: Path, size: tuple[int, int]
) -> None:
    document_of(there, tmp_path, "handbook.md", HANDBOOK)
    there.resize(*size, phone=size == PHONE)
    there.go(f"{server.url}/#user={uid}")
    there.until(".welcome")
    model.script = [says("There is leave [1], and pay [2]. There is nothing [9].")]
    exchange(there, "What of the leave and the pay?")
    assert there.texts(".answer .text") == ["There is leave [1], and pay [2]. There is nothing."]
    assert len(there.texts(".sources li")) == 2
    there.click(".source", "Leave")
    there.until("#passage mark", "This is what the handbook says of Leave.")
    there.until("#passage", "Leave")
    assert in_view(there, "#passage h2")
    assert there("innerWidth") == size[0]
    assert "handbook says of Pay" in there.texts("#passage-text")[0].partition("says of Leave")[2], "what follows, too"
    assert "handbook says of Pay" not in there.texts("#passage mark")[0]
    shot(there, f"passage-{size[0]}")
    there.press("Escape")
    wait_until(lambda: there.texts("#passage") == [])
    there.reload()
    answered(there)
    (number,) = [each[:3] for each in there.texts(".source") if "Pay" in each]
    there.click(".cite", number)
    there.until("#passage mark", "This is what the handbook says of Pay.")
    there.click("#close-passage")
    wait_until(lambda: there.texts("#passage") == [])


def _targets(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.command("Target.getTargets")["targetInfos"]
    return found


def tabs(page: Page) -> list[dict[str, Any]]:
    """The browser's tabs, but for the page's own."""
    return [each for each in _targets(page) if each["type"] == "page" and "#user=" not in each["url"]]


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_cited_pdf_opens_in_a_tab_and_an_uploaded_page_is_downloaded_and_does_not_run(
    there: Page, model: ModelServer, tmp_path: Path, size: tuple[int, int]
) -> None:
    there.resize(*size, phone=size == PHONE)
    (tmp_path / "leave.pdf").write_bytes(pdf([lines_of("# Leave\n\nThe walrus has leave."), None]))
    (tmp_path / "pay.html").write_text(f"<title>Pay</title><h1>Pay</h1><p>The otter is paid.</p>{HOSTILE}")
    there.choose("#file", tmp_path / "leave.pdf", tmp_path / "pay.html")
    if size == PHONE:
        there.click("#open-side")
    there.until("#files .warning", "1 of 2 pages is a picture.")
    wait_until(lambda: sum("1 passage" in each for each in there.texts("#files .told")) == 2)
    shot(there, f"warnings-{size[0]}")
    there.press("Escape")
    downloads = tmp_path / "downloads"
    there.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
    model.script = [says("The walrus has leave [1].")]
    exchange(there, "What has the walrus?")
    there.click(".source", "leave.pdf")
    there.click("#passage button", "Open the file")
    # Chrome's viewer is an extension, in a frame of the tab.
    wait_until(lambda: any("chrome-extension" in each["url"] for each in _targets(there)))
    (tab,) = tabs(there)
    assert tab["url"].endswith("#page=1")
    there.command("Target.closeTarget", targetId=tab["targetId"])
    there.press("Escape")
    model.script = [says("The otter is paid [1].")]
    exchange(there, "What has the otter?")
    there.click(".source", "pay.html")
    there.click("#passage button", "Open the file")
    wait_until((downloads / "pay.html").exists)
    wait_until(lambda: tabs(there) == [])
    assert there("window.harmed") is None
    there.press("Escape")


def test_a_citation_of_a_document_that_was_replaced_or_deleted_says_so(
    there: Page, model: ModelServer, tmp_path: Path
) -> None:
    document_of(there, tmp_path, "handbook.md", HANDBOOK)
    model.script = [says("There is leave [1].")]
    exchange(there, "What of the leave?")
    document_of(there, tmp_path, "handbook.md", "Nothing is left of it.")
    wait_until(lambda: there.texts("#files .told") == ["1 passage"])
    there.click(".cite")
    there.until("#passage .problem", "was changed since")
    there.press("Escape")
    there.click("#files button")
    there.until("#question", "can no longer cite")
    there.click("#question-yes")
    wait_until(lambda: there.texts("#files li") == [])
    there.click(".cite")
    there.until("#passage .problem", "was deleted")
    there.press("Escape")


def test_documents_are_put_up_with_their_progress_and_one_that_cannot_be_read_with_its_reason(
    there: Page, tmp_path: Path
) -> None:
    there("window.shares = []")
    there(
        "void new MutationObserver(() => shares.push(...document.querySelectorAll('#files progress')))"
        ".observe(document.getElementById('files'), {childList: true, subtree: true, attributes: true})"
    )
    document_of(there, tmp_path, "long.txt", "\n\n".join(f"Word {number} " * 90 for number in range(1500)))
    assert there("shares.length") > 0
    empty = tmp_path / "empty.txt"
    empty.write_bytes(b"\n")
    there.choose("#file", empty)
    there.until("#files .failed", "empty")
    there.reload()
    there.until("#files .failed", "empty")
    assert len(there.texts("#files li")) == 2


def test_a_document_that_was_read_in_part_says_what_was_left_out(there: Page, tmp_path: Path) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(pdf([lines_of("A page about walruses."), None, None, None]))
    there.choose("#file", scan)
    there.until("#files .warning", "3 of 4 pages are pictures")
    there.reload()
    there.until("#files .warning", "3 of 4 pages are pictures")
    assert in_view(there, "#files .warning")
    shot(there, "warning")


def test_files_go_with_a_message_and_one_that_no_model_takes_says_so(
    there: Page, model: ModelServer, tmp_path: Path
) -> None:
    table, sound = tmp_path / "rain.csv", tmp_path / "talk.wav"
    table.write_text("city,rain\nOslo,2\n")
    sound.write_bytes(wav())
    there.choose("#attach", sound)
    there.until("#attached .failed", "no recordings")
    assert there("document.getElementById('send').disabled")
    there.click("#attached button")
    there.choose("#attach", table)
    there.until("#attached button")
    say(there, "How much rain?")
    answered(there)
    assert "city,rain\nOslo,2" in model.requests[-1]["messages"][-1]["content"]
    assert there.texts("#attached li") == []
    there.reload()
    there.until(".user .files", "rain.csv")


def test_an_answer_is_stopped_and_what_was_said_stays(there: Page, model: ModelServer) -> None:
    model.script = [Reply(words=["again and "] * 500, pace=0.05)]
    say(there, "Go on for ever")
    there.until(".answer .text", "again and again")
    assert in_view(there, "#stop")
    there.click("#stop")
    there.until(".used", "incomplete")
    assert there.texts(".answer .text")[0].startswith("again and again")
    wait_until(lambda: model.hung_up == 1)
    there.until("#send")
    exchange(there, "Thank you")


def test_a_cut_answer_is_told_as_such_and_goes_on_at_a_click(there: Page, model: ModelServer) -> None:
    model.script = [says("The longest river of", finish="length"), says(" Europe is the Volga.")]
    exchange(there, "Which river is longest?")
    there.until(".used", "cut at the limit of tokens")
    shot(there, "cut")
    there.click(".choices button", "Continue")
    there.until(".answer .text", "The longest river of Europe is the Volga.")
    wait_until(lambda: there.texts(".choices button") == [])
    assert len(there.texts(".answer")) == 1


def test_a_tools_call_waits_for_a_click_and_the_answer_goes_on_after_a_reload_too(
    page: Page, tmp_path: Path, model: ModelServer
) -> None:
    folder = copy_template(tmp_path / "my-app")
    workflow = folder / "app" / "workflow.py"
    booking = """
def book(room: str) -> str:
    \"\"\"Book a room.\"\"\"
    return f"booked {room}"


def answer("""
    text = workflow.read_text().replace("import Chunk,", "import Chunk, Tool,").replace("def answer(", booking.strip())
    workflow.write_text(text.replace("stream(messages)", "stream(messages, tools=[Tool(book, approve=True)])"))
    with served(folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url) as server:
        page.go(f"{server.url}/#user=ada")
        page.until(".welcome", "My app")
        model.script = [Reply(words=["Sure."], calls=[("book", '{"room": "B"}')], finish="tool_calls"), says("Booked.")]
        say(page, "Book room B")
        page.until(".tools summary", "Tool book (waits for you)")
        page.until(".choices button", "Approve")
        page.reload()
        page.until(".tools summary", "Tool book (waits for you)")
        shot(page, "approval")
        page.click(".choices button", "Approve")
        page.until(".answer .text", "Booked.")
        page.until(".tools summary", "Tool book (done)")
        assert model.requests[-1]["messages"][-1]["content"] == "booked B"


def test_an_answer_goes_on_when_the_page_is_loaded_anew_and_when_another_chat_was_looked_at(
    there: Page, model: ModelServer
) -> None:
    exchange(there, "Another chat")
    there.click("#new-chat")
    there.until(".welcome")
    words = [f"word{number} " for number in range(60)]
    model.script = [Reply(words=words, pace=0.1)]
    say(there, "A long one")
    there.until(".answer .text", "word3")
    there.click("#chats a", "Another chat")
    there.until(".user", "Another chat")
    assert there.texts("#stop") == []
    there("history.back()")
    there.until(".answer .text", "word9")
    there.reload()
    there.until(".answer .text", "word12")
    there.until("#stop")
    answered(there)
    assert there.texts(".answer .text")[0].split() == "".join(words).split()
    assert len(model.requests) == 2, "nothing was asked twice"


def test_an_answer_that_breaks_off_says_why_and_trying_again_is_one_message(
    there: Page, model: ModelServer, server: Server, uid: str
) -> None:
    model.script = [Reply(words=["Well ", "then ", "no."], error_after=2)]
    say(there, "Hello")
    there.until(".problem", "The model is not available at the moment. Try again.")
    assert there.texts(".answer .text")[0].startswith("Well")
    model.script = [says("Now it is.")]
    there.click(".problem button", "Try again")
    answered(there)
    assert there.texts(".problem") == []
    assert there.texts(".answer .text") == ["Now it is."]
    ada = server.sign_in(uid)
    (chat,) = ada.call("GET", "/v1/chats").json()["items"]
    assert ada.texts(chat["id"]) == ["Hello", "Now it is."]


def test_a_message_without_an_answer_can_be_tried_again_after_a_reload(
    there: Page, model: ModelServer, server: Server, uid: str
) -> None:
    model.default = Fault(status=400)
    say(there, "Hello")
    there.until(".problem")
    there.reload()
    there.until(".problem", "This message was not answered.")
    model.default = says("Here.")
    there.click(".problem button", "Try again")
    answered(there)
    ada = server.sign_in(uid)
    (chat,) = ada.call("GET", "/v1/chats").json()["items"]
    assert ada.texts(chat["id"]) == ["Hello", "Here."]


def test_over_a_limit_the_page_says_when_to_come_back(
    page: Page, app_folder: Path, serve: Callable[..., Server]
) -> None:
    settings = app_folder / "firelaunch.toml"
    prices = '\n[prices.offline]\ninput = "500000"\noutput = "1000000"\n'
    text = settings.read_text().replace("requests_per_minute = 20", "requests_per_minute = 1")
    settings.write_text(text)
    server = serve(app_folder)
    page.go(f"{server.url}/#user=ada")
    page.until(".welcome")
    exchange(page, "One")
    say(page, "Two")
    page.until(".problem", "Too many requests this minute.")
    page.until(".problem button", "Try again in ")
    assert page("document.querySelector('.problem button').disabled")
    settings.write_text(text + prices)
    server = serve(app_folder)
    page.go(f"{server.url}/#user=bob")
    page.until(".welcome")
    say(page, "Three")
    page.until(".problem", "at midnight UTC")
    page.until(".problem button", "Try again")


def test_where_the_app_has_stopped_the_page_says_so(page: Page, app_folder: Path, serve: Callable[..., Server]) -> None:
    server = serve(app_folder)
    page.go(f"{server.url}/#user=ada")
    page.until(".welcome")
    exchange(page, "Hello")
    server.kill()
    say(page, "Still there?")
    page.until(".answer .problem", "The app does not answer. Is it still running?")
    page.until(".problem button", "Try again")


def test_another_user_sees_nothing_of_the_first_and_who_is_signed_in_survives_a_reload(
    there: Page, uid: str, tmp_path: Path
) -> None:
    exchange(there, "A secret of ada's")
    document_of(there, tmp_path, "diary.md", "# Diary\n\nSecrets.")
    chat = there("new URLSearchParams(location.hash.slice(1)).get('chat')")
    there.click("#switch")
    there.until("#question", "Sign in as")
    there("document.getElementById('question-value').select()")
    there.type("Bob ünï?&#+%2F")
    there.press("Enter")
    there.until("#uid", "Bob ünï?&#+%2F")
    there.until("#chats", "None yet")
    there.until(".welcome")
    there.reload()
    there.until("#uid", "Bob ünï?&#+%2F")
    there.until("#chats", "None yet")
    assert there.texts("#files li") == []
    there(f"location.hash = new URLSearchParams({{user: 'bob', chat: '{chat}'}})")
    there.until(".problem", "another user's")
    assert "secret" not in there("document.body.innerText")
    there(f"location.hash = 'user={uid}'")
    there.until("#chats", "A secret of ada's")
    there.until("#files", "diary.md")


def test_a_name_that_no_user_can_have_is_refused_and_who_was_signed_in_still_is(there: Page, uid: str) -> None:
    exchange(there, "Hello")
    there.click("#switch")
    there.until("#question", "Sign in as")
    there.type("not/a/name")
    there.press("Enter")
    there.until(".problem", "That user id is not valid.")
    assert there("location.hash") == f"#user={uid}"
    there.click("#chats a", "Hello")
    there.until(".user", "Hello")


def test_enter_sends_shift_and_enter_begin_a_line_and_an_example_is_one_click(there: Page, model: ModelServer) -> None:
    assert there("document.activeElement.id") == "text"
    there.press("Enter")
    assert there.texts(".user") == [], "an empty message is none"
    there.type("One")
    there.press("Enter", shift=True)
    there.type("two")
    assert there.texts(".user") == []
    there.press("Enter")
    answered(there)
    assert model.requests[0]["messages"][-1]["content"].endswith("One\ntwo")
    assert there("document.activeElement.id") == "text"
    there.click("#new-chat")
    there.click(".welcome button", "What can you help me with?")
    answered(there)
    assert there.texts(".user") == ["What can you help me with?"]


def test_on_a_phone_the_menu_opens_over_the_chat_and_escape_closes_it(page: Page, server: Server) -> None:
    page.resize(*PHONE, phone=True)
    page.go(f"{server.url}/#user=phone")
    page.until(".welcome")
    assert page.texts("#side h1") == []
    page.click("#open-side")
    page.until("#side h1", "My app")
    wait_until(lambda: in_view(page, "#new-chat"))
    shot(page, "menu-390")
    page.press("Escape")
    wait_until(lambda: page.texts("#side h1") == [])
    assert page("document.activeElement.id") == "open-side"


def test_every_control_has_a_name_for_screen_readers(there: Page, model: ModelServer, tmp_path: Path) -> None:
    document_of(there, tmp_path, "handbook.md", HANDBOOK)
    model.script = [says("There is leave [1].")]
    exchange(there, "What of the leave?")
    nodes = there.command("Accessibility.getFullAXTree")["nodes"]
    controls = [n for n in nodes if n.get("role", {}).get("value") in {"button", "textbox", "link", "log", "article"}]
    assert len(controls) > 8
    assert [n for n in controls if not n.get("name", {}).get("value", "").strip() and not n.get("ignored")] == []
