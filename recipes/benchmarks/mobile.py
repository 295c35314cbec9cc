"""How fast, how small and how large in memory are the networks on a phone's runtime?

Question: latency in LiteRT (one image, one and two threads), file size and peak memory of MobileNet
with SE, AW and both, in each quantization, beside keras.applications' MobileNet and
MobileNetV3Small exported in the same way. And of the small networks that
recipes.benchmarks.quantization has trained: their accuracy against their latency, where it trained
one for several numbers of epochs, after the most.
Data: random images of 224x224; untrained weights, but random offsets of the batch norms: an
addition of zero would be left out of the file, and one of anything else costs what it costs in a
trained network.
Command (with the machine to itself):

    python -m recipes.benchmarks.mobile

Each round runs every file once, in random order in the same process; ratios are those of the
shortest times on one thread, since what else a shared machine does can only add to a time. The
picture has the medians: a small network that happens to follow itself, last in one round and first
in the next, finds its weights in the cache, and takes half as long. Memory is what a fresh process
needs more at its peak for loading a file and running it once.
Fixed before the first run: AW-SE-MobileNet takes at most 1.15 of SE-MobileNet's time, which takes
at most 1.15 of MobileNet's; int8 takes at most 0.5 of float32's time, and 0.30 of its size where
float32 has more than 4 MB.
Cost: ten minutes on 2 cores.
Measured: recipes/results/benchmark_mobile.json and docs/results/mobile.md, on a server's CPU: no
phone was at hand.
"""

import dataclasses
import pathlib
import statistics
import subprocess
import sys

import keras
import numpy as np

from keras_fmm import export, models, plots
from recipes.benchmarks import quantization, timing
from recipes.lab import comparison, figures
from recipes.lab.settings import output_path, setting, shown, start, verbosity

QUANTIZATIONS = (None, "float16", "dynamic", "int8")
APPLICATIONS = {
    "keras.applications MobileNet": keras.applications.MobileNet,
    "keras.applications MobileNetV3Small": lambda **arguments: keras.applications.MobileNetV3Small(
        include_preprocessing=False, **arguments
    ),
}

# Nothing but LiteRT, and the peak begun anew: importing TensorFlow has a higher one.
RISE_OF_PEAK = """
import re, sys
from ai_edge_litert.interpreter import Interpreter

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read()).group(1))

open("/proc/self/clear_refs", "w").write("5")
before = peak()
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
print(peak() - before)
"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    presets: str = setting(
        "mobilenet,se_mobilenet,eca_mobilenet,cbam_mobilenet,aw_mobilenet,aw_se_mobilenet",
        "which, with commas between",
    )
    image_size: int = setting(224, "the side of an image", minimum=32)
    rounds: int = setting(41, "how often each file is timed", minimum=1)
    trained: str = setting(
        "recipes/results/quantization.json", "results of the quantization benchmark"
    )
    output: str = setting("recipes/results/benchmark_mobile.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "one network, small images, one round, nothing trained")


def main(settings):
    """Measures, prints, draws and saves; returns the results, a dict."""
    if settings.smoke:
        # Of the presets the one that is converted fastest.
        settings = dataclasses.replace(
            settings, presets="fmmnet16_4", image_size=32, rounds=1, trained="none"
        )
    presets = settings.presets.split(",")
    unknown = sorted(set(presets) - set(models.PRESETS))
    if unknown:
        raise ValueError(f"`presets` must be names of presets. Received: {', '.join(unknown)}")
    folder = pathlib.Path("runs/smoke" if settings.smoke else "runs") / "benchmark_mobile"
    names = presets if settings.smoke else [*presets, *APPLICATIONS]
    kinds = (None, "int8") if settings.smoke else QUANTIZATIONS
    paths = {
        f"{name}, {quantization or 'float32'}": written(name, quantization, settings, folder)
        for name in names
        for quantization in kinds
    }
    found = {"untrained": measured(paths, settings)}
    if pathlib.Path(settings.trained).is_file():
        found["trained"] = trained(settings)
    results = timing.write(output_path(settings), settings, found)
    if found.get("trained"):
        plots.save_figure(picture(found["trained"]), output_path(settings).with_suffix(".png"))
    print(markdown(found["untrained"]))
    missed = misses(found["untrained"])
    print("All are as required." if not missed else "Not as required: " + "; ".join(missed))
    return results


def written(name, quantization, settings, folder):
    """Returns the path of a network's TFLite file, which is written."""
    shape = (settings.image_size, settings.image_size, 3)
    keras.utils.set_random_seed(0)
    if name in APPLICATIONS:
        model = APPLICATIONS[name](weights=None, input_shape=shape)
    else:
        model = models.from_preset(name, input_shape=shape)
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(rng.normal(0, 0.1, layer.beta.shape))
    images = rng.uniform(size=(8, *shape)).astype("float32")
    path = folder / f"{name.replace(' ', '_')}_{quantization or 'float32'}.tflite"
    return export.to_tflite(
        model, path, quantization=quantization, representative_data=images, verbose=shown(settings)
    )


def measured(paths, settings):
    """Returns what each file takes, a dict by its name.

    "milliseconds", the shortest, and "median", both by the number of threads; "bytes"; "kilobytes"
    of memory.
    """
    found = {}
    for threads in (1, 2):
        steps = {name: step(path, threads) for name, path in paths.items()}
        seconds = timing.seconds(steps, settings.rounds, shown(settings))
        for name, times in seconds.items():
            row = found.setdefault(name, {"milliseconds": {}, "median": {}})
            row["milliseconds"][str(threads)] = round(1000 * min(times), 3)
            row["median"][str(threads)] = round(1000 * statistics.median(times), 3)
    for name, path in paths.items():
        found[name]["bytes"] = path.stat().st_size
        found[name]["kilobytes"] = memory(path)
    return found


def step(path, threads):
    """Returns a function that runs a file on one image."""
    return timing.lite_step(path, lambda rng, shape: rng.uniform(0, 1, shape), threads)


def memory(path):
    """Returns the kilobytes that a fresh process needs for a file at its peak."""
    command = [sys.executable, "-c", RISE_OF_PEAK, str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def trained(settings):
    """Returns latency and accuracy of quantization's networks whose files are at hand."""
    paths, scores, absent = {}, {}, set()
    parts = comparison.read(settings.trained).values()
    for part in sorted(parts, key=lambda part: part["fixed"]["epochs"]):
        for network, seeds in part["trials"].items():
            files = seeds["0"]["files"]
            if not all((quantization.FOLDER / file["file"]).is_file() for file in files.values()):
                absent.add(network)
                continue
            for kind, file in files.items():
                name = f"{network}, {kind}"
                paths[name] = quantization.FOLDER / file["file"]
                epochs = seeds["0"].get("epochs", part["fixed"]["epochs"])
                scores[name] = {"accuracy": file["accuracy"], "epochs": epochs}
    for network in sorted(absent - {name.rpartition(", ")[0] for name in paths}):
        print(f"{network} is left out, whose files are not in {quantization.FOLDER}.")
    found = measured(paths, settings)
    return {name: {**row, **scores[name]} for name, row in found.items()}


def picture(found):
    """Returns the figure of what was trained: a panel a backbone, a colour a quantization."""
    panels = {}
    for name, row in found.items():
        network, _, kind = name.rpartition(", ")
        backbone = next(each for each in quantization.BACKBONES if network.endswith(each))
        attention = network.removesuffix(backbone).strip("_") or "plain"
        title = f"{backbone}, {row['epochs']} epochs"
        series = panels.setdefault(title, {}).setdefault(kind, {})
        series[attention] = (row["median"]["1"], row["accuracy"])
    return figures.accuracy_by_latency(panels)


def ratio(found, name, other, key="milliseconds"):
    """Returns what a file takes as a ratio to another, of times on one thread."""
    one, two = found[name][key], found[other][key]
    return one["1"] / two["1"] if key in ("milliseconds", "median") else one / two


def misses(found):
    """Returns what is not as required, a list of str."""
    limits = []
    for name, other in (("se_mobilenet", "mobilenet"), ("aw_se_mobilenet", "se_mobilenet")):
        limits.append((f"{name}, float32", f"{other}, float32", "milliseconds", 1.15))
    for name in found:
        plain = f"{name.rpartition(', ')[0]}, float32"
        if name.endswith(", int8"):
            limits.append((name, plain, "milliseconds", 0.5))
            if found[plain]["bytes"] > 4e6:
                limits.append((name, plain, "bytes", 0.3))
    missed = []
    for name, other, key, limit in limits:
        if name in found and other in found and ratio(found, name, other, key) > limit:
            value = ratio(found, name, other, key)
            missed.append(f"{name}: {key} {value:.2f} of {other}'s, at most {limit}")
    return missed


def markdown(found):
    """Returns the page's table: a row a network; of each file time, size and memory."""
    kinds = list(dict.fromkeys(name.rpartition(", ")[2] for name in found))
    lines = [
        "| | " + " | ".join(f"{kind}: ms (2 threads), MB, MB of memory" for kind in kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    for name in dict.fromkeys(name.rpartition(", ")[0] for name in found):
        cells = []
        for kind in kinds:
            row = found[f"{name}, {kind}"]
            one, two = row["milliseconds"]["1"], row["milliseconds"]["2"]
            cells.append(
                f"{one:.1f} ({two:.1f}), {row['bytes'] / 1e6:.1f}, {row['kilobytes'] / 1e3:.0f}"
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


INTRODUCTION = """# Networks in LiteRT

What TFLite files of 224x224 networks take for one image. Each cell has the shortest time on one
thread (on two), the file's size and the peak memory. Written by `make report` from
`recipes/results/`. No phone was at hand: this is a server's CPU with AVX2 and without AVX-512.
"""

FOUND = """
- On one thread squeeze-and-excitation takes {se:.2f} of the plain network's time, AW on top of it
  {aw:.2f} more, and CBAM {cbam:.2f}. At most 1.15 was asked of the first two. On two threads they
  take {se2:.2f} and {aw2:.2f}.
- **Int8 was to take half of float32's time, and on this CPU does not in any of these, the plain
  ones included**: {int8[0]:.2f} to {int8[1]:.2f}, and {small:.2f} in MobileNetV3Small. LiteRT's
  int8 products are no faster than its float32 ones there.
- On a CPU with AVX-512, on 2026-11-21 and with the AW-convolutions and CBAM of then, int8 took 0.37
  in MobileNet, 0.42 with AW, 0.49 with squeeze-and-excitation, 0.50 with ECA, 0.56 with AW and
  squeeze-and-excitation, 0.64 with CBAM, and 2.79 in MobileNetV3Small.
- So measure on the phone that you mean. What int8 saves in any case is file ({size[0]:.2f} to
  {size[1]:.2f} of float32's) and memory.
"""

TRAINED = """## Accuracy against latency

Small networks for 32x32 images, [as trained](quantization.md), on the same CPU, against the median
time. Those are in it whose files were at hand. Int8 takes of float32's time:

{int8}

![Accuracy against latency, a panel a backbone](../../recipes/results/benchmark_mobile.png)
"""


def page(folder):
    """Returns docs/results/mobile.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """
    results = timing.read(folder, "benchmark_mobile")
    if results is None:
        return None
    found = results["untrained"]
    source = timing.source("mobile", Settings, results, "2026-11-26")
    parts = [INTRODUCTION, source, "", markdown(found), FOUND.format(**ratios(found))]
    if found := results.get("trained"):
        parts.append(TRAINED.format(int8="\n".join(int8_by_backbone(found))))
    return "\n".join(parts)


def int8_by_backbone(found):
    """Yields a line a backbone of what int8 takes of float32's median time."""
    for backbone in quantization.BACKBONES:
        networks = [name.rpartition(", ")[0] for name in found if name.endswith(", int8")]
        ratios = {
            name: ratio(found, f"{name}, int8", f"{name}, float32", "median")
            for name in networks
            if name.endswith(backbone)
        }
        if ratios:
            low, high = min(ratios, key=ratios.get), max(ratios, key=ratios.get)
            yield f"- {backbone}: {ratios[low]:.2f} ({low}) to {ratios[high]:.2f} ({high})"


def ratios(found):
    """Returns the ratios that the page names, a dict."""
    names = list(dict.fromkeys(name.rpartition(", ")[0] for name in found))
    small = "keras.applications MobileNetV3Small"
    int8 = {n: ratio(found, f"{n}, int8", f"{n}, float32") for n in names}
    size = [ratio(found, f"{n}, int8", f"{n}, float32", "bytes") for n in names if n != small]
    times = {name: row["milliseconds"] for name, row in found.items()}
    plain = times["mobilenet, float32"]
    se, aw = times["se_mobilenet, float32"], times["aw_se_mobilenet, float32"]
    return {
        "se": se["1"] / plain["1"],
        "aw": aw["1"] / se["1"],
        "se2": se["2"] / plain["2"],
        "aw2": aw["2"] / se["2"],
        "cbam": ratio(found, "cbam_mobilenet, float32", "mobilenet, float32"),
        "small": int8.pop(small),
        "int8": (min(int8.values()), max(int8.values())),
        "size": (min(size), max(size)),
    }


if __name__ == "__main__":
    start(main, Settings, __doc__)
