"""Attention layers for Keras 3 that multiply feature maps, or convolution weights, by attention."""

import importlib

from keras_fmm import deprecated, layers, models, ops
from keras_fmm.version import __version__

__all__ = [
    "__version__",
    "analysis",
    "data",
    "export",
    "layers",
    "models",
    "ops",
    "plots",
    "training",
]

_MOVED = {
    "keras_fmm.float32": "keras_fmm.half_precision",
    "keras_fmm.scaling": "keras_fmm.input_range",
}
deprecated.modules(_MOVED)


def __getattr__(name):
    # The parts that need TensorFlow or an extra are imported when they are first asked for, so
    # that `import keras_fmm` works, quickly, where only Keras and a backend are installed.
    if (old := f"keras_fmm.{name}") in _MOVED:
        return deprecated.moved(old, _MOVED[old])
    if name in __all__:
        return importlib.import_module(f"keras_fmm.{name}")
    raise AttributeError(f"module 'keras_fmm' has no attribute {name!r}")
