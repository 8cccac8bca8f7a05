"""A real browser for pages that the tests make: Debian's chromium, driven over its own protocol; no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


class Browser:
    """A browser with one page."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, path: Path, *, width: int, dark: bool = False) -> None:
        """Show the file in a window of this width; what was asked of a network before is forgotten."""
        self._driver.get_log("performance")
        self._driver.get_log("browser")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self._driver.get(path.as_uri())

    def ask(self, script: str) -> Any:
        """What the script returns in the page."""
        return self._driver.execute_script(script)

    def complaints(self) -> list[str]:
        """What the page wrote on the console: errors of scripts, refused requests, violated policies."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, its own and what it holds within itself left out."""
        events = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [
            entry["request"]["url"]
            for entry in asked
            if entry["type"] != "Document" and not entry["request"]["url"].startswith("data:")
        ]


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile; the test is skipped with the reason where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver: tests/servers.sh installs them on Debian")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[dev]'")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(running)
    finally:
        running.quit()
