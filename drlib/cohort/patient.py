"""What the library knows of a patient: the files, the voxels, the side of the split (Source: ours)."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

VISIT = re.compile(r"(brats-\w+-\d+)-\d+|(brats1[789]_\w+_\d+)_\d+", re.IGNORECASE)  # names that end in the number of a visit


@dataclass(frozen=True)
class Patient:
    """Where a patient's files are. ``files`` may lack modalities, and files may be damaged: nothing has been read yet.

    ``surplus`` are further files that claim a place already taken, such as ``X_t1.nii`` beside ``X_t1.nii.gz``.
    """

    id: str
    files: dict[str, Path]
    segmentation: Path | None = None
    grade: str | None = None
    surplus: tuple[Path, ...] = ()

    @property
    def subject(self) -> str:
        """The person behind the id: in names that end in the number of a visit, what is before it. Visits never part in a split."""
        visit = VISIT.fullmatch(self.id)
        return (visit[1] or visit[2]).lower() if visit else self.id.lower()


@dataclass(frozen=True)
class PatientVolume:
    """A patient's voxels in LPS order (i to the left, j to the back, k upwards).

    ``images`` float32 (4, i, j, k) in the order of MODALITIES, units of the file; ``labels`` uint8 (i, j, k), 0 background, 1 NET, 2 ED,
    3 ET, or None; ``affine`` (4, 4) to millimetres (RAS+, as nibabel). ``file_affine`` and ``file_shape`` are those of the files.
    """

    id: str
    images: np.ndarray
    labels: np.ndarray | None
    affine: np.ndarray
    grade: str | None
    file_affine: np.ndarray
    file_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Split:
    """Patients whose segmentations train the network, and patients who are graded. No person is in both."""

    segmentation: list[Patient] = field(default_factory=list)
    grading: list[Patient] = field(default_factory=list)
