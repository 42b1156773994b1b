"""docs/check_site.py, on pages with one fault each."""

import importlib.util
from pathlib import Path

import pytest

PAGE = """<!DOCTYPE html><html lang="en"><head><link rel="stylesheet" href="site.css"></head><body>
<a href="#main-content" class="skip-link">Skip to main content</a>
<main id="main-content"><h1 id="top">Title</h1><a href="other.html#there">other</a>
<a href="https://example.org/">elsewhere</a><img src="a.png" alt="Two bars"></main></body></html>"""
OTHER = PAGE.replace('id="top"', 'id="there"')


@pytest.fixture(scope="module")
def check_site():
    path = Path(__file__).parents[2] / "docs" / "check_site.py"
    spec = importlib.util.spec_from_file_location("check_site", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path):
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "other.html").write_text(OTHER)
    for name in ("site.css", "a.png"):
        (tmp_path / name).touch()
    return tmp_path


def test_pages_without_a_fault_pass(check_site, site):
    assert check_site.faults(site) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('<html lang="en">', "<html>", "does not say its language"),
        ('href="site.css"', 'href="https://fonts.example.org/a.css"', "fetches https://fonts"),
        ('src="a.png"', 'src="//example.org/a.png"', "fetches //example.org/a.png"),
        (' alt="Two bars"', "", "the picture a.png has no text"),
        ('alt="Two bars"', 'alt="a.png"', "the picture a.png has no text"),
        ("other.html#there", "other.html#gone", "other.html#gone leads nowhere"),
        ("other.html#there", "gone.html", "gone.html leads nowhere"),
        ('href="#main-content" class="skip-link"', 'href="other.html"', "Tab key does not reach"),
    ],
)
def test_a_fault_is_named_with_its_page(check_site, site, before, after, fault):
    assert before in PAGE
    (site / "index.html").write_text(PAGE.replace(before, after))
    (found,) = check_site.faults(site)
    assert found.startswith("index.html: ") and fault in found


def test_a_folder_without_a_site_is_said_to_be_so(check_site, tmp_path):
    (found,) = check_site.faults(tmp_path)
    assert "build the site first" in found


@pytest.mark.parametrize(
    ("console", "number"),
    [('"[PST]: Set focus"', 0), ('"Uncaught TypeError: x"', 1), ('"Got invalid theme mode"', 1)],
)
def test_what_the_console_says_is_a_fault_but_for_the_themes_notes(
    check_site, site, console, number, tmp_path
):
    browser = tmp_path / "browser"
    line = f"[1:2:INFO:CONSOLE:1] {console}, source: file:///x.js (1)"
    browser.write_text(f"#!/bin/sh\necho '{line}' >&2\necho '<html></html>'\n")
    browser.chmod(0o755)
    found = check_site.complaints(site, str(browser))
    assert len(found) == number * len(check_site.OPENED)


def test_a_browser_that_does_not_start_is_no_fault_of_the_site(check_site, site, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\nexit 1\n")
    browser.chmod(0o755)
    assert check_site.complaints(site, str(browser)) is None
