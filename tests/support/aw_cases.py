"""Random AW-convolutions for hypothesis: shapes, strides, padding, dilation and all reductions."""

import dataclasses
import math

import numpy as np
from hypothesis import strategies as st


@dataclasses.dataclass(frozen=True)
class Case:
    """A case of AWConv2D and of the convolutions under it, with random inputs."""

    shape: tuple
    filters: int
    kernel_size: tuple
    strides: tuple
    padding: str
    dilation_rate: tuple
    input_reduction: int
    output_reduction: int
    kernel_reduction: int
    seed: int

    @property
    def conv(self):
        return self.strides, self.padding, self.dilation_rate

    @property
    def reductions(self):
        return self.input_reduction, self.output_reduction, self.kernel_reduction

    @property
    def arguments(self):
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if name not in ("shape", "seed")}

    def random(self, *shape):
        return np.random.default_rng(self.seed).normal(size=shape).astype("float32")

    def conv_inputs(self):
        """Returns inputs, kernel, gain and bias of a per-sample convolution."""
        rng = np.random.default_rng(self.seed)
        channels = self.shape[3]
        # One gain for the whole kernel where the layer would have one.
        sides = [size // self.kernel_reduction for size in self.kernel_size]
        sides = (1, 1) if sides == [1, 1] else self.kernel_size
        shapes = (
            self.shape,
            (*self.kernel_size, channels, self.filters),
            (self.shape[0], *sides, channels // self.input_reduction, self.filters),
            (self.filters,),
        )
        return [rng.normal(size=shape).astype("float32") for shape in shapes]


def _divisors(number):
    return [d for d in range(1, number + 1) if number % d == 0]


@st.composite
def cases(draw, largest_side=4, channels=(1, 2, 4, 6)):
    """Draws a case whose output is not empty; r_C1, r_C2 and r_hw from 1 to the full size.

    Args:
        largest_side: int, of the kernel.
        channels: sequence of int, of the inputs.
    """
    kernel_size = draw(st.tuples(*[st.integers(1, largest_side)] * 2))
    padding = draw(st.sampled_from(["same", "valid"]))
    # Keras has no strides and dilation at once.
    strided = draw(st.booleans())
    pair = draw(st.tuples(*[st.integers(1, 3)] * 2))
    strides, dilation_rate = (pair, (1, 1)) if strided else ((1, 1), pair)
    # With "same", the map may be smaller than the kernel.
    spans = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation_rate, strict=True)]
    least = (1, 1) if padding == "same" else spans
    height, width = (draw(st.integers(size, size + 4)) for size in least)
    channels, filters = draw(st.sampled_from(channels)), draw(st.sampled_from([1, 2, 4]))
    return Case(
        shape=(draw(st.integers(1, 3)), height, width, channels),
        filters=filters,
        kernel_size=kernel_size,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        input_reduction=draw(st.sampled_from(_divisors(channels))),
        output_reduction=draw(st.sampled_from(_divisors(filters))),
        kernel_reduction=draw(st.sampled_from(_divisors(math.gcd(*kernel_size)))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
