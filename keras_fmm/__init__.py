"""Attention layers for Keras 3 that multiply feature maps, or convolution weights, by attention."""

import importlib.util
import os

try:
    # Keras imports its backend, TensorFlow unless it is told another.
    import keras as _  # noqa: F401
except ModuleNotFoundError as error:
    _missing = (error.name or "").partition(".")[0]
    _there = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    if _missing not in {"tensorflow", "jax", "torch"}.difference(_there):
        raise
    raise ImportError(
        "keras_fmm needs a backend of Keras: TensorFlow, JAX or PyTorch. "
        f"Received: KERAS_BACKEND={os.environ.get('KERAS_BACKEND', '(not set, so tensorflow)')}, "
        f"and {error}; installed: {', '.join(_there) or 'none of them'}. Install one by its extra, "
        "`pip install 'keras-fmm[tensorflow]'`, `pip install 'keras-fmm[jax]'` or "
        "`pip install 'keras-fmm[torch]'`, and, other than for TensorFlow, set the environment "
        "variable KERAS_BACKEND to jax or torch before Python starts."
    ) from error

from keras_fmm import deprecated, layers, models, ops
from keras_fmm.version import __version__

__all__ = [
    "__version__",
    "analysis",
    "data",
    "detection",
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
