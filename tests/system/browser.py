"""A page as a reader's browser shows it: a headless Chromium (Debian's package) under selenium."""

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.system.postgres import apt_get

_PACKAGES: Final = {"chromium": "chromium", "chromedriver": "chromium-driver"}
# What is drawn must be seen: an element's box, and what stands out of the page to the right. What a box of
# its own scrolls sideways is in order.
_LOOK: Final = """
const width = document.documentElement.clientWidth;
const scrolls = node => {
  for (let up = node.parentElement; up && up !== document.body; up = up.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return true;
  return false;
};
const name = node => node.tagName + (node.id ? "#" + node.id : "") + "." + (node.getAttribute("class") || "");
return {
  drawings: [...document.querySelectorAll("svg")].map(node => {
    const box = node.getBoundingClientRect();
    const texts = [...node.querySelectorAll("text")].map(text => text.getBoundingClientRect());
    return {
      name: node.closest("figure")?.id ?? node.outerHTML.slice(0, 200),
      width: box.width, height: box.height, visible: node.checkVisibility(),
      smallest: Math.min(...texts.map(text => text.height)),
      cut: texts.filter(text => text.right > box.right + 1 || text.left < box.left - 1).length,
    };
  }),
  overflowing: [...document.body.querySelectorAll("*")]
    .filter(node => !node.closest("svg") || node.tagName === "svg")
    .filter(node => node.getBoundingClientRect().right > width + 1 && !scrolls(node)).map(name),
  width: document.documentElement.scrollWidth,
  contrast: getComputedStyle(document.body).color + " on " + getComputedStyle(document.body).backgroundColor,
};
"""


class Screen(NamedTuple):
    """What a reader holds."""

    width: int
    height: int
    theme: Literal["light", "dark"]


PHONE, DESKTOP = (390, 844), (1280, 900)
SCREENS: Final = [Screen(*size, theme) for size in (PHONE, DESKTOP) for theme in ("light", "dark")]  # type: ignore[arg-type]


class Browser:
    """One page at a time, with what the browser had to say about it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, path: Path, screen: Screen) -> dict[str, Any]:
        """Show a file on a screen, and return what is to be seen of it."""
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": screen.width,
                "height": screen.height,
                "deviceScaleFactor": 1,
                "mobile": screen.width < 500,
            },
        )
        features = [{"name": "prefers-color-scheme", "value": screen.theme}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self._driver.get(path.as_uri())
        seen: dict[str, Any] = self._driver.execute_script(_LOOK)
        return seen

    def messages(self) -> list[str]:
        """Return what the console has said since the last call."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return what has been asked for since the last call, other than files and what the page holds."""
        events = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("file:", "data:"))]

    def run(self, script: str) -> Any:
        """Return the value of a script in the page."""
        return self._driver.execute_script(script)

    def picture(self, path: Path, *, top: int = 0, height: int | None = None) -> None:
        """Save what the page looks like, or a part of its height."""
        whole = self.run("return [document.documentElement.clientWidth, document.body.scrollHeight]")
        clip = {"x": 0, "y": top, "width": whole[0], "height": height or whole[1] - top, "scale": 1}
        shot = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser, and end it."""
    programs = require_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def require_browser() -> dict[str, str]:
    """Return where the programs are; Debian's packages are installed if they are not there."""
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if missing:
        apt_get("update")
        apt_get("install", "--yes", "--no-install-recommends", *missing)
    found = {program: shutil.which(program) for program in _PACKAGES}
    assert all(found.values()), f"Debian's packages lack {found}"
    return {program: str(path) for program, path in found.items()}
