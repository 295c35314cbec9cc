"""Writing models for elsewhere (.keras, SavedModel, TFLite) and checking what was written."""

from keras_fmm import deprecated
from keras_fmm.export.compare import Agreement, Report, compare
from keras_fmm.export.keras_file import save_model
from keras_fmm.export.saved_model import run_saved_model, to_saved_model
from keras_fmm.export.tflite import (
    QUANTIZATIONS,
    Inspection,
    Operator,
    Tensor,
    inspect,
    read_metadata,
    run_tflite,
    to_tflite,
)

__all__ = [
    "QUANTIZATIONS",
    "Agreement",
    "Inspection",
    "Operator",
    "Report",
    "Tensor",
    "compare",
    "inspect",
    "read_metadata",
    "run_saved_model",
    "run_tflite",
    "save_model",
    "to_saved_model",
    "to_tflite",
]

__getattr__ = deprecated.names(
    __name__,
    deprecated.MANIFEST,
    "It keeps saved_models/ in order: recipes.lab.artefacts has it.",
)
