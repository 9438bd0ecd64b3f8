"""Patients: BraTS layouts, their validation, preprocessing, the slice store and the phantom cohort (paper: Methods, "Dataset")."""
