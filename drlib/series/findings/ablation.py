"""Chapter 07 in numbers: which codewords are replaced, in which region the segmentation changes, and what random codewords would do."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from drlib.radiomics.ablation import ABLATED_REGIONS, decoder_reach
from drlib.radiomics.ablation_control import control_p, summarise_sets
from drlib.radiomics.statistics import Interval
from drlib.seeds import generator
from drlib.series.claims import Claim, Verdict
from drlib.series.findings.intervals import mean_interval
from drlib.series.run import Run
from drlib.series.stages import Ablation, open_grading, open_histograms, open_model

PAPER_TOP_REGION = {"HGG": "ET", "LGG": "NET"}  # Results, Fig. 7
PAPER_VALUES = {"HGG": {"NET": 5.48, "ED": 3.78, "ET": 7.66}, "LGG": {"NET": 1.22, "ED": 1.02, "ET": 0.92}}  # Results, Fig. 7
OTHER_REGION = {"HGG": "NET", "LGG": "ET"}  # the one that the paper sets against the top one
LEVEL = 0.05
RESAMPLES = 2000
CANNOT: Verdict = "cannot be tested here"


def ablated_codewords(run: Run) -> pd.DataFrame:
    """Return the codewords that are replaced for each grade, and whether they are responsible or only leading."""
    grading = open_grading(run)
    responsible = set(grading.responsible.index[grading.responsible["responsible"]])
    rows = {
        grade: {
            "codewords": ", ".join(map(str, codewords)),
            "status": "responsible" if responsible & set(codewords) else "leading (none is responsible)",
            "background codeword": open_histograms(run).background,
        }
        for grade, codewords in grading.by_grade.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("more in")


def summarise_ablation(ablation: Ablation) -> pd.DataFrame:
    """Return mean and SD over patients of the ablation values per grade of the codewords and region, per voxel and as sums."""
    groups = ablation.values.groupby(["responsible_for", "region"], sort=False)
    table = groups[["mean", "sum"]].agg(["mean", "std"])
    table.columns = ["per voxel, mean", "per voxel, SD", "sum, mean", "sum, SD"]
    table["patients"] = groups["mean"].count()
    table["paper"] = [PAPER_VALUES[grade][region] for grade, region in table.index]
    return table.rename_axis(["responsible for", "region"]).round({name: 0 if name.startswith("sum") else 3 for name in table.columns[:4]})


def region_tests(ablation: Ablation) -> pd.DataFrame:
    """Return the tests of every pair of regions: the difference within a patient, the paired p, and the paper's p.

    The difference is the median over the patients in whom there is one: most patients may have none of the codewords, and the signed
    ranks leave them out too.
    """
    tests = ablation.tests
    differences = [median_difference(ablation, *pair) for pair in tests[["responsible_for", "value", "first", "second"]].to_numpy()]
    table = pd.DataFrame(
        {
            "responsible for": tests["responsible_for"],
            "value": tests["value"].map({"mean": "per voxel", "sum": "sum"}),
            "regions": tests["first"] + " \N{EN DASH} " + tests["second"],
            "median difference": [f"{d:.3f}" if v == "mean" else f"{d:.0f}" for v, (d, _) in zip(tests["value"], differences, strict=True)],
            "in patients": [n for _, n in differences],
            "paired Wilcoxon, Holm": tests["wilcoxon_p_holm"].map(show_p),
            "Dunn, Bonferroni (paper)": tests["dunn_p"].map(show_p),
        }
    )
    return table.set_index(["responsible for", "value", "regions"])


def median_difference(ablation: Ablation, grade: str, value: str, first: str, second: str) -> tuple[float, int]:
    """Return the median difference ``first`` - ``second`` over the patients in whom the regions differ, and how many these are."""
    values = ablation.values[ablation.values["responsible_for"] == grade]
    complete = values.pivot(index="patient", columns="region", values=value).dropna()
    difference = complete[first] - complete[second]
    difference = difference[difference != 0]
    return float(difference.median()), len(difference)


def overall_tests(ablation: Ablation) -> pd.DataFrame:
    """Return for each grade of the codewords the test of all three regions at once, paired (Friedman) and as in the paper."""
    joint = ablation.joint
    table = pd.DataFrame(
        {
            "responsible for": joint["responsible_for"],
            "value": joint["value"].map({"mean": "per voxel", "sum": "sum"}),
            "highest mean": joint["highest"],
            "Friedman": joint["friedman_p"].map(show_p),
            "Kruskal-Wallis (paper)": joint["kruskal_p"].map(show_p),
            "patients with all three": joint["n_complete"],
        }
    )
    return table.set_index(["responsible for", "value"])


def show_p(p: float) -> str:
    """Return a p value for people: ``<.0001``, or without the zero before the point."""
    return "\N{EN DASH}" if np.isnan(p) else "<.0001" if p < 0.0001 else f"{p:.4f}".lstrip("0") if p < 1 else "1"


def one_by_one(ablation: Ablation) -> pd.DataFrame:
    """Return, for each grade's codewords alone and together, the change per voxel in each region and all of the change.

    ``share of the sum``: all of the change over the sum of what the codewords change alone; 1: they do not interact.
    """
    rows = []
    for grade, together in ablation.values.groupby("responsible_for"):
        singles = ablation.singles[ablation.singles["responsible_for"] == grade]
        alone = sum(_whole(table)["total"].sum() for _, table in singles.groupby("codeword"))
        named = [(f"codeword {k}", table) for k, table in singles.groupby("codeword", sort=False)] + [("together", together)]
        for name, table in named:
            means = table.groupby("region")["mean"].mean()[list(ABLATED_REGIONS)]
            whole = _whole(table)
            row = {
                "responsible for": grade,
                "replaced": name,
                **means.round(3),
                "highest": means.idxmax() if means.any() else "\N{EN DASH}",
            }
            total = whole["total"].sum()
            shares = {"share of the sum": f"{total / alone:.3f}" if alone else "\N{EN DASH}"}
            rows.append(row | {"tokens": int(whole["n_tokens"].sum())} | shares)
    return pd.DataFrame(rows, columns=["responsible for", "replaced", *ABLATED_REGIONS, "highest", "tokens", "share of the sum"]).set_index(
        ["responsible for", "replaced"]
    )


def region_means(run: Run, ablation: Ablation) -> pd.DataFrame:
    """Return the mean over patients of the change per voxel with its 95 % interval, per grade, codeword (missing: together) and region."""
    rows = []
    for (grade, codeword), table in pd.concat([ablation.values, ablation.singles]).groupby(["responsible_for", "codeword"], dropna=False):
        for region, values in table.groupby("region", sort=False)["mean"]:
            found = mean_interval(run, values, "ablation", grade, str(region))
            rows.append({"responsible_for": grade, "codeword": codeword, "region": region, "n": values.count()} | _bounds(found))
    return pd.DataFrame(rows, columns=["responsible_for", "codeword", "region", "n", "mean", "low", "high"])


def normalisation_table(run: Run, ablation: Ablation) -> pd.DataFrame:
    """Return what freezing the normalisation does: change per voxel, all of the change, and the shares outside the tokens' cells."""
    rows = []
    for variant, values in (("live", ablation.values), ("frozen", ablation.frozen)):
        for grade, table in values.groupby("responsible_for"):
            whole, means = _whole(table), table.groupby("region")["mean"].mean()
            outside = mean_interval(run, whole["share_outside"], "outside", grade, variant)
            row = {"replaced": f"{grade}-responsible codewords", "normalisation": variant}
            row |= {region: f"{means.get(region, np.nan):.3f}" for region in ABLATED_REGIONS}
            inside = mean_interval(run, whole["share_in_tumour"], "inside", grade, variant)
            rows.append(
                row
                | {"outside the cells": _percent(outside), "in the tumour": _percent(inside), "patients": whole["share_outside"].count()}
            )
    for variant, table in ablation.locality.groupby("normalisation", sort=False):
        outside = mean_interval(run, table["share_outside"], "outside", "token", variant)
        row = {"replaced": "one token in the tumour", "normalisation": variant} | dict.fromkeys(ABLATED_REGIONS, "")
        rows.append(row | {"outside the cells": _percent(outside), "in the tumour": "", "patients": table["share_outside"].count()})
    return pd.DataFrame(rows).sort_values(["replaced", "normalisation"], ascending=[True, False]).set_index(["replaced", "normalisation"])


def token_reach(run: Run) -> tuple[int, int, float]:
    """Return the side of a cell and how far beyond it the convolutions carry a change, in pixels, and the share of a slice that is this."""
    model = open_model(run)
    side, reach, size = model.profile.stride, decoder_reach(model.network.decoder), model.profile.preprocessing.image_size
    return side, reach, min(size, side + 2 * reach) ** 2 / size**2


def summarise_controls(ablation: Ablation) -> pd.DataFrame:
    """Return a row per way of matching, grade and set (0: the responsible one) of what random sets of codewords change."""
    tables = [
        summarise_sets(table, PAPER_TOP_REGION[grade])
        .join(table.groupby("set")["counted"].first())
        .assign(responsible_for=grade, matched=matched)
        .reset_index()
        for (matched, grade), table in ablation.controls.groupby(["matched", "responsible_for"], sort=False)
    ]
    columns = [
        "matched",
        "responsible_for",
        "set",
        *ABLATED_REGIONS,
        "contrast",
        "top",
        "change_per_token",
        "share_in_tumour",
        "n_tokens",
        "counted",
    ]
    return pd.concat(tables)[columns].reset_index(drop=True) if tables else pd.DataFrame(columns=columns)


def control_table(ablation: Ablation) -> pd.DataFrame:
    """Return the responsible sets beside random ones: contrast of the paper's region, share in the tumour and change per token, with p.

    p: the share of the sets, the responsible one among them, that reach its value.
    """
    rows = []
    for (matched, grade), sets in summarise_controls(ablation).groupby(["matched", "responsible_for"], sort=False):
        own, controls = sets.iloc[0], sets.iloc[1:]
        row = {"matched by tokens in": matched, "responsible for": grade, "random sets": len(controls)}
        row |= {"tokens counted": f"{own['counted']} (random {controls['counted'].median():.0f})"}
        region = PAPER_TOP_REGION[grade]
        row |= {"region": region, "own top": own["top"], f"{'region'} on top in random": f"{(controls['top'] == region).mean():.0%}"}
        for name, column in (("contrast", "contrast"), ("share in tumour", "share_in_tumour"), ("change per token", "change_per_token")):
            form = "{:.0f}" if column == "change_per_token" else "{:.2f}"
            row[name] = f"{form.format(own[column])} (random {form.format(controls[column].median())})"
            row[f"p, {name}"] = show_p(control_p(own[column], controls[column]))
        rows.append(row)
    return pd.DataFrame(rows).set_index(["matched by tokens in", "responsible for"]) if rows else pd.DataFrame()


def overlap_values(ablation: Ablation) -> pd.DataFrame:
    """Return the change per voxel of the whole tumour of each patient: patient, grade, responsible_for (the codewords), change."""
    sums = ablation.values.groupby(["responsible_for", "patient", "grade"], sort=False)[["sum", "n_voxels"]].sum().reset_index()
    return sums.assign(change=sums["sum"] / sums["n_voxels"].where(sums["n_voxels"] > 0))[
        ["patient", "grade", "responsible_for", "change"]
    ].dropna()


def overlap_table(run: Run, ablation: Ablation) -> pd.DataFrame:
    """Return the change of the tumour in HGG and in LGG patients (Figs. 5 and 6), and how well it tells them apart, with interval."""
    rows = []
    for grade, table in overlap_values(ablation).groupby("responsible_for", sort=False):
        changes = {own: table.loc[table["grade"] == own, "change"].to_numpy() for own in ("HGG", "LGG")}
        auc = auc_interval(changes["HGG"], changes["LGG"], generator(run.seed, "claims", "overlap", str(grade)))
        medians = {
            f"median in {own} (n = {len(values)})": f"{np.median(values):.3f}" if len(values) else "" for own, values in changes.items()
        }
        shown = {"P(more in an HGG patient)": f"{auc.estimate:.2f} [{auc.low:.2f}, {auc.high:.2f}]"}
        rows.append({"responsible for": grade} | medians | shown)
    return pd.DataFrame(rows, columns=None if rows else ["responsible for"]).set_index("responsible for")


def captum_table(ablation: Ablation) -> pd.DataFrame:
    """Return how far captum's maps are from ours: slices, tokens, pixels compared, largest difference, correlation, seconds a slice."""
    table = ablation.captum
    relative = table["largest_difference"] / table["largest_change"]
    return pd.DataFrame(
        {
            "patient": table["patient"],
            "codewords of": table["responsible_for"],
            "tokens replaced": table["tokens"],
            "pixels compared": table["pixels"],
            "largest change": table["largest_change"].round(2),
            "largest difference / largest change": relative.map("{:.0e}".format),
            "correlation": table["correlation"].map("{:.6f}".format),
            "seconds, ours": table["seconds"].round(2),
            "seconds, captum": table["captum_seconds"].round(2),
        }
    ).set_index("patient")


def ablation_claims(run: Run, ablation: Ablation) -> list[Claim]:
    """Return the paper's claims on responsible regions beside what this run found, for both grades."""
    claims = [claim for grade in PAPER_TOP_REGION for claim in _grade_claims(run, ablation, grade)]
    return claims + _locality_claims(run, ablation)


def call_leading(claims: list[Claim], ablated: pd.DataFrame) -> list[Claim]:
    """Return ``claims`` in whose words codewords are *leading* where none is responsible (``ablated``: :func:`ablated_codewords`)."""
    for grade in ablated.index[ablated["status"] != "responsible"]:
        claims = [replace(claim, claim=claim.claim.replace(f"{grade}-responsible", f"{grade}-leading")) for claim in claims]
    return claims


def _grade_claims(run: Run, ablation: Ablation, grade: str) -> list[Claim]:
    values, region = ablation.values[ablation.values["responsible_for"] == grade], PAPER_TOP_REGION[grade]
    name, statement = f"{grade.lower()}_region_top", f"{grade}-responsible regions: the change per voxel is greatest in"
    if values.empty:
        return [Claim(name, statement, region, None, None, 0, CANNOT, "ablation-regions")]
    wide = values.pivot(index="patient", columns="region", values="mean")
    top = str(wide.mean().idxmax())
    share = top_share(wide, region, generator(run.seed, "claims", "top", grade))
    shared = f"share of resampled cohorts in which {region} is on top ({grade}-responsible)"
    difference = _difference_claim(run, wide, grade)
    order = "does not hold" if top != region else "holds" if difference.verdict == "holds" else CANNOT  # on top by chance, or clearly
    return [
        Claim(name, statement, region, top, None, len(wide), order, "ablation-regions"),
        Claim(f"{name}_share", shared, None, share, None, len(wide), CANNOT, "ablation-regions"),
        _p_claim(ablation, grade),
        difference,
        _overlap_claim(run, ablation, grade),
        *_control_claims(ablation, grade),
    ]


def _p_claim(ablation: Ablation, grade: str) -> Claim:
    """Return whether the paper's region lies above both others, by the paired tests and by the paper's."""
    region, tests = PAPER_TOP_REGION[grade], ablation.tests
    pairs = tests[
        (tests["responsible_for"] == grade) & (tests["value"] == "mean") & ((tests["first"] == region) | (tests["second"] == region))
    ]
    statement = f"{grade}-responsible regions: {region} above both other regions, larger p of the two paired tests (Holm)"
    if len(pairs) < 2 or pairs["wilcoxon_p_holm"].isna().any():
        return Claim(f"{grade.lower()}_region_p", statement, "<.0001", None, None, 0, CANNOT, "ablation-tests")
    others = np.where(pairs["first"] == region, pairs["second"], pairs["first"])
    above = np.array([median_difference(ablation, grade, "mean", region, other)[0] > 0 for other in others])
    paired, unpaired = bool(above.all() and pairs["wilcoxon_p_holm"].max() < LEVEL), bool(pairs["dunn_p"].max() < LEVEL)
    verdict: Verdict = "does not hold" if not paired else "holds" if unpaired else "holds with correction"
    shown = show_p(pairs["wilcoxon_p_holm"].max()) + ("" if above.all() else f" ({region} is not above both)")
    n = int(ablation.joint.query("responsible_for == @grade and value == 'mean'")["n_complete"].iloc[0])
    return Claim(f"{grade.lower()}_region_p", statement, "<.0001", shown, None, n, verdict, "ablation-tests")


def _difference_claim(run: Run, wide: pd.DataFrame, grade: str) -> Claim:
    top, other = PAPER_TOP_REGION[grade], OTHER_REGION[grade]
    statement = f"{grade}-responsible regions: change per voxel in {top} minus {other}, mean over patients (the paper's sums: "
    statement += f"{PAPER_VALUES[grade][top] - PAPER_VALUES[grade][other]:.2f})"
    if not {top, other} <= set(wide.columns):
        return Claim(f"{grade.lower()}_region_difference", statement, None, None, None, 0, CANNOT, "ablation-tests")
    difference = (wide[top] - wide[other]).dropna()
    found = mean_interval(run, difference, "region difference", grade)
    verdict = CANNOT if difference.empty else "holds" if found.low > 0 else "does not hold"
    interval = (found.low, found.high)
    return Claim(
        f"{grade.lower()}_region_difference", statement, None, found.estimate, interval, len(difference), verdict, "ablation-tests"
    )


def _overlap_claim(run: Run, ablation: Ablation, grade: str) -> Claim:
    table = overlap_values(ablation).query("responsible_for == @grade")
    own, other = (table.loc[(table["grade"] == grade) == same, "change"].to_numpy() for same in (True, False))
    found = auc_interval(own, other, generator(run.seed, "claims", "overlap", "own", grade))
    verdict = CANNOT if np.isnan(found.estimate) else "holds" if found.low > 0.5 else "does not hold"
    statement = f"{grade}-responsible regions change the tumour more in {grade} patients than in others: probability over pairs of patients"
    interval = (found.low, found.high)
    return Claim(
        f"{grade.lower()}_overlap_auc", statement, "large against low", found.estimate, interval, len(table), verdict, "ablation-overlap"
    )


def _control_claims(ablation: Ablation, grade: str) -> list[Claim]:
    """Return whether random codewords, matched by tokens in the slices with tumour, favour the region and the tumour as much."""
    sets = summarise_controls(ablation)
    sets = sets[sets["responsible_for"] == grade]
    region, claims = PAPER_TOP_REGION[grade], []
    for name, column, said in (
        ("region_control_p", "contrast", f"{region} stands out more than with random codewords as frequent, p"),
        ("tumour_control_p", "share_in_tumour", "more of the change lies in the tumour than with random codewords as frequent, p"),
    ):
        first = sets[sets["matched"] == sets["matched"].iloc[0]] if len(sets) else sets
        p = control_p(first[column].iloc[0], first[column].iloc[1:]) if len(first) > 1 else float("nan")
        verdict: Verdict = CANNOT if np.isnan(p) else "holds" if p < LEVEL else "does not hold"
        n = ablation.controls.query("responsible_for == @grade")["patient"].nunique() if len(first) else 0
        claims.append(
            Claim(f"{grade.lower()}_{name}", f"{grade}-responsible regions: {said}", None, p, None, n, verdict, "ablation-control")
        )
    return claims


def _locality_claims(run: Run, ablation: Ablation) -> list[Claim]:
    """Return the share of the change outside the replaced tokens' own cells; the paper says nothing of it."""
    claims = []
    for grade, table in ablation.values.groupby("responsible_for"):
        shares = _whole(table)["share_outside"].dropna()
        claims.append(
            (f"{str(grade).lower()}_share_outside", f"share of the change outside the cells of the {grade}-responsible tokens", shares)
        )
    live = ablation.locality.query("normalisation == 'live'")["share_outside"].dropna()
    claims.append(("token_share_outside", "share of the change outside the cell of one replaced token", live))
    found = [(name, said, shares, mean_interval(run, shares, name)) for name, said, shares in claims]
    return [Claim(name, said, None, i.estimate, (i.low, i.high), len(shares), CANNOT, "ablation-local") for name, said, shares, i in found]


def auc_interval(more: Sequence[float], less: Sequence[float], random: np.random.Generator, resamples: int = RESAMPLES) -> Interval:
    """Return P(a value of ``more`` exceeds one of ``less``), ties half, with its 95 % percentile interval over resampled patients.

    Patients are resampled within each group. NaN where a group is empty. Source: the rank-sum statistic over the number of pairs.
    """
    groups = [np.asarray(values, dtype=float) for values in (more, less)]
    if not all(len(group) for group in groups):
        return Interval(np.nan, np.nan, np.nan)
    drawn = [group[random.integers(len(group), size=(resamples, len(group)))] for group in groups]
    low, high = np.quantile(_auc(*drawn), [0.025, 0.975])
    return Interval(float(_auc(groups[0][None], groups[1][None])[0]), float(low), float(high))


def _auc(more: np.ndarray, less: np.ndarray) -> np.ndarray:
    m, n = more.shape[1], less.shape[1]
    ranks = rankdata(np.concatenate([more, less], axis=1), axis=1)[:, :m]
    return (ranks.sum(axis=1) - m * (m + 1) / 2) / (m * n)


def top_share(values: pd.DataFrame, region: str, random: np.random.Generator, resamples: int = RESAMPLES) -> float:
    """Return the share of bootstrap resamples of the rows of ``values`` in which the column ``region`` has the highest mean."""
    draws = random.integers(len(values), size=(resamples, len(values)))
    drawn = np.ma.masked_invalid(values.to_numpy()[draws])  # a region may be absent from a whole resample: then it does not lead
    means = drawn.mean(axis=1).filled(-np.inf)
    return float((values.columns[means.argmax(axis=1)] == region).mean())


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per patient of what is the same in all regions."""
    return table.drop_duplicates("patient")


def _bounds(interval: Interval) -> dict[str, float]:
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}


def _percent(interval: Interval) -> str:
    return f"{interval.estimate:.0%} [{interval.low:.0%}, {interval.high:.0%}]"
