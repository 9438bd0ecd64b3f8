"""Chapter 10: what ``make bench`` measured, and what a large cohort costs at those rates.

The rates of the reader's own machine are shown where ``make bench`` ran (``build/bench.json``); otherwise those that come with the
library (``drlib/series/measured``).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown

from drlib.errors import DeepRadiomicsError
from drlib.series.run import project_root

TABLE, CURVES = "bench.json", "bench_curves.json"
MEASURED = Path(__file__).with_name("measured")
LABELS = {
    "encoder_slices_per_s": "encoder",
    "forward_slices_per_s": "forward pass",
    "train_step_slices_per_s": "training step",
    "codeword_lookup": "nearest codeword",
    "volume_to_histogram": "files to histogram",
    "volume_to_histogram_fp32": "files to histogram, float32",
    "nifti_read": "reading NIfTI",
    "likelihood_ratio_tests": "likelihood-ratio tests",
    "ablation_volume": "ablation of a volume",
    "robustness_sweep": "perturbing a volume, float32",
    "robustness_sweep_bf16": "perturbing a volume",
    "nifti_read_patient": "reading a patient's four files",
    "likelihood_ratio_left_out": "likelihood-ratio tests, one left out",
}
STEPS = {"check": "check every file", "store": "write the slice store", "histograms": "count the codewords"}
TRAINING_EPOCHS = 100


class BenchmarkError(DeepRadiomicsError):
    """There are no measurements to show."""


@dataclass(frozen=True)
class Benchmarks:
    """What was measured, and where.

    Attributes:
        ratios: ``id``, ``ours``, ``peer``, ``peer_name``, ``ratio`` (above 1: ours is better), ``unit``, ``note`` and further facts.
        curves: ``machine``, ``roofline``, ``patients`` (time and memory against the number of patients), ``one_patient``.
        own: whether the reader's machine was measured.
    """

    ratios: pd.DataFrame
    curves: dict[str, Any]
    own: bool

    @property
    def roofline(self) -> pd.DataFrame:
        """``stage``, ``precision``, ``gflop`` and ``gbyte`` per slice, ``gflop_per_s``; without the roofs."""
        return pd.DataFrame([point for point in self.curves["roofline"] if point["stage"] != "roof"])

    @property
    def roofs(self) -> dict[str, float]:
        """GFLOP/s of the best convolution in ``fp32`` and ``bf16``, and ``memory_gb_per_s``."""
        return next(point for point in self.curves["roofline"] if point["stage"] == "roof")

    @property
    def patients(self) -> pd.DataFrame:
        """Seconds of each step, peak bytes and bytes on disk, per number of patients (index)."""
        return pd.DataFrame(self.curves["patients"]).set_index("patients")

    @property
    def cores(self) -> int:
        """Of the machine that was measured."""
        return self.curves["machine"]["cores"]

    @property
    def label(self) -> Markdown:
        """The sentence that says where the numbers come from."""
        machine = self.curves["machine"]
        whose = "on this machine" if self.own else "by the authors of this book"
        return Markdown(f"Measured {whose}: {machine['processor']}, {self.cores} cores, torch {machine['torch']}, {machine['date']}.")


def read_benchmarks() -> Benchmarks:
    """Return the measurements of this machine, or else those that come with the library. Raises BenchmarkError."""
    for folder, own in ((project_root() / "build", True), (MEASURED, False)):
        if all((folder / name).is_file() for name in (TABLE, CURVES)):
            rows, curves = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (TABLE, CURVES))
            if {"roofline", "patients", "one_patient"} <= curves.keys():
                return Benchmarks(pd.DataFrame(rows), curves, own)
    raise BenchmarkError(f"nothing was measured yet, and {MEASURED} is not there. Run: make bench")


def readable_ratios(benchmarks: Benchmarks) -> pd.DataFrame:
    """Return the ratios with ``what`` in words and short names of the peers."""
    shown = benchmarks.ratios
    return shown.assign(what=shown["id"].map(LABELS).fillna(shown["id"]), peer_name=shown["peer_name"].str.split("[:,]").str[0])


def ratio_table(benchmarks: Benchmarks) -> pd.DataFrame:
    """Return the ratios for reading: what, against whom, both values with their unit, and the ratio."""
    shown = readable_ratios(benchmarks)
    rows = {
        "what": shown["what"],
        "against": shown["peer_name"],
        "ours": [_with_unit(row.ours, row.unit) for row in shown.itertuples()],
        "theirs": [_with_unit(row.peer, row.unit) for row in shown.itertuples()],
        "ratio": [f"{ratio:.1f}" for ratio in shown["ratio"]],
    }
    return pd.DataFrame(rows).set_index("what")


def explain_gains(benchmarks: Benchmarks) -> pd.DataFrame:
    """Return one sentence per measured step: where its gain comes from."""
    shown = benchmarks.ratios.drop_duplicates("id")
    return pd.DataFrame({"why": shown["note"].to_numpy()}, index=shown["id"].map(LABELS).fillna(shown["id"]).rename("what"))


def roof_table(benchmarks: Benchmarks) -> pd.DataFrame:
    """Return the share of the convolution roof that each stage reaches, in percent, by precision."""
    points = benchmarks.roofline
    share = 100 * points["gflop_per_s"] / points["precision"].map(benchmarks.roofs)
    table = points.assign(share=share).pivot(index="stage", columns="precision", values="share").loc[points["stage"].unique()]
    return table.rename(index=lambda stage: LABELS[f"{stage}_slices_per_s"], columns="{} (% of its roof)".format).round(0).astype(int)


def cohort_cost(benchmarks: Benchmarks, patients: int, cores: int) -> pd.DataFrame:
    """Return time and bytes for a cohort of full-size patients (1 mm, 256 x 256) on ``cores`` like those measured.

    The work on patients is shared evenly by the cores, as the patients are. Training is for ``TRAINING_EPOCHS`` epochs over all
    slices, by one process on the measured machine: on a cluster it is for GPUs. The disk is assumed to keep pace.
    """
    one, cores_measured = benchmarks.curves["one_patient"], benchmarks.cores
    rate = benchmarks.ratios.set_index("id").loc["train_step_slices_per_s", "ours"]
    training = patients * one["slices"] * TRAINING_EPOCHS / rate
    written = {"store": one["store_bytes"], "histograms": 4 * 512}
    rows = {"files to begin with (.nii.gz)": ("", _bytes(one["nifti_bytes"] * patients))}
    for name, text in STEPS.items():
        rows[text] = _duration(one[name] * patients * cores_measured / cores), _bytes(written.get(name, 0) * patients)
    rows[f"train {TRAINING_EPOCHS} epochs on the {cores_measured} measured cores"] = _duration(training), ""
    return pd.DataFrame.from_dict(rows, orient="index", columns=["time", "on disk"]).rename_axis("step")


def growth_table(benchmarks: Benchmarks) -> pd.DataFrame:
    """Return, per number of patients, seconds per patient of each step, peak memory of all together, and the store's bytes per patient."""
    table = benchmarks.patients
    rows = {f"{text} (s per patient)": (table[name] / table.index).round(3) for name, text in STEPS.items()}
    peak = table[[f"{name}_peak_bytes" for name in STEPS]].max(axis=1)
    return pd.DataFrame(rows | {"peak memory": peak.map(_bytes), "store per patient": (table["store_bytes"] / table.index).map(_bytes)})


def findings(benchmarks: Benchmarks) -> Markdown:
    """Return in words which step gained least and most, how near the roof the network is, and how memory grew."""
    ratios, patients = readable_ratios(benchmarks).sort_values("ratio"), benchmarks.patients
    least, most = ratios.iloc[0], ratios.iloc[-1]
    shares = roof_table(benchmarks)
    peak = patients[[f"{name}_peak_bytes" for name in STEPS]].max(axis=1)
    seconds = patients[list(STEPS)].sum(axis=1)
    first, last = patients.index[0], patients.index[-1]
    names = [f"{row['ratio']:.1f}-fold ({row['what']}, against {row['peer_name']})" for row in (least, most)]
    return Markdown(
        f"The least gain is {names[0]}, the largest {names[1]}. In bfloat16 the network reaches {shares.iloc[:, 0].min()} to "
        f"{shares.iloc[:, 0].max()} % of the best convolution that this processor can do: no more than a factor of "
        f"{100 / shares.iloc[:, 0].min():.1f} can be gained without computing less. "
        "What has to be float32 (perturbing a volume, files to histogram) is bound by the lower roof of float32, of which "
        f"the encoder reaches {shares.iloc[0, 1]} %: a factor of {100 / shares.iloc[0, 1]:.2f} is left there.{_ties(benchmarks)} "
        f"From {first} to {last} patients ({last / first:.0f} times) time grew "
        f"{seconds.loc[last] / seconds.loc[first]:.0f}-fold and peak memory {peak.loc[last] / peak.loc[first]:.2f}-fold."
    )


def _ties(benchmarks: Benchmarks) -> str:
    rows = benchmarks.ratios[benchmarks.ratios["id"] == "volume_to_histogram_fp32"].dropna(axis=1)
    if "moved" not in rows or rows.empty:
        return ""
    row = rows.iloc[0]
    return (
        f" The float32 counts are those of the plain network but for {row['moved']:.0f} of {row['tokens']:,.0f} tokens, whose two nearest "
        f"codewords are equally near up to the last bits of float32; in {row['moved_to_that_of_float64']:.0f} of them float64 agrees "
        "with ours."
    )


def _with_unit(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.3g} {unit}"
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}" if seconds >= 20 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(number: float) -> str:
    for unit in ("", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return "" if not number else f"{number:.3g} {unit}"
        number /= 1000
    return ""
