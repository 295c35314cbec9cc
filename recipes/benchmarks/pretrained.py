"""What does quantization cost a network that knows ImageNet, plain and upgraded with attention?

Question: on photographs that its ranges were not measured on, how often does the TFLite file of a
pretrained network name another class than Keras, and how many fewer does it name rightly?
Data: photographs of Imagenette's ten classes of ILSVRC 2012, in a folder a class named by its
synset (`n01440764` and so on), such as `val` of https://github.com/fastai/imagenette; and the
weights of MobileNet with alpha 0.25 for 224x224 images of keras.applications,
`mobilenet_2_5_224_tf.h5`. Both are read from disk; nothing is downloaded.
Command:

    python -m recipes.benchmarks.pretrained --photographs FOLDER --weights FILE

The photographs are scaled to 256 on the shorter side and cut to 224x224 from the middle. They are
put in a random order of a fixed seed; each of the folds is scored on by files that were made with
photographs of the others, and the top class counts among all 1000. Upgraded networks compute what
the plain one does until they are trained, with the operators of the gates.
Required, before the first run: at most 1 point fewer right than Keras, and the same class for 88 %
in int8 and 93 % in dynamic.
Cost: half a minute a file on 2 cores.
Measured: recipes/results/pretrained.json and docs/results/quantization.md.
"""

import dataclasses
import math
import pathlib
import tempfile
import time

import keras
import numpy as np
from scipy import stats

from keras_fmm import export, models, training
from recipes.lab import comparison
from recipes.lab.sections import machine
from recipes.lab.settings import WRITTEN, output_path, setting, shown, start, verbosity

SYNSETS = {
    "n01440764": 0,
    "n02102040": 217,
    "n02979186": 482,
    "n03000684": 491,
    "n03028079": 497,
    "n03394916": 566,
    "n03417042": 569,
    "n03425413": 571,
    "n03445777": 574,
    "n03888257": 701,
}
NETWORKS = {
    "plain": {},
    "squeeze_excite": {"attention": "squeeze_excite"},
    "eca": {"attention": "eca"},
    "cbam": {"attention": "cbam"},
    "aw": {"convolution": "aw"},
}
# By how many of a hundred it may name fewer rightly, and for how many it must name Keras' class.
REQUIRED = {"int8": (1.0, 88.0), "dynamic": (1.0, 93.0)}
PART = "mobilenet_0.25"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured on what."""

    photographs: str | None = setting(None, "folder with a folder a class, named by its synset")
    weights: str | None = setting(None, "file of MobileNet's weights, alpha 0.25, with the top")
    networks: str = setting(",".join(NETWORKS), "which, with commas between")
    quantizations: str = setting("int8,dynamic", "which, with commas between")
    folds: int = setting(3, "how many parts; each is scored on once", minimum=2)
    verbose: str = verbosity()
    smoke: bool = setting(False, "a random network on random images")
    output: str = setting("recipes/results/pretrained.json", "where results go")


def main(settings):
    """Measures what is missing, prints; returns the results, a dict."""
    path = output_path(settings)
    if settings.smoke:
        images = np.random.default_rng(0).uniform(-1, 1, (9, 32, 32, 3)).astype("float32")
        labels = np.arange(9)
        settings = dataclasses.replace(settings, networks="plain", quantizations="int8")
    else:
        images, labels = photographs(settings.photographs)
    order = np.random.default_rng(0).permutation(len(images))
    folds = np.array_split(order, settings.folds)
    content = {} if settings.smoke else comparison.read(path)
    fixed = {"images": len(images), "folds": settings.folds}
    part = content.setdefault(PART, {"fixed": fixed, "trials": {}})
    if part["fixed"] != fixed:
        raise ValueError(
            f"{path} must have been measured on as many images and folds to be continued. "
            f"Received: {fixed}, where it has {part['fixed']}. Give another `output`."
        )
    for name in settings.networks.split(","):
        model = network(settings, NETWORKS[name])
        scores = model.predict(images, batch_size=50, verbose=0)
        for quantization in settings.quantizations.split(","):
            files = part["trials"].setdefault(name, {})
            if quantization in files:
                continue
            found = measured(model, scores, images, labels, folds, quantization, shown(settings))
            files[quantization] = {
                **found,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "environment": training.environment(ignored=WRITTEN),
            }
            comparison.write(path, content)
    print(markdown(part))
    print(f"The results are in {path}.")
    return content


def photographs(folder):
    """Returns the photographs in a folder as MobileNet takes them, and their classes, arrays."""
    if folder is None or not pathlib.Path(folder).is_dir():
        raise ValueError(
            "`photographs` must be a folder with a folder a class, named by its synset, such as "
            f"n01440764. Received: {folder}"
        )
    from PIL import Image

    images, labels = [], []
    for synset, label in SYNSETS.items():
        for path in sorted(pathlib.Path(folder, synset).glob("*.*")):
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            scale = 256 / min(image.size)
            width, height = (round(scale * size) for size in image.size)
            left, top = (width - 224) // 2, (height - 224) // 2
            image = image.resize((width, height), Image.Resampling.BICUBIC)
            image = image.crop((left, top, left + 224, top + 224))
            images.append(np.asarray(image, "float32") / 127.5 - 1)
            labels.append(label)
    if not images:
        raise ValueError(
            f"`photographs` must hold folders named {', '.join(SYNSETS)}. Received: {folder}, "
            "which has no image in any."
        )
    return np.stack(images), np.array(labels)


def network(settings, upgrade):
    """Returns MobileNet with its weights, upgraded as is said."""
    if settings.smoke:
        return keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=9)
    if settings.weights is None or not pathlib.Path(settings.weights).is_file():
        raise ValueError(
            "`weights` must be the file of MobileNet's weights. "
            f"Received: weights={settings.weights}"
        )
    model = keras.applications.MobileNet(alpha=0.25, weights=settings.weights)
    return models.upgrade(model, **upgrade) if upgrade else model


def measured(model, scores, images, labels, folds, quantization, verbose):
    """Returns counts over all folds, and how long each file took to write, a dict."""
    right, right_of_keras, same, seconds = 0, 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        for fold in folds:
            begun = time.perf_counter()
            path = export.to_tflite(
                model,
                pathlib.Path(folder, "network.tflite"),
                quantization=quantization,
                representative_data=np.delete(images, fold, axis=0),
                verbose=verbose,
            )
            seconds.append(round(time.perf_counter() - begun, 1))
            named = export.run_tflite(path, images[fold], num_threads=2).argmax(axis=-1)
            wanted = scores[fold].argmax(axis=-1)
            right += int(np.sum(named == labels[fold]))
            right_of_keras += int(np.sum(wanted == labels[fold]))
            same += int(np.sum(named == wanted))
        size = path.stat().st_size
    return {
        "images": len(images),
        "right": right,
        "right_of_keras": right_of_keras,
        "same": same,
        "seconds": seconds,
        "bytes": size,
    }


def markdown(part):
    """Returns the table: a row a network and quantization."""
    lines = [
        "| network | file | images | right, of Keras | right | same class | 95 % | as required "
        "| kB | s to write |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, files in part["trials"].items():
        for quantization, found in files.items():
            total = found["images"]
            interval = stats.binomtest(found["same"], total).proportion_ci(method="wilson")
            low, high = 100 * interval.low, 100 * interval.high
            lost = 100 * (found["right_of_keras"] - found["right"]) / total
            same = 100 * found["same"] / total
            fall, agreement = REQUIRED.get(quantization, (math.inf, 0))
            is_met = "yes" if lost <= fall and same >= agreement else "no"
            lines.append(
                f"| {name} | {quantization} | {total} | {found['right_of_keras']} | "
                f"{found['right']} | {found['same']} ({same:.1f}%) | {low:.1f} to {high:.1f} | "
                f"{is_met} | {found['bytes'] / 1000:.0f} | {np.median(found['seconds']):.0f} |"
            )
    return "\n".join(lines)


INTRODUCTION = """## A network that knows ImageNet

MobileNet (alpha 0.25) with the weights of keras.applications, plain and upgraded by
`models.upgrade` (without training, so that Keras says the same), on photographs of Imagenette's ten
classes of the ILSVRC validation set. Files are made with photographs of two parts and scored on the
third, three times; the top class counts among all 1000. Bring the photographs (a folder a class)
and the weights' file, `mobilenet_2_5_224_tf.h5`:

```
python -m recipes.benchmarks.pretrained --photographs FOLDER --weights FILE
```

Required, before the first run: at most 1 point fewer right than Keras, and the same class for 88 %
in int8 and 93 % in dynamic. Other work shared the machine, so that the seconds are an upper bound;
of those, TensorFlow's own conversion takes the most.
"""


def section(folder):
    """Returns the section of docs/results/quantization.md, a str, or None without results."""
    content = comparison.read(folder / "pretrained.json")
    if PART not in content:
        return None
    found = [x for files in content[PART]["trials"].values() for x in files.values()]
    dates = sorted({x["date"] for x in found})
    machines = dict.fromkeys(machine(x["environment"]) for x in found)
    measured_on = f"Measured on {' and '.join(dates)}: {'; '.join(machines)}."
    return "\n".join([INTRODUCTION, measured_on, "", markdown(content[PART]), ""])


if __name__ == "__main__":
    start(main, Settings, __doc__)
