"""Checks how a page looks: on a desktop and on phones, light and dark, by keyboard, and with axe-core."""

import json
import pathlib
import time

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

AXE = pathlib.Path(__file__).parent / "node_modules/axe-core/axe.min.js"
SCREENS = {"desktop": (1200, 900, False), "phone 360": (360, 740, True), "phone 320": (320, 640, True)}

# Each function returns the faults that it finds.
LOOK = r"""
const faults = [];
const shown = (element) => element.checkVisibility();
const all = (selector) => [...document.querySelectorAll(selector)].filter(shown);
const name = (element) => element.outerHTML.slice(0, 120);

// The page does not scroll sideways.
const root = document.documentElement;
if (root.scrollWidth > root.clientWidth)
  faults.push(`the page is ${root.scrollWidth} px wide on ${root.clientWidth} px`);
for (const element of all("header *, main *, footer *"))
  if (!element.closest(".drawing, pre, main table") && element.getBoundingClientRect().right > root.clientWidth + 1)
    faults.push(`beyond the page: ${name(element)}`);

// Drawings keep their size, and scroll where they are wider than the page.
let scrolling = 0;
for (const svg of all("svg")) {
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  if (scale < 0.99) faults.push(`a drawing at ${scale} of its size: ${name(svg)}`);
  const drawing = svg.closest(".drawing") ?? svg.parentElement;
  if (drawing.scrollWidth > drawing.clientWidth) {
    drawing.scrollLeft = drawing.scrollWidth;
    if (drawing.scrollLeft === 0) faults.push(`a drawing does not scroll: ${name(drawing)}`);
    if (drawing.tabIndex !== 0) faults.push(`no key reaches a drawing: ${name(drawing)}`);
    drawing.scrollLeft = 0;
    scrolling += 1;
  }
}

// Text in the head of a table stays in its cell.
for (const cell of all("th"))
  if (cell.scrollWidth > cell.clientWidth) faults.push(`wider than its cell: ${name(cell)}`);

// No button covers text.
for (const button of all("button")) {
  const b = button.getBoundingClientRect();
  for (const element of button.closest(".divergence").querySelectorAll("pre, p, output, input")) {
    if (!shown(element)) continue;
    const e = element.getBoundingClientRect();
    if (b.left < e.right && e.left < b.right && b.top < e.bottom && e.top < b.bottom)
      faults.push(`${name(button)} covers ${name(element)}`);
  }
}

// No removed edge runs through letters, and no text through another.
for (const svg of all("svg")) {
  const texts = [...svg.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
  for (const path of svg.querySelectorAll("path.j"))
    for (const [, x, y, height] of path.getAttribute("d").matchAll(/M(\d+) (\d+)v(\d+)/g)) {
      const at = new DOMPoint(Number(x), Number(y)).matrixTransform(path.getScreenCTM());
      for (const t of texts)
        // The box of a text is a little higher than its letters.
        if (t.left < at.x && at.x < t.right && t.top + 3 < at.y + Number(height) && at.y < t.bottom - 3)
          faults.push(`an edge runs through letters: ${name(svg)}`);
    }
}

// No drawing has an empty band: nothing is drawn over more than the height of a row.
for (const svg of all("svg")) {
  const boxes = [...svg.querySelectorAll("text, rect, path.t")]
    .filter((shape) => getComputedStyle(shape).display !== "none")
    .map((shape) => shape.getBoundingClientRect())
    .sort((a, b) => a.top - b.top);
  let bottom = svg.getBoundingClientRect().top;
  for (const box of boxes) {
    if (box.top - bottom > 12) faults.push(`an empty band of ${box.top - bottom} px: ${name(svg)}`);
    bottom = Math.max(bottom, box.bottom);
  }
}

// Words stay whole, except in text without a blank that is longer than a line.
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let words = 0;
while (walker.nextNode()) {
  const node = walker.currentNode;
  const parent = node.parentElement;
  if (parent.closest("script, style, pre, svg, code, .mono") || !shown(parent)) continue;
  for (const match of node.data.matchAll(/[A-Za-z0-9_]+/g)) {
    const range = document.createRange();
    range.setStart(node, match.index);
    range.setEnd(node, match.index + match[0].length);
    const lines = new Set([...range.getClientRects()].map((rect) => Math.round(rect.top)));
    words += 1;
    if (lines.size === 1) continue;
    const start = node.data.slice(0, match.index).search(/\S*$/);
    const end = node.data.slice(match.index).search(/\s|$/) + match.index;
    range.setStart(node, start);
    range.setEnd(node, end);
    const width = [...range.getClientRects()].reduce((sum, rect) => sum + rect.width, 0);
    if (width < parent.closest("p, td, th, li, h1, h2, h3").clientWidth) faults.push(`a word on ${lines.size} lines: ${match[0]}`);
  }
}

// The text of drawings has a contrast of at least 4.5 with what is behind it.
const channel = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const light = (color) => {
  const [r, g, b] = color.match(/[\d.]+/g).map(Number);
  return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
};
const page = getComputedStyle(document.body).backgroundColor;
for (const text of all("svg text, svg tspan")) {
  const t = text.getBoundingClientRect();
  const box = [...text.closest("svg").querySelectorAll("rect")].find((rect) => {
    const r = rect.getBoundingClientRect();
    return r.left <= t.left && t.right <= r.right + 1 && r.top <= t.top && t.bottom <= r.bottom + 4;
  });
  const back = light(box ? getComputedStyle(box).fill : page);
  const front = light(getComputedStyle(text).fill);
  const contrast = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
  if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(1)}: ${name(text)}`);
}
return { faults: [...new Set(faults)], drawings: all("svg").length, scrolling, words,
  dark: light(page) < 0.2 };
"""

RUN_AXE = r"""
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ["violations"] }).then(
  (result) => done(result.violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].html])),
  (error) => done([["error", String(error), 1, ""]]));
"""


def screen(driver, name, dark):
    width, height, mobile = SCREENS[name]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})


def check_look(driver, path, screens=SCREENS, axe=True):
    """Checks a page on each screen, light and dark, at its first and at its last operation."""
    source = AXE.read_text()
    for name in screens:
        for dark in (False, True):
            screen(driver, name, dark)
            driver.get(path.as_uri())
            drawings = words = scrolling = 0
            for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.END):
                driver.execute_script(
                    "for (const c of document.querySelectorAll('.controls')) c.dispatchEvent("
                    "new KeyboardEvent('keydown', { key: arguments[0] }))",
                    {Keys.HOME: "Home", Keys.END: "End"}.get(key, "ArrowRight"))
                seen = driver.execute_script(LOOK)
                assert not seen["faults"], (path.name, name, dark, key, seen["faults"][:10])
                assert seen["dark"] == dark, (path.name, name, dark)
                drawings += seen["drawings"]
                scrolling += seen["scrolling"]
                words += seen["words"]
            serious = []
            if axe:
                driver.execute_script(source)
                driver.set_script_timeout(300)
                found = driver.execute_async_script(RUN_AXE)
                serious = [v for v in found if v[0] not in ("minor", "moderate")]
                assert not serious, (path.name, name, dark, serious)
            assert drawings and words, (path.name, name)
            if name.startswith("phone"):
                assert scrolling, (path.name, name)
            print(f"{path.name}, {name}, {'dark' if dark else 'light'}: {drawings} drawings "
                  f"({scrolling} scroll), {words} words, {'axe-core, ' if axe else ''}no fault")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def check_keyboard(driver, path):
    """Walks through the page by Tab: everything that can be used is reached, and shows that it is."""
    screen(driver, "desktop", False)
    driver.get(path.as_uri())
    wanted = driver.execute_script(
        "return [...document.querySelectorAll('a[href], button:not([disabled]), input, summary,"
        " [tabindex=\"0\"]')].filter((e) => e.checkVisibility()).length")
    reached = 0
    copied = opened = 0
    body = driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    for _ in range(wanted * 2):
        element = driver.switch_to.active_element
        if element.tag_name == "body":
            break
        style = driver.execute_script(
            "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]", element)
        assert style[0] != "none" and style[1] != "0px", element.get_attribute("outerHTML")[:200]
        reached += 1
        if (element.get_attribute("aria-label") or "").startswith("Copy ") and copied < 3:
            element.send_keys(Keys.ENTER)
            time.sleep(0.05)
            assert element.text in ("Copied", "Selected"), element.text
            copied += 1
        if element.tag_name == "summary" and not opened:
            element.send_keys(Keys.ENTER)
            assert element.find_element(By.XPATH, "..").get_attribute("open"), "it does not open"
            opened += 1
        driver.switch_to.active_element.send_keys(Keys.TAB)
    assert reached >= wanted and copied == 3 and opened == 1, (reached, wanted, copied, opened)
    print(f"{path.name}, keyboard: Tab reaches {reached} elements, each with an outline; "
          "Enter copies and opens")


def check_many(driver, path, least):
    """A page with many divergences opens soon, and its last one works as its first one."""
    screen(driver, "desktop", False)
    begun = time.monotonic()
    driver.get(path.as_uri())
    parts = driver.find_elements(By.CSS_SELECTOR, ".divergence")
    opened = time.monotonic() - begun
    assert len(parts) >= least, len(parts)
    assert opened < 20, f"{opened:.1f} s"
    last = parts[-1]
    link = driver.find_elements(By.CSS_SELECTOR, "table a")[-1]
    driver.execute_script("arguments[0].click()", link)
    controls = last.find_element(By.CSS_SELECTOR, ".controls")
    controls.send_keys(Keys.HOME)
    steps = last.find_elements(By.CSS_SELECTOR, ".step")
    assert [step.is_displayed() for step in steps] == [n == 0 for n in range(len(steps))]
    size = path.stat().st_size
    data = json.loads(driver.find_element(By.ID, "data").get_attribute("textContent"))
    assert len(data["divergences"]) == len(parts)
    assert size < 16 * 1024 * len(parts) + (1 << 20), size
    print(f"{path.name}: {len(parts)} divergences, {size // 1024} KiB, opened in {opened:.1f} s")
