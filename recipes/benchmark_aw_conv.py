"""What does AWConv2D cost beside a plain convolution?

Question: the time of AWConv2D, its attention included, as a ratio to `keras.layers.Conv2D`, for
each implementation, at the four 3x3 stages of ResNet-50.
Data: random maps in float32, batch 16.
Command (with the machine to itself):

    python -m recipes.benchmark_aw_conv

Each round runs every candidate once, one after another in the same process; the ratio is taken
within a round, and the median over the rounds is reported, so that a machine whose speed drifts
does not change it. The results go to recipes/results/benchmark_aw_conv.json.
Cost: two minutes on 2 cores.
Measured: see that file; nothing was measured on a GPU yet.
"""

import dataclasses
import json
import math
import pathlib
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from keras_fmm import files, layers, training
from recipes.settings import setting, start

STAGES = {"56x56x64": (56, 64), "28x28x128": (28, 128), "14x14x256": (14, 256), "7x7x512": (7, 512)}
MODES = ("train", "train, batch unknown", "train, XLA", "inference")
IMPLEMENTATIONS = ("factored", "batched_matmul", "vectorized_map")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    batch_size: int = setting(16, "images a step", minimum=1)
    rounds: int = setting(11, "how often each candidate is timed", minimum=1)
    output: str = setting("recipes/results/benchmark_aw_conv.json", "where the results go")
    smoke: bool = setting(False, "one small stage, one round, to see that all of it runs")


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    stages = {"4x4x8": (4, 8)} if settings.smoke else STAGES
    rounds = 1 if settings.smoke else settings.rounds
    ratios = {}
    for mode in MODES:
        for stage, (side, channels) in stages.items():
            shape = (settings.batch_size, side, side, channels)
            for name, ratio in measure(mode, shape, rounds).items():
                ratios.setdefault(mode, {}).setdefault(name, {})[stage] = round(ratio, 3)
            print(f"measured {mode} at {stage}", flush=True)
    results = {
        "settings": {**dataclasses.asdict(settings), "rounds": rounds},
        "environment": training.environment(),
        "ratios": ratios,
    }
    with files.replacing(pathlib.Path(settings.output)) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    print_table(ratios, list(stages))
    return results


def candidates(mode):
    """Returns the layers to compare by name; the first is the plain convolution."""
    made = {"Conv2D": lambda channels: keras.layers.Conv2D(channels, 3, padding="same")}
    for name in IMPLEMENTATIONS:
        # On TensorFlow its gradient cannot be compiled.
        if (mode, name) != ("train, XLA", "vectorized_map"):
            made[name] = lambda channels, name=name: layers.AWConv2D(
                channels, 3, padding="same", implementation=name
            )
    return made


def measure(mode, shape, rounds):
    """Returns the median ratio of each implementation's time to the plain convolution's."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=shape).astype("float32"))
    steps = {name: step(make(shape[3]), mode, shape) for name, make in candidates(mode).items()}
    for run in steps.values():
        run(x)
        run(x)
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, run in steps.items():
            begin = time.perf_counter()
            run(x)
            seconds[name].append(time.perf_counter() - begin)
    plain = seconds.pop("Conv2D")
    return {
        name: statistics.median(a / b for a, b in zip(times, plain, strict=True))
        for name, times in seconds.items()
    }


def step(layer, mode, shape):
    """Returns a function of the inputs that runs a step of this mode and waits for its end."""
    layer.build(shape)
    weights = [weight.value for weight in layer.trainable_variables]
    cotangent = tf.constant(np.random.default_rng(1).normal(size=shape).astype("float32"))

    def train(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(call(x, training=True) * cotangent)
        return tape.gradient(loss, [x, *weights])

    def call(x, training=False):
        # Conv2D takes no `training`.
        return layer(x, training=training) if isinstance(layer, layers.AWConv2D) else layer(x)

    spec = tf.TensorSpec((None if "unknown" in mode else shape[0], *shape[1:]))
    traced = tf.function(
        train if "train" in mode else call, input_signature=[spec], jit_compile="XLA" in mode
    )

    def run(x):
        for tensor in keras.tree.flatten(traced(x)):
            tensor.numpy()

    return run


def print_table(ratios, stages):
    print(f"\n{'':<40}" + "".join(f"{stage:>12}" for stage in [*stages, "geo. mean"]))
    for mode, rows in ratios.items():
        for name, row in rows.items():
            numbers = [row[stage] for stage in stages]
            numbers.append(math.exp(statistics.fmean(map(math.log, numbers))))
            print(f"{mode + ', ' + name:<40}" + "".join(f"{number:>12.2f}" for number in numbers))


if __name__ == "__main__":
    start(main, Settings, __doc__)
