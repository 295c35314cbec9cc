"""Set before TensorFlow starts: quiet logs, two logical CPUs for MirroredStrategy; one seed."""

import gc
import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")
# As recipes do: the same kernels on every x86 CPU, with AVX-512 or without.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Tests compile far more than they compute; XLA's optimisations double their time on JAX.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import keras
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Must precede everything that starts TensorFlow's runtime; one process has them for good.
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

if keras.backend.backend() == "torch":
    import torch

    # One test process a core.
    torch.set_num_threads(1)
    # Where a test asks for it: it takes half a minute for each layer.
    torch.compile = lambda function: function
    to_array = torch.Tensor.__array__

    def _as_array(tensor, dtype=None, copy=None):
        """Gives tests the numbers of any tensor, and the package those of none.

        NumPy takes no tensor of weights, nor one on a GPU, which tests may not have; the package
        must say `keras.ops.convert_to_numpy`.
        """
        frame = sys._getframe(1)
        while frame.f_globals["__name__"].startswith(("numpy", "torch")):
            frame = frame.f_back
        is_ours = frame.f_globals["__name__"].startswith("keras_fmm")
        # Nor an example of the package, whose code is run as its module's.
        assert not is_ours, "a tensor as an array"
        if tensor.dtype == torch.bfloat16:
            return keras.ops.convert_to_numpy(tensor)
        # A copy: PyTorch trains variables in place.
        return to_array(tensor.detach().clone(), dtype)

    torch.Tensor.__array__ = _as_array

# The same examples in every run, so that a failure is the change's and not the draw's; say
# HYPOTHESIS_PROFILE=search to look for new ones. No deadline: these machines are noisy. Fewer on
# JAX, which compiles every operation anew for every shape.
examples = 25 if keras.backend.backend() == "tensorflow" else 5
hypothesis.settings.register_profile(
    "repeat", max_examples=examples, derandomize=True, deadline=None
)
hypothesis.settings.register_profile("search", max_examples=500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Makes `slow` what is slow on this backend, before pytest chooses by it."""
    for item in items:
        if item.get_closest_marker(f"slow_on_{keras.backend.backend()}"):
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect():
    # TFLite's converter collects all garbage, each time, and looks at every object of TensorFlow
    # for that; what is there before a module's tests is not looked at again.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _temporary_folders(tmp_path_factory):
    # What the docstrings' examples make goes with pytest's own folders, which it clears.
    tempfile.tempdir = str(tmp_path_factory.mktemp("temporary"))
    yield
    tempfile.tempdir = None


@pytest.fixture(autouse=True)
def _fresh_keras():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")
