"""The last hand on the built pages: figures in both themes with their files, tables that can be read and taken away, nothing unused.

Jupyter Book builds the pages; what it has no setting for is done here, on the finished HTML.
"""

import csv
import html
import io
import re
import shutil
from pathlib import Path

from drlib.series.workflow import Series

# Jupyter Book loads sphinx-thebe whether it is used or not: an error in the console of every page, and an address outside the site.
_LIVE_CODE = re.compile(r"<script>const THEBE_JS_URL.*?</script>|<(script|link)[^>]*sphinx-thebe\.(js|css)[^>]*>(</script>)?", re.DOTALL)
# 1.5 MB that draw the icons again which the theme's fonts have drawn already.
_ICONS_AGAIN = re.compile(r"<script[^>]*scripts/fontawesome\.js[^>]*></script>\s*")
_FIGURE = re.compile(r'<img alt="([^"]*)"[^>]*src="(\.\./_images/([\w-]+)\.svg)"[^>]*>\s*(<figcaption>.*?)</figcaption>', re.DOTALL)
_SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_TABLE = re.compile(r'(<div class="pst-scrollable-table-container">)?\s*<table([^>]*)>(.*?)</table>\s*(?(1)</div>)', re.DOTALL)
_CELL = re.compile(r"<(t[hd])\b([^>]*)>(.*?)</\1>", re.DOTALL)
_INTERVAL = re.compile(r"(?<![\w>])((?:[−+-]?[\d.,]+ )?\[[^\[\]<>]{1,24}\])")
_NUMBER = re.compile(r"^[−+-]?[\d.,]*\d( ?%)?( ?(±|\[|\().*)?$|^–$|^nan$")
_MENDS = (  # of the theme's own markup, where a screen reader would hear nothing or something else than is seen
    (re.compile(r'(<button class="[^"]*search-button-field[^"]*")[^>]*?(?= data-bs-placement)'), r"\1"),
    (re.compile(r'(<i class="theme-switch [^>]*?) +title="[^"]*"'), r"\1"),
    (re.compile(r'<summary>(?=<span class="toctree-toggle")'), '<summary aria-label="Sections of this chapter">'),
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    (re.compile(r'(<h1><span class="section-number)(?=">\d+\.\d+)'), r"\1 dr-within"),  # a page within a chapter
    (re.compile(r'(<html [^>]*data-theme=")auto"'), r'\1light"'),  # what holds until, or without, a script
    (re.compile(r' role="doc-biblioentry"'), ' role="listitem"'),
    (re.compile(r' role="doc-backlink"'), ""),
)
WEIGHTS = '<div id="page-weights"></div>'  # where the status page has the weights of all pages
UNUSED = (
    "_static/locales",
    "_static/scripts/fontawesome.js",
    "_static/webpack-macros.html",
    "_static/sbt-webpack-macros.html",
    "_static/sphinx-thebe.js",
    "_static/sphinx-thebe.css",
)


def finish_pages(site: Path, staged: Path, series: Series, banner: str) -> None:
    """Mend every page of the built ``site`` in place and put the files that its pages offer beside it, from ``staged``."""
    generated = staged / "book" / "_generated"
    for picture in (generated / "figures").glob("*.png"):
        shutil.copy(picture, site / "_images")
    shutil.copytree(generated / "tables", site / "_tables")
    for page in site.rglob("*.html"):
        if "_static" not in page.parts:
            page.write_text(finish_page(page.read_text(encoding="utf-8"), page.stem, site), encoding="utf-8")
    for name in series.chapters:  # the notebook to download is the one to run: without outputs, which are on the page
        shutil.copy(series.notebook(name), site / "_sources" / "notebooks")
    for name in UNUSED:
        path = site / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for leftover in (*(site / "_static").rglob("*.map"), *(site / "_static").rglob("*.LICENSE.txt.gz")):
        leftover.unlink()
    _write_missing(site, series.root / "book" / "_templates" / "404.html", banner)
    _write_weights(site)


def finish_page(text: str, name: str, site: Path) -> str:
    """Return the HTML of one page, mended; ``name`` names the files of its tables."""
    text = _ICONS_AGAIN.sub("", _LIVE_CODE.sub("", text))
    for fault, mended in _MENDS:
        text = fault.sub(mended, text)
    head, main, tail = _split_article(text)
    main = _FIGURE.sub(lambda match: _figure(match, site), main)
    numbers = iter(range(1, 1000))
    main = _TABLE.sub(lambda match: _table(match, name, numbers, site / "_tables"), main)
    return head + main + tail


def table_csv(rows: list[list[str]]) -> str:
    """Return rows of cells as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write_missing(site: Path, template: Path, banner: str) -> None:
    """Write the page that a server shows for an address that is not there; it stands alone, for it is shown at any depth."""
    pages = "".join(f"<li>{title}</li>" for title in _titles(site))
    text = template.read_text(encoding="utf-8").replace("<!-- banner -->", banner).replace("<!-- pages -->", pages)
    (site / "404.html").write_text(text, encoding="utf-8")


def _titles(site: Path) -> list[str]:
    """Return the titles of the chapters in their order, as the contents of the first page have them."""
    contents = (site / "book" / "intro.html").read_text(encoding="utf-8")
    return [" ".join(title.split()) for title in re.findall(r'<li class="toctree-l1[^"]*"><a[^>]*>\s*([^<]+)</a>', contents)]


def page_weights(site: Path) -> dict[str, tuple[int, int]]:
    """Return, by page, the bytes of its HTML and of the pictures that it shows in one theme."""
    weights = {}
    for page in sorted(site.glob("*/*.html")):
        text = page.read_text(encoding="utf-8")
        pictures = {page.parent / name for name in re.findall(r'<img[^>]*src="([^"#:]+)"', text)}
        weights[f"{page.parent.name}/{page.stem}"] = (len(text.encode()), sum(path.stat().st_size for path in pictures if path.is_file()))
    return weights


def _write_weights(site: Path) -> None:
    status = site / "book" / "status.html"
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td class="num">{text / 1e3:,.0f}</td><td class="num">{pictures / 1e3:,.0f}</td></tr>'
        for name, (text, pictures) in page_weights(site).items()
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("page", "HTML, kB", "pictures, kB"))
    total = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    words = f"<p>The whole site has {total:.0f} MB. A page also takes the styles and scripts that all pages share, once.</p>"
    box = f'{words}<div class="dr-table"><div class="dr-scroll" data-scrolls="table">{table}</div></div>'
    status.write_text(status.read_text(encoding="utf-8").replace(WEIGHTS, box), encoding="utf-8")


def _split_article(text: str) -> tuple[str, str, str]:
    """Return what comes before the article, the article, and what comes after it; a page without one is all head."""
    start, end = text.find("<article"), text.rfind("</article>")
    return (text, "", "") if start < 0 else (text[:start], text[start:end], text[end:])


def _figure(match: re.Match, site: Path) -> str:
    alt, source, name, caption = match.groups()
    width, height = map(float, _SIZE.search((site / "_images" / f"{name}.svg").read_text(encoding="utf-8")[:2000]).groups())
    size = f'width="{width * 96 / 72:.0f}" height="{height * 96 / 72:.0f}"'
    pictures = "".join(
        f'<img class="only-{theme}" src="{source}{"#dark" * (theme == "dark")}" alt="{alt}" {size} loading="lazy">'
        for theme in ("light", "dark")
    )
    files = " · ".join(f'<a href="../_images/{name}.{kind}" download>{kind.upper()}</a>' for kind in ("svg", "png"))
    return (
        f'<div class="dr-plate" data-scrolls="figure">{pictures}</div>\n'
        f'{caption}<p class="dr-files"><a class="dr-large" href="{source}">Open large</a> · {files}</p></figcaption>'
    )


def _table(match: re.Match, page: str, numbers, folder: Path) -> str:
    _, attributes, body = match.groups()
    number, rows = next(numbers), re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    named = re.search(r' ?data-csv="([^"]+)"', attributes)
    name = named[1] if named else f"{page}_{number}.csv"
    if not named:
        cells = [[_text(cell[3]) for cell in _CELL.finditer(row)] for row in rows]
        (folder / name).write_text(table_csv(cells), encoding="utf-8")
    attributes = re.sub(r' ?(data-csv|border)="[^"]*"', "", attributes)
    table = f"<table{attributes}>{_mend_cells(body)}</table>"
    files = f'<p class="dr-files"><a href="../_tables/{name}" download>CSV</a></p>'
    return f'<div class="dr-table"><div class="dr-scroll" data-scrolls="table">{table}</div>{files}</div>'


def _mend_cells(body: str) -> str:
    """Return the rows of a table with headers that say what they head, columns of numbers marked, and intervals that do not break."""
    head, foot, rest = _join_header(body).partition("</thead>")
    rows = re.split(r"(?<=</tr>)", rest)
    numeric = _numeric_columns(rows)
    heads = (_mend_row(row, "col", set() if "colspan" in row else numeric) for row in re.split(r"(?<=</tr>)", head))
    return "".join(heads) + foot + "".join(_mend_row(row, "row", numeric) for row in rows)


def _mend_row(row: str, scope: str, numeric: set[int]) -> str:
    cells = list(_CELL.finditer(row))
    for place, cell in enumerate(reversed(cells), start=1):
        row = row[: cell.start()] + _mend_cell(*cell.groups(), scope, place in numeric) + row[cell.end() :]
    return row


def _mend_cell(tag: str, attributes: str, content: str, scope: str, numeric: bool) -> str:
    if tag == "th" and not _text(content):
        return f"<td{attributes}>{content}</td>"
    if tag == "th" and "scope=" not in attributes:
        attributes += f' scope="{scope}"'
    if numeric and "class=" not in attributes:
        attributes += ' class="num"'
    return f"<{tag}{attributes}>{_INTERVAL.sub(_unbroken, content)}</{tag}>"


def _numeric_columns(rows: list[str]) -> set[int]:
    """Return the columns of which every cell is a number, counted from the right, where pandas leaves out no repeated index."""
    numbers: dict[int, list[bool]] = {}
    for row in rows:
        for place, cell in enumerate(reversed(list(_CELL.finditer(row))), start=1):
            numbers.setdefault(place, []).append(cell[1] == "td" and bool(_NUMBER.match(_text(cell[3]))))
    return {place for place, found in numbers.items() if all(found)}


def _join_header(body: str) -> str:
    """Return the table with one row of headers where pandas has two: the columns' names, and below them the index's alone."""
    rows = re.match(r"\s*<thead>\s*<tr[^>]*>(.*?)</tr>\s*<tr[^>]*>(.*?)</tr>\s*</thead>", body, re.DOTALL)
    if not rows:
        return body
    cells = [[(cell[0], _text(cell[3])) for cell in _CELL.finditer(row)] for row in rows.groups()]
    if "colspan" in rows[1] or len(cells[0]) != len(cells[1]):
        return body
    pairs = list(zip(*cells, strict=True))
    if any(above[1] and below[1] for above, below in pairs):
        return body
    joined = "".join(above[0] if above[1] else below[0] for above, below in pairs)
    return f"<thead><tr>{joined}</tr></thead>{body[rows.end() :]}"


def _unbroken(match: re.Match) -> str:
    return f'<span class="dr-unbroken">{match[1]}</span>'


def _text(content: str) -> str:
    """Return what a cell says, without markup."""
    spaced = re.sub(r"<br\s*/?>|</p>|</li>", " ", content)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", spaced)).split())
