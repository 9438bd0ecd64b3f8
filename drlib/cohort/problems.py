"""What can be wrong with a patient: one typed error and one code per cause (Source: ours).

An error is raised where the cause is met; `drlib check` collects the same errors as `Problem` records instead of stopping at the first.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from drlib.errors import DeepRadiomicsError


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one patient. ``message`` names patient, file, what came, what was due and what to do."""

    code: str
    severity: Literal["error", "warning"]
    file: str | None
    message: str

    def to_dict(self) -> dict[str, str | None]:
        """Return the record as JSON can hold it."""
        return asdict(self)


class CohortError(DeepRadiomicsError):
    """A cohort as a whole cannot be read: no such folder, no patient in it, an unreadable table."""


class PatientError(DeepRadiomicsError):
    """Base of all causes. ``finding`` says what came and what was due, ``remedy`` what to do.

    ``patient`` and ``file`` may be unknown where the error is raised (`read_nifti` knows no patient); `of_patient` adds the name.
    """

    code: ClassVar[str] = "unreadable"

    def __init__(self, finding: str, remedy: str, *, file: Path | None = None, patient: str | None = None):
        super().__init__(finding, remedy)
        self.finding, self.remedy, self.file, self.patient = finding, remedy, file, patient

    def __str__(self) -> str:
        where = [f"patient {self.patient}"] if self.patient else []
        where += [str(self.file)] if self.file else []
        return f"{', '.join(where) or 'volume'}: {self.finding}. {self.remedy}"

    def __reduce__(self):  # worker processes send errors by pickle, which knows nothing of keyword arguments
        return _rebuild, (type(self), self.finding, self.remedy, self.file, self.patient)

    def of_patient(self, patient: str) -> "PatientError":
        """Return the same error with the patient's id in it."""
        return type(self)(self.finding, self.remedy, file=self.file, patient=patient)

    @property
    def problem(self) -> Problem:
        """The error as a record."""
        return Problem(self.code, "error", str(self.file) if self.file else None, str(self))


def _rebuild(kind: type[PatientError], finding: str, remedy: str, file: Path | None, patient: str | None) -> PatientError:
    return kind(finding, remedy, file=file, patient=patient)


class MissingModality(PatientError):
    """One of the four images of a patient is not there."""

    code = "missing_modality"


class Unreadable(PatientError):
    """A file is no NIfTI image, or the system does not let us read it."""

    code = "unreadable"


class Truncated(PatientError):
    """A file ends before the data that its header promises."""

    code = "truncated"


class ChecksumMismatch(PatientError):
    """The bytes of a compressed file are not those that were written."""

    code = "checksum"


class ShapeMismatch(PatientError):
    """The volumes of a patient do not have the same shape, or one is not three-dimensional."""

    code = "shape_mismatch"


class AffineMismatch(PatientError):
    """The volumes of a patient do not lie at the same place, or one lies nowhere."""

    code = "affine_mismatch"


class NotFinite(PatientError):
    """An image or segmentation contains NaN or infinity."""

    code = "not_finite"


class BlankModality(PatientError):
    """An image has the same value in every voxel (of the brain), so that no z-score exists."""

    code = "blank_modality"


class EmptyBrain(PatientError):
    """No voxel differs from background in any modality."""

    code = "empty_brain"


class UnknownLabel(PatientError):
    """A segmentation holds values outside {0,1,2,4} and {0,1,2,3}."""

    code = "unknown_label"


class DuplicatePatient(PatientError):
    """The same patient is there twice."""

    code = "duplicate_patient"


def failed(patient: str, error: Exception) -> Problem:
    """Return the problem of a patient whose work ended in an error that is not about its files, or whose worker died."""
    return Problem("failed", "error", None, f"patient {patient}: {type(error).__name__}: {error}")


def no_grade(patient: str) -> Problem:
    """Return the warning that a patient has no grade."""
    message = (
        f"patient {patient}: no grade was found (LGG or HGG was due). The patient can be segmented and described, but is left out "
        "when the classifier is fitted; put the folder under LGG/ or HGG/, or add a row to name_mapping.csv, to change that."
    )
    return Problem("no_grade", "warning", None, message)
