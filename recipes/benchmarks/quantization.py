"""What does each quantization of TFLite cost in accuracy, for each attention?

Question: of networks trained a little, how often does the TFLite file name another class than
Keras, how far does its accuracy fall, and how small is it?
Data: Fashion-MNIST; 500 images of train to measure ranges on, all test images to compare on.
Command:

    python -m recipes.benchmarks.quantization --epochs 3

ToyCNN, MobileNet (alpha 0.25) and ResNet-18 (both on images padded to 32x32, with the stem and the
strides for ImageNet), each plain and with SE, ECA, CBAM, AW, and AW with SE; SGD with momentum 0.9,
batches of 128, a constant rate of 0.05. MobileNet with CBAM is trained twice as long: after three
epochs it is right for two images of three. Fixed before the first run: a file is to name the same
class for 99.5 % of the test images in float16 and dynamic and 98 % in int8, and its accuracy to
fall by at most 0.1, 0.2 and 1 points.
The files lie in runs/quantization. What the results have already is not measured again, and a
network's training goes on where it was stopped.
Cost: 15 to 100 seconds an epoch and network on 2 cores, and half a minute a file.
Measured: recipes/results/quantization.json and docs/results/quantization.md.
"""

import dataclasses
import pathlib

import keras

from keras_fmm import export, models
from recipes import export_model
from recipes.benchmarks import pretrained
from recipes.lab import comparison, datasets, trials
from recipes.lab.sections import machine
from recipes.lab.settings import output_path, setting, shown, start

# How often a file must name the class that Keras names, and by how much accuracy may fall.
REQUIRED = {"float16": (0.995, 0.001), "dynamic": (0.995, 0.002), "int8": (0.98, 0.01)}
BACKBONES = ("toy_cnn", "mobilenet", "resnet18")
ATTENTIONS = {
    "plain": {},
    "se": {"attention": "squeeze_excite"},
    "eca": {"attention": "eca"},
    "cbam": {"attention": "cbam"},
    "aw": {"convolution": "aw"},
    "aw_se": {"attention": "squeeze_excite", "convolution": "aw"},
}
# How many times as long a network is trained as the others.
LONGER = {"cbam_mobilenet": 2}
FOLDER = pathlib.Path("runs/quantization")
SMOKE_FOLDER = pathlib.Path("runs/smoke/quantization")


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """What is trained and how long."""

    dataset: str = datasets.named("fashion_mnist")
    image_size: int | None = setting(None, "side to resize a folder's images to", minimum=8)
    aspect_ratio: str = datasets.aspect_ratio()
    color_mode: str = datasets.color_mode()
    skip_unreadable: bool = datasets.skip_unreadable()
    seeds: int = setting(1, "how many seeds, from 0 on; more that are there stay", minimum=1)
    epochs: int = setting(3, "passes over train", minimum=1)
    backbones: str = setting(",".join(BACKBONES), "which, with commas between")
    output: str = setting("recipes/results/quantization.json", "where results go")


def main(settings):
    """Trains and measures what is missing, prints; returns the part of the results, a dict."""
    backbones = settings.backbones.split(",")
    if not set(backbones) <= set(BACKBONES):
        raise ValueError(
            f"`backbones` must be among {', '.join(BACKBONES)}. Received: {settings.backbones}"
        )
    names = networks(backbones)
    if settings.smoke:
        names = {"se_toy_cnn": ("toy_cnn", "se")}
    settings, dataset, schedule = comparison.begun(settings, batch_size=128)
    folder = SMOKE_FOLDER if settings.smoke else FOLDER
    images, labels = dataset.arrays("test")
    samples = export_model.sample(dataset)

    def measure(name, seed):
        longer = dataclasses.replace(schedule, epochs=schedule.epochs * LONGER.get(name, 1))
        model, found = trials.trained(
            name, builder(*names[name]), dataset, longer, seed, shown(settings)
        )
        model = deployed(model)
        keras_says = export_model.classes(model, images)
        files = {}
        for quantization in (None, *REQUIRED):
            parts = (name, dataset.name, f"{longer.epochs}epochs", f"seed{seed}")
            path = export.to_tflite(
                model,
                folder / f"{'_'.join((*parts, quantization or 'float32'))}.tflite",
                quantization=quantization,
                representative_data=samples,
                class_names=dataset.class_names,
                input_range=(0, 255),
                verbose=shown(settings),
            )
            agreement = export_model.compared(keras_says, path, images, labels)
            files[quantization or "float32"] = {
                **{key: round(value, 5) for key, value in agreement.items()},
                "bytes": path.stat().st_size,
                "file": path.name,
            }
        return {**found, "epochs": longer.epochs, "files": files}

    fixed = {**dataclasses.asdict(schedule), "required": REQUIRED, **dataset.identity}
    part = comparison.measured(settings, fixed, tuple(names), measure)
    print(markdown(part))
    missed = misses(part)
    print("All are as required." if not missed else "Not as required: " + "; ".join(missed))
    print(f"The results are in {output_path(settings)}.")
    return part


def networks(backbones):
    """Returns the backbone and the attention of each network by its name, a dict."""
    return {f"{a}_{b}".removeprefix("plain_"): (b, a) for b in backbones for a in ATTENTIONS}


def builder(backbone, attention):
    """Returns the function that builds a network for images of 0 to 1."""

    def build(input_shape, classes):
        inputs = keras.Input(input_shape)
        arguments = {"classes": classes, **ATTENTIONS[attention]}
        if backbone == "toy_cnn":
            return models.ToyCNN(input_tensor=inputs, **arguments)
        beside = [max(0, (32 - size) // 2) for size in input_shape[:2]]
        padded = keras.layers.ZeroPadding2D(beside)(inputs)
        if backbone == "mobilenet":
            return models.MobileNet(input_tensor=padded, alpha=0.25, **arguments)
        return models.ResNet18(input_tensor=padded, stem="imagenet", **arguments)

    return build


def deployed(model):
    """Returns the model for images of 0 to 255, as cameras give them."""
    inputs = keras.Input(model.input_shape[1:], name="image")
    return keras.Model(inputs, model(keras.layers.Rescaling(1 / 255)(inputs)), name=model.name)


def rows(part):
    """Yields name, seed, quantization and what was measured of each file."""
    for name, seeds in part["trials"].items():
        for seed, trial in seeds.items():
            for quantization, found in trial["files"].items():
                yield name, seed, quantization, found


def misses(part):
    """Returns which files are not as required, a list of str."""
    found = []
    for name, seed, quantization, file in rows(part):
        same, fall = REQUIRED.get(quantization, (1.0, 0.0))
        # One image may be rounded to the other side of a tie.
        tolerance = 1e-9 if quantization in REQUIRED else 2e-4
        if file["same_class"] < same - tolerance:
            found.append(f"{name} {quantization} agrees on {file['same_class']:.2%}")
        if file["accuracy_of_keras"] - file["accuracy"] > fall + tolerance:
            loss = 100 * (file["accuracy_of_keras"] - file["accuracy"])
            found.append(f"{name} {quantization} (seed {seed}) loses {loss:.2f} points")
    return found


def markdown(part):
    """Returns the table: a row a network, of each file the agreement and the change of accuracy."""
    lines = [
        "| | accuracy, % | float32, kB | float16 | dynamic | int8 | int8, kB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seeds in part["trials"].items():
        for trial in seeds.values():
            files = trial["files"]
            cells = [
                f"{files[key]['same_class']:.2%} "
                f"({100 * (files[key]['accuracy'] - files[key]['accuracy_of_keras']):+.2f})"
                for key in REQUIRED
            ]
            lines.append(
                f"| {name} | {100 * trial['test_accuracy']:.2f} | "
                f"{files['float32']['bytes'] / 1000:.0f} | {' | '.join(cells)} | "
                f"{files['int8']['bytes'] / 1000:.0f} |"
            )
    return "\n".join(lines)


INTRODUCTION = """# What quantization costs in accuracy

The tables tell how often a TFLite file of `export.to_tflite` names the class that Keras names,
for all 10,000 test images of Fashion-MNIST. In brackets: by how many points its accuracy is
higher or lower. One seed a network:

```
python -m recipes.benchmarks.quantization --epochs 3
```

Required, before the first run: the same class for 99.5 % in float16 and dynamic and 98 % in int8,
and an accuracy that falls by at most 0.1, 0.2 and 1 points. So few epochs do not give the networks'
best accuracy. ToyCNN takes 28x28 images; MobileNet (alpha 0.25) and ResNet-18 take them padded to
32x32. MobileNet with CBAM is trained for six epochs, and still knows the least.
"""

LOST = """## What was lost, and where

Found by comparing each operator's output in the int8 file with that of the float file.

- The sum over an AW-convolution's taps, in sums of pairs, each rounded: `AWConv2D` sums them in
  one depthwise convolution of ones, in int32, and batch norm and ReLU go into it; the 1x1 kernels
  of MobileNet too.
- The convolution before an AW-convolution's gain had steps up to twice as wide as needed.
  TensorFlow's calibrator looks at the inputs of an operator when it has run; a product in LiteRT
  writes over its input; so the input was given the output's range. The ranges are measured with
  LiteRT instead.
- A gate's hidden unit that is off for all images has an empty range, for which LiteRT refuses the
  file. It is widened.
- int16x8: the bias of a product that is used twice was in the first use's scale; CBAM's is used
  once.
- Taps of an AW-convolution that meet only padding, as on ResNet-18's last maps of 1x1, had no
  range, and LiteRT refused the file. They are left out.
- The scores themselves: where a network's spread widely, one step of eight bits is a good part of
  a unit of the softmax's exponent, and the first two are the same. With float32 ends the last
  product gives floats.
- A few images that reach several times as far as all others, as in AW-ResNet-18. Of a hundred
  images and more, ranges are also tried that hold 97 and 90 % of them, and taken where the error
  on all of them halves.
- CBAM's map, cut at zero: what is concatenated has one scale, a maximum has that of its inputs,
  and so the scale of [max, mean] was the whole map's. `SpatialAttention` convolves the two one by
  one.
- The mean of a channel: rounded weights move it, as inputs behind a ReLU are all positive and
  errors of one sign add up. The real MobileNet of the table above named Keras' class for three
  photographs of four. The biases make up for it, in int8, int16x8 and, with images, dynamic.
- Channels before a depthwise product, which in int8 share one scale: what an AW-convolution gives
  before batch norm differs a hundredfold between channels. Both products' weights have a scale for
  each channel, and so the channels are made to reach equally far, up to a ReLU6 where one follows.
- Images of -1 to 1: zero falls between two steps, and the converter moved all pixels by half a one.
- The bias of a product that is called twice, in int16x8, also in models of others.
- Three errors of LiteRT 2.3: in int8 -1 divided by more than 64 gives the lowest number, so that
  self-attention divides by two roots; in int16 a sum over axes is none, and CBAM and self-attention
  take the mean times the number; with integer weights and floats between them, masks of -1e9 went
  into products and left zeros of all else.
- What an attention-augmented convolution gives: convolution and attention, of which the one may be
  tenfold the other, had one scale. Before a batch norm they are made to reach equally far.
- The sums that a gate's sigmoid takes reach far beyond where it changes by half a step of its
  outputs: their ranges end there.
- MobileNet with CBAM does not reach what is required. Eight bits between its layers cost it, not
  the weights: most is lost in the products behind its 26 gates, where channels differ tenfold, and
  what it knows least surely changes. Narrower ranges there, and channels stretched behind the
  gates, were tried and gained nothing that could be relied on. "dynamic" loses far less.
- What is left is rounding spread over all operators, of which a MobileNet with two gates a block
  has hundreds.
"""


def page(folder):
    """Returns docs/results/quantization.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """
    parts = comparison.read(folder / "quantization.json")
    if not parts:
        return None
    texts = [INTRODUCTION]
    for name, part in parts.items():
        found = [trial for seeds in part["trials"].values() for trial in seeds.values()]
        dates = sorted({trial["date"] for trial in found})
        measured_on = " to ".join(dict.fromkeys((dates[0], dates[-1])))
        machines = dict.fromkeys(machine(part["environments"][t["environment"]]) for t in found)
        texts += [f"## {name}\n", f"Measured on {measured_on}: {'; '.join(machines)}.\n"]
        texts += [markdown(part), ""]
        if absent := [each for each in networks(BACKBONES) if each not in part["trials"]]:
            texts += [f"Not measured yet: {', '.join(absent)}.", ""]
        if missed := misses(part):
            texts += ["Not as required:\n", *(f"- {each}" for each in missed), ""]
        else:
            texts += ["All are as required.", ""]
    if real := pretrained.section(folder):
        texts.append(real)
    return "\n".join([*texts, LOST])


if __name__ == "__main__":
    start(main, Settings, __doc__)
