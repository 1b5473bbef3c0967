"""The page of `openaiasync serve --ui`, used in a real browser."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from openaiasync.server import ChatPage, ChatRequest, Front, HTTPError, ReasoningDelta, Server, serve, start_in_thread
from openaiasync.testing import FakeServer
from openaiasync.transport.fake import FakeAnswer

pytestmark = pytest.mark.browser

ATTACK = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> [x](javascript:window.hacked=1)'
BRACKETS = "[a](http://" * 8_000 + "*" * 20_000 + "`a" * 10_000 + " the end"
MARKDOWN = "# Title\n\nSome **bold** text with `code`.\n\n- one\n- two\n\n```python\nprint('hi')\n```\n"


class Application:
    """A server whose handler is told what to do by the message."""

    def __init__(self, **options: Any) -> None:
        self.server = Server(**options)
        self.go_on = threading.Event()
        self.cancelled = threading.Event()
        self.asked: list[ChatRequest] = []
        self.server.chat("fast", "slow")(self.reply)

    async def reply(self, request: ChatRequest) -> AsyncIterator[Any]:
        self.asked.append(request)
        text = request.messages[-1].text
        if text == "usage" and "stream_options" in request.body:
            raise HTTPError(400, "Unknown parameter: stream_options", param="stream_options")
        if text == "fail":
            raise HTTPError(429, "Too many cooks.", code="rate_limit_exceeded")
        if text == "think":
            yield ReasoningDelta("Let me see.")
            yield "Done."
        elif text == "wait":
            yield "first "
            try:
                while not self.go_on.is_set():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            yield "second"
        else:
            yield {"attack": ATTACK, "markdown": MARKDOWN, "brackets": BRACKETS}.get(text, f"You said {text}")


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def address(application: Application) -> Iterator[str]:
    with start_in_thread(serve(ChatPage(application.server))) as server:
        yield server.base_url.removesuffix("v1")


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(address)
    yield page
    context.close()


def ask(page: Any, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_conversation(page: Any, application: Application) -> None:
    """A message is answered by the model that is chosen, with the settings; the history goes with the next one."""
    page.get_by_label("Model").select_option("slow")
    page.get_by_label("System prompt").fill("Be kind.")
    page.get_by_label("Temperature").fill("0.5")
    ask(page, "hello")
    page.get_by_text("You said hello").wait_for()
    ask(page, "again")
    page.get_by_text("You said again").wait_for()
    body = application.asked[-1].body
    assert (body["model"], body["temperature"]) == ("slow", 0.5)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    page.get_by_text("tokens").first.wait_for()
    assert page.problems == []


def test_an_answer_grows_while_it_streams(page: Any, application: Application) -> None:
    """The first piece is on the page before the second one exists."""
    ask(page, "wait")
    page.locator(".assistant").get_by_text("first").wait_for()
    assert not page.get_by_text("second").is_visible()
    application.go_on.set()
    page.get_by_text("first second").wait_for()


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_cancels_the_handler(page: Any, application: Application, how: str) -> None:
    """What came stays, and the next message works."""
    ask(page, "wait")
    page.locator(".assistant").get_by_text("first").wait_for()
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    assert application.cancelled.wait(10)
    page.get_by_text("stopped").wait_for()
    ask(page, "more")
    page.get_by_text("You said more").wait_for()


def test_an_error_is_shown_in_the_words_of_the_server(page: Any) -> None:
    ask(page, "fail")
    assert "Too many cooks." in page.get_by_role("alert").inner_text()


def test_markdown_and_reasoning(page: Any) -> None:
    """They become elements; code can be copied, and reasoning is folded."""
    ask(page, "markdown")
    page.locator(".assistant pre code").wait_for()
    assert page.locator(".assistant strong").inner_text() == "bold"
    assert page.locator(".assistant li").all_inner_texts() == ["one", "two"]
    assert page.locator(".assistant pre code").inner_text() == "print('hi')"
    assert page.get_by_role("button", name="Copy").is_visible()
    ask(page, "think")
    page.get_by_text("Done.").wait_for()
    assert not page.get_by_text("Let me see.").is_visible()
    page.get_by_text("Reasoning").click()
    assert page.get_by_text("Let me see.").is_visible()


def test_hostile_text_stays_text(page: Any) -> None:
    """No element, no script and no link comes from the text of a model."""
    ask(page, "attack")
    page.get_by_text("onerror").first.wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("#messages img, #messages script, #messages a").count() == 0


def test_a_hostile_name_of_a_model_stays_text(browser: Any) -> None:
    """Names of models, errors and paths in the log are texts, too; the policy of the page is never violated."""
    name = "<img src=x onerror=window.hacked=1>\"'"
    application = Application()
    application.server.chat(name)(application.reply)
    with start_in_thread(serve(ChatPage(application.server))) as server:
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.base_url.removesuffix("v1"))
        page.get_by_label("Model").select_option(name)
        page.evaluate("fetch('v1/%3Cimg src=x onerror=window.hacked=1%3E')")
        ask(page, "hi")
        page.get_by_text("You said hi").wait_for()
        until(lambda: "onerror" in page.locator("#log").inner_text())
        assert application.asked[-1].body["model"] == name
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert [text for text in said if "Content Security Policy" in text or "TrustedHTML" in text] == []
        assert (
            page.evaluate("try { document.body.innerHTML = '<b>x</b>'; 'set' } catch (error) { error.name }")
            == "TypeError"
        )
        page.close()


def test_nothing_is_loaded_from_elsewhere(page: Any, address: str) -> None:
    """Every request of the page goes to its own server."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    ask(page, "markdown")
    page.locator(".assistant pre code").wait_for()
    assert len(asked) >= 3
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def test_an_answer_of_brackets_does_not_stop_the_page(page: Any) -> None:
    """Text that looks like thousands of unfinished links is drawn in linear time."""
    ask(page, "brackets")
    page.get_by_text("the end").wait_for()
    page.evaluate("began = performance.now(); markdown(messages.at(-1).content)")
    took = page.evaluate("performance.now() - began")
    assert took < 2_000  # milliseconds; some 20, and quadratic time would be minutes


def test_the_keyboard_alone(page: Any, application: Application) -> None:
    """The message has the focus, Tab reaches every control in order, Shift+Enter is a new line."""
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    page.locator(".assistant").get_by_text("You said").wait_for()
    assert application.asked[-1].messages[-1].text == "one\ntwo"
    until(lambda: page.evaluate("document.activeElement.id") == "text")
    reached: list[str] = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached[:3] == ["send", "system", "temperature"]
    page.keyboard.press("Shift+Tab")
    for _ in range(9):
        page.keyboard.press("Shift+Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert {"messages", "clear", "model"} <= set(reached)


def test_a_server_that_does_not_know_stream_options(page: Any, application: Application) -> None:
    """The request is sent again without them."""
    ask(page, "usage")
    page.get_by_text("You said usage").wait_for()
    assert "stream_options" not in application.asked[-1].body


def test_a_server_that_does_not_stream(browser: Any) -> None:
    """A whole object is shown as the answer; an event that is not JSON and a list of parts are no riddle."""
    with FakeServer() as upstream, start_in_thread(serve(ChatPage(Front([upstream.url])))) as server:
        upstream.when(path="/v1/models").respond(FakeAnswer(json={"data": [{"id": "m"}]}), times=None)
        page = browser.new_page()
        page.goto(server.base_url.removesuffix("v1"))
        until(lambda: page.get_by_label("Model").locator("option").count() == 1)
        upstream.reply(json={"choices": [{"message": {"role": "assistant", "content": "All at once."}}]})
        ask(page, "one")
        page.get_by_text("All at once.").wait_for()
        parts = [{"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "In parts."}]}}]}]
        upstream.respond(FakeAnswer(events=parts))
        ask(page, "two")
        page.get_by_text("In parts.").wait_for()
        events = {"Content-Type": "text/event-stream"}
        upstream.respond(FakeAnswer(headers=events, body=[b"data: <html>\n\n"]))
        ask(page, "three")
        assert "not JSON: <html>" in page.get_by_role("alert").inner_text()
        page.close()


def test_the_log_shows_requests(page: Any) -> None:
    ask(page, "fail")
    page.get_by_role("alert").wait_for()
    row = page.locator("#log tr").first
    row.wait_for()
    until(lambda: "429" in row.inner_text())
    assert "chat/completions" in row.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, address: str, scheme: str) -> None:
    """At 360 pixels nothing scrolls sideways, the settings are a tap away, and the colours follow the system."""
    context = browser.new_context(viewport={"width": 360, "height": 640}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    ask(page, "markdown")
    page.locator(".assistant pre code").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) > 384) == (scheme == "light")
    assert not page.get_by_label("System prompt").is_visible()
    page.get_by_role("button", name="Settings").click()
    assert page.get_by_label("System prompt").is_visible()
    context.close()


def test_a_key_is_asked_for(browser: Any) -> None:
    """The page says that the server needs one, and uses the one that is typed in."""
    with start_in_thread(serve(ChatPage(Application(api_keys="k-1").server))) as server:
        page = browser.new_page()
        page.goto(server.base_url.removesuffix("v1"))
        assert "API key" in page.get_by_role("alert").inner_text()
        page.get_by_label("API key").fill("k-1")
        page.keyboard.press("Tab")
        until(lambda: page.get_by_label("Model").locator("option").count() == 2)
        ask(page, "hi")
        page.get_by_text("You said hi").wait_for()
        page.close()
