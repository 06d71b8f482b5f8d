"""The page, the gateway, the service and the shipped networks together: what a person gets who draws a box.

The engine is a plain one at a small size, so that a frame takes a fraction of a second on two cores.
"""

import base64
import io
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import chromium, opened_page
from PIL import Image
from served import Start

from maskstream.commands.server_process import RunningServer, started_server
from maskstream.overlay import colour_table
from serve.config import AuthSettings
from serve.tokens import new_token

HEIGHT, WIDTH = 240, 427  # of the frames that the page sends
STRIPED = 1  # the object of the clip that is followed
FLAGS = ("--engine", "onnxruntime:fp32", "--short-side", "160", "--max-batch", "1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with started_server(tmp_path_factory.mktemp("server"), *FLAGS) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(server: RunningServer, browser: Any) -> Iterator[Any]:
    with opened_page(browser, f"http://{server.http}/") as page:
        yield page


def begin(page: Any) -> None:
    """The clip at a small size, and a box drawn on it."""
    page.select_option("#working-height", "240")
    page.click("#source-clip")
    page.wait_for_selector("#draft.ready", timeout=120_000)  # the clip is rendered when it is first asked for
    drag_box(page, np.pad(np.ones((64, 64), np.uint8), 80))


def exact_mask(server: RunningServer) -> np.ndarray:
    """Of the object on the clip's first frame, at the page's size."""
    with urllib.request.urlopen(f"http://{server.http}/v1/clip/masks/0.png", timeout=60) as answer:
        id_map = np.asarray(Image.open(io.BytesIO(answer.read())))
    mask = (id_map == STRIPED).astype(np.uint8)
    return np.asarray(cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST))


def canvas(page: Any) -> np.ndarray:
    data = page.evaluate("document.getElementById('view').toDataURL().split(',')[1]")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def drag_box(page: Any, mask: np.ndarray) -> None:
    area = page.locator("#draft").bounding_box()
    x, y, width, height = cv2.boundingRect(mask)
    corners = ((x - 2, y - 2), (x + width + 2, y + height + 2))
    places = [(area["x"] + a * area["width"] / WIDTH, area["y"] + b * area["height"] / HEIGHT) for a, b in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1])
    page.mouse.up()


def step_to(page: Any, number: int) -> None:
    page.click("#step")
    page.wait_for_selector(f"#position:has-text('frame {number} of')")


def downloaded_maps(page: Any) -> list[np.ndarray]:
    with page.expect_download() as waiting:
        page.click("#save-masks")
    with zipfile.ZipFile(Path(waiting.value.path())) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        return [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]


def test_the_bundled_clip_is_segmented_from_a_drawn_box(page: Any, server: RunningServer) -> None:
    page.select_option("#working-height", "240")
    page.click("#source-clip")
    page.wait_for_selector("#draft.ready", timeout=120_000)  # the clip is rendered when it is first asked for
    exact = exact_mask(server)
    drag_box(page, exact)
    page.click("#apply")
    page.wait_for_selector("#status:has-text('Following 1 object.')")
    page.uncheck("#labels")
    page.uncheck("#contour")
    for number in (2, 3):
        step_to(page, number)
    tinted = canvas(page)
    page.fill("#opacity", "0")
    plain = canvas(page)
    first, _, last = maps = downloaded_maps(page)
    assert all(id_map.shape == (HEIGHT, WIDTH) and set(np.unique(id_map)) == {0, 1} for id_map in maps)
    found = first != 0
    assert (found & (exact != 0)).sum() / (found | (exact != 0)).sum() > 0.7
    assert 0.5 < last.sum() / first.sum() < 2
    assert (tinted[last == 0] == plain[last == 0]).all(), "the picture is itself outside the object"
    mixed = 0.55 * plain[last != 0] + 0.45 * colour_table()[1, 0].astype(int)
    assert np.abs(tinted[last != 0] - mixed).max() <= 3
    page.fill("#opacity", "45")


def test_it_is_corrected_and_another_is_added(page: Any) -> None:
    page.click("[aria-label='Correct object 1']")
    page.check("input[value=brush]", force=True)
    area = page.locator("#draft").bounding_box()
    page.mouse.move(area["x"] + 30, area["y"] + 30)
    page.mouse.down()
    page.mouse.move(area["x"] + 120, area["y"] + 30)
    page.mouse.up()
    page.click("#add")
    page.mouse.move(area["x"] + 60, area["y"] + area["height"] - 60)
    page.mouse.down()
    page.mouse.move(area["x"] + 160, area["y"] + area["height"] - 60)
    page.mouse.up()
    page.click("#apply")
    page.wait_for_selector("#status:has-text('Following 2 objects.')")
    assert set(np.unique(downloaded_maps(page)[-1])) == {0, 1, 2}
    page.click("[aria-label='Remove object 2']")
    step_to(page, 4)
    assert set(np.unique(downloaded_maps(page)[-1])) == {0, 1}
    page.click("#stop")
    page.wait_for_selector("#link:has-text('not connected')")


def test_a_token_lets_in(browser: Any, start: Start, tmp_path: Path) -> None:
    token, line = new_token("camera")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(line)
    tokens.chmod(0o600)
    running = start(web=True, auth=AuthSettings(tokens))
    with opened_page(browser, f"http://{running.server.http}/") as page:
        begin(page)
        page.click("#apply")
        page.fill("#token", "wrong")
        page.press("#token", "Enter")
        page.wait_for_selector("#token-text:has-text('did not take the token')")
        page.fill("#token", token)
        page.press("#token", "Enter")
        page.wait_for_selector("#status:has-text('Following 1 object.')")


def test_a_page_waits_for_the_place_of_another(browser: Any, start: Start) -> None:
    running = start(web=True, max_streams=1)
    address = f"http://{running.server.http}/"
    with opened_page(browser, address) as first, opened_page(browser, address) as second:
        for page in (first, second):
            begin(page)
            page.click("#apply")
            text = "Following 1 object." if page is first else "The server is full. Trying again in"
            page.wait_for_selector(f"#status:has-text('{text}')")
        first.click("#stop")
        second.wait_for_selector("#status:has-text('Following 1 object.')")
