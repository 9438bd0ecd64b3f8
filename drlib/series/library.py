"""drlib in three lines of Python: open a model, count codewords. What ``import drlib`` offers; see also ``drlib features``."""

import warnings
from pathlib import Path
from typing import Literal

import pandas as pd

from drlib.segmentation.network import Precision
from drlib.series import apply
from drlib.series.apply import SHIPPED_WORD, AppliedModel, open_applied_model


class PatientWarning(UserWarning):
    """A patient could not be read and is not in the table."""


def open_model(folder: Path | str = SHIPPED_WORD, device: str = "cpu", precision: Precision | Literal["auto"] = "auto") -> AppliedModel:
    """Open a trained model: the one that comes with the library (512 codewords, trained on phantoms), or that of a folder.

    ``device``: cpu or cuda. ``precision``: fp32, bf16, or auto, which is the one that the network was trained in unless another was
    measured to count alike. Raises ModelFolderError or ModelError where the folder holds no sound model.
    """
    return open_applied_model(folder, device, precision=precision)


def extract_features(data: Path | str, model: AppliedModel | None = None, progress: bool = False) -> pd.DataFrame:
    """Return the codeword histogram of every patient below ``data``: a folder of patients, of one patient, or a CSV manifest.

    One row per patient: ``patient``, ``grade`` (where the files give one), ``codeword_000``... (whole numbers that sum to ``n_slices`` x
    ``latent_positions``), and the columns that say which model made them: ``model``, ``profile``, ``profile_hash``, ``precision``,
    ``drlib``, ``network``. ``model`` None is the one that comes with the library.

    A patient that cannot be read is left out, with a PatientWarning that says why and what to do. Raises CohortError where there are no
    patients. Source: paper, Eq. 5.
    """
    table, problems = apply.extract_features(Path(data), model or open_model(), progress)
    for problem in problems:
        warnings.warn(problem.message, PatientWarning, stacklevel=2)
    return table


__all__ = ["AppliedModel", "PatientWarning", "extract_features", "open_model"]
