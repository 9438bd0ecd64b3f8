"""The whole series at the smallest profile, once, and the book built from it with every warning an error (drlib.series.book)."""

import json
import re
import string
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from project import ROOT, contents, copy_project, pages

from drlib.artifacts import open_stage
from drlib.series.book import build_book, cohort_banner
from drlib.series.reporting import CHECKLISTS, card_page, checklist_page, describe_model, read_facts, write_model_card
from drlib.series.staging import tidy_notebook
from drlib.series.workflow import Series, SeriesError, run_series

CLAIMS = {
    *(f"dice_{region}" for region in ("NET", "ED", "ET", "TC", "WT")),
    *("grading_accuracy", "grading_auc", "volume_baseline_accuracy", "difference_ratio_scale_1.0", "difference_ratio_shift_1.0"),
    *("n_responsible_LGG", "n_responsible_HGG", "hgg_region_top", "lgg_region_top"),
    *("null_auc", "null_discovery_rate", "planted_ET", "planted_NET", "planted_ED", "planted_texture"),
}


@pytest.mark.slow
def test_every_chapter_runs_and_a_second_run_executes_nothing(series):
    assert {outcome.state for outcome in run_series(series)} == {"fresh"}


@pytest.mark.slow
def test_claims_hold_every_id_with_plain_numbers(series):
    claims = json.loads(series.publish_claims().read_text())
    assert {claim["id"] for claim in claims} >= CLAIMS
    fields = {"id", "chapter", "claim", "paper", "ours", "interval", "n", "unit", "cohort", "profile", "verdict", "evidence"}
    assert len({claim["id"] for claim in claims}) == len(claims)
    for claim in claims:
        assert fields <= set(claim)
        assert claim["interval"] is None or (len(claim["interval"]) == 2 and claim["interval"][0] <= claim["interval"][1])
        assert claim["cohort"].split(",")[0] in ("phantom", "published", "simulation") and isinstance(claim["n"], int)
        assert claim["profile"] == "smoke" or claim["cohort"] != "phantom"


@pytest.mark.slow
def test_every_claim_leads_to_the_section_that_shows_it(series, site):
    for claim in json.loads(series.publish_claims().read_text()):
        page, _, label = claim["evidence"].partition("#")
        assert label and f'id="{label}"' in (site / page).read_text(encoding="utf-8"), f"{claim['id']}: {claim['evidence']}"


@pytest.mark.slow
def test_book_builds_strictly_and_every_page_of_the_contents_is_there(series, site):
    assert (site / "index.html").is_file()
    assert {str(page.relative_to(site)) for page in pages(site)} >= set(contents())


@pytest.mark.slow
def test_every_page_names_its_cohort(series, site):
    for page in pages(site):
        assert cohort_banner(series) in page.read_text(encoding="utf-8"), page


@pytest.mark.slow
def test_no_page_shows_a_folder_of_the_computer_that_made_it(series, site):
    for path in [*pages(site), *(site / "_sources").rglob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        found = [folder for folder in (str(series.root), str(ROOT), str(Path.home()) + "/") if folder in text]
        assert not found, f"{path.name}: {found}"


@pytest.mark.slow
def test_no_output_of_a_chapter_is_an_error_or_a_warning(series):
    for name in series.chapters:
        for cell in nbformat.read(series.executed(name), as_version=4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error"
                assert not re.search(r"\w*Warning:", output.get("text", "")), f"{name}: {output['text']}"


class _Loaded(HTMLParser):
    """Collects what a browser fetches for a page: scripts, styles, images, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.addresses.append(attributes.get("src") or "")
        if tag == "link" and attributes.get("rel") in ("stylesheet", "preload", "icon", "modulepreload"):
            self.addresses.append(attributes.get("href") or "")


@pytest.mark.slow
def test_site_is_complete_without_a_network(site):
    for page in pages(site):
        loaded = _Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        for address in filter(None, loaded.addresses):
            if not address.startswith("data:"):
                assert "//" not in address, f"{page.name} loads {address}"
                assert (page.parent / re.split("[?#]", address)[0]).is_file(), f"{page.name}: {address} is missing"


@pytest.mark.slow
def test_figures_have_words_for_those_who_cannot_see_them(site):
    for page in pages(site):
        shown = re.sub(r"<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)  # widgets keep their state there
        for image in re.findall(r"<img[^>]*>", shown):
            assert re.search(r'alt="[^"]+', image), f"{page.name}: {image[:120]}"


@pytest.mark.slow
def test_every_figure_of_a_chapter_has_a_caption_with_a_finding_and_its_svg_and_png(series, site):
    for name in series.chapters:
        page = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        drawn = sum("figures.plot_" in cell.source for cell in nbformat.read(series.notebook(name), as_version=4).cells)
        found = re.findall(r'<figure[^>]*id="([\w-]+)">.*?<figcaption>(.*?)</figcaption>', page, re.DOTALL)
        assert len(found) >= drawn, name
        for figure, caption in found:
            assert "<strong>" in caption, figure
            for kind in ("svg", "png"):
                assert (site / "_images" / f"{figure}.{kind}").stat().st_size > 1000, figure


@pytest.mark.slow
def test_every_table_has_its_csv_and_every_page_its_cite_button(site):
    for page in pages(site):
        text = page.read_text(encoding="utf-8")
        article = text[text.index("<article") : text.rindex("</article>")]
        offered = re.findall(r'href="\.\./_tables/([\w.]+)" download', article)
        assert len(offered) == len(re.findall(r"<table", article)) - (page.stem == "status"), page
        assert all((site / "_tables" / name).stat().st_size for name in offered), page
        assert "@software{deep_radiomics" in text and "@article{kobayashi2021" in text and 'data-opens="dr-cite-dialog"' in text, page


@pytest.mark.slow
def test_the_first_page_shows_a_picture_of_this_run_and_the_headline_in_cards(site):
    page = (site / "book" / "intro.html").read_text(encoding="utf-8")
    assert 'src="../_images/fig-front.svg"' in page and page.count('class="dr-card"') >= 5


@pytest.mark.slow
def test_the_site_is_light_and_a_notebook_is_offered_as_it_is_to_be_run(series, site):
    weight = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert weight < 60e6, f"{weight / 1e6:.0f} MB"
    for name in series.chapters:
        assert (site / "_sources" / "notebooks" / f"{name}.ipynb").read_bytes() == series.notebook(name).read_bytes()


def test_book_of_a_series_that_is_not_executed_says_what_to_do(tmp_path):
    with pytest.raises(SeriesError, match="not executed yet: 01_cohort.*drlib run --profile smoke"):
        build_book(Series(copy_project(tmp_path), "smoke"))


def test_readers_see_the_parameters_that_were_used_and_neither_folders_nor_glue(tmp_path):
    series = Series(copy_project(tmp_path), "smoke", seed=3)
    parameters = nbformat.v4.new_code_cell('profile = "demo"  # size\nseed = 0', metadata={"tags": ["parameters"]})
    injected = nbformat.v4.new_code_cell(f'data_dir = "{tmp_path}"', metadata={"tags": ["injected-parameters"]})
    said = nbformat.v4.new_output("stream", name="stdout", text=f"wrote {tmp_path}/results/x")
    warned = nbformat.v4.new_output("stream", name="stderr", text="noise")
    cell = nbformat.v4.new_code_cell('glue("n", 3, display=False)\nshow()', outputs=[said, warned])
    glued = nbformat.v4.new_code_cell('glue("m", 4, display=False)')
    tidy = tidy_notebook(nbformat.v4.new_notebook(cells=[parameters, injected, cell, glued], metadata={"papermill": {"x": 1}}), series)
    assert [cell.source for cell in tidy.cells] == ['profile = "smoke"  # size\nseed = 3', "show()", ""]
    assert tidy.cells[2].metadata["tags"] == ["remove-input"]
    assert [output.text for output in tidy.cells[1].outputs] == ["wrote results/x"]
    assert "papermill" not in tidy.metadata


def test_vendored_scripts_are_those_that_are_documented():
    import hashlib

    vendor, package = ROOT / "book" / "_static" / "vendor", ROOT / "drlib" / "viewer" / "static" / "vendor"
    readme = (vendor / "README.md").read_text()
    for script in [*vendor.rglob("*.js"), *package.rglob("*.js")]:
        assert hashlib.sha256(script.read_bytes()).hexdigest() in readme, f"{script} is not in the table of {vendor}/README.md"
        assert any(script.parent.glob("LICENSE*")), f"{script} has no licence beside it"


@pytest.mark.slow
def test_facts_of_a_run_answer_every_question_of_the_checklists(series):
    known = read_facts(series.run)
    texts = [answer.says for checklist in CHECKLISTS.values() for item in checklist.items for answer in item.answers]
    asked = {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}
    assert asked <= set(known.values)
    assert (known.values["n_segmentation"], known.values["n_lgg"], known.values["n_hgg"]) == (16, 12, 20)
    claims = pd.DataFrame(json.loads((series.run.folder / "claims.json").read_text())).set_index("id")
    assert known.values["grading_auc"].startswith(f"{claims.loc['grading_auc', 'ours']:.2f} [")


@pytest.mark.slow
def test_the_same_results_read_differently_as_a_users_cohort(series, tmp_path):
    own = read_facts(replace(series.run, data_dir=tmp_path / "clinic"))
    assert "own" in own.flags and "phantom" not in own.flags and own.values["cohort"] == "clinic"
    shown = [checklist_page(checklist, own)._repr_html_() for checklist in CHECKLISTS.values()]
    assert all("yours to state" in page and "simulated" not in page for page in shown)
    assert "clinic, supplied by the user" in card_page(describe_model(own))._repr_html_()


@pytest.mark.slow
def test_model_card_lies_in_the_model_folder_and_the_stage_stays_sound(series):
    card = write_model_card(series.run)
    assert card.name == "MODEL_CARD.md" and "phantom-trained" in card.read_text()
    assert json.loads((card.parent / "model.json").read_text())["sha256"] in card.read_text()
    open_stage(card.parent, "")


@pytest.mark.slow
def test_every_page_says_research_only_and_phantom_trained(site):
    found = [page for page in site.rglob("*.html") if "_static" not in page.parts and page != site / "index.html"]
    assert len(found) > 15
    for page in found:
        text = page.read_text(encoding="utf-8")
        assert "Research only" in text and "phantom-trained" in text, page


class _Links(HTMLParser):
    """Collects the addresses a page leads to and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes["id"]} if attributes.get("id") else set()
        self.addresses += [attributes["href"]] if tag == "a" and attributes.get("href") else []


@pytest.mark.slow
def test_every_link_of_the_checklists_leads_to_an_anchor_of_the_site(site):
    page = site / "notebooks" / "11_reporting.html"
    links = {address for address in _Links(page).addresses if re.fullmatch(r"(\.\./book/)?[\w]+\.html#[\w-]+", address)}
    assert len(links) >= 12
    anchors = {}
    for address in links:
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve()
        if target not in anchors:
            anchors[target] = _Links(target).anchors
        assert anchor in anchors[target], address
