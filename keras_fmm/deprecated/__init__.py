"""What has left the package and can still be had from its old place, with a warning, for a release.

Version 0.2 removes this folder: `manifest` and `figures` then move into recipes/lab, whose
`artefacts` and `figures` take them from here until then, as an installed package has no recipes.
"""

from keras_fmm.deprecated.figures import (
    accuracy_by_latency,
    cost_by_stage,
    histograms,
    norms_by_depth,
)
from keras_fmm.deprecated.manifest import add_to_manifest, check_manifest, manifest_entry
from keras_fmm.deprecated.moves import modules, names

__all__ = [
    "accuracy_by_latency",
    "add_to_manifest",
    "check_manifest",
    "cost_by_stage",
    "histograms",
    "manifest_entry",
    "modules",
    "names",
    "norms_by_depth",
]
