"""What has left the package and can still be had from its old place, with a warning, for a release.

Version 0.2 removes this folder: `manifest` and `figures` then move into recipes/lab, whose
`artefacts` and `figures` take them from here until then, as an installed package has no recipes.
"""

import importlib

from keras_fmm.deprecated.moves import modules, moved, names

# The modules of the functions that left, by name; imported when one is first asked for.
FIGURES = dict.fromkeys(
    ("accuracy_by_latency", "cost_by_stage", "histograms", "norms_by_depth"),
    "keras_fmm.deprecated.figures",
)
MANIFEST = dict.fromkeys(
    ("add_to_manifest", "check_manifest", "manifest_entry"), "keras_fmm.deprecated.manifest"
)

__all__ = ["FIGURES", "MANIFEST", "modules", "moved", "names"]


def __getattr__(name):
    if name in (found := FIGURES | MANIFEST):
        return getattr(importlib.import_module(found[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
