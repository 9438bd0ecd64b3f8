"""Reading NIfTI: one file, and the four modalities of a patient."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.phantom import phantom_patient
from benchmarks.timing import best_of, row
from drlib.cohort.loading import READERS
from drlib.cohort.nifti import read_nifti

NOTE = "the stream is decompressed by isal straight into the voxels, once, in their own type, and its CRC is verified (nibabel's is not)"
THREADS = "; files are read at the same time, because decompression lets other threads run"


def nifti_read(quick: bool = False) -> list[dict]:
    """Return the seconds for one int16 .nii.gz of BraTS's size, and for the four of a patient."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(READERS) as readers:
        files = list(phantom_patient(Path(folder), quick).files.values())
        seconds = best_of(
            {
                "ours": lambda: read_nifti(files[1]),
                "peer": lambda: nibabel.load(files[1]).get_fdata(),
                "ours, four": lambda: list(readers.map(read_nifti, files)),
                "peer, four": lambda: [nibabel.load(file).get_fdata() for file in files],
            },
            repeats=1 if quick else 7,
        )
        equal = all(np.array_equal(read_nifti(file).voxels, nibabel.load(file).get_fdata()) for file in files)
    peer = "nibabel.load().get_fdata()"
    return [
        row("nifti_read", seconds["ours"], seconds["peer"], peer, "s", NOTE, equal=equal),
        row("nifti_read_patient", seconds["ours, four"], seconds["peer, four"], f"{peer} of each", "s", NOTE + THREADS, equal=equal),
    ]
