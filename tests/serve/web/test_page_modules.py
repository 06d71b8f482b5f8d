"""The page's own arithmetic against numpy, Pillow and OpenCV: runs, PNG, zip, COCO, colours, drawing, recovery.

The modules run in a real browser, on the page whose content policy they have to keep.
"""

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser import chromium, opened_page
from page_gateway import PAGE, Script, mask_of_runs, scripted_gateway
from PIL import Image

from maskstream.overlay import colour_table

RANDOM = np.random.default_rng(5)
SHAPE = (37, 53)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with scripted_gateway(Script()) as address, chromium() as browser, opened_page(browser, address) as page:
        yield page


def blobs(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A label map with regions, single pixels, and an object cut by the rim."""
    id_map = np.zeros(shape, np.uint8)
    id_map[5:20, 8:30] = 3
    id_map[10:12, 15:20] = 0
    id_map[-4:, -9:] = 255
    id_map[0, 0] = 1
    id_map[RANDOM.random(shape) < 0.02] = 7
    return id_map


def ask(page: Any, module: str, expression: str, **values: Any) -> Any:
    """What `expression`, with `m` the module and `v` the values, comes to in the page."""
    return page.evaluate(f"async (v) => {{ const m = await import('/static/{module}.js'); {expression} }}", values)


TO_BASE64 = "const text = (b) => btoa(Array.from(b, (x) => String.fromCharCode(x)).join(''));"


def test_runs_come_back_as_they_went(page: Any) -> None:
    id_map = blobs()
    found = ask(page, "runs", "return m.runsOf(Uint8Array.from(v.map));", map=id_map.ravel().tolist())
    assert (mask_of_runs(found["values"], found["lengths"], *SHAPE) == id_map).all()
    assert all(a != b for a, b in zip(found["values"], found["values"][1:], strict=False))
    expanded = ask(page, "runs", "return [...m.expandRuns(v.values, v.lengths, new Uint8Array(v.size).fill(9))];",
                   size=id_map.size, **found)  # fmt: skip
    assert expanded == id_map.ravel().tolist()


def test_runs_that_do_not_fill_the_map_are_refused(page: Any) -> None:
    told = "try { m.expandRuns([1, 0], [3, 4], new Uint8Array(8)); } catch (error) { return error.message; }"
    assert ask(page, "runs", told) == "runs cover 7 pixels, the map has 8"


def test_the_region_of_one_object_is_cut_out_of_the_runs(page: Any) -> None:
    id_map = blobs()
    body = "const r = m.runsOf(Uint8Array.from(v.map)); return [m.regionRuns(r.values, r.lengths, 3), \
            m.regionRuns(r.values, r.lengths, 99), m.boxOf(Uint8Array.from(v.map), v.width, 255)];"
    region, nothing, box = ask(page, "runs", body, map=id_map.ravel().tolist(), width=SHAPE[1])
    assert (mask_of_runs(region["values"], region["lengths"], *SHAPE) == (id_map == 3)).all()
    assert nothing is None
    assert box == [SHAPE[1] - 9, SHAPE[0] - 4, 9, 4]


def test_a_result_is_unpacked_at_any_alignment(page: Any) -> None:
    body = """
      const lengths = Uint32Array.of(5, 70000, 9);
      return ["", "x", "xx", "xxx"].map((padding) => {
        const payload = new Uint8Array(16);
        payload.set([0, 4, 0]);
        payload.set(new Uint8Array(lengths.buffer), 4);
        const result = m.unpackResult(m.packMessage({ runs: 3, padding }, payload).buffer);
        return [result.header.padding, [...result.values], [...result.lengths]];
      });"""
    expected = [[padding, [0, 4, 0], [5, 70000, 9]] for padding in ("", "x", "xx", "xxx")]
    assert ask(page, "messages", body) == expected


def test_colours_are_those_of_the_overlay(page: Any) -> None:
    found = ask(page, "colours", "return Array.from({ length: 256 }, (_, id) => m.colourOf(id));")
    assert np.abs(np.array(found) - colour_table()[:, 0].astype(int)).max() <= 1


def test_a_png_has_ids_for_pixels_and_colours_for_people(page: Any) -> None:
    id_map = blobs()
    body = TO_BASE64 + "return text(await m.palettePng(Uint8Array.from(v.map), v.width, v.height));"
    data = base64.b64decode(ask(page, "png", body, map=id_map.ravel().tolist(), width=SHAPE[1], height=SHAPE[0]))
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.mode == "P"
    assert (np.asarray(image) == id_map).all()
    colour = np.array(image.getpalette()).reshape(-1, 3)[3]
    assert np.abs(colour - colour_table()[3, 0].astype(int)).max() <= 1


def test_a_zip_is_read_by_others(page: Any) -> None:
    body = (
        TO_BASE64
        + """
      const zip = new m.ZipWriter();
      for (const [name, bytes] of v.files) zip.add(name, Uint8Array.from(bytes));
      return text(new Uint8Array(await zip.blob().arrayBuffer()));"""
    )
    files: dict[str, list[int]] = {"a.bin": list(range(256)), "empty": [], "b/c.txt": [104, 105]}
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(ask(page, "zip", body, files=list(files.items())))))
    assert archive.testzip() is None
    assert {name: list(archive.read(name)) for name in archive.namelist()} == files


def decoded(segmentation: dict[str, Any]) -> np.ndarray:
    """COCO's uncompressed run lengths, which go down the columns and begin with background."""
    height, width = segmentation["size"]
    values = np.arange(len(segmentation["counts"])) % 2
    return np.repeat(values, segmentation["counts"]).reshape(width, height).T


@pytest.mark.parametrize("id_map", [blobs(), np.full(SHAPE, 2, np.uint8), np.zeros(SHAPE, np.uint8)])
def test_coco_regions_are_those_of_the_map(page: Any, id_map: np.ndarray) -> None:
    body = "return [...m.cocoRegions(Uint8Array.from(v.map), v.width, v.height)];"
    found = dict(ask(page, "runs", body, map=id_map.ravel().tolist(), width=SHAPE[1], height=SHAPE[0]))
    assert set(found) == set(np.unique(id_map).tolist()) - {0}
    for object_id, region in found.items():
        mask = id_map == object_id
        assert (decoded({"size": SHAPE, "counts": region["counts"]}) == mask).all()
        assert region["area"] == mask.sum()


def test_history_replaces_frames_and_forgets_the_oldest(page: Any) -> None:
    body = """
      const entry = (index, n) => ({ index, width: 2, height: 1, values: new Uint8Array(n), lengths: [], objects: [] });
      const history = new m.History(3000);
      for (const index of [0, 1, 1, 2, 3]) history.put(entry(index, 200));
      return [history.entries().map((e) => e.index), history.forgotten];"""
    assert ask(page, "history", body) == [[2, 3], 2]


def test_a_stroke_is_a_thick_line_inside_the_picture(page: Any) -> None:
    body = """
      const empty = new Uint8Array(v.width * v.height);
      const painted = m.withStroke(empty, v.width, v.from, v.to, v.radius, 1);
      const erased = m.withStroke(painted, v.width, v.from, v.from, v.radius, 0);
      return [[...painted], [...erased], empty.includes(1)];"""
    start, end, radius = (10, 12), (50, 30), 5
    values = {"width": SHAPE[1], "height": SHAPE[0], "from": start, "to": end, "radius": radius}
    painted, erased, touched = ask(page, "drafts", body, **values)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    line = np.array(end) - start
    along = np.clip(((x - start[0]) * line[0] + (y - start[1]) * line[1]) / (line @ line), 0, 1)
    distance = np.hypot(x - start[0] - along * line[0], y - start[1] - along * line[1])
    painted = np.array(painted).reshape(SHAPE)
    assert painted[distance <= radius - 0.5].all()
    assert not painted[distance > radius + 0.01].any()
    assert (np.array(erased).reshape(SHAPE) == (painted & (np.hypot(x - start[0], y - start[1]) > radius))).all()
    assert not touched


def test_drafts_undo_one_after_the_other(page: Any) -> None:
    body = """
      const drafts = new m.Drafts(() => {});
      drafts.setBox(1, [1, 2, 3, 4]);
      drafts.addPoint(2, [5, 6], true);
      drafts.addPoint(2, [7, 8], false);
      const seen = [drafts.prompts(10, 10)];
      for (let i = 0; i < 3; i += 1) { drafts.undo(); seen.push(drafts.prompts(10, 10)); }
      return [seen, drafts.canUndo];"""
    box = {"id": 1, "box": [1, 2, 3, 4]}
    both, one = {"id": 2, "on": [[5, 6]], "off": [[7, 8]]}, {"id": 2, "on": [[5, 6]], "off": []}
    assert ask(page, "drafts", body) == [[[box, both], [box, one], [box], []], False]


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        ([round(i / 29.97, 3) for i in range(16)], 29.97),
        ([i / 24 for i in range(12)], 24),
        ([i / 25 for i in (0, 1, 3, 4, 7, 8)], 25),
        ([0.0], 25),
        ([i / 10 for i in range(8)], 10),
    ],
)
def test_a_file_s_rate_is_told_from_the_times_of_its_frames(page: Any, times: list[float], rate: float) -> None:
    assert ask(page, "sources", "return m.rateOfTimes(v.times);", times=times) == pytest.approx(rate, rel=2e-3)


@pytest.mark.parametrize(
    ("size", "height", "expected"),
    [
        ((1920, 1080), 480, (853, 480)),
        ((854, 480), 480, (854, 480)),
        ((1080, 1920), 480, (480, 853)),
        ((320, 240), 480, (320, 240)),
        ((2000, 500), 480, (855, 214)),
    ],
)
def test_pictures_are_shrunk_and_never_enlarged(
    page: Any, size: tuple[int, int], height: int, expected: tuple[int, int]
) -> None:
    found = ask(page, "sources", "return m.workingSize(v.width, v.height, v.limit);",
                width=size[0], height=size[1], limit=height)  # fmt: skip
    assert (found["width"], found["height"]) == expected


@pytest.mark.parametrize(
    ("problem", "attempt", "seconds"),
    [
        ({"code": "UNAVAILABLE", "reason": "SERVER_FULL", "retrySeconds": 0.7}, 0, 0.7),
        ({"code": "UNAVAILABLE", "reason": "SERVER_FULL", "retrySeconds": 0.7}, 2, 2),
        ({"code": "RESOURCE_EXHAUSTED", "reason": "TOO_MANY_STREAMS", "retrySeconds": 30}, 20, 30),
        ({"code": "UNAVAILABLE", "reason": "CONNECTION_LOST"}, 0, 0.5),
        ({"code": "UNAVAILABLE", "reason": "CONNECTION_LOST"}, 6, 8),
        ({"code": "UNAVAILABLE", "reason": "CONNECTION_LOST", "retrySeconds": None}, 8, None),
        ({"code": "RESOURCE_EXHAUSTED", "reason": "MESSAGE_TOO_LARGE", "retrySeconds": None}, 0, None),
        ({"code": "INVALID_ARGUMENT", "reason": "BAD_MESSAGE"}, 0, None),
        ({"code": "INTERNAL", "reason": "INTERNAL"}, 0, None),
    ],
)
def test_waiting_is_tried_only_where_it_helps(page: Any, problem: dict[str, Any], attempt: int, seconds: Any) -> None:
    assert (
        ask(page, "connect", "return m.retryAfter(v.problem, v.attempt);", problem=problem, attempt=attempt) == seconds
    )


def test_drawing_a_frame_of_480p_takes_few_milliseconds(page: Any) -> None:
    body = """
      const [width, height] = [854, 480];
      const [runs, map] = [await import('/static/runs.js'), new Uint8Array(width * height)];
      for (let y = 100; y < 380; y += 1) map.fill(1 + (y >> 6), y * width + 150, y * width + 700);
      const pixels = new Uint32Array(map.length);
      const { values, lengths } = runs.runsOf(map);
      const look = { opacity: 0.45, contour: true, hidden: new Set([3]) };
      const times = [];
      for (let i = 0; i < 12; i += 1) {
        const start = performance.now();
        runs.expandRuns(values, lengths, map);
        m.tintPixels(map, width, pixels, look);
        times.push(performance.now() - start);
      }
      const at = (x, y) => pixels[y * width + x].toString(16);
      return [times.sort((a, b) => a - b)[6], [at(10, 10), at(400, 110), at(400, 160), at(150, 290)]];"""
    milliseconds, [outside, inside, hidden, rim] = ask(page, "overlay", body)
    print(f"tint of 854x480: {milliseconds:.1f} ms")
    red, green, blue = colour_table()[2, 0]
    assert outside == hidden == "0"
    assert inside == f"73{blue:02x}{green:02x}{red:02x}"  # alpha first, then backwards: a little-endian word
    assert rim.startswith("ff")
    assert milliseconds < 50, "an order of magnitude slower than it should be"


def test_every_module_says_what_it_is_and_stays_short() -> None:
    sources = {path.name: path.read_text() for path in PAGE.iterdir() if path.suffix in {".js", ".css", ".html"}}
    assert [name for name, text in sources.items() if not text.isascii()] == []
    assert [name for name, text in sources.items() if text.count("\n") > 400] == []
    assert [name for name, text in sources.items() if name.endswith(".js") and not text.startswith("// ")] == []
    foreign = re.compile(r"[\"'(]https?://")
    assert [name for name, text in sources.items() if foreign.search(text)] == []
