"""The page and its stream: how many frames are under way, and what it does when the server is full, asks for a token,
goes away or is lost.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from browser import chromium, opened_page
from page_gateway import CLIP_FRAMES, HEIGHT, WIDTH, Script, mask_of_prompt, scripted_gateway
from page_user import BOX, assert_tinted, draw_box, follow_box, says, take_clip
from served import eventually

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the page against a script; the keywords are Playwright's of a context."""
    with ExitStack() as stack:

        def open_one(script: Script, **options: Any) -> Any:
            address = stack.enter_context(scripted_gateway(script))
            return stack.enter_context(opened_page(browser, address, **options))

        yield open_one


def test_a_file_never_has_many_frames_under_way(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    follow_box(page)
    script.held = True
    page.click("#play")
    eventually(lambda: script.arrived == 1 + 3)
    time.sleep(0.3)
    assert script.arrived == 1 + 3, "the next waits for an answer"
    script.held = False
    says(page, "status", "The end of the source.")
    assert script.arrived == CLIP_FRAMES


def test_a_full_server_is_waited_for(open_page: Open) -> None:
    script = Script(full=1, retry_seconds=1.5)
    page = open_page(script)
    take_clip(page)
    draw_box(page)
    started = time.monotonic()
    page.click("#apply")
    says(page, "status", "The server is full. Trying again in 2 s.")
    says(page, "status", "Following 1 object.")
    assert time.monotonic() - started >= 1.5
    assert len(script.openings) == 2


def test_waiting_for_a_full_server_can_be_stopped(open_page: Open) -> None:
    script = Script(full=100, retry_seconds=30)
    page = open_page(script)
    take_clip(page)
    draw_box(page)
    page.click("#apply")
    says(page, "status", "Trying again in 30 s.")
    page.click("#stop")
    says(page, "status", "Stopped.")
    says(page, "link", "not connected")
    assert len(script.openings) == 1
    script.full = 0
    page.click("#apply")
    says(page, "status", "Following 1 object.")


def test_a_token_is_asked_for_until_it_is_right(open_page: Open) -> None:
    script = Script(token="open sesame")
    page = open_page(script)
    take_clip(page)
    draw_box(page)
    page.click("#apply")
    page.fill("#token", "open barley")
    page.press("#token", "Enter")
    says(page, "token-text", "did not take the token")
    page.fill("#token", "open sesame")
    page.click("#token-dialog >> text=Use token")
    says(page, "status", "Following 1 object.")
    assert [opening["token"] for opening in script.openings] == [None, "open barley", "open sesame"]
    assert "sesame" not in page.url
    assert page.evaluate("localStorage.length") == 0


def test_without_a_token_it_says_so(open_page: Open) -> None:
    page = open_page(Script(token="open sesame"))
    take_clip(page)
    draw_box(page)
    page.click("#apply")
    page.click("#token-dialog >> text=Cancel")
    says(page, "alert", "A token is needed")
    assert page.locator("#objects li").count() == 1, "what was drawn is kept"


@pytest.mark.parametrize("ending", ["lose_after", "drain_after"])
def test_a_new_stream_goes_on_from_the_last_masks(open_page: Open, ending: str) -> None:
    script = Script()
    setattr(script, ending, 3)
    page = open_page(script)
    take_clip(page)
    draw_box(page)
    page.click("#play")
    says(page, "status", "The end of the source.")
    assert len(script.openings) == 2
    first, again = script.prompts()
    assert "box" in first[0]
    assert (mask_of_prompt(again[0], HEIGHT, WIDTH) == mask_of_prompt({"box": BOX}, HEIGHT, WIDTH)).all()
    says(page, "kept", f"Masks of {CLIP_FRAMES} frames.")
    page.uncheck("#labels")
    assert_tinted(page, CLIP_FRAMES - 1, BOX)
    answered = {round(header["pts"] * 24) for header in script.received if "pts" in header}
    assert answered == set(range(CLIP_FRAMES))


def test_a_refused_prompt_is_told_and_kept(open_page: Open) -> None:
    script = Script(refuse_prompts=1)
    page = open_page(script)
    take_clip(page)
    draw_box(page)
    page.click("#apply")
    says(page, "alert", "nothing there")
    page.click("#apply")
    says(page, "status", "Following 1 object.")
    assert page.inner_text("#alert") == ""


def test_stop_frees_the_place_and_play_goes_on(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    follow_box(page)
    page.click("#stop")
    says(page, "link", "not connected")
    eventually(lambda: script.received[-1]["type"] == "close")
    page.click("#step")
    says(page, "position", "frame 2 of")
    assert len(script.openings) == 2
    page.click("#restart")
    says(page, "position", "frame 1 of")
    assert page.locator("#objects li").count() == 0
    assert page.is_disabled("#save-masks")
