"""Headless Chromium as the tests of the page use it: no background traffic, a profile of its own, everything logged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # a container may have little shared memory
    "--window-size=1280,1000",
)


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile, closed at the end."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert browser, "chromium is not on the PATH: make browser"
    assert driver, "chromedriver is not on the PATH: make browser"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield opened
    finally:
        opened.quit()


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the page wrote to the console since the last call: errors and warnings."""
    return [str(entry["message"]) for entry in _log(browser, "browser")]


def requests(browser: webdriver.Chrome) -> list[str]:
    """The addresses that the page asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in _log(browser, "performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def _log(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    return list(browser.execute("getLog", {"type": kind})["value"])


def emulate(browser: webdriver.Chrome, command: str, **settings: Any) -> None:
    """A command of the browser's own protocol: a phone's screen, dark colours, paper."""
    browser.execute_cdp_cmd(f"Emulation.{command}", settings)
