"""Widgets of the notebooks, each alive in a page without a kernel too, and the library's source beside its equation."""

from drlib.viewer.atlas import codebook_atlas
from drlib.viewer.quantizer import quantizer_widget
from drlib.viewer.slices import slice_browser
from drlib.viewer.source import show_source

__all__ = ["codebook_atlas", "quantizer_widget", "show_source", "slice_browser"]
