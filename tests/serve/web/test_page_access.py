"""The page without a mouse, without sight of it, in the dark, on a telephone."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import chromium, opened_page
from page_gateway import CLIP_FRAMES, Script, scripted_gateway

CONTROLS = "button, input:not([hidden]), select, canvas, progress, dialog, [role=application]"
SMALLEST_CONTRAST = 4.5


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(scope="module")
def address(script: Script) -> Iterator[str]:
    with scripted_gateway(script) as address:
        yield address


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def focus_by_tab(page: Any, selector: str, most: int = 40) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{selector} is not reached by Tab")


def test_a_box_is_drawn_and_followed_by_keys_alone(browser: Any, address: str, script: Script) -> None:
    script.received.clear()
    with opened_page(browser, address) as page:
        focus_by_tab(page, "#source-clip")
        press(page, "Enter")
        page.wait_for_selector("#apply, #draft.ready")
        page.wait_for_selector("#draft.ready")
        focus_by_tab(page, "#draft")
        press(
            page, "ArrowLeft", "ArrowUp", "Enter", *["ArrowRight"] * 3, *["Shift+ArrowDown"] * 2, "ArrowDown", "Enter"
        )
        focus_by_tab(page, "#play")
        press(page, "Enter")
        page.wait_for_selector("#status:has-text('The end of the source.')")
    # from 10 left of and above the middle (80, 60), 30 to the right and 12 down
    assert script.prompts() == [[{"id": 1, "box": [70, 50, 31, 13]}]]
    assert len(script.received) == CLIP_FRAMES


def test_clicks_and_strokes_by_keys(browser: Any, address: str, script: Script) -> None:
    script.received.clear()
    with opened_page(browser, address) as page:
        page.click("#source-clip")
        page.wait_for_selector("#draft.ready")
        press(page, "c", "d", "Enter", "ArrowRight", "Shift+Enter", "n", "m", "d")
        press(page, "Enter", "ArrowRight", "ArrowRight", "Enter", "a")
        page.wait_for_selector("#status:has-text('Following 2 objects.')")
    points, mask = script.prompts()[0]
    assert points == {"id": 1, "on": [[80, 60]], "off": [[90, 60]]}
    assert mask["id"] == 2
    assert 0 < sum(n for v, n in zip(mask["mask"]["values"], mask["mask"]["lengths"], strict=True) if v) < 3000


def test_escape_drops_a_box_half_drawn(browser: Any, address: str) -> None:
    with opened_page(browser, address) as page:
        page.click("#source-clip")
        page.wait_for_selector("#draft.ready")
        press(page, "d", "Enter", "ArrowRight", "Escape", "a")
        assert page.is_disabled("#apply")


def test_shortcuts_leave_a_name_alone(browser: Any, address: str) -> None:
    with opened_page(browser, address) as page:
        page.click("#source-clip")
        page.wait_for_selector("#draft.ready")
        page.fill("#auto-count", "1")
        page.click("#auto")
        page.wait_for_selector("#objects li")
        page.fill("#objects input", "")
        page.locator("#objects input").type("a boa, n m")
        assert page.input_value("#objects input") == "a boa, n m"
        press(page, "Delete")
        assert page.locator("#objects li").count() == 1
        assert page.inner_text("#position").startswith("frame 1 ")


def test_every_control_has_a_name(browser: Any, address: str) -> None:
    with opened_page(browser, address) as page:
        page.click("#source-clip")
        page.wait_for_selector("#draft.ready")
        page.click("#auto")
        page.wait_for_selector("#objects li")
        names = page.evaluate(
            """(controls) => [...document.querySelectorAll(controls)].map((node) => {
              const labelled = node.getAttribute("aria-labelledby");
              const name = node.ariaLabel || (labelled && document.getElementById(labelled).textContent)
                || [...(node.labels ?? [])].map((label) => label.textContent).join(" ") || node.textContent;
              return [node.id || node.outerHTML.slice(0, 60), name.trim()];
            })""",
            CONTROLS,
        )
        unknown = page.evaluate(
            """() => [...document.querySelectorAll("[aria-labelledby], [aria-describedby]")].filter((node) =>
              ["aria-labelledby", "aria-describedby"].some((key) => node.hasAttribute(key)
                && !document.getElementById(node.getAttribute(key)))).map((node) => node.outerHTML)"""
        )
        twice = page.evaluate(
            """() => { const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
              return ids.filter((id, i) => ids.indexOf(id) !== i); }"""
        )
    assert len(names) > 30
    assert [control for control, name in names if not name] == []
    assert unknown == []
    assert twice == []


def test_headings_landmarks_and_live_regions(browser: Any, address: str) -> None:
    with opened_page(browser, address) as page:
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("h1").count() == 1
        assert page.locator("main").count() == page.locator("header").count() == 1
        assert page.get_attribute("#status", "role") == "status"
        assert page.get_attribute("#alert", "role") == "alert"
        assert page.locator("#hud [aria-live], #hud[aria-live]").count() == 0, "figures change with every frame"


def test_the_shortcuts_are_listed_in_a_dialog(browser: Any, address: str) -> None:
    with opened_page(browser, address) as page:
        press(page, "?")
        page.wait_for_selector("#help-dialog[open]")
        assert "step one frame" in page.inner_text("#help-dialog")
        press(page, "Escape")
        page.wait_for_selector("#help-dialog:not([open])", state="attached")


CONTRASTS = """() => {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => { probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = (colour) => rgb(colour).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => { for (let n = node; n; n = n.parentElement) {
    const colour = getComputedStyle(n).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour; } return "white"; };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || !node.checkVisibility() || node.closest(":disabled, .welcome, option")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < LEAST) poor.push([node.outerHTML.slice(0, 80), contrast]);
  }
  return poor;
}""".replace("LEAST", str(SMALLEST_CONTRAST))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Any, address: str, scheme: str) -> None:
    with opened_page(browser, address, color_scheme=scheme, reduced_motion="reduce") as page:
        page.click("#source-clip")
        page.wait_for_selector("#draft.ready")
        page.click("#auto")
        page.wait_for_selector("#objects li")
        assert page.evaluate(CONTRASTS) == []
        page.evaluate("document.getElementById('alert').textContent = 'Something is wrong.'")
        page.click("#help")
        assert page.evaluate(CONTRASTS) == []


def test_dark_and_light_are_chosen_and_kept(browser: Any, address: str) -> None:
    with opened_page(browser, address, color_scheme="light") as page:
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        after = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after != before


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_nothing_hangs_over_the_edge(browser: Any, address: str, width: int) -> None:
    with opened_page(browser, address, viewport={"width": width, "height": 740}) as page:
        page.click("#source-clip")
        page.wait_for_selector("#draft.ready")
        page.click("#auto")
        page.wait_for_selector("#objects li")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            """(width) => [...document.querySelectorAll("button, input, canvas, dd")]
              .filter((node) => node.checkVisibility() && node.getBoundingClientRect().right > width + 1)
              .map((node) => node.outerHTML.slice(0, 80))""",
            width,
        )
        assert cut == []
        view, draft = (page.locator(f"#{name}").bounding_box() for name in ("view", "draft"))
        assert view == draft, "what is drawn lies over the picture"
        assert view["width"] / view["height"] == pytest.approx(160 / 120, rel=0.02)
