"""The built site as a reader meets it: in a browser, with every address outside the site refused (tests/browser.py)."""

from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urldefrag

import pytest
from browser import (
    ANCHORS,
    BROKEN_IMAGES,
    LINKS,
    NO_BROWSER,
    PHONE,
    SETTLED,
    STANDS_OUT,
    changes,
    drag_codeword,
    find_chromium,
    says,
    serve,
    visit,
    wait_until,
)
from project import contents

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason=NO_BROWSER)]
PAGES = [*contents(), "search.html", "genindex.html", "404.html"]
MB = 1e6
PAGE_LIMIT, SITE_LIMIT = 10 * MB, 60 * MB  # what a page loads of itself, not compressed; all files
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
    weight = opened.weight()
    opened.settle()
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
    assert found == {"index.html", *PAGES}


def test_address_of_the_site_leads_to_its_first_page(address, chromium):
    with visit(chromium, address, inside=address) as opened:
        opened.page.wait_for_url("**/book/intro.html")


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


@each_page
def test_page_is_lighter_than_its_limit(see, name):
    assert see(name).weight < PAGE_LIMIT


def test_site_is_smaller_than_its_limit(site):
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < SITE_LIMIT


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


def test_cite_button_opens_a_dialogue_that_copies_bibtex_and_closes_by_keyboard(address, chromium):
    allowed = ["clipboard-read", "clipboard-write"]
    with visit(chromium, address + "notebooks/05_grading.html", inside=address, permissions=allowed) as opened:
        page = opened.page
        page.locator(".dr-cite").focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Cite")
        dialog.wait_for()
        assert opened.violations() == []
        for number, button in enumerate(dialog.locator("[data-copies]").all()):
            button.click()
            dialog.get_by_role("status").filter(has_text="Copied.").wait_for()
            copied = page.evaluate("() => navigator.clipboard.readText()")
            assert copied.startswith("@") and copied == dialog.locator("pre").nth(number).text_content()
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        assert page.evaluate("() => document.activeElement.classList.contains('dr-cite')")


@pytest.mark.parametrize("name", ["book/intro.html", "notebooks/05_grading.html"])
def test_page_on_paper_is_the_text_without_the_navigation(address, chromium, name):
    with visit(chromium, address + name, inside=address) as opened:
        opened.settle()
        printed = opened.page.pdf()
        assert printed.startswith(b"%PDF") and len(printed) > 50_000
        opened.page.emulate_media(media="print")
        assert opened.page.locator("article p").first.is_visible()
        for part in opened.page.locator(".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer").all():
            assert not part.is_visible(), part.get_attribute("class")


# The viewer of volumes


@contextmanager
def open_viewer(chromium, address: str, inside: str, number: int = 0):
    """Open a page and give it, its viewer of that number, drawn, and a function that returns the viewer's state."""
    with visit(chromium, address, inside) as opened:
        page = opened.page
        viewer = page.locator(".mri-viewer").nth(number)
        viewer.scroll_into_view_if_needed()
        page.evaluate("number => mriViewers[number].ready", number)
        yield opened, viewer, lambda: page.evaluate("number => mriViewers[number].state()", number)
        assert (opened.errors, opened.outside) == ([], [])


def test_viewer_turns_slices_by_slider_keyboard_and_wheel(address, chromium):
    with open_viewer(chromium, address + "notebooks/13_explorer.html", address) as (opened, viewer, state):
        page, canvas, stage = opened.page, viewer.locator(".mri-canvas"), viewer.locator(".mri-stage")
        middle = state()["slices"] // 2
        slider = viewer.locator(".mri-slice")
        changes(page, canvas, lambda: slider.fill(str(middle)), "slider")
        assert state()["slice"] == middle
        stage.focus()
        changes(page, canvas, lambda: page.keyboard.press("PageUp"), "key")
        assert abs(state()["slice"] - middle) == 1
        slider.fill(str(middle))
        stage.click()
        stage.hover()
        changes(page, canvas, lambda: page.mouse.wheel(0, 120), "wheel")
        assert state()["slice"] != middle


def test_wheel_over_a_viewer_that_was_not_chosen_scrolls_the_page(address, chromium):
    with open_viewer(chromium, address + "notebooks/13_explorer.html", address) as (opened, viewer, state):
        page, before = opened.page, state()["slice"]
        top = page.evaluate("() => scrollY")
        viewer.locator(".mri-stage").hover()
        page.mouse.wheel(0, 120)
        wait_until(page, lambda: page.evaluate("() => scrollY") != top, "the page scrolls")
        assert state()["slice"] == before


def test_every_overlay_changes_the_pixels(address, chromium):
    with open_viewer(chromium, address + "notebooks/13_explorer.html", address) as (opened, viewer, state):
        page, canvas, overlay = opened.page, viewer.locator(".mri-canvas"), viewer.locator(".mri-overlay-select").first
        overlay.select_option("none")
        for kind in ("truth", "prediction", "codewords"):
            changes(page, canvas, lambda kind=kind: overlay.select_option(kind), kind)
        overlay.select_option("none")
        for kind in ("HGG", "LGG"):  # a patient may have none of such a region, which is said, and none in this slice
            overlay.select_option(kind)
            wait_until(page, lambda kind=kind: kind in state()["values"], kind)
            if viewer.locator(".mri-jump").count():
                viewer.locator(".mri-jump").click()
                wait_until(page, lambda kind=kind: state()["values"][kind] > 0, f"a value of {kind}")
                changes(page, canvas, lambda: overlay.select_option("none"), f"none after {kind}")
            else:
                assert "nowhere in this patient" in viewer.locator(".mri-legend").inner_text()


def test_modality_window_and_opacity_change_the_pixels(address, chromium):
    with open_viewer(chromium, address + "notebooks/13_explorer.html", address) as (opened, viewer, state):
        page, canvas = opened.page, viewer.locator(".mri-canvas")
        viewer.locator(".mri-overlay-select").first.select_option("truth")
        wait_until(page, lambda: state()["overlay"] == "truth", "truth")
        other = "flair" if state()["modality"] != "flair" else "t1"
        changes(page, canvas, lambda: viewer.locator(f"label[for$=modality-{other}]").click(), other)
        for control in ("level", "width", "opacity"):
            slider = viewer.locator(f"input[id$={control}]")
            changes(page, canvas, lambda slider=slider: slider.fill(slider.get_attribute("min")), control)


def test_crosshair_moves_by_arrow_keys_and_the_numbers_follow(address, chromium):
    with open_viewer(chromium, address + "notebooks/13_explorer.html", address) as (opened, viewer, state):
        page, before, said = opened.page, state()["voxel"], viewer.locator(".mri-readout").inner_text()
        viewer.locator(".mri-stage").focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        assert sum(abs(a - b) for a, b in zip(before, state()["voxel"], strict=True)) == 5
        wait_until(page, lambda: viewer.locator(".mri-readout").inner_text() != said, "numbers")


def test_another_patient_is_loaded_when_it_is_chosen(address, chromium):
    with open_viewer(chromium, address + "notebooks/13_explorer.html", address) as (opened, viewer, state):
        first, choose = state()["patient"], viewer.locator(".mri-patient-select")
        loaded = {request.url for request in opened.requests if "/_static/patients/p" in request.url}
        other = next(value for value in choose.locator("option").evaluate_all("all => all.map(one => one.value)") if value != first)
        changes(opened.page, viewer.locator(".mri-canvas"), lambda: choose.select_option(other), "patient")
        wait_until(opened.page, lambda: state()["patient"] == other, other)
        later = {request.url for request in opened.requests if "/_static/patients/p" in request.url} - loaded
        assert later and len({url.rsplit("/", 2)[1] for url in later}) == 1


def test_code_under_the_crosshair_leads_to_its_card_of_the_atlas(address, chromium):
    with open_viewer(chromium, address + "notebooks/13_explorer.html", address) as (opened, viewer, _):
        viewer.locator(".mri-overlay-select").first.select_option("codewords")
        link = viewer.locator(".mri-readout a[href*='#codeword-']").first
        link.wait_for()
        card = link.get_attribute("href").partition("#")[2]
        link.click()
        opened.page.wait_for_url(f"**/12_atlas.html*#{card}")
        assert opened.page.locator(f"#{card}").is_visible()


def test_nothing_of_a_viewer_is_loaded_before_it_comes_into_view(address, chromium):
    with visit(chromium, address + "notebooks/01_cohort.html", inside=address) as opened:
        heavy = ("niivue", "/_static/patients/p")
        loaded = [request.url for request in opened.requests if any(word in request.url for word in heavy)]
        assert loaded == []
        assert opened.page.locator(".mri-poster").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


# The atlas of the codebook


DATA = "cards => cards.map(card => ({...card.dataset}))"


def all_cards(page) -> list[dict]:
    """The data of every card."""
    return page.locator(".atlas-card").evaluate_all(DATA)


def shown_cards(page) -> list[dict]:
    """The data of the cards that are shown, in their order; of many only the first are, until more are asked for."""
    return page.locator(".atlas-card:not([hidden])").evaluate_all(DATA)


def indices(cards: list[dict]) -> set[str]:
    return {card["index"] for card in cards}


def wait_for_count(page, count: int) -> None:
    page.wait_for_function("text => document.querySelector('#atlas-count').textContent.startsWith(text)", arg=f"{count} of ")


@pytest.fixture
def atlas(address, chromium):
    with visit(chromium, address + "notebooks/12_atlas.html", inside=address) as opened:
        opened.page.locator(".atlas-controls").wait_for()
        yield opened.page
        assert (opened.errors, opened.outside) == ([], [])


def test_atlas_sorts_by_what_is_chosen_in_both_directions(atlas):
    every = all_cards(atlas)
    for key, name in {"tokens": "tokens", "auc": "auc", "share-brain": "shareBrain"}.items():
        atlas.locator("#atlas-sort").select_option(key)
        falling = sorted((float(card[name]) for card in every), reverse=True)
        shown = [float(card[name]) for card in shown_cards(atlas)]
        assert len(set(falling)) > 1 and shown and shown == falling[: len(shown)], key
    atlas.locator("#atlas-order").click()
    shown = [float(card[name]) for card in shown_cards(atlas)]
    assert shown == falling[::-1][: len(shown)]


def test_atlas_finds_one_codeword_by_its_index(atlas):
    every = all_cards(atlas)
    wait_for_count(atlas, len(every))
    index = every[-1]["index"]
    atlas.locator("#atlas-search").fill(index)
    wait_for_count(atlas, 1)
    assert indices(shown_cards(atlas)) == {index}
    atlas.locator("#atlas-search").fill("nothing is called so")
    wait_for_count(atlas, 0)
    assert shown_cards(atlas) == []
    atlas.locator("#atlas-search").fill("")
    wait_for_count(atlas, len(every))


@pytest.mark.parametrize("group", ["tissue", "grade"])
def test_atlas_filters_by_what_is_ticked_says_how_many_fit_and_shows_all_of_them(atlas, group):
    every = all_cards(atlas)
    for kind in sorted({card[group] for card in every} - {""}):
        fitting = [card for card in every if card[group] == kind]
        atlas.locator(f"input[name={group}][value={kind}]").check()
        wait_for_count(atlas, len(fitting))
        assert indices(shown_cards(atlas)) <= indices(fitting)
        if atlas.locator("#atlas-all").is_visible():
            atlas.locator("#atlas-all").click()
        assert indices(shown_cards(atlas)) == indices(fitting)
        atlas.locator("#atlas-reset").click()
        wait_for_count(atlas, len(every))


def test_address_of_the_atlas_keeps_what_was_chosen(atlas):
    atlas.locator("#atlas-sort").select_option("tokens")
    atlas.locator("#atlas-search").fill(all_cards(atlas)[3]["index"])
    wait_for_count(atlas, 1)
    chosen = shown_cards(atlas)
    atlas.wait_for_url("**words=*")
    atlas.reload()
    wait_for_count(atlas, 1)
    assert shown_cards(atlas) == chosen and atlas.locator("#atlas-sort").input_value() == "tokens"


def test_link_to_a_card_shows_it_whatever_is_filtered(atlas):
    first, other = all_cards(atlas)[:2]
    atlas.locator("#atlas-search").fill(first["index"])
    wait_for_count(atlas, 1)
    name = f"codeword-{int(other['index']):03d}"
    atlas.evaluate("name => { location.hash = name; }", name)
    atlas.wait_for_function("name => !document.getElementById(name).hidden", arg=name)
    assert atlas.locator(f"#{name}").is_visible()


def test_atlas_is_readable_without_scripts(address, chromium):
    with visit(chromium, address + "notebooks/12_atlas.html", inside=address, java_script_enabled=False) as opened:
        assert opened.page.locator(".atlas-card").first.is_visible() and not opened.page.locator(".atlas-controls").is_visible()


# The widgets, with no kernel behind them


@contextmanager
def open_widget(chromium, address: str, inside: str, kind: str):
    """Open a page and give it and the widget of that class, drawn."""
    with visit(chromium, address, inside) as opened:
        widget = opened.page.locator(f".drlib-{kind}").first
        widget.wait_for()
        widget.scroll_into_view_if_needed()
        yield opened.page, widget
        assert (opened.errors, opened.outside) == ([], [])


def test_quantizer_steps_and_its_codewords_are_dragged_by_mouse_and_keys(address, chromium):
    with open_widget(chromium, address + "notebooks/02_vector_quantizer.html", address, "quantizer") as (page, widget):
        said = widget.locator(".drlib-said").inner_text()
        assert said.startswith("Step 0:")
        widget.get_by_role("button", name="Step", exact=True).click()
        assert says(page, widget, said).startswith("Step 1:")
        drag_codeword(page, widget)


def test_threshold_moves_patients_between_the_cells_under_both_conventions(address, chromium):
    with open_widget(chromium, address + "notebooks/05_grading.html", address, "grading") as (page, widget):

        def rates(positive: str) -> dict[str, str]:
            cells = widget.locator(f".drlib-{positive} td[data-rate]")
            return dict(cells.evaluate_all("all => all.map(cell => [cell.dataset.rate, cell.textContent.trim()])"))

        def agree() -> bool:
            lgg, hgg = rates("LGG"), rates("HGG")
            pairs = {"sensitivity": "specificity", "specificity": "sensitivity", "ppv": "npv", "npv": "ppv"}
            return set(lgg) == set(pairs) and all(lgg[rate] == hgg[mirrored] for rate, mirrored in pairs.items())

        before, said = rates("HGG"), widget.locator(".drlib-said").inner_text()
        assert agree()
        widget.get_by_label("threshold", exact=True).fill("0.9")
        assert "0.90" in says(page, widget, said)
        assert agree() and rates("HGG") != before and float(rates("HGG")["sensitivity"]) <= float(before["sensitivity"])


def choose_last(page, widget, label: str) -> None:
    """Choose the last of the prepared changes of a panel, and wait until it says what that does."""
    choose, said = widget.get_by_label(label, exact=True), widget.locator(".drlib-said").inner_text()
    choose.select_option(index=choose.locator("option").count() - 1)
    says(page, widget, said)
    assert not widget.locator(".drlib-live").first.is_visible()


def test_perturbation_panel_shows_prepared_changes_without_a_kernel(address, chromium):
    with open_widget(chromium, address + "notebooks/06_robustness.html", address, "perturbation") as (page, widget):
        changes(page, widget.locator("canvas").first, lambda: choose_last(page, widget, "change"), "change of the scan")


def test_ablation_panel_shows_prepared_codewords_and_all_slices_without_a_kernel(address, chromium):
    with open_widget(chromium, address + "notebooks/07_ablation.html", address, "ablation") as (page, widget):
        table, slider = widget.locator("table"), widget.get_by_label("slice", exact=True)
        before = table.inner_text()
        choose_last(page, widget, "codewords")
        assert table.inner_text() != before
        changes(page, widget.locator("canvas").first, lambda: slider.fill(slider.get_attribute("min")), "slice")


def test_slices_of_another_patient_can_be_turned_without_a_kernel(address, chromium):
    with open_widget(chromium, address + "notebooks/01_cohort.html", address, "slices") as (page, widget):
        canvas = widget.locator("canvas").first
        patient, slider = widget.get_by_label("patient", exact=True), widget.get_by_label("slice", exact=True)
        changes(page, canvas, lambda: patient.select_option(index=1), "patient")
        changes(page, canvas, lambda: slider.fill(slider.get_attribute("min")), "slice")


# Opened from a folder, without a server


@pytest.mark.parametrize("name", ["book/intro", "notebooks/01_cohort", "notebooks/02_vector_quantizer", "notebooks/05_grading"])
def test_page_opens_from_a_folder(site, chromium, name):
    with visit(chromium, (site / f"{name}.html").as_uri(), inside=site.as_uri()) as opened:
        opened.settle()
        assert (opened.errors, opened.outside) == ([], [])
        assert opened.page.evaluate(BROKEN_IMAGES) == []


def test_viewer_draws_from_a_folder(site, chromium):
    page = (site / "notebooks" / "13_explorer.html").as_uri()
    with open_viewer(chromium, page, site.as_uri()) as (opened, viewer, state):
        overlay = viewer.locator(".mri-overlay-select").first
        kind = "truth" if state()["overlay"] != "truth" else "prediction"
        changes(opened.page, viewer.locator(".mri-canvas"), lambda: overlay.select_option(kind), kind)
