"""A report in headless Chromium: nothing is asked from elsewhere, nothing complains, nothing overflows, the formula is drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from mixopt.report import page

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: how a report looks in a browser is not tested"),
    pytest.mark.slow,
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr", "--v=0"),
)
PROBE = """<!DOCTYPE html><meta charset="utf-8"><body><script>
addEventListener("message", event => {
  document.body.innerHTML = "<pre id=found></pre>"; document.getElementById("found").textContent = JSON.stringify(event.data)
})
</script><iframe id="frame" style="border: 0; width: WIDTHpx; height: 3000px" srcdoc="PAGE"></iframe></body>"""
ASK = """<script>
addEventListener("load", () => {
  const seen = document.documentElement, formula = document.querySelector("math"), bar = document.querySelector(".bar")
  const style = element => getComputedStyle(element)
  const small = [...document.querySelectorAll("p, li, td, th, h1, h2")].filter(e => parseFloat(style(e).fontSize) < 12)
  const wide = [...document.querySelectorAll("main *")].filter(e =>
    !e.closest(".wide") && e.getBoundingClientRect().right > seen.clientWidth + 1)
  const clipped = [...document.querySelectorAll(".wide")].filter(e =>
    e.scrollWidth > e.clientWidth + 1 && style(e).overflowX !== "auto")
  const cut = [...document.querySelectorAll("svg text")].filter(e => {
    const box = e.getBoundingClientRect(), all = e.ownerSVGElement.getBoundingClientRect()
    return box.left < all.left - 2 || box.right > all.right + 2 || box.bottom > all.bottom + 2
  })
  parent.postMessage({
    width: seen.clientWidth, scroll: seen.scrollWidth, small: small.length, wide: wide.map(e => e.tagName), clipped: clipped.length,
    cut: cut.map(e => e.textContent),
    formula: formula ? [formula.getBoundingClientRect().width, formula.getBoundingClientRect().height] : [],
    bar: bar.getBoundingClientRect().width, asked: performance.getEntriesByType("resource").map(e => e.name),
    paper: style(document.body).backgroundColor, ink: style(document.body).color,
    drawn: [...document.querySelectorAll("svg")].map(e => e.getBoundingClientRect().height),
    text: style(document.querySelector("svg text") || document.body).fill,
  }, "*")
})
</script></body>"""


def chromium(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the browser once, with a profile of its own; what its console says is on the error stream."""
    return subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", *words], check=True, capture_output=True, text=True, timeout=120
    )


def seen(text: str, folder: Path, width: int, *words: str) -> dict:
    """What a script within the page finds at this width; the page's own policy against scripts is lifted for it."""
    asking = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace("</body>", ASK)
    quoted = asking.replace("&", "&amp;").replace('"', "&quot;")
    (folder / "probe.html").write_text(PROBE.replace("WIDTH", str(width)).replace("PAGE", quoted))
    run = chromium(folder, "--virtual-time-budget=4000", "--window-size=1400,3200", *words, "--dump-dom", f"file://{folder / 'probe.html'}")
    assert "CONSOLE" not in run.stderr, run.stderr
    found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.S)
    assert found, run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads(unescape(found[1]))


def check(found: dict, width: int) -> None:
    """Nothing is wider than the page, too small, cut off or from elsewhere."""
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert found["clipped"] == 0
    assert found["small"] == 0
    assert found["cut"] == []
    assert found["asked"] == []
    assert found["bar"] > 40


@pytest.fixture(scope="module")
def text(rich) -> str:
    """The page of the report with everything."""
    return page.html(rich)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_a_telephone_and_a_screen(text, tmp_path, width):
    found = seen(text, tmp_path, width)
    check(found, width)
    assert found["formula"][0] > 200
    assert found["formula"][1] > 80
    assert len(found["drawn"]) == 6
    assert min(found["drawn"]) > 110


def test_many_domains_with_long_names_fit_too(rich, tmp_path):
    names = [f"{source}/{'very_long_name_' * 3}{i}" for source in ("crawl", "w" * 70) for i in range(25)]
    own = {name: (i + 1) / 1275 for i, name in enumerate(names)}
    even = dict.fromkeys(names, 1 / 50)
    many = replace(
        rich, recommendation=f"Take {names[-1]}.", mixtures={"law": own, "uniform": even}, tokens=dict.fromkeys(names, 1e9), trajectories={}
    )
    check(seen(page.html(replace(many, ranges=None, outcome=None)), tmp_path, 390), 390)


def test_in_the_dark_the_page_is_dark_and_its_pictures_can_be_read(text, tmp_path):
    def brightness(colour: str) -> float:
        return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3

    light = seen(text, tmp_path, 1280, "--blink-settings=preferredColorScheme=1")
    dark = seen(text, tmp_path, 1280, "--blink-settings=preferredColorScheme=0")
    assert brightness(light["paper"]) > 240
    assert brightness(dark["paper"]) < 40
    for part in ("ink", "text"):
        assert brightness(light[part]) < 60
        assert brightness(dark[part]) > 200


def test_the_page_as_it_is_asks_for_nothing_and_says_nothing(text, tmp_path):
    (tmp_path / "report.html").write_text(text)
    run = chromium(tmp_path, "--dump-dom", f"file://{tmp_path / 'report.html'}")
    assert "CONSOLE" not in run.stderr, run.stderr
    assert run.stdout.count("<svg") == 6


def test_it_prints_on_paper(text, tmp_path):
    (tmp_path / "report.html").write_text(text)
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'report.pdf'}", f"file://{tmp_path / 'report.html'}")
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", (tmp_path / "report.pdf").read_bytes()))
    assert 3 <= pages <= 9
