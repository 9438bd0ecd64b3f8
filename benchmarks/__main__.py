"""``make bench``: every case in turn, on a machine that does nothing else; writes ``build/bench.json`` and ``build/bench_curves.json``.

The first is a list of rows ``{id, ours, peer, peer_name, ratio, unit, note, ...}``; the second holds the machine, the roofline, and time,
memory and disk against the number of patients. Chapter 10 of the book draws both. ``--quick`` tries every case at its smallest;
``--only ID`` runs the cases whose name holds ID. A case that fails is reported and the others go on.
"""

import argparse
import datetime
import os
import platform
import sys
import time
import traceback
from pathlib import Path

import torch

from benchmarks.codebook import codeword_lookup
from benchmarks.network import network_speed
from benchmarks.passes import ablation_volume, robustness_sweep, volume_to_histogram
from benchmarks.reading import nifti_read
from benchmarks.scaling import against_patients, one_patient
from benchmarks.tests_of_codewords import likelihood_ratio_tests
from drlib.artifacts import write_json

TABLE_CASES = (codeword_lookup, nifti_read, likelihood_ratio_tests, ablation_volume, robustness_sweep, volume_to_histogram)
CURVE_CASES = {"patients": against_patients, "one_patient": one_patient}


def main() -> int:
    """Run the cases; return 1 where one failed."""
    arguments = _arguments()
    rows, curves, failed = [], {"machine": machine()}, []

    def run(case):
        if arguments.only not in case.__name__:
            return None
        start = time.perf_counter()
        try:
            result = case(arguments.quick)
        except Exception:  # whatever it is, the other cases are still worth running
            traceback.print_exc()
            return failed.append(case.__name__)
        print(f"{case.__name__:<24} {time.perf_counter() - start:.0f} s", flush=True)
        return result

    if found := run(network_speed):
        rows += found[0]
        curves["roofline"] = found[1]
    for case in TABLE_CASES:
        rows += run(case) or []
    for name, case in CURVE_CASES.items():
        if found := run(case):
            curves[name] = found
    for row in rows:
        print(f"{row['id']:<26} {row['ratio']:7.2f} x   {row['peer_name']}")
    write_json(arguments.out / "bench.json", rows)
    write_json(arguments.out / "bench_curves.json", curves)
    return print(f"failed: {', '.join(failed)}", file=sys.stderr) or 1 if failed else 0


def machine() -> dict:
    """Return what the numbers depend on."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "date": datetime.date.today().isoformat(),
        "bfloat16_in_hardware": any("avx512_bf16" in line for line in _lines("/proc/cpuinfo")),
        "load_before": os.getloadavg()[0],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=Path("build"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
