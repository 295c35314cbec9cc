"""What does attention add to the first training step, which traces, and may compile, the graph?

Question: CPU seconds of the first `train_on_batch` of MobileNet with each attention, as a ratio to
the plain one; the first step of each of a day's many small runs waits for it. Or, with
`--jit-compile`, those of XLA, which compiles the step and is most of it.
Data: random images, batch 16 of 96x96, a quarter of the filters.
Command (with the machine to itself):

    python -m recipes.benchmarks.first_step

A process has one first step: each is measured in a fresh one, where the model is built and compiled
before. Each round measures every candidate once, in random order. Given are the median over the
rounds of the ratio, the ratio of the shortest times, and how many operators the step's graph has,
which is the same at each run and to which the time is nearly proportional.
Fixed before the first run: at most 1.3 of the plain one's time with ECA and AW-convolutions, 1.6
with squeeze-and-excitation, 2.2 with CBAM; under XLA 1.5 of ResNet-50's with AW-convolutions.
Tried without gain: one traced function for all gates of a shape, of which CBAM has 10 in 26. The
step's own graph had 4504 operators instead of 7798, but each function and its gradient are traced
too, and TensorFlow writes them all out in the step before it optimises it. Kept apart (`_noinline`)
they made every later step slower.
Cost: five minutes on 2 cores.
Measured: recipes/results/benchmark_first_step.json and benchmark_first_step_xla.json, and
docs/results/first_step.md, which has their flags.
"""

import dataclasses
import multiprocessing
import statistics
import time

import keras
import numpy as np

from keras_fmm import models, progress
from recipes.benchmarks import timing
from recipes.lab.settings import output_path, setting, shown, start, verbosity

# What is added to the plain network.
CANDIDATES = {
    "plain": {},
    "eca": {"attention": "eca"},
    "squeeze_excite": {"attention": "squeeze_excite"},
    "cbam": {"attention": "cbam"},
    "aw": {"convolution": "aw"},
}
# How much of the plain network's time all may take, without XLA and with it.
GOALS = {False: {"eca": 1.3, "squeeze_excite": 1.6, "cbam": 2.2, "aw": 1.3}, True: {"aw": 1.5}}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    backbone: str = setting("mobilenet", "which", choices=("mobilenet", "resnet50"))
    alpha: float = setting(0.25, "the part of MobileNet's filters")
    candidates: str = setting(",".join(CANDIDATES), "with commas between, the plain one first")
    batch_size: int = setting(16, "images a step", minimum=1)
    image_size: int = setting(96, "the side of an image", minimum=32)
    optimizer: str = setting("sgd", "the optimizer, which has operators for each weight")
    jit_compile: bool = setting(False, "have XLA compile the step")
    rounds: int = setting(7, "how often each candidate is timed", minimum=1)
    output: str = setting("recipes/results/benchmark_first_step.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "two candidates, small images, one round")


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    if settings.smoke:
        smaller = {"batch_size": 2, "image_size": 32, "rounds": 1, "candidates": "plain,eca"}
        settings = dataclasses.replace(settings, **smaller)
    names = settings.candidates.split(",")
    if names[0] != "plain" or not set(names) <= set(CANDIDATES):
        raise ValueError(
            f"`candidates` must be of {', '.join(CANDIDATES)}, and begin with plain. "
            f"Received: {settings.candidates!r}"
        )
    seconds, operators = {name: [] for name in names}, {}
    display = progress.Progress(settings.rounds, shown(settings), unit_name="round")
    rng = np.random.default_rng(0)
    for _ in range(settings.rounds):
        for name in rng.permutation(names):
            taken, operators[str(name)] = in_fresh_process(str(name), settings)
            seconds[name].append(taken)
        display.add(1)
    found = table(seconds, operators, GOALS[settings.jit_compile])
    results = timing.write(output_path(settings), settings, {"first_step": found})
    print(markdown(found))
    return results


def in_fresh_process(name, settings):
    # Not a fork, in which TensorFlow would have started.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(first_step, (name, settings))


def first_step(name, settings):
    """Returns the CPU seconds of the first training step of this process, and its operators."""
    size = settings.image_size
    arguments = {"input_shape": (size, size, 3), "classes": 10, **CANDIDATES[name]}
    if settings.backbone == "mobilenet":
        model = models.MobileNet(alpha=settings.alpha, **arguments)
    else:
        model = models.ResNet50(stem="imagenet", **arguments)
    compiled = settings.jit_compile
    model.compile(settings.optimizer, "sparse_categorical_crossentropy", jit_compile=compiled)
    # Otherwise the first step is traced twice, the first time to make its variables.
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(settings.batch_size, size, size, 3)).astype("float32")
    labels = rng.integers(0, 10, settings.batch_size)
    begin = time.process_time()
    model.train_on_batch(images, labels)
    return time.process_time() - begin, operators_of_step(model, images, labels)


def operators_of_step(model, images, labels):
    """Returns how many operators the graph of a training step has, on TensorFlow, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    step = tf.function(model.train_step, autograph=False)
    return len(step.get_concrete_function((images, labels)).graph.get_operations())


def table(seconds, operators, goals):
    """Returns what is written of each candidate, a dict by its name."""
    medians = {"plain": 1.0, **timing.median_ratios(seconds, "plain")}
    fastest = {"plain": 1.0, **timing.fastest_ratios(seconds, "plain")}
    return {
        name: {
            "seconds": round(statistics.median(times), 2),
            "ratio": round(medians[name], 2),
            "ratio, fastest": round(fastest[name], 2),
            "goal": goals.get(name),
            "operators": operators[name],
        }
        for name, times in seconds.items()
    }


def markdown(found):
    """Returns the page's table: a row a candidate."""
    columns = list(found["plain"])
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in found.items():
        cells = ["" if row[column] is None else str(row[column]) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


INTRODUCTION = """# What attention adds to the first step

CPU seconds of the first training step, which traces and optimises its graph, of MobileNet with a
quarter of its filters, as a ratio to the plain network. Batch 16 of 96x96, float32, SGD; each step
in a fresh process. Written by `make report` from `recipes/results/`.
"""

COLUMNS = """
- "seconds" and "ratio" are medians over the rounds.
- "ratio, fastest" compares the shortest times, which what else ran on a machine disturbs least.
- "goal" is what was fixed before as the most that the ratio may be.
- "operators" are those of the step's graph.
"""

COMPILED = """
## Compiled by XLA

The same of ResNet-50, whose step XLA compiles, as `jit_compile=True` says.
"""


def page(folder):
    """Returns docs/results/first_step.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """

    def part(name, date, introduction, remarks=""):
        def table(results):
            return markdown(results["first_step"])

        path = folder / f"{name}.json"
        return timing.page(path, "first_step", Settings, date, introduction, table, remarks)

    compiled = part("benchmark_first_step_xla", "2026-11-29", COMPILED) or ""
    return part("benchmark_first_step", "2026-11-26", INTRODUCTION, COLUMNS + compiled)


if __name__ == "__main__":
    start(main, Settings, __doc__)
