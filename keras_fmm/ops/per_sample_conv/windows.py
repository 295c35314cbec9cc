"""Where the entries of a convolution's kernel fall on its inputs."""

import dataclasses
import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.ops import tensorflow_gradients

PADDINGS = ("valid", "same")


@dataclasses.dataclass(frozen=True)
class Axis:
    """A convolution along one axis; the sizes may be scalar tensors where they are unknown.

    `size` entries, `before` and `after` of them zeros that `padding` adds, give `outputs`.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    outputs: int

    def window(self, entry):
        """Returns where a kernel's entry meets the inputs: `phase, start, first, last`.

        Output o, for o from `first` to `last` exclusive, sees input
        `phase + stride * (start + o)`; the other outputs see zeros.
        """
        offset = entry * self.dilation - self.before
        phase = offset % self.stride
        start = (offset - phase) // self.stride
        if not isinstance(self.size, int):
            # Of an unknown size, which is padded first.
            return phase, start, 0, self.outputs
        reach = -((phase - self.size) // self.stride)
        return phase, start, max(0, -start), min(self.outputs, reach - start)


def axes(shape, kernel_size, strides, padding, dilation_rate):
    """Returns the two `Axis` of a convolution over inputs `(batch, height, width, channels)`.

    Raises:
        ValueError: `padding` is unknown, or "valid" with a dilated kernel larger than the inputs.
    """
    checks.one_of("padding", padding, PADDINGS)
    found = []
    for size, kernel, stride, dilation in zip(
        shape[1:3], kernel_size, strides, dilation_rate, strict=True
    ):
        span = (kernel - 1) * dilation + 1
        if padding == "same":
            outputs = (size + stride - 1) // stride
            total = _positive_part((outputs - 1) * stride + span - size)
        else:
            outputs, total = _positive_part((size - span) // stride + 1), 0
            if isinstance(size, int) and size < span:
                raise ValueError(
                    "The dilated kernel must not be larger than the inputs. Received: "
                    f"inputs.shape={tuple(shape)}, kernel_size={tuple(kernel_size)}, "
                    f'dilation_rate={tuple(dilation_rate)}. Take `padding="same"`.'
                )
        # The odd zero goes below and to the right.
        found.append(Axis(size, kernel, stride, dilation, total // 2, total - total // 2, outputs))
    return found


def pad(inputs, height, width):
    """Returns the inputs with their zeros, and the two `Axis` over them, which need no more."""
    batch, *_, channels = ops.shape(inputs)
    padded, sizes = [], []
    for axis in (height, width):
        size = axis.before + axis.size + axis.after
        sizes.append(size)
        padded.append(dataclasses.replace(axis, size=size, before=0, after=0))
    widths = [(0, 0), *((axis.before, axis.after) for axis in (height, width)), (0, 0)]
    # TFLite's converter forgets the channels where the widths of the padding are not constant.
    inputs = ops.reshape(ops.pad(inputs, widths), (batch, *sizes, channels))
    return inputs, *padded


def met(height, width):
    """Returns which entries of a kernel meet more than zeros, a set of int, counted row by row."""
    rows, columns = (
        [entry for entry in range(axis.kernel) if not _is_empty(*axis.window(entry)[2:])]
        for axis in (height, width)
    )
    return {row * width.kernel + column for row in rows for column in columns}


@dataclasses.dataclass(frozen=True)
class Tap:
    """What an entry of a kernel, the `index`-th row by row, meets, and which outputs that is for.

    It meets the part of the `phase`-th phase from `start` on, of `size`; `rows` and `columns` are
    pairs: how many outputs see only zeros before and after those that it is for.
    """

    index: int
    phase: int
    start: tuple
    size: tuple
    rows: tuple
    columns: tuple


def taps(inputs, height, width):
    """Returns what of the inputs the entries of a kernel meet.

    Args:
        inputs: tensor `(batch, height, width, channels)`.
        height: its `Axis`.
        width: its `Axis`.

    Returns:
        `phases, taps`: a list of tensors, the inputs or, with strides, those rows and columns of
        them that are a stride apart; and a list of `Tap`, without the entries that meet nothing.
    """
    if _padding_first(height, width):
        inputs, height, width = pad(inputs, height, width)
    # Without strides there is one phase, the inputs.
    phases = {(0, 0): inputs} if (height.stride, width.stride) == (1, 1) else {}
    batch = -1 if inputs.shape[0] is None else inputs.shape[0]
    found = []
    for row in range(height.kernel):
        row_phase, top, first_row, last_row = height.window(row)
        for column in range(width.kernel):
            column_phase, left, first_column, last_column = width.window(column)
            if _is_empty(first_row, last_row) or _is_empty(first_column, last_column):
                continue
            first = (row_phase, column_phase)
            if first not in phases:
                phases[first] = inputs[:, row_phase :: height.stride, column_phase :: width.stride]
            found.append(
                Tap(
                    row * width.kernel + column,
                    list(phases).index(first),
                    (0, top + first_row, left + first_column, 0),
                    (batch, last_row - first_row, last_column - first_column, inputs.shape[3]),
                    _beside(first_row, last_row, height),
                    _beside(first_column, last_column, width),
                )
            )
    return list(phases.values()), found


def part(tensor, start, size):
    """Returns the part of a tensor of rank 4 that begins at `start`; a `size` of -1 takes all."""
    if keras.backend.backend() == "tensorflow" and tensorflow_gradients.compiled_by_xla():
        # Without a second derivative the other way, under XLA.
        _, *ranges = zip(start, size, strict=True)
        return tensor[:, *(slice(first, first + count) for first, count in ranges)]
    # Not indexing: the gradient of that is much slower on TensorFlow.
    return ops.slice(tensor, start, size)


def _padding_first(height, width):
    """Whether to pad the inputs, and multiply zeros, rather than the products of what is met.

    The inputs are padded once, the products tap by tap; that pays while less than a sixteenth of
    the multiplications is lost on zeros, and must be where a kernel with gaps meets nothing else.
    """
    met = []
    for axis in (height, width):
        if not isinstance(axis.size, int):
            return True
        windows = [axis.window(entry) for entry in range(axis.kernel)]
        counts = [max(0, last - first) for _, _, first, last in windows]
        met.append(sum(counts) / (axis.kernel * max(1, axis.outputs)))
    padded = any(axis.before or axis.after for axis in (height, width))
    return padded and (math.prod(met) > 15 / 16 or not all(met))


def _beside(first, last, axis):
    """Returns how many outputs see only zeros, before and after those that do not."""
    return first, 0 if last is axis.outputs else axis.outputs - last


def _is_empty(first, last):
    return isinstance(last, int) and last <= first


def _positive_part(number):
    # max(number, 0) in operators that an int and a scalar tensor (an unknown size) both have.
    return (number + abs(number)) // 2
