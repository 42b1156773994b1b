"""Check the built site as a reader meets it: offline, by keyboard, with a screen reader.

    python docs/check_site.py build/docs/html

Every page is read: nothing is fetched from elsewhere, every picture has a text, every link inside
the site leads somewhere, and the first stop of the Tab key is the link to the content. Where
Chromium is found, a page of each kind is opened in it, and what its scripts complain of counts as
well. Ends with 1 and a line for each fault.
"""

import html.parser
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
OPENED = ("index.html", "first_steps.html", "gallery/index.html", "api/index.html", "search.html")
_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}
_STOPS = ("a", "button", "input", "select", "textarea", "summary")
# How the theme's own notes in the console begin, such as that the colour scheme has changed.
_THEME_SAYS = '"[PST]: '
# Pictures whose link has a text besides, which a screen reader would otherwise say twice.
_BESIDE_ITS_TITLE = ("_static/logo.svg", "_thumb.png")
# Tools and links of the head that no browser fetches to show the page.
_NOT_SHOWN = {"canonical", "next", "prev", "index", "search", "author", "license"}


class Page(html.parser.HTMLParser):
    """What of a page is checked.

    Attributes:
        ids: of its elements.
        links: addresses that the page links to or shows.
        fetched: addresses that the browser fetches to show it.
        pictures: each picture's address and its text; None where it has none.
        stops: elements that the Tab key reaches, in order, with their attributes.
        language: of the text.
    """

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.pictures: list[tuple[str, str | None]] = []
        self.stops: list[tuple[str, dict[str, str | None]]] = []
        self.language = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(filter(None, (values.get("id"), values.get("name"))))
        if tag == "html":
            self.language = values.get("lang") or ""
        if tag in _STOPS and values.get("tabindex") != "-1" and "disabled" not in values:
            self.stops.append((tag, values))
        if tag == "img":
            self.pictures.append((values.get("src") or "", values.get("alt")))
        address = values.get(_FETCHED.get(tag, ""))
        if tag == "link" and not _NOT_SHOWN & set((values.get("rel") or "").split()):
            address = values.get("href")
        if address:
            self.fetched.append(address)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")


def faults(site: Path) -> list[str]:
    """A line for each fault of the pages, without a browser."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in _page_files(site)}
    found = []
    if site / "index.html" not in pages:
        return [f"{site}: holds no index.html; build the site first"]
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        if not page.language:
            found.append(f"{name}: does not say its language")
        for address in page.fetched:
            if urllib.parse.urlsplit(address).scheme in ("http", "https") or address[:2] == "//":
                found.append(f"{name}: fetches {address}")
        for address, text in page.pictures:
            titled = text == "" and address.endswith(_BESIDE_ITS_TITLE)
            if not titled and (not (text or "").strip() or text == address):
                found.append(f"{name}: the picture {address} has no text")
        if page.stops and page.stops[0][1].get("href") != "#main-content":
            found.append(f"{name}: the Tab key does not reach the link to the content first")
        local = [each for each in page.fetched + page.links if not _is_elsewhere(each)]
        found += [
            f"{name}: {address} leads nowhere"
            for address in dict.fromkeys(local)
            if not _leads_somewhere(address, path, pages)
        ]
    return found


def _page_files(site: Path) -> list[Path]:
    """The pages; those below _static are templates of the theme."""
    files = sorted(site.rglob("*.html"))
    return [path for path in files if path.relative_to(site).parts[0] != "_static"]


def _is_elsewhere(address: str) -> bool:
    return bool(urllib.parse.urlsplit(address).scheme) or address.startswith("//")


def _leads_somewhere(address: str, path: Path, pages: dict[Path, Page]) -> bool:
    parts = urllib.parse.urlsplit(address)
    target = path
    if parts.path:
        target = Path(os.path.normpath(path.parent / urllib.parse.unquote(parts.path)))
    if target in pages and parts.fragment:
        return urllib.parse.unquote(parts.fragment) in pages[target].ids
    return target in pages or target.is_file()


def complaints(site: Path, browser: str) -> list[str] | None:
    """What Chromium's console says of a page of each kind; None where Chromium does not answer."""
    found = []
    for name in OPENED:
        with tempfile.TemporaryDirectory() as profile:
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom",
                (site / name).as_uri(),
            ]  # fmt: skip
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=45)
            except subprocess.TimeoutExpired:
                return None
        if done.returncode or "</html>" not in done.stdout:
            return None
        lines = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        found += [f"{name}: {line}" for line in lines if _THEME_SAYS not in line]
    return found


def main() -> None:
    """Check the folder that the command line names."""
    site = Path(sys.argv[1]).resolve()
    found, opened = faults(site), "not opened in Chromium, which is not installed here"
    if BROWSER:
        said = complaints(site, BROWSER)
        found += said or []
        opened = (
            "not opened in Chromium, which did not answer"
            if said is None
            else "and opened in Chromium"
        )
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(_page_files(site))} pages read, {opened}; faults: {len(found)}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
