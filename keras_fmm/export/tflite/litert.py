"""A TFLite file in LiteRT: the one place where an interpreter is opened, fed and read."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from keras_fmm import checks
from keras_fmm.export import names
from keras_fmm.export.tflite import metadata

# What runs on zeros where the file leaves a size open: networks for ImageNet accept 96.
_TRIAL_SIZE = 96
_TRIAL_BATCH = 2


class RefusedError(ValueError):
    """LiteRT does not load a file, or does not run it."""


class Session:
    """A TFLite file that LiteRT loaded: arrays go in and come out by the signature's names.

    Args:
        content: bytes, the file's model, without metadata.
        num_threads: int, default 1. The CPU threads that LiteRT uses.
        input_names: list of str or None, default None (not known). What the model's inputs are
            called, in order.
        keeps_all: bool, default False. Whether the tensors between the layers can be read after a
            run. LiteRT's fast kernels, which keep none, are then left out.

    Attributes:
        inputs, outputs: dicts of str to what LiteRT says of each ("index", "dtype",
            "shape_signature", "quantization"). Without a signature the names are the tensors'.
        is_ordered: bool, whether the order of `inputs` is known to be the model's.

    Raises:
        ImportError: LiteRT is not installed.
        RefusedError: LiteRT does not load the file.
    """

    def __init__(self, content, num_threads=1, input_names=None, keeps_all=False):
        litert = library()
        options = {}
        if keeps_all:
            resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            options["experimental_op_resolver_type"] = resolver
            options["experimental_preserve_all_tensors"] = True
        with _refusing():
            self._interpreter = litert.Interpreter(
                model_content=content, num_threads=num_threads, **options
            )
            inputs, self.outputs = self._ends()
        self.inputs, self.is_ordered = names.in_order(inputs, input_names)
        self._shapes = {name: tuple(detail["shape"]) for name, detail in self.inputs.items()}
        self._is_allocated = False

    def _ends(self):
        """Returns what LiteRT says of the inputs and the outputs, two dicts by name."""
        if len(self._interpreter.get_signature_list()) == 1:
            # Not kept: while anything else holds the interpreter, it runs nothing.
            runner = self._interpreter.get_signature_runner()
            return runner.get_input_details(), runner.get_output_details()
        return (
            {detail["name"]: detail for detail in self._interpreter.get_input_details()},
            {detail["name"]: detail for detail in self._interpreter.get_output_details()},
        )

    def allocate(self):
        """Takes the memory that a run needs; raises RefusedError where LiteRT cannot."""
        with _refusing():
            self._interpreter.allocate_tensors()
        self._is_allocated = True

    def run(self, arrays):
        """Runs the file once.

        Args:
            arrays: dict of each input's name to an array of the input's dtype.

        Returns:
            dict of each output's name to an array of the output's dtype.

        Raises:
            RefusedError: LiteRT cannot run it, on arrays of these shapes.
        """
        with _refusing():
            for name, array in arrays.items():
                if self._shapes[name] != array.shape:
                    index = self.inputs[name]["index"]
                    self._interpreter.resize_tensor_input(index, array.shape)
                    self._shapes[name], self._is_allocated = array.shape, False
        if not self._is_allocated:
            self.allocate()
        with _refusing():
            for name, array in arrays.items():
                self._interpreter.set_tensor(self.inputs[name]["index"], array)
            self._interpreter.invoke()
        return {name: self.read(detail["index"]) for name, detail in self.outputs.items()}

    def run_on_zeros(self):
        """Runs the file once on zeros, of a size that most networks take; returns as `run`."""
        arrays = {}
        for name, detail in self.inputs.items():
            batch, *sizes = detail["shape_signature"]
            shape = [_TRIAL_BATCH if batch == -1 else batch]
            shape += [_TRIAL_SIZE if size == -1 else size for size in sizes]
            arrays[name] = np.zeros(shape, detail["dtype"])
        return self.run(arrays)

    def read(self, index):
        """Returns the tensor of this number, an array."""
        return self._interpreter.get_tensor(index)

    def tensors(self):
        """Returns what LiteRT says of each tensor, a dict by number."""
        return {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}

    def operators(self):
        """Returns what LiteRT says of each operator: dicts of "op_name", "inputs" and "outputs"."""
        # Not public, and what TensorFlow's own tools read.
        return self._interpreter._get_ops_details()


# What a process of its own does with the file at its first argument; it imports LiteRT alone.
_TRIAL = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
try:
    interpreter = Interpreter(model_path=sys.argv[1])
    for detail in interpreter.get_input_details():
        defaults = [int(each) for each in sys.argv[2:4]] + len(detail["shape"]) * [int(sys.argv[3])]
        pairs = zip(detail["shape_signature"], defaults)
        shape = [default if size == -1 else size for size, default in pairs]
        interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
except (RuntimeError, ValueError) as error:
    print(error)
    sys.exit(3)
"""


def try_apart(content):
    """Runs a file once on zeros in a process of its own, which may die of it.

    Where LiteRT's fast kernels refuse an int8 file, LiteRT 2.3 can free memory twice, and with it
    ends the process that it is in. Costs about half a second.

    Args:
        content: bytes, the file's model.

    Raises:
        RefusedError: LiteRT refuses it, or the process died.
    """
    if not sys.executable:
        # Python is part of another program, and no second one can be started.
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "trial.tflite"
        path.write_bytes(content)
        # Where this process finds its modules.
        paths = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL, path, str(_TRIAL_BATCH), str(_TRIAL_SIZE)],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
        )
    if done.returncode == 3:
        raise RefusedError(done.stdout.strip())
    if done.returncode < 0:
        said = (done.stderr.strip().splitlines() or [""])[-1]
        raise RefusedError(f"it ends the process, by signal {-done.returncode}: {said}")


def library():
    """Returns LiteRT's module, or raises ImportError that names the extra to install."""
    return checks.package("ai_edge_litert.interpreter", "Running a TFLite file", "mobile")


def opened(path, num_threads=1):
    """Returns a `Session` of the file at `path`, a `pathlib.Path`.

    Raises:
        FileNotFoundError: there is no file.
        ImportError: LiteRT is not installed.
        ValueError: it is no TFLite file, is damaged, or needs operators that LiteRT lacks.
    """
    library()
    content = path.read_bytes()
    try:
        model, found = metadata.split(content)
        return Session(model, num_threads, found.get("inputs"))
    except ValueError as error:
        raise metadata.damaged(path, error) from error


def quantize(values, detail):
    """Returns float values as the integers of a file's input.

    Args:
        values: float array.
        detail: dict, what LiteRT says of the input.
    """
    scale, zero_point = detail["quantization"]
    bounds = np.iinfo(detail["dtype"])
    whole = np.round(values / scale) + zero_point
    return np.clip(whole, bounds.min, bounds.max).astype(detail["dtype"])


def dequantize(values, detail):
    """Returns the floats that the integers of a file's output stand for, as `quantize`."""
    scale, zero_point = detail["quantization"]
    return (values.astype("float32") - zero_point) * np.float32(scale)


def is_quantized(detail):
    return detail["quantization"][0] != 0


@contextlib.contextmanager
def _refusing():
    """Turns what LiteRT raises into RefusedError."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise RefusedError(str(error).strip()) from error
