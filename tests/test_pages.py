"""The last hand on the pages (drlib.series.pages, staging, front, citation): figures, tables, cards and citation as readers get them."""

import csv
import io
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from drlib.series.citation import bibtex_entries
from drlib.series.front import CARDS, headline_cards
from drlib.series.pages import finish_page
from drlib.series.staging import take_figures, take_tables

ROOT = Path(__file__).parents[1]
WORDS = {"finding": "AUC 0.9 [0.8, 1.0].", "reading": "Stars: * p < .05.", "alt": "A curve."}
TABLE = """<table border="1" class="dataframe"><thead><tr><th></th><th>AUC</th><th>note</th></tr>
<tr><th>model</th><th></th><th></th></tr></thead>
<tbody><tr><th>codewords</th><td>0.94 [0.89, 0.98]</td><td>112</td></tr>
<tr><th>none</th><td>–</td><td>of [a, b]</td></tr></tbody></table>"""


def notebook_with(*outputs, figure: str | None = None) -> nbformat.NotebookNode:
    metadata = {"mystnb": {"figure": {"name": figure}}} if figure else {}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show()", outputs=list(outputs), metadata=metadata)])


def figure_output() -> nbformat.NotebookNode:
    data = {"image/svg+xml": '<svg viewBox="0 0 72 36"></svg>', "image/png": "aGk=", "text/html": "<figure></figure>"}
    return nbformat.v4.new_output("execute_result", data=data, metadata={"drlib": WORDS})


@pytest.fixture
def site(tmp_path) -> Path:
    for folder in ("_images", "_tables"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_images" / "fig-roc.svg").write_text('<svg viewBox="0 0 72 36"></svg>')
    return tmp_path


def test_a_figure_leaves_its_cell_with_caption_alternative_text_svg_and_png(tmp_path):
    said = nbformat.v4.new_output("stream", name="stdout", text="kept")
    staged = take_figures(notebook_with(figure_output(), said, figure="fig-roc"), "05_grading", tmp_path)
    code, figure = staged.cells
    assert [output.get("text") for output in code.outputs] == ["kept"] and "mystnb" not in code.metadata
    assert "{figure} /book/_generated/figures/fig-roc.svg" in figure.source and ":alt: A curve." in figure.source
    assert r"**AUC 0.9 \[0.8, 1.0\].** Stars: \* p \< .05." in figure.source
    assert (tmp_path / "fig-roc.png").read_bytes() == b"hi" and (tmp_path / "fig-roc.svg").read_text().startswith("<svg")


def test_a_figure_without_a_name_is_called_by_chapter_and_place(tmp_path):
    take_figures(notebook_with(figure_output()), "08b_stability", tmp_path)
    assert (tmp_path / "fig-08b-stability-1.svg").is_file()


def test_a_table_without_rows_says_so(tmp_path):
    frame = pd.DataFrame({"AUC": []})
    output = nbformat.v4.new_output("execute_result", data={"text/html": frame.to_html(), "text/csv": frame.to_csv()})
    take_tables(notebook_with(output), "05_grading", tmp_path)
    assert "no row" in output.data["text/html"] and not list(tmp_path.iterdir())


def test_a_frame_is_offered_with_the_digits_that_the_page_rounds_away(tmp_path):
    frame = pd.DataFrame({"AUC": [0.123456789]}, index=["codewords"])
    output = nbformat.v4.new_output("execute_result", data={"text/html": frame.round(2).to_html(), "text/csv": frame.to_csv()})
    notebook = notebook_with(output)
    take_tables(notebook, "05_grading", tmp_path)
    assert "0.123456789" in (tmp_path / "05_grading_table_1.csv").read_text()
    assert 'data-csv="05_grading_table_1.csv"' in output.data["text/html"] and "text/csv" not in output.data


def test_a_figure_is_shown_in_both_themes_and_leads_to_its_files(site):
    image = '<img alt="A curve." src="../_images/fig-roc.svg" />'
    page = f'<article><figure id="fig-roc">{image}<figcaption><p>AUC</p></figcaption></figure></article>'
    text = finish_page(page, "05_grading", site)
    assert '<img class="only-light" src="../_images/fig-roc.svg" alt="A curve." width="96" height="48"' in text
    assert '<img class="only-dark" src="../_images/fig-roc.svg#dark"' in text
    assert 'href="../_images/fig-roc.svg" download>SVG</a>' in text and 'href="../_images/fig-roc.png" download>PNG</a>' in text


def test_a_table_has_a_csv_no_empty_header_and_intervals_that_do_not_break(site):
    text = finish_page(f"<article>{TABLE}</article>", "05_grading", site)
    assert '<th scope="col">model</th><th scope="col" class="num">AUC</th><th scope="col">note</th>' in text  # one row of headers
    assert '<th scope="row">codewords</th>' in text and "<td>112</td>" in text  # a number among words is no column of numbers
    assert '<td class="num"><span class="dr-unbroken">0.94 [0.89, 0.98]</span></td>' in text
    assert 'href="../_tables/05_grading_1.csv" download>CSV</a>' in text
    rows = list(csv.reader(io.StringIO((site / "_tables" / "05_grading_1.csv").read_text())))
    assert rows[0] == ["", "AUC", "note"] and rows[2:] == [["codewords", "0.94 [0.89, 0.98]", "112"], ["none", "–", "of [a, b]"]]


def test_what_stands_outside_the_article_stays_as_it_is(site):
    page = f"<nav>{TABLE}</nav><article><p>text</p></article><script>{TABLE}</script>"
    assert finish_page(page, "intro", site) == page


def test_a_card_says_what_was_asked_the_value_its_interval_and_the_verdict():
    row = {
        "id": CARDS[0][0],
        "paper": 0.76,
        "ours": 0.8226,
        "interval": [0.81, 0.83],
        "verdict": "holds",
        "evidence": "notebooks/03.html#a",
    }
    other = row | {"id": CARDS[2][0], "paper": None, "ours": 0.03, "interval": [-0.03, 0.09], "verdict": "does not hold"}
    cards = headline_cards(pd.DataFrame([row, other]).astype(object))
    assert cards.count("<li>") == 2 and CARDS[0][1] in cards and 'href="../notebooks/03.html#a"' in cards
    assert ">0.82</span>" in cards and "[0.81, 0.83]" in cards and "paper 0.76" in cards
    assert "[−0.03, 0.09]" in cards and "not in the paper" in cards and "× does not hold" in cards


def test_book_and_paper_are_cited_from_the_citation_file():
    book, paper = bibtex_entries(ROOT / "CITATION.cff")
    assert book.startswith("@software{deep_radiomics,") and "author = {{the Deep Radiomics contributors}}" in book
    assert paper.startswith("@article{kobayashi2021,") and "Kobayashi, Kazuma and Miyake, Mototaka and" in paper
    assert "pages = {10942}" in paper and paper.count("{") == paper.count("}")
