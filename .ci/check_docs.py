"""The built site stands by itself: it loads nothing from elsewhere, and every link between its pages leads somewhere."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import final
from urllib.parse import unquote, urlsplit


@final
class Page(HTMLParser):
    """What a page loads, where its links lead, and the places in it that can be linked to."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        self.loads += [given["src"]] if "src" in given else []
        if "href" in given and tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "modulepreload"):
            self.loads.append(given["href"])
        if "href" in given and tag == "a":
            self.links.append(given["href"])


def wrong(site: Path) -> list[str]:
    """Each thing that is wrong with the site, in words."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if site / "index.html" in pages else [f"{site} has no index.html"]
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name} loads {url}" for url in page.loads if urlsplit(url).netloc]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            known = pages.get(target)
            if not target.exists():
                found.append(f"{name} links to {link}, which is not there")
            elif parts.fragment and known is not None and unquote(parts.fragment) not in known.places:
                found.append(f"{name} links to {link}, and {parts.path or 'the page'} has no such place")
    for sheet in sorted(site.rglob("*.css")):
        urls = re.findall(r"(?:@import\s+|url\()\s*['\"]?((?:https?:)?//[^'\")\s]+)", sheet.read_text(encoding="utf-8"))
        found += [f"{sheet.relative_to(site)} loads {url}" for url in urls]
    return found


if __name__ == "__main__":
    problems = wrong(Path(sys.argv[1]).resolve())
    print("\n".join(problems) or "the site stands by itself")
    sys.exit(bool(problems))
