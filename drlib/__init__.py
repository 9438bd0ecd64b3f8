"""Deep Radiomics: a shareable codebook of glioma imaging phenotypes.

The library under the book. Layers, imports pointing downward only:
``series, viewer, figures`` -> ``radiomics`` -> ``segmentation`` -> ``cohort`` -> ``profiles, artifacts, seeds, errors``.
"""

__version__ = "0.1.0"
