"""The page as a person uses it, in a headless Chromium, against a gateway whose every answer is known by hand."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium, opened_page
from page_gateway import CLIP_FRAMES, HEIGHT, WIDTH, Script, clip_picture, mask_of_prompt, scripted_gateway
from page_user import BOX, assert_tinted, at, canvas, drag, draw_box, follow_box, key, says, take_clip
from PIL import Image
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


def test_the_bundled_clip_is_followed_from_a_drawn_box(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    follow_box(page)
    assert script.prompts() == [[{"id": 1, "box": list(BOX)}]]
    page.uncheck("#labels")
    assert_tinted(page, 0, BOX)
    key(page, "Space")
    says(page, "status", "The end of the source.")
    says(page, "position", f"frame {CLIP_FRAMES} of {CLIP_FRAMES}")
    assert_tinted(page, CLIP_FRAMES - 1, BOX)
    assert [header["pts"] for header in script.received] == pytest.approx([i / 24 for i in range(CLIP_FRAMES)])
    assert script.openings[0]["delivery"] == "lossless"
    says(page, "objects", "visible")
    says(page, "objects", f"score 0.90, {BOX[2] * BOX[3]:,} px")
    says(page, "hud-memory", "of 5")


def test_nothing_is_sent_before_something_is_drawn(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    take_clip(page)
    page.click("#play")
    says(page, "status", "The end of the source.")
    assert script.openings == []
    assert np.abs(canvas(page).astype(int) - clip_picture(CLIP_FRAMES - 1)).max() <= 6


def test_step_correct_add_hide_and_remove(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    follow_box(page)
    key(page, "ArrowRight")
    says(page, "position", "frame 2 of")
    page.click("[aria-label='Correct object 1']")
    key(page, "c")
    page.mouse.click(*at(page, 100, 60))
    page.mouse.click(*at(page, 120, 60), button="right")
    page.click("#add")
    key(page, "b")
    draw_box(page, (10, 80, 20, 20))
    page.click("#apply")
    says(page, "status", "Following 2 objects.")
    points = {"id": 1, "on": [[100, 60]], "off": [[120, 60]]}
    assert script.prompts()[1:] == [[points, {"id": 2, "box": [10, 80, 20, 20]}]]
    assert script.received[-1]["pts"] == pytest.approx(1 / 24), "on the frame on screen, not on the next one"
    page.uncheck("#labels")
    page.click("[aria-label='Hide object 1']")
    assert_tinted(page, 1, (10, 80, 20, 20), object_id=2)
    page.click("[aria-label='Remove object 2']")
    assert np.abs(canvas(page).astype(int) - clip_picture(1)).max() <= 6
    key(page, "ArrowRight")
    says(page, "position", "frame 3 of")
    eventually(lambda: any(r["type"] == "remove_objects" and r["ids"] == [2] for r in script.received))
    assert page.locator("#objects li").count() == 1


def test_an_object_is_removed_while_it_runs(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    take_clip(page)
    draw_box(page)
    page.click("#add")
    draw_box(page, (100, 80, 20, 20))
    page.click("#apply")
    says(page, "status", "Following 2 objects.")
    page.uncheck("#labels")
    page.evaluate("""() => { window.most = 0; new MutationObserver(() => {
        window.most = Math.max(window.most, document.querySelectorAll('#objects li').length); })
        .observe(document.getElementById('objects'), { childList: true }); }""")
    script.held = True
    page.click("#play")
    eventually(lambda: script.arrived == 1 + 3)
    page.click("[aria-label='Remove object 1']")
    script.held = False
    says(page, "status", "The end of the source.")
    assert page.evaluate("window.most") == 1, "answers to frames sent before must not bring it back"
    assert_tinted(page, CLIP_FRAMES - 1, (100, 80, 20, 20), object_id=2)


def test_brush_and_eraser_make_a_mask(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    take_clip(page)
    key(page, "m")
    drag(page, (30, 30), (90, 30))
    key(page, "e")
    drag(page, (60, 30), (60, 31))
    page.click("#apply")
    says(page, "status", "Following 1 object.")
    mask = mask_of_prompt(script.prompts()[0][0], HEIGHT, WIDTH)
    assert mask[30, 30] == mask[30, 90] == mask[30, 24] == mask[40, 40] == 1
    assert mask[30, 60] == mask[30, 70] == mask[60, 60] == 0


def test_undo_takes_the_last_thing_drawn_away(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    take_clip(page)
    draw_box(page, (5, 5, 30, 30))
    draw_box(page)
    key(page, "z")
    key(page, "a")
    says(page, "status", "Following 1 object.")
    assert script.prompts() == [[{"id": 1, "box": [5, 5, 30, 30]}]]


def test_things_are_found_without_drawing(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    take_clip(page)
    page.fill("#auto-count", "2")
    page.click("#auto")
    says(page, "status", "Following 2 objects.")
    assert script.received[0]["auto"] == 2
    assert page.locator("#objects li").count() == 2


def download(page: Any, button: str) -> Path:
    with page.expect_download() as waiting:
        page.click(button)
    return Path(waiting.value.path())


def test_downloads_hold_what_was_answered(open_page: Open) -> None:
    page = open_page(Script())
    follow_box(page)
    page.fill("[aria-label='Name of object 1']", "red box")
    page.click("#play")
    says(page, "status", "The end of the source.")
    expected = mask_of_prompt({"box": BOX}, HEIGHT, WIDTH)
    with zipfile.ZipFile(download(page, "#save-masks")) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert names == [f"{i:05d}.png" for i in range(CLIP_FRAMES)]
        for name in names:
            image = Image.open(io.BytesIO(archive.read(name)))
            assert image.mode == "P"
            assert (np.asarray(image) == expected).all()
        assert json.loads(archive.read("objects.json")) == {"1": "red box"}
    coco = json.loads(download(page, "#save-coco").read_text())
    assert coco["categories"] == [{"id": 1, "name": "red box"}]
    assert [image["file_name"] for image in coco["images"]] == names
    for annotation in coco["annotations"]:
        height, width = annotation["segmentation"]["size"]
        counts = annotation["segmentation"]["counts"]
        mask = np.repeat(np.arange(len(counts)) % 2, counts).reshape(width, height).T
        assert (mask == expected).all()
        assert annotation["bbox"] == list(BOX)
        assert annotation["area"] == expected.sum()


def test_the_overlay_video_plays_the_whole_clip(open_page: Open, tmp_path: Path) -> None:
    from maskstream.video import open_source

    page = open_page(Script())
    follow_box(page)
    page.click("#play")
    says(page, "status", "The end of the source.")
    with page.expect_download() as waiting:
        page.click("#save-video")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.stem == "bundled-clip-overlay"
    with open_source(str(path)) as video:
        frames = [frame for frame, _ in video]
    assert len(frames) >= 2
    x, y, width, height = BOX
    tinted = frames[-1][y + 5 : y + height - 5, x + 5 : x + width - 5].reshape(-1, 3).mean(axis=0)
    beside = frames[-1][y + 5 : y + height - 5, x + width + 5 : x + width + 15].reshape(-1, 3).mean(axis=0)
    assert tinted[0] - tinted[1] > 30, "object 1 is tinted red"
    assert abs(beside[0] - beside[1]) < 12


def test_the_webcam_is_followed_live(open_page: Open) -> None:
    script = Script()
    page = open_page(script)
    page.select_option("#working-height", "240")
    page.click("#source-camera")
    says(page, "status", "Webcam: 320x240")
    page.locator("#draft").focus()
    for moved in ("Enter", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(moved)
    page.click("#play")
    eventually(lambda: len(script.received) > 5)
    page.click("#play")
    says(page, "status", "Paused")
    assert script.openings[0]["delivery"] == "latest"
    now = time.time()
    assert all(now - 30 < header["capture_time"] < now + 1 for header in script.received)
    assert page.is_hidden("#progress")


def test_a_video_file_is_visited_frame_by_frame(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "steps.webm"
    write_webm(path, [clip_picture(index) for index in range(8)], rate=10)
    script = Script()
    page = open_page(script)
    page.set_input_files("#file", path)
    says(page, "status", f"steps.webm: {WIDTH}x{HEIGHT}, 10 frames/s")
    says(page, "position", "frame 1 of 8")
    levels = [canvas(page).mean()]
    draw_box(page)
    for index in range(1, 8):
        key(page, "ArrowRight")
        says(page, "position", f"frame {index + 1} of 8")
        levels.append(canvas(page)[:, 90:].mean())
    assert (np.diff(levels[1:]) > 4).all(), "every frame is brighter than the one before"
    assert [round(header["pts"] * 10) for header in script.received] == list(range(8))


def test_what_cannot_be_played_is_told(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(b"nothing of a video" * 99)
    page = open_page(Script())
    page.set_input_files("#file", path)
    says(page, "alert", "This browser cannot play noise.mp4")
    take_clip(page)


def write_webm(path: Path, frames: list[np.ndarray], rate: int) -> None:
    """A VP8 file, which every Chromium can play."""
    import av

    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
