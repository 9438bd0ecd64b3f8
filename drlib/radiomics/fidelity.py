"""May a network count in reduced precision? Measured on patients, not assumed (Source: ours).

bfloat16 keeps eight bits of every intermediate number. A latent that lies between two codewords can then fall to the other one, and
the histogram, the features and the grade change with it. Here both histograms of the same patients are compared.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from drlib.artifacts import write_json
from drlib.cohort.slices import SliceStore
from drlib.errors import DeepRadiomicsError
from drlib.radiomics.classifier import GradeClassifier, predict_hgg
from drlib.radiomics.histogram import codebook_hash, count_codewords
from drlib.radiomics.robustness import difference_ratio
from drlib.segmentation.model import TrainedModel
from drlib.segmentation.network import Precision

# A scaling of the intensities by a fifth, which scanners do, moves .18 of the demo profile's counts: no more than about a quarter of that.
MOST_DIFFERENCE = 0.05
# The probability of a patient varies by .06 (standard deviation) with the folds that the classifier is fitted on: less than that.
MOST_CHANGE = 0.05
MOST_FLIPPED = 0  # among the few patients of the measurement one changed answer is too many


class FidelityError(DeepRadiomicsError):
    """A measurement of fidelity cannot be made or read."""


@dataclass(frozen=True)
class Fidelity:
    """How far counts in bfloat16 are from counts in float32, on ``n_patients`` patients.

    ``mean_difference_ratio``, ``max_difference_ratio``: Eq. 7 over patients, 0 to 2. ``n_flipped``: patients whose P(HGG) lies on
    another side of .5. ``max_change``: largest change of P(HGG). The last two are None without a classifier. ``codebook``: the hash of the
    network that was measured. The numbers are the same whichever precision is the reference, because both histograms of a patient have
    the same sum.
    """

    codebook: str
    n_patients: int
    mean_difference_ratio: float
    max_difference_ratio: float
    n_flipped: int | None = None
    max_change: float | None = None

    @property
    def passes(self) -> bool:
        """Whether counts of either precision may stand for those of the other: all within their limits."""
        graded = self.n_flipped is None or (self.n_flipped <= MOST_FLIPPED and self.max_change <= MOST_CHANGE)
        return graded and self.mean_difference_ratio <= MOST_DIFFERENCE


def measure_fidelity(
    model: TrainedModel,
    store: SliceStore,
    classifier: GradeClassifier | None = None,
    *,
    patients: Sequence[str] | None = None,
    progress: bool = False,
) -> Fidelity:
    """Count the codewords of ``patients`` (None: all of ``store``) in float32 and in bfloat16, and grade both with ``classifier``.

    Raises FidelityError without patients, and GradingError for a classifier of another network.
    """
    patients = list(store.patients if patients is None else patients)
    if not patients:
        raise FidelityError("fidelity is measured on patients; there is none")
    tables = []
    for precision in ("fp32", "bf16"):
        with counting_in(model, precision):
            tables.append(count_codewords(model, store, patients=patients, progress=progress).table)
    ratios, codebook = difference_ratio(*tables), codebook_hash(model)
    measured = Fidelity(codebook, len(patients), float(ratios.mean()), float(ratios.max()))
    if classifier is None:
        return measured
    full, reduced = (predict_hgg(classifier, table, codebook).to_numpy() for table in tables)
    graded = {"n_flipped": int(((full > 0.5) != (reduced > 0.5)).sum()), "max_change": float(np.abs(full - reduced).max())}
    return Fidelity(**asdict(measured) | graded)


@contextmanager
def counting_in(model: TrainedModel, precision: Precision) -> Iterator[None]:
    """Let the network work in ``precision`` for a while."""
    before, model.network.precision = model.network.precision, precision
    try:
        yield
    finally:
        model.network.precision = before


def save_fidelity(path: Path, fidelity: Fidelity) -> Path:
    """Write ``fidelity`` as JSON; ``passes`` is for people, and judged again by whoever reads it."""
    return write_json(Path(path), asdict(fidelity) | {"passes": fidelity.passes})


def load_fidelity(path: Path) -> Fidelity:
    """Read what ``save_fidelity`` wrote. Raises FidelityError where the file is not such a measurement."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        content.pop("passes", None)
        return Fidelity(**content)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FidelityError(f"{path} is not a measurement of fidelity: {error}. Make it again with: drlib run --chapters 05") from error
