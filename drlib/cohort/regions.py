"""Words of the cohort: modalities, labels, regions and grades, each in its one fixed order (paper: Methods, "Dataset")."""

from typing import Any

MODALITIES = ("t1", "t1ce", "t2", "flair")  # channel order
LABELS = ("background", "NET", "ED", "ET")  # the index is the label used inside the library
REGIONS = ("NET", "ED", "ET", "TC", "WT")
GRADES = ("LGG", "HGG")

REGION_LABELS = {"NET": (1,), "ED": (2,), "ET": (3,), "TC": (1, 3), "WT": (1, 2, 3)}

FILE_LABEL_SETS = ((0, 1, 2, 4), (0, 1, 2, 3))  # BraTS up to 2021 writes ET as 4, from 2023 on as 3


def region_mask(labels: Any, region: str) -> Any:
    """Return where ``labels`` belong to ``region``: a boolean array (NumPy in, NumPy out; torch in, torch out) of the same shape.

    ``labels`` are the library's own (0 background, 1 NET, 2 ED, 3 ET). TC is NET or ET; WT is NET, ED or ET.
    Raises ValueError for a region that does not exist.

    Source: paper, Methods ("tumour core", "whole tumour"). The authors' code leaves ET out of WT; here it is in, as in BraTS.
    """
    if region not in REGION_LABELS:
        raise ValueError(f"unknown region {region!r}; there are {', '.join(REGIONS)}")
    first, *others = REGION_LABELS[region]
    mask = labels == first
    for label in others:
        mask = mask | (labels == label)
    return mask
