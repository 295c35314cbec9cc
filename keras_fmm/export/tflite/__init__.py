"""Writing TFLite files, running and inspecting them."""

from keras_fmm.export.tflite.inspection import Inspection, Operator, Tensor, inspect
from keras_fmm.export.tflite.metadata import read_metadata
from keras_fmm.export.tflite.quantizations import QUANTIZATIONS
from keras_fmm.export.tflite.running import run_tflite
from keras_fmm.export.tflite.writing import to_tflite

__all__ = [
    "QUANTIZATIONS",
    "Inspection",
    "Operator",
    "Tensor",
    "inspect",
    "read_metadata",
    "run_tflite",
    "to_tflite",
]
