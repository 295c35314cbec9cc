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
`KERAS_BACKEND=jax` measures what XLA compiles there, and `torch` what PyTorch does, beside its own
fused attention, which takes the positions as channels of queries and keys; give each an `--output`
of its own, such as `recipes/results/benchmark_self_attention_jax.json`.
Goals, of the ratio at training: augmented 5.6, 1.5 and 0.75 on the three maps (JAX: 5.5 on the
first), local 9, 4 and 2; at inference 5.0 (JAX: 6) of the first; of the memory 200 MiB (JAX: 100)
and 80 MiB on maps of 28x28; positions at most 1.2 of attention without them. They come from
prototypes that ran on one thread.
What is in the results already, of the same commit, machine, versions and rounds, is not measured
again: a run that was stopped goes on.
Cost: half an hour on 2 cores.
Measured: recipes/results/benchmark_self_attention.json and docs/results/self_attention.md.
"""

import dataclasses
import functools
import multiprocessing
import pathlib
import time

import keras
import numpy as np
from keras import ops

from keras_fmm import layers, training
from recipes.benchmarks import aw_conv, timing
from recipes.lab.settings import WRITTEN, output_path, setting, shown, start, verbosity

AUGMENTED = ((16, 28, 28, 128), (16, 14, 14, 256), (16, 7, 7, 512))
LOCAL = ((2, 56, 56, 64), (4, 28, 28, 128), (8, 14, 14, 256))

# Those of AWConv2D's benchmark, but of a batch that is unknown.
MODES = tuple(mode for mode in aw_conv.MODES or () if "unknown" not in mode)
# What another backend measured stands on the page too.
MODES_OF_PAGE = ("train", "train, XLA", "inference", "inference, XLA", "LiteRT, batch 1")
TITLES = {"": "", "_jax": "## On JAX\n", "_torch": "## On PyTorch\n"}


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
        make, size = augmented, 3
        if keras.backend.backend() == "torch":
            ways["PyTorch's own"] = {"fused": True}
    else:
        ways = {name: {"implementation": name} for name in ("auto", "shifts", "blocks")}
        make, size = layers.LocalSelfAttention2D, 7
    for name, arguments in ways.items():
        found[name] = lambda way=arguments: make(filters, size, use_bias=False, **way)
    return found


def augmented(*arguments, fused=False, **more):
    """Returns an augmented convolution, whose attention is PyTorch's own where it is `fused`."""
    layer = layers.AttentionAugmentedConv2D(*arguments, **more)
    if fused:
        layer.attend = functools.partial(attend_fused, layer)
    return layer


def attend_fused(layer, x, depths):
    """Returns what `attend` does, by `scaled_dot_product_attention` of queries with positions."""
    import torch

    _, height, width, _ = x.shape
    heads, places = layer.num_heads, height * width
    query, key, value = (
        ops.transpose(ops.reshape(part, (-1, places, heads, part.shape[3] // heads)), (0, 2, 1, 3))
        for part in ops.split(x, [depths[0], depths[0] + depths[1]], axis=3)
    )
    rows, columns = (
        ops.take(table, np.arange(side) - np.arange(side)[:, None] + side - 1, axis=0)
        for table, side in ((layer.row_embeddings, height), (layer.column_embeddings, width))
    )
    in_map = ops.reshape(query, (-1, heads, height, width, query.shape[3]))
    of_places = [
        ops.reshape(part, (-1, heads, places, part.shape[4]))
        for part in (
            ops.einsum("bnijd,iad->bnija", in_map, rows),
            ops.einsum("bnijd,jad->bnija", in_map, columns),
        )
    ]
    place = ops.arange(places)
    where = [ops.one_hot(place // width, height), ops.one_hot(place % width, width)]
    where = ops.broadcast_to(ops.concatenate(where, 1), (*key.shape[:3], height + width))
    found = torch.nn.functional.scaled_dot_product_attention(
        ops.concatenate([query, *of_places], axis=3),
        ops.concatenate([key, where], axis=3),
        value,
        scale=query.shape[3] ** -0.5,
    )
    return ops.reshape(ops.transpose(found, (0, 2, 1, 3)), (-1, height, width, depths[2]))


def ratios(shape, kind, mode, rounds, verbose):
    """Returns the ratios of each candidate in a mode: median and interval."""
    run = {
        name: aw_conv.lite_step(make(), shape)
        if "LiteRT" in mode
        else aw_conv.step(make(), mode, shape)
        for name, make in candidates(shape, kind).items()
    }
    times = timing.seconds(run, rounds, verbose, clock=time.process_time)
    found = {}
    for name, of_name in times.items():
        pairs = zip(of_name, times["Conv2D"], strict=True)
        found[f"{name}, {mode}"] = timing.interval([a / b for a, b in pairs])
    if kind == "augmented":
        pairs = zip(times["auto"], times["without positions"], strict=True)
        found[f"auto to without positions, {mode}"] = timing.interval([a / b for a, b in pairs])
    return found


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
    """Measures what is missing, prints and saves; returns the results, a dict."""
    shapes = {"augmented": AUGMENTED, "local": LOCAL}
    if settings.smoke:
        settings = dataclasses.replace(settings, rounds=1)
        shapes = dict.fromkeys(shapes, ((2, 6, 5, 64),))
    path = output_path(settings)
    # Before the first write, which git would see as a change.
    environment = training.environment(ignored=WRITTEN)
    found = timing.measured(path, settings, environment).get("self_attention", {})
    for kind, of_kind in shapes.items():
        for shape in of_kind:
            rows = found.setdefault(f"{kind} {'x'.join(map(str, shape[1:]))}, batch {shape[0]}", {})
            parts = [
                (f"Conv2D, {mode}", ratios, (shape, kind, mode, settings.rounds, shown(settings)))
                for mode in MODES
            ]
            if not settings.smoke:
                parts += [
                    (f"{name}, MiB", memory_of_process, (shape, kind, name))
                    for name in candidates(shape, kind)
                ]
            for name, measure, arguments in parts:
                if name in rows:
                    continue
                rows.update(measure(*arguments))
                results = {"environment": environment, "self_attention": found}
                results = timing.write(path, settings, results)
    results = timing.read(path.parent, path.stem)
    print(table(results))
    return results


def memory_of_process(shape, kind, name):
    """Returns what `memory` does, by its name, of a new process."""
    # Not a fork, in which the backend would have started.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return {f"{name}, MiB": pool.apply(memory, (shape, kind, name))}


def table(results):
    """Returns a table in Markdown for each map."""
    lines = []
    for title, rows in results["self_attention"].items():
        names = dict.fromkeys(name.partition(", ")[0] for name in rows)
        modes = dict.fromkeys(mode for mode in (*MODES_OF_PAGE, "MiB") if f"Conv2D, {mode}" in rows)
        lines += [f"**{title}**", "", f"| | {' | '.join(modes)} |", "|---" * (1 + len(modes)) + "|"]
        for name in names:
            cells = [_cell(rows.get(f"{name}, {mode}")) for mode in modes]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(value):
    if isinstance(value, list):
        return "{} ({} to {})".format(*value)
    return "" if value is None else str(value)


def page(results):
    """Returns the page of a folder of results, a str, or None where nothing was measured."""
    parts = [
        timing.page(
            results / f"benchmark_self_attention{ending}.json",
            "self_attention",
            Settings,
            None,
            title,
            table,
        )
        for ending, title in TITLES.items()
    ]
    parts = [part for part in parts if part]
    return "\n".join([INTRODUCTION, *parts]) if parts else None


INTRODUCTION = """# What self-attention costs beside a convolution

CPU time as a ratio to a plain 3x3 convolution of as many filters on the same backend: the median,
and the interval that has it with 95 % confidence; and the MiB that two training steps hold above
the start of a process.

The goals were, in training, 5.6, 1.5 and 0.75 of the convolution for the augmented one (on JAX 5.5
on 28x28), 9, 4 and 2 for the local one; in inference on 28x28 5.0 (JAX: 6); 1.2 of attention
without positions; and 200 (JAX: 100) and 80 MiB on 28x28. They come from prototypes on one thread
of an AMD EPYC; here every core works. "auto" is one of the forms below it: what differs is noise.
"""


if __name__ == "__main__":
    start(main, Settings, __doc__)
