"""Does the effect likelihood-ratio test exist, and does it keep its level? Simulated cohorts of the paper's size without any signal.

For every number of covariates, many data sets of 76 and 259 patients whose covariates are noise (METHOD 2.4); and as many in which the
grades are tossed by a coin, where the share of separable data sets is known exactly (Cover 1965).
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from drlib.artifacts import build_stage, open_stage, source_hash, write_json
from drlib.radiomics.separation import simulate_effect_tests
from drlib.seeds import generator

COLUMNS = (10, 20, 40, 60, 80, 100, 110, 120, 125, 130, 135, 140, 150, 160, 170, 180, 200)
N_LGG, N_HGG = 76, 259
DATA_SETS = 1000
ALPHA = 0.05
GRADES = {"76 and 259": False, "tossed by a coin": True}
COMMAND = "drlib study likelihood-ratio"
SHIPPED = Path(__file__).parent / "shipped" / "likelihood_ratio"
SOURCES = ("drlib.radiomics.separation", "drlib.series.studies.likelihood_ratio")


@dataclass(frozen=True)
class LikelihoodRatio:
    """What the study found.

    Attributes:
        rows: one per ``grades`` (how they were made) and number of ``columns``: ``data_sets``, how many of them are ``separable``, and
            how many were ``rejected`` (p < .05, of those that are not).
        manifest: what it was made from, with which versions, and the SHA-256 of the table.
    """

    rows: pd.DataFrame
    manifest: dict[str, Any]

    def of(self, grades: str = "76 and 259") -> pd.DataFrame:
        """Return the rows of one way in which the grades were made."""
        return self.rows[self.rows["grades"] == grades]


def run_likelihood_ratio(
    folder: Path, columns: Sequence[int] = COLUMNS, data_sets: int = DATA_SETS, seed: int = 0, progress: bool = True
) -> LikelihoodRatio:
    """Simulate and test, and return what was found, kept in ``folder/likelihood_ratio``; killed, the next call goes on."""
    key_parts = {
        "command": COMMAND,
        "columns": list(columns),
        "data_sets": data_sets,
        "patients": {"LGG": N_LGG, "HGG": N_HGG},
        "seed": seed,
        "sources": source_hash(*SOURCES),
    }

    def simulate(partial: Path) -> None:
        tasks = [(name, p) for name in GRADES for p in columns]
        for name, p in tqdm(tasks, desc="likelihood ratio", unit="number of covariates", disable=not progress):
            path = partial / "rows" / f"{'coin' if GRADES[name] else 'fixed'}-{p:03d}.json"
            if not path.exists():
                write_json(
                    path, {"grades": name, "columns": p} | _count(p, data_sets, generator(seed, "likelihood ratio", name, p), GRADES[name])
                )
        _gather(partial)

    return open_likelihood_ratio(build_stage(Path(folder) / "likelihood_ratio", key_parts, simulate))


def open_likelihood_ratio(folder: Path = SHIPPED) -> LikelihoodRatio:
    """Return a finished study, by default the one that comes with the library, checked against its manifest."""
    manifest = open_stage(folder, repair=COMMAND)
    return LikelihoodRatio(pd.read_csv(Path(folder) / "rows.csv"), manifest)


def describe_study(study: LikelihoodRatio) -> pd.DataFrame:
    """Return what the table was made from."""
    made = study.manifest["made_from"]
    facts = {
        "patients": f"{made['patients']['LGG']} LGG and {made['patients']['HGG']} HGG, simulated; also as many with tossed grades",
        "covariates": "independent standard normal numbers, without any relation to the grade; the first of them is tested",
        "numbers of covariates": ", ".join(map(str, made["columns"])),
        "data sets per number": made["data_sets"],
        "seed": made["seed"],
        "made again by": made["command"],
    }
    return pd.DataFrame({"this study": facts})


def _count(columns: int, data_sets: int, random: np.random.Generator, coin: bool) -> dict[str, int]:
    with threadpool_limits(1):  # matrices too small to share
        found = simulate_effect_tests(columns, N_LGG, N_HGG, data_sets, random, coin)
    counts = {"separable": int(found["separable"].sum()), "rejected": int((found["p"] < ALPHA).sum())}
    return {"data_sets": data_sets} | counts


def _gather(partial: Path) -> None:
    """Turn the counts of all tasks into one table."""
    rows = pd.DataFrame([json.loads(path.read_text()) for path in (partial / "rows").glob("*.json")])
    rows.sort_values(["grades", "columns"]).to_csv(partial / "rows.csv", index=False)
    shutil.rmtree(partial / "rows")
