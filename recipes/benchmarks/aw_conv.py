"""What does AWConv2D cost beside a plain convolution?

Question: the time of AWConv2D, its attention included, as a ratio to `keras.layers.Conv2D`, at the
four 3x3 stages of ResNet-50: for each implementation, for what else one could write, and for the
settings other than the paper's.
Data: random maps in float32, batch 16; LiteRT takes one image and one thread.
Command (with the machine to itself):

    python -m recipes.benchmarks.aw_conv

Each round runs every candidate once, in random order in the same process; the ratio of CPU times,
which add up all cores and leave out what else runs, is taken within a round. Given are the median
over the rounds, so that a machine whose speed drifts does not change it, and the two ratios between
which it lies with 95 % confidence. A training step gives the loss, its gradient to the inputs and
every weight, and the moving statistics.
The ways outside the package are measured in rounds of their own, fewer, since they are slow.
`KERAS_BACKEND=jax` measures what XLA compiles there.
Cost: six minutes on 2 cores.
Measured: recipes/results/benchmark_aw_conv.json and benchmark_aw_conv_narrow.json, with pictures,
the same on another CPU as `_intel`, and docs/results/aw_conv.md, which has their flags;
`recipes.benchmarks.accelerator` measures GPUs.
"""

import dataclasses
import inspect
import math
import re
import statistics
import tempfile
import time

import keras
import numpy as np
from keras import ops

from keras_fmm import export, layers, plots
from recipes.benchmarks import timing
from recipes.lab import figures
from recipes.lab.settings import output_path, setting, shown, start, verbosity

BACKEND = keras.backend.backend()
MODES = {
    "tensorflow": ("train", "train, batch unknown", "train, XLA", "inference", "LiteRT, batch 1"),
    "jax": ("train, XLA", "inference, XLA"),
    "torch": ("train", "inference"),
}.get(BACKEND)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    batch_size: int = setting(16, "images a step", minimum=1)
    rounds: int = setting(31, "how often each candidate is timed", minimum=1)
    outside_rounds: int = setting(5, "the same for the ways outside the package", minimum=0)
    stages: str = setting("56x56x64,28x28x128,14x14x256,7x7x512", "maps, square")
    dtype: str = setting("float32", "of layers and maps", ("float32", "bfloat16", "float16"))
    clock: str = setting("cpu", '"cpu" adds up all cores and leaves other work out', tuple(CLOCKS))
    output: str = setting("recipes/results/benchmark_aw_conv.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "one small stage, one round, to see that all of it runs")


def implementations():
    """Returns the package's ways, layers of the paper's setting, by name."""
    return {
        name: lambda channels, name=name, **common: layers.AWConv2D(
            channels, 3, padding="same", implementation=name, **common
        )
        for name in ("auto", "factored", "loop", "vectorized_map")
    }


def variants():
    """Returns layers of other settings by name, each with the implementation "auto"."""
    arguments = {
        "r_C1 = C1 / 4": lambda channels: {"input_reduction": channels // 4},
        "r_C2 = 4": lambda channels: {"output_reduction": 4},
        "r_hw = 3": lambda channels: {"kernel_reduction": 3},
        "use_residual=False": lambda channels: {"use_residual": False},
    }
    return {
        name: lambda channels, made=made, **common: layers.AWConv2D(
            channels, 3, padding="same", **made(channels), **common
        )
        for name, made in arguments.items()
    }


class AttentionAlone(layers.AWConv2D):
    """What of AWConv2D computes the attention, without the convolution."""

    def call(self, inputs, training=None):
        return self.compute_attention_map(inputs, training)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.kernel_size, 1, self.filters)


class AttentionGiven(layers.AWConv2D):
    """What of AWConv2D convolves, with gains that are there, others for each sample."""

    def build(self, input_shape):
        shape = (1, *self.kernel_size, 1, self.filters)
        self.given = self.add_weight(shape=shape, initializer="zeros")
        super().build(input_shape)

    def compute_attention_map(self, inputs, training):
        # Of as many channels as filters; without a gradient to the inputs, which costs a map.
        return self.given + ops.stop_gradient(inputs[:, :1, :1, None])


def parts():
    """Returns what "auto" does in two layers, by name: neither can be left out."""
    return {
        name: lambda channels, kind=kind, **common: kind(channels, 3, padding="same", **common)
        for name, kind in (("attention alone", AttentionAlone), ("attention given", AttentionGiven))
    }


class Outside(layers.AWConv2D):
    """AWConv2D whose convolution is a function of the inputs and of each sample's kernel."""

    def __init__(self, *args, convolve, **kwargs):
        super().__init__(*args, **kwargs)
        self.convolve = convolve

    def _convolve(self, inputs, gain):
        return self.convolve(inputs, self.kernel * gain) + self.bias


def map_fn(inputs, kernels):
    """Convolves sample by sample, `tf.map_fn` or `jax.lax.map`."""
    return ops.map(
        lambda pair: ops.conv(pair[0][None], pair[1], padding="same")[0], (inputs, kernels)
    )


def grouped_conv(inputs, kernels):
    """Lays the samples side by side into the channels of one image, a group each."""
    batch, height, width, channels = inputs.shape
    filters = kernels.shape[4]
    image = ops.reshape(ops.transpose(inputs, (1, 2, 0, 3)), (1, height, width, batch * channels))
    kernels = ops.reshape(ops.transpose(kernels, (1, 2, 3, 0, 4)), (3, 3, channels, -1))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # Keras would have XLA compile it, which is slower.
        outputs = tf.nn.conv2d(image, kernels, 1, "SAME")
    else:
        outputs = ops.conv(image, kernels, padding="same")
    outputs = ops.reshape(outputs, (height, width, batch, filters))
    return ops.transpose(outputs, (2, 0, 1, 3))


def patches(inputs, kernels):
    """Multiplies the patches of each sample with its kernel, one batched product."""
    _, height, width, channels = inputs.shape
    # Keras' extract_patches is a convolution, which is slower than slices.
    padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    found = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    depth = 9 * channels
    found = ops.reshape(ops.concatenate(found, axis=-1), (-1, height * width, depth))
    outputs = ops.matmul(found, ops.reshape(kernels, (-1, depth, kernels.shape[4])))
    return ops.reshape(outputs, (-1, height, width, kernels.shape[4]))


def outside(mode):
    """Returns what else one could write, layers by name, as far as the mode can run it."""
    functions = {"map_fn": map_fn, "grouped_conv": grouped_conv, "patches": patches}
    if "unknown" in mode:
        # The samples become channels, whose number must be known.
        del functions["grouped_conv"]
    if "LiteRT" in mode:
        # One sample is one group, a convolution whose filter is no constant, as map_fn's.
        del functions["grouped_conv"]
    return {
        name: lambda channels, function=function, **common: Outside(
            channels, 3, padding="same", convolve=function, **common
        )
        for name, function in functions.items()
    }


def candidates(mode):
    """Returns the package's layers and those outside that this mode can run, two dicts by name."""
    ours, others = implementations() | variants() | parts(), outside(mode)
    if (mode, BACKEND) == ("train, XLA", "tensorflow"):
        # Their gradients cannot be compiled there.
        del ours["vectorized_map"], others["map_fn"]
    return ours, others


def main(settings):
    """Measures, prints, draws and saves; returns the results, a dict."""
    if settings.smoke:
        # Few images: some ways are written out, and compiled, image by image.
        settings = dataclasses.replace(settings, batch_size=2, rounds=1, stages="4x4x8")
    stages = settings.stages.split(",")
    rounds = settings.rounds
    ratios = {}
    for mode in MODES:
        ours, others = candidates(mode)
        if settings.smoke and mode != "inference":
            # All of them are called; of those that are alike one is trained and compiled.
            ours = {"auto": ours["auto"]}
        for stage in stages:
            shape = (settings.batch_size, *sizes(stage))
            found = {}
            groups = ((ours, rounds), (others, min(rounds, settings.outside_rounds)))
            if settings.smoke:
                # The plain convolution once, not with each.
                groups = ((ours | others, 1),)
            for makers, times in groups:
                if times:
                    clock = CLOCKS[settings.clock]
                    how = (settings.dtype, times, shown(settings), clock)
                    found |= measure(makers, mode, shape, *how)
            for name, ratio in found.items():
                ratios.setdefault(mode, {}).setdefault(name, {})[stage] = ratio
            if settings.verbose != "0":
                print(f"measured {mode} at {stage}", flush=True)
    results = timing.write(output_path(settings), settings, {"ratios": ratios})
    drawn = {
        mode: {name: medians(row) for name, row in rows.items() if name not in variants() | parts()}
        for mode, rows in ratios.items()
    }
    plots.save_figure(figures.cost_by_stage(drawn), output_path(settings).with_suffix(".png"))
    print_table(ratios, stages)
    return results


def sizes(stage):
    """Returns height, width and channels of a stage such as "56x56x64"."""
    found = tuple(map(int, re.findall("[0-9]+", stage)))
    if not re.fullmatch("[0-9]+x[0-9]+x[0-9]+", stage) or found[0] != found[1] or 0 in found:
        raise ValueError(
            "`stages` must be square maps HEIGHTxWIDTHxCHANNELS with commas between. "
            f"Received: {stage!r}"
        )
    return found


def measure(makers, mode, shape, dtype, rounds, verbose="auto", clock=time.process_time):
    """Returns `timing.ratios` of each layer's time to the plain convolution's, by name."""
    makers = {
        "Conv2D": lambda channels, **common: keras.layers.Conv2D(
            channels, 3, padding="same", **common
        ),
        **makers,
    }
    steps = {}
    for name, make in makers.items():
        layer = make(shape[3], dtype=dtype)
        steps[name] = lite_step(layer, shape) if "LiteRT" in mode else step(layer, mode, shape)
    return timing.ratios(timing.seconds(steps, rounds, verbose, clock), "Conv2D")


def step(layer, mode, shape, calls=1):
    """Returns a function without arguments that runs a step of this mode to its end.

    Args:
        layer: `keras.layers.Layer`, of one input.
        mode: str of `MODES`, but of LiteRT's; PyTorch compiles nothing.
        shape: tuple of int, the inputs', with the batch.
        calls: int, how often it runs before it waits for an accelerator; the more, the less is seen
            of what it takes to start a step there.
    """
    layer.build(shape)
    rng = np.random.default_rng(0)
    inputs, cotangent = (
        ops.convert_to_tensor(rng.normal(size=of), dtype=layer.compute_dtype)
        for of in (shape, layer.compute_output_shape(shape))
    )
    others = [weight.value for weight in layer.non_trainable_variables]
    is_training = "train" in mode
    # Conv2D takes no `training`.
    takes_training = "training" in inspect.signature(layer.call).parameters
    arguments = {"training": is_training} if takes_training else {}

    def call(inputs, weights):
        return layer.stateless_call(weights, others, inputs, **arguments)

    def loss(inputs, weights):
        outputs, updated = call(inputs, weights)
        return ops.sum(ops.cast(outputs * cotangent, "float32")), updated

    weights = [ops.copy(weight.value) for weight in layer.trainable_variables]
    if BACKEND == "jax":
        import jax

        train = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        run = jax.jit(train if is_training else call)
        return repeated(lambda: run(inputs, weights), calls)
    if BACKEND == "torch":
        run = torch_step(loss if is_training else call, inputs, weights, is_training)
        return repeated(run, calls)

    import tensorflow as tf

    def train(inputs, weights):
        with tf.GradientTape() as tape:
            tape.watch([inputs, weights])
            value, updated = loss(inputs, weights)
        return value, updated, tape.gradient(value, [inputs, weights])

    batch = None if "unknown" in mode else shape[0]
    run = tf.function(train if is_training else call, jit_compile=True if "XLA" in mode else None)
    run = run.get_concrete_function(
        tf.TensorSpec((batch, *shape[1:]), inputs.dtype),
        [tf.TensorSpec(weight.shape, weight.dtype) for weight in weights],
    )
    return repeated(lambda: run(inputs, weights), calls)


def repeated(run, calls):
    """Returns a function that runs another so often and returns when all of it is done."""

    def run_and_wait():
        for _ in range(calls):
            found = run()
        wait(found)

    return run_and_wait


def wait(found):
    """Returns when the accelerator has done what it was given, of which `found` is the last.

    On a CPU, calls return when they are done, but JAX's.
    """
    if BACKEND == "jax":
        import jax

        jax.block_until_ready(found)
    elif BACKEND == "torch":
        import torch

        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            tf.test.experimental.sync_devices()


def torch_step(function, inputs, weights, is_training):
    """Returns a function that runs a function of inputs and weights and, to train, its gradient."""
    import torch

    leaves = [x.detach().requires_grad_(is_training) for x in (inputs, *weights)]

    def run():
        with torch.set_grad_enabled(is_training):
            found = function(leaves[0], leaves[1:])
        if not is_training:
            return found
        # A part of a layer does not take all weights.
        return torch.autograd.grad(found[0], leaves, allow_unused=True)

    return run


def lite_step(layer, shape):
    """Returns a function that runs the layer's TFLite file on one image ten times, one thread."""
    inputs = keras.Input(shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        path = export.to_tflite(keras.Model(inputs, layer(inputs)), folder + "/layer.tflite")
        once = timing.lite_step(path, lambda rng, shape: rng.normal(size=shape))

    def run():
        # Several, so that most find the caches as this file leaves them.
        for _ in range(10):
            once()

    return run


def print_table(ratios, stages):
    print(f"\n{'':<44}" + "".join(f"{stage:>12}" for stage in [*stages, "geo. mean"]))
    for mode, rows in ratios.items():
        for name, row in rows.items():
            row = medians(row)
            numbers = [*(row[stage] for stage in stages), geometric_mean(row)]
            print(f"{mode + ', ' + name:<44}" + "".join(f"{number:>12.2f}" for number in numbers))


def medians(row):
    return {stage: timing.median(ratio) for stage, ratio in row.items()}


def geometric_mean(row):
    return math.exp(statistics.fmean(map(math.log, row.values())))


def markdown(ratios):
    """Returns the page's table: the geometric mean over the stages and, in brackets, the worst."""
    names = list(dict.fromkeys(name for rows in ratios.values() for name in rows))
    lines = ["| | " + " | ".join(ratios) + " |", "|---|" + "---|" * len(ratios)]
    for name in names:
        rows = [medians(mode.get(name, {})) for mode in ratios.values()]
        cells = [
            f"{geometric_mean(row):.2f} ({max(row.values()):.2f})" if row else "" for row in rows
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


INTRODUCTION = """# What AWConv2D costs

The CPU time of `AWConv2D`, its attention included, as a ratio to `keras.layers.Conv2D`. The tables
are written by `make report` from `recipes/results/`. LiteRT, which runs TFLite files, takes one
image and one thread.

## At the stages of ResNet-50

The geometric mean over the four 3x3 stages and, in brackets, the worst; then each stage of "auto",
with the two numbers between which it lies with 95 % confidence. Batch 16, float32; medians of 31
rounds, of 5 for the last three rows.
"""

ROWS = """
- "auto" is what you get.
- "factored", "loop" and "vectorized_map" are its forms by name (`implementation=`). The last is the
  formula as it stands, with a kernel for each sample.
- The next four are other settings of the layer, with "auto". r_C1, r_C2 and r_hw are the paper's
  names for `input_reduction`, `output_reduction` and `kernel_reduction`: how many input channels,
  filters, and cells of the kernel's sides share one value of the attention. C1 is all input
  channels, the default of r_C1.
- "attention alone" and "attention given" are the two parts of "auto": what the attention takes
  without the convolution, and what the convolution takes of gains that are there.
- The last three are what else one could write, outside the package.

Both CPUs have AVX-512. "auto" chooses by sizes, the same on both.
[On a GPU](accelerator.md) the ratios are others.
"""

# Of the first table on the other CPU.
WALL = ", by the clock on the wall"

NARROW = """
## Narrow layers on large maps pay more

A plain convolution of few channels has little to do for each number, and the attention meets every
one. This is "auto" at the stages of a ResNet for 32x32 images:
"""


def page(folder):
    """Returns docs/results/aw_conv.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """
    results = timing.read(folder, "benchmark_aw_conv")
    if results is None:
        return None
    of_this = ("aw_conv", Settings)

    def tables(results):
        return f"{markdown(results['ratios'])}\n\n{by_stage(results)}"

    def by_stage(results):
        return stage_table(results["ratios"])

    name = "benchmark_aw_conv"
    parts = [
        INTRODUCTION,
        timing.source(*of_this, results, "2026-11-29"),
        "",
        tables(results),
        timing.on_another_cpu(folder, name, *of_this, tables, "2026-11-28", WALL),
        ROWS.strip() + "\n",
        f"![Ratio by stage, a panel a mode and a line a way](../../recipes/results/{name}.png)",
    ]
    name = "benchmark_aw_conv_narrow"
    results = timing.read(folder, name)
    if results is not None:
        parts += [NARROW, timing.source(*of_this, results, "2026-11-29"), "", by_stage(results)]
        parts.append(timing.on_another_cpu(folder, name, *of_this, by_stage, "2026-11-28"))
        parts += [narrow_remarks(results["ratios"]), ""]
        parts += ["[A whole network of such layers](models.md) is beside the others.", ""]
        parts.append(f"![The same picture](../../recipes/results/{name}.png)")
    return "\n".join(parts) + "\n"


def stage_table(ratios):
    """Returns the table of "auto" by stage: a row a stage, a column a mode."""
    lines = ["| | " + " | ".join(ratios) + " |", "|---|" + "---|" * len(ratios)]
    for stage in ratios["train"]["auto"]:
        cells = [timing.cell(mode["auto"][stage]) for mode in ratios.values()]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def narrow_remarks(ratios):
    """Returns what would be faster there, a str."""
    first, whole = next(iter(ratios["train"]["auto"])), "r_hw = 3"
    return (
        "One value for a whole kernel, `kernel_reduction=3`, costs far less: "
        f"{timing.median(ratios['train'][whole][first]):.2f} in training and\n"
        f"{timing.median(ratios['inference'][whole][first]):.2f} at inference, in the first row."
    )


if __name__ == "__main__":
    start(main, Settings, __doc__)
