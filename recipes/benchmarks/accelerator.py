"""What does attention cost on a GPU or TPU?

Question: the time of a training step and of inference on whatever accelerator the backend finds. Of
layers: AWConv2D in each implementation, and a plain convolution with a gate behind it, as a ratio
to `keras.layers.Conv2D` at the four 3x3 stages of ResNet-50. Of networks: ResNet-50 and MobileNet
with each attention, as a ratio to the plain ones, with SGD with momentum. And the memory of the
accelerator that a step needs beyond what is there before it.
Data: random images, which are on the accelerator before.
Command (with the machine to itself; the backend is Keras'):

    KERAS_BACKEND=jax python -m recipes.benchmarks.accelerator

Rounds and random order as in aw_conv; each time ends when the accelerator has done its work. The
first call, which compiles, is timed apart. JAX, and TensorFlow's layers, are compiled by XLA.
On JAX, memory is what XLA plans for the step; elsewhere it is the allocator's peak.

Without an accelerator it says so, and measures small sizes on the CPU to see that all of it runs.
They go to a file of another name, of which no page is made.
Cost: with JAX on an NVIDIA H200, where compiling takes most of it, seven minutes for the layers in
one dtype and four for ResNet-50 in two; PyTorch three for what the page has of it.
Measured: recipes/results/benchmark_accelerator_*.json and docs/results/accelerator.md, which has
their flags; TensorFlow, and TPUs, were not measured.
"""

import contextlib
import dataclasses
import functools
import statistics
import time

import keras

from keras_fmm import checks, layers, models, training
from recipes.benchmarks import aw_conv, timing
from recipes.benchmarks import models as networks
from recipes.lab.settings import output_path, setting, shown, start, verbosity

BACKEND = keras.backend.backend()
MODES = ("train", "inference")
# A layer's step is short beside what it takes to start one and to wait for it.
CALLS = 10
UNITS = {"milliseconds": "ms", "memory_mb": "MB", "first_seconds": "s"}
CURES = {
    "jax": "For a GPU: pip install 'jax[cuda13]'.",
    "tensorflow": "For a GPU: pip install 'tensorflow[and-cuda]'.",
    "torch": "For a GPU: install a build of PyTorch for it, see pytorch.org.",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    stages: str | None = setting(
        "56x56x64,28x28x128,14x14x256,7x7x512", "maps of the layers, square; none: no layers"
    )
    implementations: str = setting(
        ",".join(aw_conv.implementations()), "AWConv2D's, with commas between"
    )
    gates: str | None = setting("squeeze_excite,eca,cbam", "with commas between; none: no gates")
    backbones: str | None = setting(
        ",".join(networks.APPLICATIONS), "with commas between; none: no networks"
    )
    attentions: str = setting("se,eca,cbam,aw", "prefixes of presets, with commas between")
    dtypes: str = setting("float32,mixed_bfloat16", "Keras' dtype policies, with commas between")
    batch_size: int = setting(128, "images a step", minimum=1)
    image_size: int = setting(224, "the side of a network's image", minimum=32)
    rounds: int = setting(21, "how often each candidate is timed", minimum=1)
    output: str = setting(
        f"recipes/results/benchmark_accelerator_{BACKEND}.json", "where the results go"
    )
    verbose: str = verbosity()
    smoke: bool = setting(False, "one small stage, one small network, one round")


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    has_accelerator = device()["kind"] == "accelerator"
    if settings.smoke or not has_accelerator:
        settings = dataclasses.replace(
            settings,
            stages=settings.stages and "4x4x16",
            backbones=settings.backbones and "mobilenet",
            attentions=settings.attentions.split(",")[0],
            dtypes=settings.dtypes.split(",")[-1],
            batch_size=2,
            image_size=32,
            rounds=1,
            smoke=True,
        )
    path = output_path(settings)
    if not has_accelerator:
        path = path.with_name(f"{path.stem}_cpu{path.suffix}")
        print(
            f"No accelerator: {BACKEND} finds {device()['names'][0]} alone. {CURES[BACKEND]}\n"
            f"Measuring small sizes on the CPU, which tell nothing of an accelerator: {path}"
        )
    names = networks_of(settings)
    stages = {stage: aw_conv.sizes(stage) for stage in listed(settings.stages)}
    for name in listed(settings.implementations):
        checks.one_of("implementations", name, tuple(aw_conv.implementations()))
    for name in listed(settings.gates):
        checks.one_of("gates", name, tuple(layers.GATES))
    policies = [keras.DTypePolicy(name) for name in listed(settings.dtypes)]
    found = {"layers": {}, "networks": {}}
    for policy in policies:
        with global_policy(policy):
            for stage, sizes in stages.items():
                shape = (settings.batch_size, *sizes)
                put(found["layers"], policy, stage, measured_layers(shape, settings))
                # What was measured is kept, should the rest fail.
                results = timing.write(path, settings, found)
            for backbone, candidates in names.items():
                taken = measured_networks(backbone, candidates, settings)
                put(found["networks"], policy, backbone, taken)
                results = timing.write(path, settings, found)
    print(markdown(found))
    return results


def listed(text):
    return text.split(",") if text else []


def put(found, policy, key, value):
    found.setdefault(policy.name, {})[key] = value


def networks_of(settings):
    """Returns the presets by backbone, the plain one first, lists of str."""
    found = {}
    for backbone in listed(settings.backbones):
        found[backbone] = [backbone, *(f"{a}_{backbone}" for a in listed(settings.attentions))]
        for name in found[backbone]:
            if backbone not in networks.APPLICATIONS or name not in models.PRESETS:
                raise ValueError(
                    "`backbones` and `attentions` must make names of presets, such as resnet50 "
                    f"and se,aw_cbam. Received: {settings.backbones} and {settings.attentions}; "
                    f"there is no preset {name} of {', '.join(networks.APPLICATIONS)}."
                )
    return found


@contextlib.contextmanager
def global_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def conv(channels):
    return keras.layers.Conv2D(channels, 3, padding="same")


def measured_layers(shape, settings):
    """Returns what `measured` does by mode, for layers of this shape of inputs."""

    found = {}
    for mode in MODES:
        # As Keras compiles its steps, where the backend does.
        compiled = f"{mode}, XLA"
        ours, _ = aw_conv.candidates(compiled)
        made = {"Conv2D": [conv(shape[3])]}
        for name in listed(settings.implementations):
            if name in ours:
                made[f"aw, {name}"] = [ours[name](shape[3])]
        for gate in listed(settings.gates):
            made[f"Conv2D + {gate}"] = [conv(shape[3]), layers.get_gate(gate)]
        # In a model, as a layer's `stateless_call` casts no weights to the policy's dtype.
        made = {name: keras.Sequential(parts) for name, parts in made.items()}
        steps = {n: aw_conv.step(model, compiled, shape, CALLS) for n, model in made.items()}
        found[mode] = measured(steps, settings, CALLS)
    return found


def measured_networks(backbone, names, settings):
    """Returns what `measured` does by mode, for networks."""
    of_models = networks.Settings(
        backbone=backbone,
        batch_size=settings.batch_size,
        image_size=settings.image_size,
        # Eager steps of three are quicker than a graph, but on JAX, which compiles each operator.
        smoke=settings.smoke and BACKEND != "jax",
    )
    built = {name: networks.build(name, of_models) for name in names}
    return {mode: measured(networks.steps(built, mode, of_models), settings) for mode in MODES}


def measured(steps, settings, calls=1):
    """Returns of each step its times and memory, dicts by name.

    Args:
        steps: dict of functions, as of `timing.seconds`, that were not called yet. The first is
            what the others are compared with.
        settings: `Settings`.
        calls: int, how often a step does what is measured.
    """
    first = {}
    for name, run in steps.items():
        begin = time.perf_counter()
        memory = memory_of(run)
        first[name] = {
            "first_seconds": round(time.perf_counter() - begin, 2),
            "memory_mb": memory and round(memory / 2**20, 1),
        }
    seconds = timing.seconds(steps, settings.rounds, shown(settings))
    plain = next(iter(steps))
    medians = {plain: 1.0, **timing.median_ratios(seconds, plain)}
    fastest = {plain: 1.0, **timing.fastest_ratios(seconds, plain)}
    return {
        name: {
            "ratio": round(medians[name], 3),
            "ratio_fastest": round(fastest[name], 3),
            "milliseconds": round(statistics.median(seconds[name]) / calls * 1e3, 4),
            **first[name],
        }
        for name in steps
    }


@functools.cache
def device():
    return training.environment()["device"]


def memory_of(run):
    """Calls a step for the first time; returns the bytes of the accelerator that it needs, or None.

    They are beyond what is there before it. None where there is no accelerator that tells.
    """
    if device()["kind"] == "cpu":
        run()
        return None
    if BACKEND == "jax":
        import jax

        # The peak of JAX's allocator cannot be reset.
        client = jax.devices()[0].client
        before = client.live_executables()
        run()
        made = [each for each in client.live_executables() if each not in before]
        stats = [each.get_compiled_memory_stats() for each in made]
        return max(
            each.temp_size_in_bytes + each.output_size_in_bytes - each.alias_size_in_bytes
            for each in stats
        )
    if BACKEND == "torch":
        import torch

        if not torch.cuda.is_available():
            run()
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    import tensorflow as tf

    tf.config.experimental.reset_memory_stats("GPU:0")
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    run()
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] - before


def markdown(found):
    """Returns the tables: for layers a column a stage, for networks a column a measure."""
    parts = []

    def add(title, columns):
        told = {name: (rows, key) for name, (rows, key) in columns.items() if is_told(rows, key)}
        if told:
            parts.append(f"{title}:\n\n{table(told)}")

    for policy, stages in found["layers"].items():
        for title, mode, key in (
            ("training step", "train", "milliseconds"),
            ("inference", "inference", "milliseconds"),
            ("memory of a training step", "train", "memory_mb"),
        ):
            columns = {stage: (modes[mode], key) for stage, modes in stages.items()}
            add(f"Layers, {policy}, {title}", columns)
    for policy, backbones in found["networks"].items():
        for backbone, modes in backbones.items():
            columns = {
                "train": (modes["train"], "milliseconds"),
                "inference": (modes["inference"], "milliseconds"),
                "memory, train": (modes["train"], "memory_mb"),
                "first training step": (modes["train"], "first_seconds"),
            }
            add(f"{backbone}, {policy}", columns)
    return "\n\n".join(parts)


def is_told(rows, key):
    return all(row[key] is not None for row in rows.values())


def table(columns):
    """Returns Markdown: the first row as measured, the others as a ratio to it.

    Args:
        columns: dict by title of what `measured` returns and the key of it to be shown.
    """
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    (rows, _), *_ = columns.values()
    for name in rows:
        cells = [cell(rows, name, key) for rows, key in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(rows, name, key):
    plain = next(iter(rows))
    value, of_plain = rows[name][key], rows[plain][key]
    if name == plain:
        return f"{value:.3g} {UNITS[key]}"
    # Of times, the median of what is compared within a round.
    return f"{rows[name]['ratio'] if key == 'milliseconds' else value / of_plain:.2f}"


INTRODUCTION = """# What attention costs on a GPU

Training steps and inference on an accelerator, written by `make report` from
`recipes/results/`. The first row of a table is as measured, the others are ratios to it. Times are
medians over rounds that run every row once, in random order.

- Layers: `keras.layers.Conv2D` of 3x3 at the stages of ResNet-50; AWConv2D, its attention included,
  in each implementation, where "auto" is what you get; a convolution with a gate behind it.
- Networks: those of this package, plain and with each attention, as in
  [What attention costs in a whole network](models.md).
- Memory is what a step needs of the accelerator's beyond what is there before it. On JAX it is what
  XLA plans, elsewhere the allocator's peak.
- The first training step traces and compiles. The plain network has it first, and finds for the
  others which of cuDNN's convolutions are fast.
- PyTorch runs operator by operator. There the plain convolution takes about as long at each stage:
  it is the start of the operators that takes the time, and attention is made of many.
- float32 is as the backends take it on this GPU: JAX rounds the inputs of convolutions and matrix
  products to 10 bits (TF32), PyTorch those of convolutions.

"""

REMARKS = """## What was run, and what was not

On 2026-11-27, on one NVIDIA H200 with driver 580.159.04. "jax implementations" was measured before
"auto" took "vectorized_map" on accelerators and before ECA's convolution became a sum of taps under
XLA, and led to both; its rows of "auto" and ECA are left out. At 56x56x64, a training step took
4.84 times the plain convolution's with "auto" and 1.29 with ECA, and takes what "jax layers" says.
At 7x7x512, ECA took 4.07 times the plain one's; the new form was not timed there.

"jax layers" was stopped after its first stage, "torch networks" before MobileNet in mixed_bfloat16,
by the time there was. Not measured: MobileNet on JAX, layers in mixed precision, float16,
TensorFlow, TPUs, several GPUs.
"""


def page(folder):
    """Returns docs/results/accelerator.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """
    parts = []
    for path in sorted(folder.glob("benchmark_accelerator_*.json")):
        results = timing.read(folder, path.stem)
        device = results["environment"]["device"]
        # What a CPU did is not told as an accelerator's.
        if device["kind"] != "accelerator":
            continue
        versions = results["environment"]["versions"]
        backend = versions["backend"]
        title = path.stem.removeprefix("benchmark_accelerator_").replace("_", " ")
        parts += [
            f"## {title}",
            timing.source("accelerator", Settings, results, None),
            f"{backend} {versions[backend]}, {device['platform_version']}. Batch "
            f"{results['settings']['batch_size']}.",
            markdown(results),
        ]
    return INTRODUCTION + "\n\n".join([*parts, REMARKS]) if parts else None


if __name__ == "__main__":
    start(main, Settings, __doc__)
