"""What does RetinaNet cost beside torchvision's, and AW-convolutions in its pyramid?

Question: CPU time of a training step of two images and of finding boxes in one, of
RetinaNet-ResNet-50-FPN of 91 classes at 320x320: of torchvision's, where it is installed, and of
the one with AW-convolutions in the pyramid, beside the plain one. And of its SavedModel and TFLite
file, with the suppression inside.
Data: random images and boxes in float32.
Command (on Linux, with the machine to itself):

    python -m recipes.benchmarks.detection

Each round runs every candidate once, in random order in the same process; the ratio is taken within
a round. Given are the median over the rounds and the two between which it lies with 95 %
confidence. What is in the results already, of the same commit, machine, versions and rounds, is
not measured again: a run that was stopped goes on. Goals: no more than torchvision's time, and at
most 1.25 of the plain step for AW.
Cost: 15 minutes on 2 cores.
Measured: recipes/results/benchmark_detection.json and, of what is exported,
benchmark_detection_exported.json; docs/results/detection_cost.md, which has their flags.
"""

import dataclasses
import importlib.metadata
import importlib.util
import tempfile
import time

import keras
import numpy as np

from keras_fmm import checks, detection, export, models, training
from recipes.benchmarks import timing
from recipes.lab.settings import WRITTEN, output_path, setting, shown, start, verbosity

MODES = ("train", "inference", "exported")
_CLASSES = 91


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    rounds: int = setting(15, "how often each candidate is timed", minimum=1)
    modes: str = setting("train,inference", f"of {', '.join(MODES)}, with commas between")
    output: str = setting("recipes/results/benchmark_detection.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "small images and networks, one round")


def given(size, batch):
    """Returns images of 0 to 1 and the annotations of each."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(batch, size, size, 3)).astype("float32")
    corners = rng.uniform(0, size / 2, (batch, 8, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, size / 2, (batch, 8, 2))], axis=2)
    labels = rng.integers(1, _CLASSES, (batch, 8))
    return images, [
        {"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)
    ]


def ours(mode, size, smoke, convolution=None):
    """Returns a step of this package's, a function without arguments."""
    make = models.ResNet18 if smoke else models.ResNet50
    backbone = make(include_top=False, input_shape=(size, size, 3), stem="imagenet")
    model = detection.RetinaNet(backbone, _CLASSES, convolution=convolution)
    images, annotations = given(size, 2 if mode == "train" else 1)
    if mode != "train":
        detector = detection.detector(model)
        found = {"plain": lambda: detector.predict_on_batch(images)}
        return found["plain"] if mode == "inference" else found | exported(detector, images)
    model.compile(keras.optimizers.SGD(1e-4), detection.RetinaNetLoss())
    targets = detection.targets(annotations, _CLASSES)
    return lambda: model.train_on_batch(images, targets)


def exported(detector, images):
    """Returns the steps of a detector's SavedModel and of its TFLite file on two threads."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = export.to_saved_model(detector, folder + "/detector")
        loaded = tf.saved_model.load(path)
        # Whose weights are read when it is loaded.
        lite = export.to_tflite(detector, folder + "/detector.tflite")
        invoke = timing.lite_step(lite, lambda rng, shape: rng.uniform(size=shape), threads=2)
    serve = loaded.signatures["serving_default"]
    ((name, _),) = serve.structured_input_signature[1].items()
    images = tf.constant(images)
    return {"SavedModel": lambda: serve(**{name: images}), "TFLite": invoke}


def torchvision_s(mode, size):
    """Returns a step of torchvision's, a function without arguments."""
    import torch
    from torchvision.models.detection import retinanet_resnet50_fpn

    model = retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=_CLASSES,
        min_size=size,
        max_size=size,
        trainable_backbone_layers=5,
    )
    images, annotations = given(size, 2 if mode == "train" else 1)
    images = list(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    if mode == "inference":
        model.eval()

        def find():
            with torch.no_grad():
                model(images)

        return find
    wanted = [
        {
            "boxes": torch.tensor(each["boxes"], dtype=torch.float32),
            "labels": torch.tensor(each["labels"]),
        }
        for each in annotations
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def train():
        optimizer.zero_grad()
        sum(model(images, wanted).values()).backward()
        optimizer.step()

    return train


def has_torchvision():
    return importlib.util.find_spec("torchvision") is not None


def candidates(mode, size, smoke):
    """Returns the steps by name, the plain one of this package first."""
    if mode == "exported":
        return ours(mode, size, smoke)
    found = {
        "plain": ours(mode, size, smoke),
        "aw in the pyramid": ours(mode, size, smoke, "aw"),
    }
    if has_torchvision():
        found["torchvision"] = torchvision_s(mode, size)
    else:
        print("torchvision is not installed, and left out.")
    return found


def main(settings):
    """Measures what is missing, prints and saves; returns the results, a dict."""
    path = output_path(settings)
    modes = settings.modes.split(",")
    for mode in modes:
        checks.one_of("modes", mode, MODES)
    size = 64 if settings.smoke else 320
    if settings.smoke:
        settings = dataclasses.replace(settings, rounds=1)
    # Before the first write, which git would see as a change.
    environment = training.environment(ignored=WRITTEN)
    if has_torchvision():
        for name in ("torch", "torchvision"):
            environment["versions"][name] = importlib.metadata.version(name)
    found = timing.measured(path, settings, environment).get("detection", {})
    for mode in modes:
        if mode in found:
            continue
        steps = candidates(mode, size, settings.smoke)
        times = timing.seconds(steps, settings.rounds, shown(settings), time.process_time)
        found[mode] = {
            # As the goals say it: AW to plain, plain to torchvision's.
            **_ratio(times, "aw in the pyramid", "plain"),
            **_ratio(times, "plain", "torchvision"),
            **_ratio(times, "SavedModel", "plain"),
            **_ratio(times, "TFLite", "plain"),
            "seconds": {name: timing.interval(values) for name, values in times.items()},
        }
        keras.backend.clear_session()
        timing.write(path, settings, {"environment": environment, "detection": found})
    results = timing.read(path.parent, path.stem)
    for mode, of_mode in found.items():
        print(mode)
        for name, numbers in of_mode.items():
            print(f"  {name}: {numbers}")
    return results


def table(results):
    """Returns the page's table: a row a mode."""
    pairs = {
        "aw in the pyramid to plain": "AW in the pyramid to plain",
        "plain to torchvision": "plain to torchvision's",
    }
    lines = [
        f"| | {' | '.join(pairs.values())} | seconds, plain | seconds, torchvision's |",
        "|---" * 5 + "|",
    ]
    for mode, found in results["detection"].items():
        seconds = [found["seconds"].get(name) for name in ("plain", "torchvision")]
        cells = [*(found.get(pair) for pair in pairs), *seconds]
        cells = ["-" if numbers is None else timing.cell(numbers) for numbers in cells]
        lines.append(f"| {mode} | {' | '.join(cells)} |")
    versions = results["environment"]["versions"]
    if "torchvision" in versions:
        lines += ["", f"torch {versions['torch']}, torchvision {versions['torchvision']}."]
    return "\n".join(lines)


INTRODUCTION = """# What a detector costs

RetinaNet on ResNet-50 with its feature pyramid, 91 classes, images of 320x320 in float32: a
training step of two images, and the boxes of one. CPU time; medians over the rounds, and between
what they lie with 95 % confidence. The goals are 1.25 for AW-convolutions in the pyramid, and no
more than torchvision's time, which is its own `retinanet_resnet50_fpn` in the same process.
"""


EXPORTED = """
## What is exported

Of one image, as it comes from `detection.detector`, with the suppression inside: `predict_on_batch`
of the Keras model, the SavedModel's signature, and the TFLite file of float32 on two threads.
"""


def table_of_exports(results):
    """Returns the table of a detector's files: a row a file."""
    found = results["detection"]["exported"]
    lines = ["| | to the Keras model | seconds |", "|---|---|---|"]
    for name, seconds in found["seconds"].items():
        ratio = found.get(f"{name} to plain")
        cells = ["Keras" if name == "plain" else name, timing.cell(ratio) if ratio else ""]
        lines.append(f"| {' | '.join([*cells, timing.cell(seconds)])} |")
    return "\n".join(lines)


def page(folder):
    """Returns docs/results/detection_cost.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """
    of_this = ("detection", Settings, None)
    exports = folder / "benchmark_detection_exported.json"
    found = timing.page(exports, *of_this, EXPORTED, table_of_exports) or ""
    path = folder / "benchmark_detection.json"
    return timing.page(path, *of_this, INTRODUCTION, table, found)


def _ratio(times, name, plain):
    if not {name, plain} <= set(times):
        return {}
    pairs = zip(times[name], times[plain], strict=True)
    return {f"{name} to {plain}": timing.interval([one / other for one, other in pairs])}


if __name__ == "__main__":
    start(main, Settings, __doc__)
