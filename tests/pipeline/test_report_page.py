"""The report's page in a real browser: it loads nothing, shows all of its figures, fits a phone, runs no script."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.report import report
from tests.browser import Browser, open_browser
from tests.pipeline.making import write_pair

pytestmark = pytest.mark.slow

BREAKS = "document.title='broken'"
ATTACK = f'<img src=https://attacker.example/x onerror="{BREAKS}"><script>{BREAKS}</script>'
TOO_WIDE = """
    return [...document.querySelectorAll('main *')]
      .filter(each => !each.parentElement.closest('.scroll, svg'))
      .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
      .map(each => each.outerHTML.slice(0, 120))
"""
CONTRASTS = """
    const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const numbers = text => text.match(/[0-9.]+/g).map(Number);
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = each => {
      for (; each; each = each.parentElement) {
        const found = numbers(getComputedStyle(each).backgroundColor);
        if (found[3] !== 0) return found;
      }
      return [255, 255, 255];
    };
    const told = each => [...each.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    const texts = [...document.querySelectorAll('body *')].filter(
      each => !each.closest('svg, .point, details') && told(each));
    return texts.map(each => {
      const [a, b] = [light(numbers(getComputedStyle(each).color)), light(ground(each))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), each.outerHTML.slice(0, 90)];
    }).filter(([ratio]) => ratio < 4.5)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a product with hostile names, seams, holes and all scores against a truth."""
    folder = tmp_path_factory.mktemp("page")
    files = write_pair(folder, ratio=4, coarse_shape=(31, 27), holes="swath")
    with rasterio.open(files.hs, "r+") as file:
        for band in (1, 5):
            file.set_band_description(band, f"{ATTACK} {band}")
    config = RunConfig(model="gsa", core_px=64, workers=2)
    made = fuse(*files.both, out=folder / "out", config=config, lane=InProcessLane())
    run = json.loads((made.folder / "run.json").read_text())
    run["facts"]["warnings"] = [{"message": ATTACK}]
    (made.folder / "run.json").write_text(json.dumps(run))
    truth = folder / "truth.tif"
    shutil.copy(made.folder / "fused.tif", truth)
    with rasterio.open(truth, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        pixels = file.read()
        off = np.where(np.arange(pixels.shape[2]) < 54, 40, 120).astype(np.int16)
        file.write(np.where(pixels == file.nodata, pixels, pixels + off))
    report(made.folder, out=folder / "report.html", reference=truth)
    return folder / "report.html"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True), (1280, True)])
def test_the_page_loads_nothing_and_complains_of_nothing(
    browser: Browser, page: Path, width: int, *, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.ask("return document.title").endswith("scenefuse report")
    assert browser.ask("return document.scripts.length") == 0


def test_every_figure_is_drawn_and_has_words(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    pictures = browser.ask("return [...document.images].map(i => [i.complete && i.naturalWidth, i.width, i.alt])")
    assert len(pictures) == 4 + 1
    assert all(own > 0 and shown > 100 and words for own, shown, words in pictures)
    charts = browser.ask(
        "return [...document.querySelectorAll('svg')].map(s => [s.getAttribute('aria-label'), "
        "s.getBoundingClientRect().width, [...s.querySelectorAll('.line')].map(l => l.getTotalLength())])"
    )
    assert len(charts) == 4 + 5
    assert all(label and width > 300 and lines and min(lines) > 100 for label, width, lines in charts)
    drawn = browser.ask("return getComputedStyle(document.querySelector('.line.fused')).stroke")
    assert drawn not in {"none", ""}
    assert browser.ask("return document.querySelectorAll('th:not([scope])').length") == 0


PIXELS = """
    const image = document.querySelector('#error-map img'), canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const pen = canvas.getContext('2d');
    pen.drawImage(image, 0, 0);
    return [...pen.getImageData(0, 0, canvas.width, canvas.height).data];
"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_error_map_is_drawn_with_its_scale(browser: Browser, page: Path, width: int, *, dark: bool) -> None:
    """What the browser makes of it, pixel by pixel: the truth is 0.004 off everywhere, in the east more."""
    browser.open(page, width=width, dark=dark)
    pixels = np.array(browser.ask(PIXELS)).reshape(124, 108, 4)
    east = pixels[:, 60:][pixels[:, 60:, 3] > 0][:, :3].sum(axis=1)
    west = pixels[:, :50][pixels[:, :50, 3] > 0][:, :3].sum(axis=1)
    assert west.max() < east.min()
    ends = browser.ask("return [...document.querySelectorAll('.ramp-ends span')].map(each => each.textContent)")
    assert ends == ["0", "6.0e-3", "1.2e-2 and more"]
    ramp, image = (
        browser.ask(f"const r = document.querySelector('#error-map {each}').getBoundingClientRect(); "
                    "return [r.left, r.width, r.height]")
        for each in (".ramp", "img")
    )  # fmt: skip
    assert ramp[:2] == image[:2], "the scale is as wide as what it explains"
    assert ramp[2] > 5
    assert "gradient" in browser.ask("return getComputedStyle(document.querySelector('.ramp')).backgroundImage")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_page(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    browser.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.ask("return document.documentElement.scrollWidth") <= width
    assert browser.ask(TOO_WIDE) == []
    if width == 390:
        widest = "return Math.max(...[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth))"
        assert browser.ask(widest) > 50, "wide tables scroll within themselves"


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(browser: Browser, page: Path, *, dark: bool) -> None:
    """WCAG 2.2 asks for a contrast of 4.5 (1.4.3)."""
    browser.open(page, width=1280, dark=dark)
    assert browser.ask(CONTRASTS) == []
    ground = browser.ask("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 23, 26)") == dark


def test_names_of_others_are_shown_and_do_nothing(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280)
    names = browser.ask("return [...document.querySelectorAll('tbody th')].map(e => e.textContent)")
    assert f"{ATTACK} 5" in names
    assert browser.ask("return document.querySelector('.findings').textContent").count("onerror") == 1
    assert browser.ask("return document.title").endswith("scenefuse report")
    assert browser.ask("return document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0


def test_an_attack_that_got_through_would_be_seen(browser: Browser, page: Path, tmp_path: Path) -> None:
    """The browser's own word: a page that held the names unescaped would complain, whatever its policy forbids."""
    naive = tmp_path / "naive.html"
    naive.write_text(page.read_text().replace("<main>", f"<main>{ATTACK}", 1))
    browser.open(naive, width=1280)
    assert browser.complaints()
    assert browser.ask("return document.title").endswith("scenefuse report"), "the policy stops it all the same"
