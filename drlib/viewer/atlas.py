"""The cards of the codebook atlas: plain HTML that is read without a script, and sorted and searched where ``atlas.js`` is there.

Every number is text; the little drawings beside the numbers repeat them and are hidden from screen readers.
"""

import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from IPython.display import HTML

from drlib.figures.atlas import TISSUE_COLOURS, TISSUE_NAMES
from drlib.radiomics.atlas import Atlas, picture_name

SORTS = {  # value of the choice -> what the reader sees; each is a data attribute of a card, the largest first
    "telling": "distance of AUC from 0.5",
    "index": "index",
    "tokens": "frequency (tokens)",
    "auc": "AUC",
    "coefficient": "coefficient",
    "selected": "share of half-cohorts that select it",
    "near": "share of its tokens at a tumour",
    "local": "change in its cell when it is replaced",
} | {f"share-{tissue.lower()}": f"share of {name}" for tissue, name in TISSUE_NAMES.items()}
LEFT_OUT = "The patches are left out: they are images of patients, and publishing them was not asked for."
MORE = (
    '<p class="atlas-more" hidden><button type="button" id="atlas-more">Show more</button> '
    '<button type="button" id="atlas-all">Show all</button></p>'
)
PERCENT = "\N{NO-BREAK SPACE}%"
GRADE_WORDS = {"LGG": "more in LGG", "HGG": "more in HGG"}


def codebook_atlas(atlas: Atlas) -> HTML:
    """Return every codeword in use as a card: patches, tissue, frequency by grade, AUC, coefficient, place, ablation map.

    The cards come responsible codewords first, then by how far their AUC is from 0.5. Each has the id ``codeword-NNN``. Pictures are
    files of the atlas, named relative to the current folder; the book puts its own copies in their place.
    """
    table = atlas.table.assign(telling=(atlas.table["auc"] - 0.5).abs())
    table = table.sort_values(["responsible", "telling"], ascending=False, kind="stable")
    reach = float(table[["coefficient_low", "coefficient_high", "coefficient"]].abs().max(axis=None)) or 1.0
    pictures, n_patches = Path(os.path.relpath(atlas.folder)).as_posix(), int(atlas.facts["n_patches"])
    cards = [_card(int(codeword), row, reach, pictures, n_patches) for codeword, row in table.iterrows()]
    return HTML(f'<div class="codebook-atlas">{_controls(len(table))}<div class="atlas-cards">{"".join(cards)}</div>{MORE}</div>')


def leave_patches_out(page: str) -> str:
    """Return the HTML of an atlas without its patches, which are images of patients, and with a sentence that says so."""
    page = re.sub(r'<div class="atlas-patches">.*?</div>', "", page, flags=re.DOTALL)
    return page.replace('<div class="atlas-cards">', f'<p>{LEFT_OUT}</p><div class="atlas-cards">')


def _controls(n: int) -> str:
    """Return the form that ``atlas.js`` brings to life; hidden where there is no script."""
    sorts = "".join(f'<option value="{value}">{escape(name)}</option>' for value, name in SORTS.items())
    tissues = _boxes("tissue", {tissue.lower(): name for tissue, name in TISSUE_NAMES.items()}, list(TISSUE_COLOURS.values()))
    grades = _boxes("grade", {grade.lower(): words for grade, words in GRADE_WORDS.items()})
    return (
        '<form class="atlas-controls" role="search" aria-label="Codewords" hidden>'
        '<p><label for="atlas-search">Search</label> <input id="atlas-search" name="q" type="search" autocomplete="off" '
        'placeholder="index, ET, responsible, HGG" aria-describedby="atlas-count"></p>'
        f'<p><label for="atlas-sort">Sort by</label> <select id="atlas-sort" name="sort">{sorts}</select> '
        '<button id="atlas-order" type="button" aria-pressed="false">reverse order</button></p>'
        f"<fieldset><legend>Most of its pixels are</legend>{tissues}</fieldset>"
        f"<fieldset><legend>Grade</legend>{grades}{_boxes('only', {'responsible': 'responsible only'})}</fieldset>"
        f'<p class="atlas-status"><output id="atlas-count" aria-live="polite">{n} of {n} codewords</output> '
        '<button id="atlas-reset" type="reset">Clear</button></p></form>'
    )


def _boxes(name: str, options: Mapping[str, str], colours: Sequence[str] = ()) -> str:
    """Return boxes to tick, each with its colour where there are ``colours``."""
    swatches = [f' <span class="atlas-swatch" style="background: {colour}"></span>' for colour in colours] or [""] * len(options)
    box = '<label><input type="checkbox" name="{}" value="{}">{} {}</label> '
    return "".join(box.format(name, value, swatch, escape(text)) for (value, text), swatch in zip(options.items(), swatches, strict=True))


def _card(codeword: int, row: pd.Series, reach: float, pictures: str, n_patches: int) -> str:
    """Return one card. ``reach``: where the axis of coefficients ends; ``n_patches``: so many at most are in the picture."""
    return (
        f'<article class="atlas-card" id="codeword-{codeword:03d}" {_data(codeword, row)}>'
        f'<h3><a href="#codeword-{codeword:03d}">Codeword {codeword}</a></h3>{_tags(row)}'
        + _patches(codeword, row, pictures, n_patches)
        + _composition(row)
        + _numbers(row, reach)
        + _maps(codeword, row, pictures)
        + "</article>"
    )


def _data(codeword: int, row: pd.Series) -> str:
    """Return the attributes that cards are sorted and filtered by."""
    values = {
        "index": codeword,
        "tokens": row["tokens"],
        "selected": row["selected_share"],
        "local": row["ablation_cell"],
        "near": row["near_tumour"],
    }
    values |= {name: row[name] for name in ("telling", "auc", "coefficient")}
    values |= {f"share-{tissue.lower()}": row[f"share_{tissue}"] for tissue in TISSUE_NAMES}
    words = {"tissue": row["tissue"], "grade": row["direction"], "only": "responsible" if row["responsible"] else ""}
    numbers = [f'data-{name}="{float(value):.4g}"' for name, value in values.items()]
    return " ".join([*numbers, *(f'data-{name}="{escape(str(word).lower())}"' for name, word in words.items())])


def _tags(row: pd.Series) -> str:
    grade = escape(str(row["direction"]))
    tags = [f'<span class="atlas-tag atlas-{grade.lower()}">{grade}-responsible</span>'] if row["responsible"] else []
    tags += [f'<span class="atlas-tag">{escape(GRADE_WORDS.get(row["direction"], grade))}</span>'] if not row["responsible"] else []
    tags += ['<span class="atlas-tag">background codeword</span>'] if row["background"] else []
    return f'<p class="atlas-tags">{" ".join(tags)}</p>'


def _patches(codeword: int, row: pd.Series, folder: str, most: int) -> str:
    shown = _count(min(most, int(row["patients"])), "patient")
    alt = f"Codeword {codeword} in {shown}: T1ce above, FLAIR below, its cell outlined; {_shares(row)}"
    image = _image(f"{folder}/patches/{picture_name(codeword)}", alt, 294, 146)
    return f'<div class="atlas-patches">{image}<p class="atlas-caption">T1ce above, FLAIR below</p></div>'


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def _image(source: str, alt: str, width: int, height: int) -> str:
    return f'<img src="{escape(source)}" alt="{escape(alt)}" width="{width}" height="{height}" loading="lazy" decoding="async">'


def _composition(row: pd.Series) -> str:
    parts, left = [], 0.0
    for tissue, colour in TISSUE_COLOURS.items():
        width = 100 * float(row[f"share_{tissue}"])
        if width >= 0.5:
            parts.append(f'<rect x="{left:.1f}" width="{width:.1f}" height="8" fill="{colour}"/>')
        left += width
    size = 'viewBox="0 0 100 8" width="290" height="12" preserveAspectRatio="none"'
    near = f"tumour in or beside the cell in {100 * row['near_tumour']:.0f}{PERCENT} of its tokens"
    bar = f'<svg class="atlas-bar" {size} aria-hidden="true">{"".join(parts)}</svg>'
    return f'{bar}<p class="atlas-caption">{_shares(row)}; {near}</p>'


def _shares(row: pd.Series) -> str:
    """Return the shares of tissue in words, the largest first; below half a per cent left out."""
    shares = {name: 100 * float(row[f"share_{tissue}"]) for tissue, name in TISSUE_NAMES.items()}
    return ", ".join(f"{name} {share:.0f}{PERCENT}" for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= 0.5)


def _numbers(row: pd.Series, reach: float) -> str:
    most = max(row["mean_LGG_high"], row["mean_HGG_high"]) or 1.0
    lines = [(f"{grade} count", f"mean_{grade}", 0, most, None, grade.lower()) for grade in ("LGG", "HGG")]
    lines += [("AUC", "auc", 0, 1, 0.5, ""), ("coefficient", "coefficient", -reach, reach, 0, "")]
    body = ""
    for name, column, start, end, reference, kind in lines:
        middle, low, high = row[column], row[f"{column}_low"], row[f"{column}_high"]
        places = [100 * (value - start) / (end - start) for value in (low, middle, high)]
        mark = None if reference is None else 100 * (reference - start) / (end - start)
        text = f"{_number(middle)} <small>({_number(low)} to {_number(high)})</small>"
        body += f"<div><dt>{name}</dt><dd>{_range(*places, mark, kind)}</dd><dd>{text}</dd></div>"
    seen = f"{_count(int(row['tokens']), 'token')} in {_count(int(row['patients']), 'patient')}"
    stable = f"selected by {100 * row['selected_share']:.0f}{PERCENT} of half-cohorts"
    return f'<dl class="atlas-numbers">{body}</dl><p class="atlas-caption">{seen}; {stable}</p>'


def _range(low: float, middle: float, high: float, reference: float | None, kind: str) -> str:
    """Return a point in its interval, between 0 and 100, with a mark at ``reference``."""
    mark = "" if reference is None else f'<path class="atlas-mark" d="M{reference:.1f} 0v10"/>'
    shape = f'{mark}<path d="M{low:.1f} 5H{high:.1f}"/><circle cx="{middle:.1f}" cy="5" r="2.5" fill="currentColor"/>'
    size = f'class="atlas-range{f" atlas-{kind}" if kind else ""}" viewBox="-3 0 106 10" width="106" height="10"'
    return f'<svg {size} stroke="currentColor" aria-hidden="true">{shape}</svg>'


def _number(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _maps(codeword: int, row: pd.Series, folder: str) -> str:
    alt = f"Where codeword {codeword} lies in the axial plane and over the height of the brain"
    alt += ", and where the logits change when one of its tokens is replaced" if row["n_ablated"] else ""
    caption = f'<p class="atlas-caption atlas-places"><span>Where it lies, and how high</span> <span>{_change(row)}</span></p>'
    return _image(f"{folder}/maps/{picture_name(codeword)}", alt, 256, 112) + caption


def _change(row: pd.Series) -> str:
    if row["background"]:
        return "No ablation map: it is what others are replaced by"
    if not row["n_ablated"]:
        return "No ablation map: it lies in no slice that shows brain"
    cell, ring = _number(row["ablation_cell"]), _number(row["ablation_ring"])
    return f"Replaced in {_count(int(row['n_ablated']), 'slice')}: change {cell} in its cell, {ring} around"
