"""What does a product cost in the place of a residual block's sum?

Question: CPU time of a training step of blocks that merge by each form of
`MultiplicativeResidual`, as a ratio to the same blocks with `keras.layers.Add`.
Data: random maps in float32.
Command (with the machine to itself):

    python -m recipes.benchmarks.residuals

Three of WideResNet's blocks, each of two 3x3 convolutions with batch norm and ReLU before them, one
behind the other, on maps of the three stages of WideResNet of width 4 on CIFAR, and of the first
of width 1. Each round runs every candidate once, in random order in the same process; the ratio is
taken within a round. Given are the median over the rounds and the two values between which it lies
with 95 % confidence, by the order of the ratios. A step is `train_on_batch` with SGD and a squared
error.
Goal: at most 1.05, met where the interval reaches it.
Cost: ten minutes on 2 cores.
Measured: recipes/results/benchmark_residuals.json and docs/results/residuals.md.
"""

import dataclasses
import functools
import time

import keras
import numpy as np

from keras_fmm import layers
from recipes.benchmarks import timing
from recipes.lab.names import FORMS, FORMS_OF_DEPTH
from recipes.lab.settings import output_path, setting, shown, start, verbosity

SHAPES = ((16, 32, 32, 64), (16, 16, 16, 128), (16, 8, 8, 256), (32, 32, 32, 16))
BLOCKS = 3
GOAL = 1.05


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    rounds: int = setting(15, "how often each candidate is timed", minimum=1)
    output: str = setting("recipes/results/benchmark_residuals.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "one small map, one round")


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    shapes = SHAPES
    if settings.smoke:
        settings, shapes = dataclasses.replace(settings, rounds=1), ((2, 6, 5, 4),)
    found = {}
    for shape in shapes:
        run = {form: step(form, shape) for form in ("add", *FORMS)}
        times = timing.seconds(run, settings.rounds, shown(settings), clock=time.process_time)
        title = f"{'x'.join(map(str, shape[1:]))}, batch {shape[0]}"
        found[title] = {
            form: timing.interval(
                [a / b for a, b in zip(times[form], times["add"], strict=True)], 3
            )
            for form in FORMS
        }
        print(f"{title}: {found[title]}", flush=True)
    results = timing.write(output_path(settings), settings, {"residuals": found})
    print(table(results))
    return results


def step(form, shape):
    """Returns a function that runs a training step of blocks that merge by a form."""
    residual = form
    if form != "add":
        depth = BLOCKS if form in FORMS_OF_DEPTH else None
        residual = functools.partial(layers.MultiplicativeResidual, form, depth)

    def convolved(x):
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        return keras.layers.Conv2D(shape[-1], 3, padding="same", use_bias=False)(x)

    x = inputs = keras.Input(shape[1:])
    for _ in range(BLOCKS):
        x = layers.get_residual(residual)([convolved(convolved(x)), x])
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    images = np.random.default_rng(0).normal(size=shape).astype("float32")
    return lambda: model.train_on_batch(images, images)


def table(results):
    """Returns the ratios as a table in Markdown."""
    found = results["residuals"]
    lines = [f"| map | {' | '.join(FORMS)} |", "|---" * (1 + len(FORMS)) + "|"]
    for title, ratios in found.items():
        cells = [f"{a:.3f} ({low:.3f} to {high:.3f})" for a, low, high in map(ratios.get, FORMS)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(results):
    """Returns the page of a folder of results, a str, or None where nothing was measured."""
    return timing.page(
        results / "benchmark_residuals.json",
        "residuals",
        Settings,
        None,
        "# What a product costs in the place of a sum\n\n"
        "CPU time of a training step of three blocks, each of two 3x3 convolutions, as a ratio to "
        "the same\nblocks with sums: the median, and the interval that has it with 95 % "
        f"confidence. The goal is {GOAL}.\n",
        table,
        "\nThe narrower the block, the more its products weigh beside its convolutions.\n",
    )


if __name__ == "__main__":
    start(main, Settings, __doc__)
