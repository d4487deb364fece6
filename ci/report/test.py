"""Drives a browser through the pages that ci/report-test has written."""

import argparse
import base64
import json
import pathlib
import re
import tempfile

from look import check_keyboard, check_look, check_many
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


def browser(profile, *, script=True, dark=False):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--window-size=1200,900", f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    if dark:
        options.add_argument("--force-dark-mode")
    if not script:
        options.add_experimental_option(
            "prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


def open_page(driver, path):
    """Opens it, with nothing left in the logs of what was open before."""
    driver.get("about:blank")
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get(path.as_uri())


def quiet(driver, path):
    """No console message, and no request but for the page itself."""
    logged = driver.get_log("browser")
    assert not logged, logged
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url in (path.as_uri(), "data:,") , f"a request: {url}"


def words(text):
    """Words without the marks of what differs."""
    return [word.lstrip("!") for word in text.split()]


def check_figure(figure, data):
    """A drawing shows every VMA that the data have, with all its words."""
    desc = figure.find_element(By.TAG_NAME, "desc").get_attribute("textContent")
    keys = [p.get_attribute("textContent") for p in figure.find_elements(By.CSS_SELECTOR, "p.mono")]
    boxes = figure.find_elements(By.CSS_SELECTOR, "rect.b")
    sides = [side for side in (data["left"], data["right"]) if side is not None]
    if data["left"] == data["right"]:
        sides = sides[:1]
    vmas = [vma for side in sides for vma in side]
    assert len(boxes) >= len(vmas), (len(boxes), vmas)
    for part in boxes + figure.find_elements(By.CSS_SELECTOR, "svg text"):
        assert part.size["width"] > 0 and part.size["height"] > 0, part.get_attribute("outerHTML")
    texts = [t.get_attribute("textContent") for t in figure.find_elements(By.CSS_SELECTOR, "svg text")]
    shown = [word for text in texts + keys for word in words(text)]
    for start, end, text in vmas:
        assert f"[{start},{end})" in desc, (start, end, desc)
        for word in text.split():
            assert word in shown, (word, shown)


def check(driver, path):
    open_page(driver, path)
    data = json.loads(driver.find_element(By.ID, "data").get_attribute("textContent"))
    parts = driver.find_elements(By.CSS_SELECTOR, ".divergence")
    assert len(parts) == len(data["divergences"]) > 0
    for part, shown in zip(parts, data["divergences"]):
        assert part.find_element(By.TAG_NAME, "h2").text == shown["signature"]
        assert part.find_element(By.CSS_SELECTOR, ".why").text == "Why: " + shown["why"]
        program = part.find_element(By.CSS_SELECTOR, "pre").get_attribute("textContent")
        assert program == shown["program"]
        steps = part.find_elements(By.CSS_SELECTOR, ".step")
        assert len(steps) == len(shown["steps"])
        controls = part.find_element(By.CSS_SELECTOR, ".controls")
        controls.send_keys(Keys.HOME)
        for n, (step, expected) in enumerate(zip(steps, shown["steps"])):
            assert [s.is_displayed() for s in steps] == [m == n for m in range(len(steps))], n
            first = step.find_element(By.TAG_NAME, "p").text
            assert first == f"{n + 1}: {expected['op']} → {expected['result']}", first
            figures = step.find_elements(By.TAG_NAME, "figure")
            # All living processes are there, in order, those that did not change as they were.
            drawn = [int(figure.get_attribute("data-process")) for figure in figures]
            assert drawn == expected["living"], (drawn, expected["living"])
            for process in expected["processes"]:
                check_figure(figures[drawn.index(process["process"])], process)
            controls.send_keys(Keys.ARROW_RIGHT)
        differences = [li.text for li in steps[-1].find_elements(By.CSS_SELECTOR, ".differences li")]
        assert differences == shown["differences"] != [], differences
        if len(steps) > 1:
            slider = part.find_element(By.CSS_SELECTOR, "input[type=range]")
            slider.send_keys(Keys.ARROW_LEFT)
            assert steps[-2].is_displayed() and not steps[-1].is_displayed()
            part.find_elements(By.CSS_SELECTOR, ".controls button")[1].click()
            assert steps[-1].is_displayed()
    assert driver.execute_script("return typeof attacked") == "undefined"
    quiet(driver, path)
    return data


def check_without_script(driver, path):
    driver.get(path.as_uri())
    steps = driver.find_elements(By.CSS_SELECTOR, ".step")
    assert steps and all(step.is_displayed() for step in steps)
    assert not driver.find_elements(By.CSS_SELECTOR, ".controls")


def screenshots(driver, path, folder, suffix):
    """A picture of each divergence."""
    driver.get(path.as_uri())
    folder.mkdir(parents=True, exist_ok=True)
    for n, part in enumerate(driver.find_elements(By.CSS_SELECTOR, ".divergence")):
        clip = {key: part.rect[key] for key in ("x", "y", "width", "height")}
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {
            "captureBeyondViewport": True, "clip": {**clip, "scale": 1}})
        (folder / f"{n}{suffix}.png").write_bytes(base64.b64decode(shot["data"]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path)
    arguments = parser.parse_args()
    bugs, hostile, many = (arguments.folder / f"{n}.html" for n in ("bugs", "hostile", "many"))
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(f"{profile}/script")
        try:
            data = check(driver, bugs)
            classes = [shown["class"] for shown in data["divergences"]]
            assert classes == ["aliasing", "aliasing", "flags", "rmap-locks", "anon-vma"], classes
            data = check(driver, hostile)
            assert "<img" in data["divergences"][0]["files"][0]
            assert "<script>" in data["divergences"][0]["known"]
            open_page(driver, many)
            data = json.loads(driver.find_element(By.ID, "data").get_attribute("textContent"))
            quiet(driver, many)
            size = many.stat().st_size
            count = len(data["divergences"])
            assert count >= 50, count
            # Fifty divergences fit into a mail: they take less than 1 MiB.
            assert size / count < 1024 * 1024 / 50, f"{count} divergences take {size} bytes"
            print(f"{count} divergences take {size // 1024} KiB")
            # The markup of a page is its own: what a file says is text.
            source = hostile.read_text()
            assert len(re.findall(r"<script\b", source)) == 2 and "<img" not in source
            review = pathlib.Path("docs/review.html").resolve()
            open_page(driver, review)
            assert len(driver.find_elements(By.CSS_SELECTOR, "svg")) >= 5
            quiet(driver, review)
            if arguments.screenshots:
                screenshots(driver, bugs, arguments.screenshots, "")
            for page in (bugs, hostile, review):
                check_look(driver, page)
            check_keyboard(driver, bugs)
            hundreds = arguments.folder / "hundreds.html"
            check_many(driver, hundreds, 500)
            check_look(driver, hundreds, ("desktop", "phone 320"), axe=False)
        finally:
            driver.quit()
        if arguments.screenshots:
            driver = browser(f"{profile}/dark", dark=True)
            try:
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
                    "features": [{"name": "prefers-color-scheme", "value": "dark"}]})
                screenshots(driver, bugs, arguments.screenshots, "-dark")
            finally:
                driver.quit()
        driver = browser(f"{profile}/no-script", script=False)
        try:
            check_without_script(driver, bugs)
        finally:
            driver.quit()
    print("the report is as it should be")


main()
