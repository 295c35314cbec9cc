"""What do attention-augmented convolution and local self-attention cost beside a convolution?

Question: CPU time of a training step and of inference, as a ratio to a plain 3x3 convolution, and
the memory of a training step: of `AttentionAugmentedConv2D` and `LocalSelfAttention2D`, by each
implementation, and of the first without positions.
Data: random maps in float32.
Command (on Linux, with the machine to itself):

    python -m recipes.benchmarks.self_attention

Each round runs every candidate once, in random order in the same process; the ratio is taken within
a round. Given are the median over the rounds and the two between which it lies with 95 %
confidence, by the order of the ratios. A training step gives the gradients to the inputs and every
weight, as within a network. The memory is the most that a fresh process held in two calls of
`train_on_batch` with SGD and a squared error, above what it held before the first.
`KERAS_BACKEND=jax` measures what XLA compiles there.
Goals, of the ratio at training: augmented 5.6, 1.5 and 0.75 on the three maps (JAX: 5.5 on the
first), local 9, 4 and 2; of the memory 200 MiB (JAX: 100) and 80 MiB on maps of 28x28.
Cost: half an hour on 2 cores.
Measured: not yet at length; the defaults' results go to recipes/results/.
"""

import dataclasses
import math
import multiprocessing
import pathlib
import statistics
import time

import keras
import numpy as np

from keras_fmm import layers
from recipes.benchmarks import aw_conv, timing
from recipes.lab.settings import output_path, setting, shown, start, verbosity

AUGMENTED = ((16, 28, 28, 128), (16, 14, 14, 256), (16, 7, 7, 512))
LOCAL = ((2, 56, 56, 64), (4, 28, 28, 128), (8, 14, 14, 256))

# Those of AWConv2D's benchmark, but of a batch that is unknown.
MODES = tuple(mode for mode in aw_conv.MODES or () if "unknown" not in mode)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    rounds: int = setting(15, "how often each candidate is timed", minimum=1)
    output: str = setting("recipes/results/benchmark_self_attention.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "small maps, one round, no memory")


def candidates(shape, kind):
    """Returns functions that make a layer for maps of a shape, by name, the plain one first."""
    filters = shape[3]
    found = {"Conv2D": lambda: keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)}
    if kind == "augmented":
        ways = {name: {"implementation": name} for name in ("auto", "plain", "parts")}
        ways["without positions"] = {"positions": None}
        make, size = layers.AttentionAugmentedConv2D, 3
    else:
        ways = {name: {"implementation": name} for name in ("auto", "shifts", "blocks")}
        make, size = layers.LocalSelfAttention2D, 7
    for name, arguments in ways.items():
        found[name] = lambda way=arguments: make(filters, size, use_bias=False, **way)
    return found


def ratios(shape, kind, rounds, verbose):
    """Returns the ratios of each candidate in each mode: median and interval."""
    found = {}
    for mode in MODES:
        run = {
            name: aw_conv.lite_step(make(), shape)
            if "LiteRT" in mode
            else aw_conv.step(make(), mode, shape)
            for name, make in candidates(shape, kind).items()
        }
        times = timing.seconds(run, rounds, verbose, clock=time.process_time)
        for name, of_name in times.items():
            pairs = zip(of_name, times["Conv2D"], strict=True)
            found[f"{name}, {mode}"] = interval([a / b for a, b in pairs])
    return found


def interval(values, digits=2):
    """Returns the median and the two values between which it lies with 95 % confidence."""
    values = sorted(values)
    skipped = max(0, math.floor(len(values) / 2 - 0.98 * math.sqrt(len(values))))
    ends = (statistics.median(values), values[skipped], values[-1 - skipped])
    return [round(value, digits) for value in ends]


def memory(shape, kind, name):
    """Returns the MiB that this process holds at most in two training steps, above its start."""
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, candidates(shape, kind)[name]()(inputs))
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    images = np.random.default_rng(0).normal(size=shape).astype("float32")
    before = _held("VmRSS")
    for _ in range(2):
        model.train_on_batch(images, images)
    return round(_held("VmHWM") - before)


def _held(what):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    shapes = {"augmented": AUGMENTED, "local": LOCAL}
    if settings.smoke:
        settings = dataclasses.replace(settings, rounds=1)
        shapes = dict.fromkeys(shapes, ((2, 6, 5, 64),))
    found = {}
    for kind, of_kind in shapes.items():
        for shape in of_kind:
            title = f"{kind} {'x'.join(map(str, shape[1:]))}, batch {shape[0]}"
            found[title] = ratios(shape, kind, settings.rounds, shown(settings))
            print(title)
            for name, (median, low, high) in found[title].items():
                print(f"  {name}: {median} ({low} to {high})")
            if settings.smoke:
                continue
            for name in candidates(shape, kind):
                # Not a fork, in which the backend would have started.
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    held = pool.apply(memory, (shape, kind, name))
                found[title][f"{name}, MiB"] = held
                print(f"  {name}: {held} MiB")
    return timing.write(output_path(settings), settings, {"self_attention": found})


if __name__ == "__main__":
    start(main, Settings, __doc__)
