"""The manifest of saved_models/: where each file comes from, what it scored and must be."""

from keras_fmm import deprecated

# It was in `keras_fmm.export`, which keeps it for a release; then it moves here. Not the other way
# round: a wheel of keras_fmm has no recipes to take it from.
add_to_manifest = deprecated.add_to_manifest
check_manifest = deprecated.check_manifest
manifest_entry = deprecated.manifest_entry
