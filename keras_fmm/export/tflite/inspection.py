"""What is in a TFLite file, and which of it LiteRT's fast kernels take."""

import collections
import dataclasses

import numpy as np

from keras_fmm import checks, hints
from keras_fmm.export.tflite import litert, metadata


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a TFLite file.

    Attributes:
        name: str.
        shape: tuple of int; -1 where any size fits.
        dtype: str, e.g. "float32" or "int8".
        scale: float of a quantized one, which stands for `(value - zero_point) * scale`; None
            otherwise.
        zero_point: int, likewise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a TFLite file.

    Attributes:
        name: str, as TFLite has it, e.g. "CONV_2D".
        place: str, the name of its output, which tells the layer it comes from.
        shape: tuple of int, its output's.
        dtype: str, its output's.
        fast: bool, whether XNNPACK, LiteRT's fast kernels, takes it.
    """

    name: str
    place: str
    shape: tuple[int, ...]
    dtype: str
    fast: bool


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        operators: tuple of `Operator`, in the order they run.
        inputs: tuple of `Tensor`, in the model's order where the file tells it.
        outputs: tuple of `Tensor`, in the order of their names in the file's signature.
        file_bytes: int, the file's size.
        weight_bytes: dict of str to int, the constants' size in bytes by dtype.
        activation_bytes: int, the size of the largest operator's output; None where the file
            leaves sizes open.
        parts: int, how many parts XNNPACK takes; between two of them LiteRT runs the operators
            that it does not take.
        metadata: dict, see `read_metadata`.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    file_bytes: int
    weight_bytes: dict
    activation_bytes: int | None
    parts: int
    metadata: dict

    @property
    def slow(self):
        """The operators that XNNPACK does not take."""
        return tuple(operator for operator in self.operators if not operator.fast)

    def table(self) -> str:
        """Returns the inspection as text: sizes, inputs and outputs, a line for each operator."""
        weights = ", ".join(f"{size:,} B of {dtype}" for dtype, size in self.weight_bytes.items())
        lines = [f"{self.file_bytes:,} B, of them weights {weights or 'none'}"]
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            for tensor in tensors:
                scaled = ""
                if tensor.scale is not None:
                    scaled = f", scale {tensor.scale:.4g}, zero point {tensor.zero_point}"
                lines.append(f"{kind:<6} {tensor.dtype} {tensor.shape}{scaled}")
        count = len(self.operators)
        lines.append(
            f"XNNPACK takes {count - len(self.slow)} of {count} operators, in {self.parts} "
            f"{'part' if self.parts == 1 else 'parts'}"
        )
        lines.append(f"{'operator':<24} {'dtype':<8} {'count':>5} {'XNNPACK':>7}")
        kinds = collections.Counter((each.name, each.dtype) for each in self.operators)
        fast = collections.Counter((each.name, each.dtype) for each in self.operators if each.fast)
        for (name, dtype), number in kinds.most_common():
            # An operator that is not built in has a name of the file's.
            shown = checks.printable(name)
            lines.append(f"{shown:<24} {dtype:<8} {number:>5} {fast[name, dtype]:>7}")
        return "\n".join(lines)

    __str__ = table


def inspect(path: hints.Path) -> Inspection:
    """Returns what is in a TFLite file: operators, inputs, outputs, sizes, what runs fast.

    Args:
        path: str or `os.PathLike`, the file. Where it leaves sizes open, those of a
            batch of 2 and of height and width 96 are told.

    Returns:
        `Inspection`; printed, it is a table.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ImportError: LiteRT is not installed.
        ValueError: the file is no TFLite file, is damaged, or needs operators that LiteRT lacks.

    Example:

    >>> import tempfile, keras
    >>> from keras_fmm import export
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> found = export.inspect(export.to_tflite(model, tempfile.mkdtemp() + "/toy.tflite"))
    >>> [operator.name for operator in found.operators], found.weight_bytes
    (['CONV_2D'], {'float32': 448})
    >>> found.slow
    ()
    """
    path = checks.path("path", path)
    session = litert.opened(path)
    try:
        session.run_on_zeros()
    except litert.RefusedError as error:
        raise metadata.damaged(path, error) from error
    content = path.read_bytes()
    nodes, tensors = session.operators(), session.tensors()
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    parts = [node for node in nodes if node["op_name"] == "DELEGATE"]
    maker = {int(index): number for number, node in enumerate(own) for index in node["outputs"]}
    fast = set()
    for part in parts:
        fast |= _between(own, maker, part)
    operators = []
    for number, node in enumerate(own):
        output = tensors.get(int(node["outputs"][0]), {"name": "", "shape": (), "dtype": np.void})
        operators.append(
            Operator(
                name=node["op_name"],
                place=output["name"],
                shape=tuple(int(size) for size in output["shape"]),
                dtype=np.dtype(output["dtype"]).name,
                fast=number in fast,
            )
        )
    made = {*maker, *(detail["index"] for detail in session.inputs.values())}
    made |= {int(index) for part in parts for index in part["outputs"]}
    used = {int(index) for node in own for index in node["inputs"]}
    weights = collections.Counter()
    for index in used - made:
        if index in tensors:
            weights[np.dtype(tensors[index]["dtype"]).name] += _size(tensors[index])
    sizes = [_size(tensors[index]) for index in maker if index in tensors]
    is_open = any(-1 in detail["shape_signature"] for detail in session.inputs.values())
    return Inspection(
        operators=tuple(operators),
        inputs=tuple(map(_tensor, session.inputs.values())),
        outputs=tuple(map(_tensor, session.outputs.values())),
        file_bytes=len(content),
        weight_bytes=dict(weights.most_common()),
        activation_bytes=None if is_open else max(sizes, default=0),
        parts=len(parts),
        metadata=metadata.split(content)[1],
    )


def _between(nodes, maker, part):
    """Returns the numbers of the operators that one of XNNPACK's parts stands for.

    They are those between its inputs and its outputs.
    """
    begin = {int(index) for index in part["inputs"]}
    found, open_ends = set(), [int(index) for index in part["outputs"]]
    while open_ends:
        index = open_ends.pop()
        if index not in begin and index in maker and maker[index] not in found:
            found.add(maker[index])
            open_ends += [int(other) for other in nodes[maker[index]]["inputs"]]
    return found


def _size(detail):
    return int(np.prod(detail["shape"])) * np.dtype(detail["dtype"]).itemsize


def _tensor(detail):
    scale, zero_point = detail["quantization"]
    return Tensor(
        name=detail["name"],
        shape=tuple(int(size) for size in detail["shape_signature"]),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scale) if scale else None,
        zero_point=int(zero_point) if scale else None,
    )
