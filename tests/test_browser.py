"""The built site as a reader meets it: in a browser, with every address outside the site refused (tests/browser.py)."""

from dataclasses import dataclass
from urllib.parse import unquote, urldefrag

import pytest
from browser import ANCHORS, BROKEN_IMAGES, LINKS, NO_BROWSER, PHONE, SETTLED, STANDS_OUT, find_chromium, serve, visit
from project import contents

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason=NO_BROWSER)]
PAGES = ["index.html", *contents(), "search.html", "genindex.html"]
MB = 1e6
TOTAL_LIMIT = 60 * MB  # the whole site
each_page = pytest.mark.parametrize("name", PAGES)


@dataclass(frozen=True)
class Seen:
    """What one visit to a page found (tests/browser.py says what each is)."""

    errors: list[str]
    outside: list[str]
    broken_images: list[str]
    links: list[str]
    anchors: set[str]
    violations: dict[str, list[str]]
    stands_out: dict
    weight: int


@pytest.fixture(scope="module")
def address(site):
    with serve(site) as address:
        yield address


@pytest.fixture(scope="module")
def see(address, chromium):
    """Visits a page once, at desktop width, in both themes, then as narrow as a phone, and says what was seen."""
    seen: dict[str, Seen] = {}

    def look(name: str) -> Seen:
        if name not in seen:
            with visit(chromium, address + name, inside=address) as opened:
                seen[name] = look_at(opened)
        return seen[name]

    return look


def look_at(opened) -> Seen:
    page = opened.page
    opened.settle()
    weight = opened.weight()
    broken, links, anchors = (page.evaluate(script) for script in (BROKEN_IMAGES, LINKS, ANCHORS))
    violations = {}
    for theme in ("light", "dark"):
        opened.set_theme(theme)
        violations[theme] = opened.violations()
    page.set_viewport_size(PHONE)
    page.evaluate(SETTLED)
    return Seen(opened.errors, opened.outside, broken, links, set(anchors), violations, page.evaluate(STANDS_OUT), weight)


def test_every_page_of_the_site_is_visited_here(site):
    found = {str(page.relative_to(site)) for page in site.rglob("*.html") if "_static" not in page.parts}
    assert found == set(PAGES)


@each_page
def test_page_loads_without_an_error_and_asks_for_nothing_outside(see, name):
    assert (see(name).errors, see(name).outside) == ([], [])


@each_page
def test_every_image_of_the_page_is_there(see, name):
    assert see(name).broken_images == []


@each_page
def test_every_link_within_the_site_leads_to_a_file_and_a_place_in_it(see, site, address, name):
    broken = []
    for link in {link for link in see(name).links if link.startswith(address)}:
        page, anchor = urldefrag(unquote(link.removeprefix(address)))
        path = page.partition("?")[0] or "index.html"
        if not (site / path).is_file() or (anchor and anchor not in see(path).anchors):
            broken.append(link.removeprefix(address))
    assert broken == []


@each_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation_of_wcag(see, name, theme):
    found = see(name).violations[theme]
    assert not found, f"{len(found)} places:\n" + "\n".join(found[:12])


@each_page
def test_nothing_stands_out_of_a_narrow_screen(see, name):
    assert see(name).stands_out == {"page": 0, "elements": []}


def test_site_is_smaller_than_its_limit(site):
    total = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    assert total < TOTAL_LIMIT, f"{total / MB:.0f} MB"


def test_theme_button_turns_the_page_dark_and_it_stays_so_on_the_next_page(address, chromium):
    with visit(chromium, address + "book/intro.html", inside=address) as opened:
        page = opened.page
        light = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        page.locator(".theme-switch-button:visible").first.click()
        page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != light
        page.goto(address + "book/glossary.html")
        assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
        page.locator(".theme-switch-button:visible").first.click()
        page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")


def test_search_by_keyboard_finds_the_place_that_defines_a_word(address, chromium):
    with visit(chromium, address + "book/intro.html", inside=address) as opened:
        page = opened.page
        opened.settle()
        page.keyboard.press("Control+k")
        page.wait_for_function("() => document.activeElement.name === 'q'")
        page.keyboard.type("codeword")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=codeword*")
        hit = page.locator("ul.search a[href*='glossary.html#term-codeword']").first
        hit.click()
        page.wait_for_url("**/book/glossary.html*#term-codeword")
        assert page.locator("#term-codeword").is_visible()
        assert (opened.errors, opened.outside) == ([], [])


@pytest.mark.parametrize("name", ["book/intro.html", "notebooks/05_grading.html"])
def test_page_on_paper_is_the_text_without_the_navigation(address, chromium, name):
    with visit(chromium, address + name, inside=address) as opened:
        opened.settle()
        printed = opened.page.pdf()
        opened.page.emulate_media(media="print")
        assert printed.startswith(b"%PDF") and len(printed) > 50_000
        assert opened.page.locator("article h1").first.is_visible()
        assert not any(
            part.is_visible() for part in opened.page.locator("nav, .bd-sidebar-primary, .bd-sidebar-secondary, .search-button").all()
        )
