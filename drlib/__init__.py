"""Deep Radiomics: a shareable codebook of glioma imaging phenotypes.

Codeword histograms of your patients, by the codebook that comes with the library::

    import drlib
    model = drlib.open_model()
    table = drlib.extract_features("folder/of/patients", model)

The library under the book. Layers, imports pointing downward only:
``series, viewer, figures`` -> ``radiomics`` -> ``segmentation`` -> ``cohort`` -> ``profiles, artifacts, seeds, errors``.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["extract_features", "open_model"]


def __getattr__(name: str) -> Any:
    """Fetch a public function from the top layer when it is first used: ``import drlib`` alone stays quick and knows no layer."""
    if name in __all__:
        return getattr(import_module("drlib.series.library"), name)
    raise AttributeError(f"module 'drlib' has no attribute {name!r}; there are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
