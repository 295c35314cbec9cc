"""What do attention layers cost in a whole network?

Question: the CPU time of a training step (SGD with momentum) and of inference of ResNet-50 with
each attention, as a ratio to this package's plain ResNet-50 in the same process; the same for
keras.applications' ResNet50, whose convolutions have biases; and the memory that a training step
needs at its peak, in a process of its own, without what the process has before. Or of another
backbone, such as the narrow Wide ResNet of 22 layers, whose convolutions are those of a ResNet-20
for images of 32x32.
Data: random images, batch 8 of 224x224.
Command (with the machine to itself):

    python -m recipes.benchmarks.models

Rounds and random order as in aw_conv. Given are the median over the rounds of the ratio, and the
two ratios between which it lies with 95 % confidence.
Cost: five minutes on 2 cores.
Measured: recipes/results/benchmark_models.json and benchmark_models_small.json, on another CPU
benchmark_models_intel.json, and docs/results/models.md, which has their flags;
`recipes.benchmarks.accelerator` measures GPUs.
"""

import dataclasses
import multiprocessing
import pathlib
import re
import time

import keras
import numpy as np

from keras_fmm import models
from recipes.benchmarks import timing
from recipes.lab.settings import output_path, setting, shown, start, verbosity

THEIRS = "keras.applications"
ATTENTIONS = ("se", "eca", "cbam", "aw", "aw_se")
APPLICATIONS = {
    "resnet50": keras.applications.ResNet50,
    "mobilenet": keras.applications.MobileNet,
}
# Of these keras.applications has none: the preset and what makes it smaller.
SMALL = {"wide_resnet22_1": ("wide_resnet28_10", {"depth": 22, "width": 1})}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    backbone: str = setting("resnet50", "which", choices=(*APPLICATIONS, *SMALL))
    attentions: str = setting(",".join(ATTENTIONS), "prefixes of presets, with commas between")
    batch_size: int = setting(8, "images a step", minimum=1)
    image_size: int = setting(224, "the side of an image", minimum=32)
    rounds: int = setting(15, "how often each candidate is timed", minimum=1)
    memory: bool = setting(True, "measure the memory too")
    output: str = setting("recipes/results/benchmark_models.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "one attention, small images, one round, no memory")


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    if settings.smoke:
        settings = dataclasses.replace(
            settings, attentions="se", batch_size=2, image_size=32, rounds=1, memory=False
        )
    backbone = settings.backbone
    names = [backbone, *([THEIRS] if backbone in APPLICATIONS else [])]
    names += [f"{attention}_{backbone}" for attention in settings.attentions.split(",")]
    for name in names:
        if name != THEIRS and preset(name, backbone)[0] not in models.PRESETS:
            raise ValueError(
                "`attentions` must be prefixes of presets, such as se,aw_cbam. "
                f"Received: {settings.attentions}, and there is no preset {name}."
            )
    networks = {name: build(name, settings) for name in names}
    found = {}
    for mode in ("train", "inference"):
        each = steps(networks, mode, settings)
        seconds = timing.seconds(each, settings.rounds, shown(settings), time.process_time)
        found[mode] = timing.ratios(seconds, backbone)
    # What was measured is kept, should the memory fail.
    timing.write(output_path(settings), settings, {"ratios": found})
    if settings.memory:
        needed = {name: memory(name, settings) for name in names}
        plain = needed.pop(backbone)
        found["memory"] = {name: round(amount / plain, 3) for name, amount in needed.items()}
    results = timing.write(output_path(settings), settings, {"ratios": found})
    print(markdown(found))
    return results


def preset(name, backbone):
    """Returns the name of a preset and the arguments that make it the network of a name."""
    known, smaller = SMALL.get(backbone, (backbone, {}))
    return name.replace(backbone, known), smaller


def build(name, settings):
    """Returns the compiled model of this name."""
    arguments = {"input_shape": (settings.image_size, settings.image_size, 3)}
    if name == THEIRS:
        model = APPLICATIONS[settings.backbone](weights=None, **arguments)
    else:
        known, smaller = preset(name, settings.backbone)
        stem = {"stem": "imagenet"} if known.endswith("resnet50") else {}
        model = models.from_preset(known, classes=1000, **arguments, **smaller, **stem)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        "sparse_categorical_crossentropy",
        # A step or three are not worth a graph.
        run_eagerly=settings.smoke,
    )
    # Otherwise the first step is traced twice, the first time to make its variables.
    model.optimizer.build(model.trainable_variables)
    return model


def batch(settings):
    rng = np.random.default_rng(0)
    shape = (settings.batch_size, settings.image_size, settings.image_size, 3)
    return rng.normal(size=shape).astype("float32"), rng.integers(0, 1000, settings.batch_size)


def steps(networks, mode, settings):
    """Returns functions that run one step of this mode to its end, by the model's name."""
    # On the device, where there is one: copying images there is no model's work.
    images, labels = map(keras.ops.convert_to_tensor, batch(settings))

    def step(model):
        if mode == "train":
            return lambda: model.train_on_batch(images, labels)
        return lambda: model.predict_on_batch(images)

    return {name: step(model) for name, model in networks.items()}


def memory(name, settings):
    """Returns how much memory more a fresh process has at its peak for three training steps."""
    # Not a fork, which would begin with this process's memory.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(rise_of_peak, (name, settings))


def rise_of_peak(name, settings):
    """Returns by how much three training steps raise this process's peak memory, in kilobytes."""
    model, (images, labels) = build(name, settings), batch(settings)
    before = peak()
    for _ in range(3):
        model.train_on_batch(images, labels)
    return peak() - before


def peak():
    """Returns the peak of this process's memory in kilobytes; on Linux only.

    Not `resource.getrusage`, which begins with the peak of the process that started this one.
    """
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        raise RuntimeError("The memory is measured on Linux only. Give --no-memory.")
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text()).group(1))


def markdown(ratios):
    """Returns the page's table: a row a model, a column a mode."""
    names = list(dict.fromkeys(name for row in ratios.values() for name in row))
    lines = ["| | " + " | ".join(ratios) + " |", "|---|" + "---|" * len(ratios)]
    for name in names:
        cells = [timing.cell(row[name]) for row in ratios.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


INTRODUCTION = """# What attention costs in a whole network

CPU time of training steps and inference of ResNet-50 with each attention, as a ratio to `ResNet50`
of this package. Batch 8 of 224x224, float32, SGD with momentum. Written by `make report` from
`recipes/results/`.
"""

COLUMNS = """
- "train" and "inference" are medians over the rounds, and between what they lie with 95 %
  confidence.
- "memory" is the peak of a training step beyond what the process has before.
- "keras.applications" is its ResNet50, whose convolutions have biases.

[On a GPU](accelerator.md) the ratios are others.
"""

# Of the table on the other CPU.
BEFORE = """, by the clock on the wall, where "fastest" compares the shortest times, which what else
ran on a shared machine disturbs least"""

SMALL_NETWORK = """
## A small network

A Wide ResNet of 22 layers and width 1, for images of 32x32 in batches of 128. Its 3x3 convolutions
have 16, 32 and 64 filters, as those of a ResNet-20.
"""


def page(folder):
    """Returns docs/results/models.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """
    path = folder / "benchmark_models.json"
    of_this = ("models", Settings)

    def table(results):
        return markdown(results["ratios"])

    remarks = timing.on_another_cpu(folder, path.stem, *of_this, table, "2026-11-28", BEFORE)
    remarks += COLUMNS
    small = folder / "benchmark_models_small.json"
    remarks += timing.page(small, *of_this, "2026-11-29", SMALL_NETWORK, table) or ""
    return timing.page(path, *of_this, "2026-11-29", INTRODUCTION, table, remarks)


if __name__ == "__main__":
    start(main, Settings, __doc__)
