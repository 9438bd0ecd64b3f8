"""Chapter 08b in numbers: what other seeds give, and how far independently trained codebooks agree."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from drlib.radiomics.agreement import cohens_kappa, match_codewords, pair_interval
from drlib.radiomics.statistics import Interval, bootstrap_weights, seed_interval
from drlib.seeds import generator
from drlib.series.claims import HEADLINE, Claim, made_elsewhere
from drlib.series.findings.ablation import PAPER_TOP_REGION
from drlib.series.studies.codebooks import OTHER, RESPONSIBLE, SAME, WEIGHTS, Codebooks, chosen_pairs
from drlib.series.studies.seeds import Seeds

COVERED_BY_CHANCE = 2 * norm.cdf(norm.ppf(0.975) / np.sqrt(2)) - 1  # an interval of one run also holds the estimate of another: .83
CODES = {
    "ami": "adjusted mutual information",
    "ari": "adjusted Rand index",
    "matched_share": "positions on matched codewords",
    "merged_share": "the same, codewords may share a partner",
}
RESPONSIBLE_MEASURES = {
    "partners_HGG": "HGG: codewords that are partners",
    "partners_LGG": "LGG: codewords that are partners",
    "positions_HGG": "HGG: Dice of the positions that hold them",
    "positions_LGG": "LGG: Dice of the positions that hold them",
}
PREDICTIONS = {
    "p_correlation": "correlation of P(HGG)",
    "kappa": "Cohen's kappa of the grades",
    "differently": "share of patients graded differently",
    "p_difference": "mean absolute difference of P(HGG)",
}
SEGMENTATIONS = {f"dice_{region}": f"Dice of {region}, one network against the other" for region in ("WT", "TC", "ET")}
MAPS = {
    "brain": "correlation in the brain",
    "tumour": "correlation in the tumour",
    "highest": "Dice of the highest 5 %",
    "same_region": "highest in the same region",
}


def describe_seeds(study: Seeds) -> pd.DataFrame:
    """Return what the claims of several seeds were made from."""
    runs, training = study.runs, study.profile.training
    facts = {
        "profile": study.profile.name,
        "seeds": ", ".join(map(str, runs["seed"])),
        "drawn anew for every seed": "phantoms (synthetic patients, not clinical), order and augmentation of the slices, folds, resamples",
        "the same for every seed": f"the weights and the codebook that training continues from ({training.start_from})"
        if training.start_from
        else "settings; also first weights are drawn anew",
        "patients per seed": f"{_range(runs['n_training'])} train the network, {_range(runs['n_graded'])} others are graded",
        "chapters": ", ".join(sorted(study.claims["chapter"].unique())),
        "claims": study.claims["id"].nunique(),
        "made again by": study.manifest["made_from"]["command"],
    }
    if stale := sorted({name for names in runs["stale"] for name in names.split()}):
        facts["made with older code"] = ", ".join(stale)
    return pd.DataFrame({"seeds": facts})


def summarise_seeds(study: Seeds) -> pd.DataFrame:
    """Return a row per claim with a number (index ``id``), in the order of the chapters.

    ``claim``, ``paper_value``; over ``seeds``: ``mean``, ``sd``, ``least``, ``greatest``, and ``low``, ``high`` of the t interval.
    ``error``: the standard error over patients that the runs' own intervals stand for, mean over seeds; ``ratio``: sd / error, 1
    where the draw of the patients explains what seeds differ by. ``covered`` of ``compared``: how often the interval of one run holds
    the value of another.
    """
    rows = {}
    numbers = study.claims.dropna(subset=["value"])
    for name, table in numbers.groupby("id", sort=False):
        mean = seed_interval(table["value"])
        covered, compared = _coverage(table)
        error = float(((table["high"] - table["low"]) / 2 / norm.ppf(0.975)).mean())
        sd = float(table["value"].std())
        rows[name] = {
            "claim": table["claim"].iloc[0],
            "paper_value": table["paper_value"].iloc[0],
            "seeds": len(table),
            "mean": mean.estimate,
            "sd": sd,
            "least": table["value"].min(),
            "greatest": table["value"].max(),
            "low": mean.low,
            "high": mean.high,
            "error": error,
            "ratio": sd / error if error > 0 else np.nan,
            "covered": covered,
            "compared": compared,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("id")


def seeds_table(study: Seeds, headline_only: bool = False) -> pd.DataFrame:
    """Return :func:`summarise_seeds` as a page shows it, a row per claim; the front page's claims only, or all of them."""
    table = summarise_seeds(study)
    table = table[table.index.isin(HEADLINE)] if headline_only else table
    columns = {
        "paper": [_plain(value) for value in table["paper_value"]],
        "mean over seeds": [_with_ends(row.mean, row.low, row.high) for row in table.itertuples()],
        "SD": [_plain(value) for value in table["sd"]],
        "least to greatest": [f"{_plain(row.least)} to {_plain(row.greatest)}" for row in table.itertuples()],
        "SE over patients": [_plain(value) for value in table["error"]],
        "SD / SE": ["–" if np.isnan(value) else f"{value:.1f}" for value in table["ratio"]],
        "one run's interval holds another's value": [
            f"{row.covered} of {row.compared}" if row.compared else "–" for row in table.itertuples()
        ],
    }
    return pd.DataFrame(columns, index=pd.Index(table["claim"], name=f"{len(study.runs)} seeds"))


def headline_by_seed(study: Seeds) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the front page's claims with numbers, one row per claim and seed, and their rows of :func:`summarise_seeds`."""
    chosen = [name for name in study.claims["id"].unique() if name in HEADLINE]
    claims = study.claims[study.claims["id"].isin(chosen)].dropna(subset=["value"])
    return claims, summarise_seeds(study).reindex([name for name in chosen if name in set(claims["id"])])


def coverage(study: Seeds) -> dict[str, float]:
    """Return over all claims how often one run's interval holds another run's value (``share``, ``covered``, ``compared``), and ``due``."""
    table = summarise_seeds(study)
    covered, compared = int(table["covered"].sum()), int(table["compared"].sum())
    share = covered / compared if compared else np.nan
    return {
        "share": share,
        "covered": covered,
        "compared": compared,
        "due": float(COVERED_BY_CHANCE),
        "ratio": float(table["ratio"].median()),
    }


def verdicts_by_seed(study: Seeds) -> pd.DataFrame:
    """Return how many seeds give each verdict, a row per claim (index ``id``), and ``unanimous``."""
    counts = study.claims.pivot_table(index="id", columns="verdict", values="seed", aggfunc="count", fill_value=0, sort=False)
    return counts.assign(unanimous=(counts > 0).sum(axis=1) == 1)


def changing_verdicts(study: Seeds) -> pd.DataFrame:
    """Return the claims whose verdict depends on the seed, with how many seeds give each; empty where none does."""
    table = verdicts_by_seed(study)
    changing = table[~table.pop("unanimous")]
    names = study.claims.drop_duplicates("id").set_index("id")["claim"]
    return changing.set_axis(pd.Index(names.loc[changing.index], name="seeds by verdict"))


def answers_by_seed(study: Seeds) -> pd.DataFrame:
    """Return the claims that are answered by a word: the paper's word, and the share of seeds that give each."""
    words = study.claims[study.claims["value"].isna() & study.claims["ours"].notna()]
    rows = {}
    for _, table in words.groupby("id", sort=False):
        answers = table["ours"].value_counts()
        said = ", ".join(f"{answer} {count} of {len(table)}" for answer, count in answers.items())
        rows[table["claim"].iloc[0]] = {"paper": table["paper"].iloc[0], "seeds": said}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["paper", "seeds"]).rename_axis("claim")


def describe_codebooks(study: Codebooks) -> pd.DataFrame:
    """Return what the codebooks were made from."""
    made, cohort, trainings = study.manifest["made_from"], study.profile.cohort, study.trainings
    facts = {
        "profile": study.profile.name,
        "trainings": f"{len(trainings)}, each from random weights with a seed of its own, {_range(trainings['minutes'])} minutes",
        "training phantoms": f"{cohort.n_segmentation} per set; {made['sets']} sets, {made['twins']} of them train a second network",
        "common cohort": f"{made['common']['patients']} other phantoms (synthetic patients, not clinical)",
        "codebook (K x D)": f"{study.profile.quantizer.codebook_size} x {study.profile.quantizer.codeword_dim}",
        "torch": study.manifest["versions"]["torch"],
        "drlib sources (SHA-256)": made["sources"][:10],
        "made again by": made["command"],
    }
    return pd.DataFrame({"this study": facts})


def trainings_table(study: Codebooks) -> pd.DataFrame:
    """Return a row per training: how it segments and grades the common cohort, its codebook, and what speaks for each grade."""
    columns = {
        "dice_WT": "Dice WT",
        "dice_TC": "Dice TC",
        "codewords_used": "codewords in the brain",
        "perplexity": "perplexity",
        "accuracy": "accuracy",
        "auc": "AUC",
        "n_responsible_HGG": "responsible, HGG",
        "n_responsible_LGG": "responsible, LGG",
        "top_region_HGG": "HGG maps highest in",
        "top_region_LGG": "LGG maps highest in",
    }
    return study.trainings.set_index("training")[list(columns)].rename(columns=columns)


def compare_pairs(study: Codebooks, measures: dict[str, str], where: str = "") -> pd.DataFrame:
    """Return a row per measure: over pairs of other phantoms and of the same phantoms, and by chance.

    ``where``: empty for the brain, ``_tumour`` for positions in the tumour.
    """
    rows = {}
    for measure, words in measures.items():
        name = measure + where
        chance = study.pairs.get(f"{name}_chance")
        rows[words] = {
            "other phantoms [95 %]": interval_text(agreement(study, name)),
            "least to greatest": _extent(study.pairs.loc[study.pairs["kind"] == OTHER, name]),
            "same phantoms, other weights": _mean_and_extent(study.pairs.loc[study.pairs["kind"] == SAME, name]),
            "by chance": "–" if chance is None else f"{chance.mean():.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def compare_predictions(study: Codebooks) -> pd.DataFrame:
    """Return :func:`compare_pairs` of the predictions, and beside it what other folds do to one codebook."""
    table = compare_pairs(study, PREDICTIONS)
    folds = {words: _mean_and_extent(study.trainings[f"{measure}_folds"]) for measure, words in PREDICTIONS.items()}
    table.insert(3, "same codebook, other folds", pd.Series(folds))
    return table.rename(columns={"by chance": "independent errors"})


def compare_regions_table(study: Codebooks) -> pd.DataFrame:
    """Return how far responsible-region maps agree, a row per grade and kind of codewords.

    Means over patients, then over pairs of other phantoms.
    """
    rows = {}
    chosen = study.regions[_kind(study.regions) == OTHER]
    for (grade, what), table in chosen.groupby(["responsible_for", "codewords"], sort=False):
        pairs = table.set_index(["first", "second"])
        label = "responsible in both" if what == RESPONSIBLE else f"against codewords {what}"
        cells = {words: interval_text(pair_interval(pairs[measure])) for measure, words in MAPS.items()}
        rows[grade, label] = cells | {"patients per pair": _range(table["patients"])}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(table.index, names=["responsible for", "maps"]))


def agreement(study: Codebooks, measure: str) -> Interval:
    """Return the mean of ``measure`` over pairs with other phantoms; its interval leaves out one codebook at a time."""
    chosen = study.pairs[study.pairs["kind"] == OTHER].set_index(["first", "second"])
    return pair_interval(chosen[measure])


def region_agreement(study: Codebooks, measure: str, codewords: str = RESPONSIBLE) -> Interval:
    """Return the agreement of maps over pairs with other phantoms, mean of both grades, as :func:`agreement` does."""
    chosen = study.regions[(_kind(study.regions) == OTHER) & (study.regions["codewords"] == codewords)]
    return pair_interval(chosen.groupby(["first", "second"])[measure].mean())


def kappa_over_patients(study: Codebooks) -> Interval:
    """Return the mean kappa over pairs with other phantoms; its interval is a bootstrap over patients, the codebooks as they are."""
    is_hgg = (study.patients["grade"] == "HGG").to_numpy()
    weights = bootstrap_weights(is_hgg, generator(0, "findings", "kappa"))
    first = [name for name in study.trainings["training"] if name.endswith(WEIGHTS[0])]
    pairs = chosen_pairs(first)
    called = {name: (study.patients[f"p_{name}"] > 0.5).to_numpy() for name in first}
    draws = np.mean([cohens_kappa(called[one], called[other], weights) for one, other in pairs], axis=0)
    low, high = np.nanquantile(draws[1:], (0.025, 0.975))
    return Interval(float(draws[0]), float(low), float(high), 0.95)


def averaged_table(study: Codebooks) -> pd.DataFrame:
    """Return how well the mean of several codebooks grades, and what that gains over one of them."""
    table = study.averaged
    columns: dict[str, list] = {"choices": list(table["choices"])}
    for metric, words in (("accuracy", "accuracy"), ("auc", "AUC"), ("brier", "Brier score")):
        columns[words] = [f"{row[metric]:.3f} ({row[f'{metric}_low']:.3f} to {row[f'{metric}_high']:.3f})" for _, row in table.iterrows()]
        gains = [_with_ends(*(row[f"{metric}_gain{end}"] for end in ("", "_low", "_high")), digits=3) for _, row in table.iterrows()]
        columns[f"gain in {words} [95 %]"] = ["–", *gains[1:]]
    return pd.DataFrame(columns, index=pd.Index(table["size"], name="codebooks averaged"))


def ordered_overlap(study: Codebooks, number: int = 0) -> tuple[pd.DataFrame, tuple[str, str]]:
    """Return one of the pairs that are stored in full: counts of positions, codewords in the order of their match, and the two names.

    Rows from the most common codeword of the first to the rarest, each column at the place of its partner; those without one at the end.
    """
    pairs = list(study.overlaps.groupby(["first", "second"], sort=False))
    names, table = pairs[number]
    size = study.profile.quantizer.codebook_size
    counts = np.zeros((size, size), dtype=np.int64)
    counts[table["k"], table["l"]] = table["count"]
    partner = match_codewords(counts)
    rows = np.argsort(-counts.sum(axis=1), kind="stable")
    rows = rows[counts[rows].sum(axis=1) > 0]
    columns = [partner[k] for k in rows if partner[k] >= 0]
    others = [one for one in range(size) if one not in set(columns) and counts[:, one].sum() > 0]
    matched_first = [k for k in rows if partner[k] >= 0] + [k for k in rows if partner[k] < 0]
    return pd.DataFrame(counts[np.ix_(matched_first, columns + others)], index=matched_first, columns=columns + others), names


def overlap_title(counts: pd.DataFrame, names: tuple[str, str]) -> str:
    """Return ``1a and 2a: 12 % on the diagonal``; ``counts`` and ``names`` as :func:`ordered_overlap` gives them."""
    values = counts.to_numpy()
    return f"{names[0]} and {names[1]}: {np.trace(values) / values.sum():.0%} on the diagonal".replace("%", " %")


def partners(counts: pd.DataFrame) -> dict[int, int]:
    """Return the partner of each codeword that has one; ``counts`` as :func:`ordered_overlap` gives them."""
    found = match_codewords(counts.to_numpy())
    return {int(counts.index[place]): int(counts.columns[one]) for place, one in enumerate(found) if one >= 0}


def interval_text(found: Interval) -> str:
    """Return ``0.61 [0.55, 0.67]``."""
    return _with_ends(found.estimate, found.low, found.high)


def stability_claims(seeds: Seeds, study: Codebooks) -> list[Claim]:
    """Return the claims on stability: what the seeds of one recipe, and codebooks of their own, agree on.

    The paper calls the codewords a shareable set that fixes the variability of internal representations. Of one trained network that is
    true by construction; of two trainings the paper says nothing, so that what has no published value cannot be judged.
    """
    n, covered = len(study.patients), coverage(seeds)
    unanimous = verdicts_by_seed(seeds)["unanimous"]
    untested = "cannot be tested here"
    plain = [
        (
            "codebook_agreement_ami",
            "two trainings divide the brain alike: adjusted mutual information of their codes",
            agreement(study, "ami"),
        ),
        (
            "codebook_agreement_matched_share",
            "two trainings: share of positions in the brain on matched codewords",
            agreement(study, "matched_share"),
        ),
        ("prediction_agreement_kappa", "two trainings grade alike: Cohen's kappa", agreement(study, "kappa")),
        (
            "responsible_region_agreement",
            "two trainings: correlation in the brain of their responsible regions",
            region_agreement(study, "brain"),
        ),
    ]
    labels = ("stability-codes", "stability-codes", "stability-predictions", "stability-regions")
    claims = [
        Claim(name, statement, None, found.estimate, (found.low, found.high), n, untested, label)
        for (name, statement, found), label in zip(plain, labels, strict=True)
    ]
    for grade, published in PAPER_TOP_REGION.items():
        tops = study.trainings[f"top_region_{grade}"]
        share = float((tops == published).mean())
        statement = f"share of {len(tops)} trainings whose {grade}-responsible regions are highest in {published}"
        claims.append(
            Claim(
                f"{grade.lower()}_region_top_trainings",
                statement,
                None,
                share,
                None,
                n,
                "holds" if share == 1 else "does not hold",
                "stability-regions",
            )
        )
    over_seeds = [
        Claim(
            "verdicts_unanimous",
            f"share of claims with the same verdict for all {len(seeds.runs)} seeds",
            None,
            float(unanimous.mean()),
            None,
            len(unanimous),
            untested,
            "stability-verdicts",
        ),
        Claim(
            "intervals_hold_other_seeds",
            f"share of comparisons in which one run's 95 % interval holds another run's value ({covered['due']:.2f} is due)",
            None,
            covered["share"],
            None,
            int(covered["compared"]),
            untested,
            "stability-seeds",
        ),
    ]
    return [
        *made_elsewhere(claims, "phantom, study", profile="codebooks"),
        *made_elsewhere(over_seeds[:1], "phantom, study", "claims", "seeds"),
        *made_elsewhere(over_seeds[1:], "phantom, study", "comparisons", "seeds"),
    ]


def _coverage(table: pd.DataFrame) -> tuple[int, int]:
    values, low, high = (table[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
    told = low < high  # no interval, or one without width, tells nothing
    inside = (low[:, None] <= values) & (values <= high[:, None]) & told[:, None] & ~np.eye(len(values), dtype=bool)
    return int(inside.sum()), int(told.sum() * (len(values) - 1))


def _kind(table: pd.DataFrame) -> np.ndarray:
    return np.where(table["first"].str[:-1] == table["second"].str[:-1], SAME, OTHER)


def _plain(value: float, digits: int = 2) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def _with_ends(value: float, low: float, high: float, digits: int = 2) -> str:
    ends = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{ends}"


def _extent(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "–"


def _mean_and_extent(values: pd.Series) -> str:
    return f"{values.mean():.2f} ({_extent(values)})" if len(values) else "–"


def _range(values: pd.Series) -> str:
    return f"{values.min():g}" if values.min() == values.max() else f"{values.min():g} to {values.max():g}"
