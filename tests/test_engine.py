"""Chapter 10: what was measured is shown as it was measured, and costs are what follows from it (drlib.series.engine)."""

import json

import pytest

from drlib import figures
from drlib.series import engine

ROWS = [
    {
        "id": "train_step_slices_per_s",
        "ours": 8.0,
        "peer": 2.0,
        "peer_name": "plain: float32",
        "ratio": 4.0,
        "unit": "slices/s",
        "note": "a.",
    },
    {"id": "nifti_read", "ours": 0.02, "peer": 0.12, "peer_name": "nibabel", "ratio": 6.0, "unit": "s", "note": "b."},
]
POINTS = [
    {"stage": "roof", "fp32": 200.0, "bf16": 400.0, "memory_gb_per_s": 30.0},
    *(
        {"stage": stage, "precision": precision, "gflop": 10.0, "gbyte": 0.1, "gflop_per_s": rate}
        for stage in ("encoder", "forward", "train_step")
        for precision, rate in (("fp32", 150.0), ("bf16", 300.0))
    ),
]
ONE = {"check": 2.0, "store": 1.0, "histograms": 4.0, "nifti_bytes": 10e6, "store_bytes": 40e6, "slices": 155, "size": 256}


def patients() -> list[dict]:
    steps = {"check": 0.5, "store": 1.0, "histograms": 2.0}
    return [
        {"patients": n, "store_bytes": 5e6 * n} | {k: v * n for k, v in steps.items()} | {f"{k}_peak_bytes": 1e9 for k in steps}
        for n in (8, 64)
    ]


@pytest.fixture
def measured(tmp_path, monkeypatch):
    (tmp_path / "measured").mkdir()
    monkeypatch.setattr(engine, "MEASURED", tmp_path / "measured")
    monkeypatch.setattr(engine, "project_root", lambda: tmp_path)
    machine = {"processor": "X", "cores": 2, "torch": "2", "date": "2026-01-01"}
    curves = {"machine": machine, "roofline": POINTS, "patients": patients(), "one_patient": ONE}
    for name, content in ((engine.TABLE, ROWS), (engine.CURVES, curves)):
        (tmp_path / "measured" / name).write_text(json.dumps(content))
    return tmp_path


def test_the_readers_own_measurement_goes_before_the_one_that_comes_along(measured):
    assert not engine.read_benchmarks().own and "authors" in engine.read_benchmarks().label.data
    (measured / "build").mkdir()
    for name in (engine.TABLE, engine.CURVES):
        (measured / "build" / name).write_text((measured / "measured" / name).read_text())
    assert engine.read_benchmarks().own
    (measured / "build" / engine.CURVES).write_text("{}")  # only some cases were run: not the whole picture
    assert not engine.read_benchmarks().own


def test_nothing_measured_says_what_to_run(measured):
    (measured / "measured" / engine.TABLE).unlink()
    with pytest.raises(engine.BenchmarkError, match="make bench"):
        engine.read_benchmarks()


def test_cost_is_patients_times_seconds_shared_by_cores(measured):
    table = engine.cohort_cost(engine.read_benchmarks(), patients=3600, cores=4)
    assert table.loc["count the codewords", "time"] == "2.0 h"  # 4 s x 3600 patients on twice the measured cores
    assert table.loc["write the slice store", "on disk"] == "144 GB"
    assert table.loc["train 100 epochs on the 2 measured cores", "time"] == f"{3600 * 155 * 100 / 8 / 86400:.0f} days"
    assert [engine._duration(s) for s in (30, 150, 3000, 9000, 100_000)] == ["30 s", "2.5 min", "50 min", "2.5 h", "28 h"]


def test_tables_and_words_say_what_was_measured(measured):
    benchmarks = engine.read_benchmarks()
    table = engine.ratio_table(benchmarks)
    assert table.loc["reading NIfTI", ["ours", "theirs", "ratio"]].tolist() == ["20 ms", "120 ms", "6.0"]
    assert engine.roof_table(benchmarks).to_numpy().tolist() == [[75, 75]] * 3
    assert engine.explain_gains(benchmarks).loc["reading NIfTI", "why"] == "b."
    assert engine.growth_table(benchmarks).loc[64, "peak memory"] == "1 GB"
    words = engine.findings(benchmarks).data
    assert "4.0-fold (training step, against plain)" in words and "time grew 8-fold and peak memory 1.00-fold" in words


def test_figures_show_every_measurement(measured):
    benchmarks = engine.read_benchmarks()
    texts = [text.get_text() for text in figures.plot_ratios(engine.readable_ratios(benchmarks)).axes[0].texts]
    assert sorted(texts) == ["4.0 ×", "6.0 ×"]
    roofline = figures.plot_roofline(benchmarks.roofline, benchmarks.roofs).axes[0]
    assert sum(line.get_marker() not in ("None", "", None) for line in roofline.lines) == 6
    growth = figures.plot_growth(benchmarks.patients)
    assert [len(ax.lines) for ax in growth.axes] == [3, 3]
    assert list(growth.axes[0].lines[0].get_xdata()) == list(benchmarks.patients.index)
