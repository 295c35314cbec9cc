"""timm's pretrained networks, of the kinds that the backbones here can compute."""

import csv
import dataclasses
import difflib
import functools
import importlib.resources
import re

from keras_fmm import checks, layers
from keras_fmm.models import backbone
from keras_fmm.models.mobilenet import MobileNet
from keras_fmm.models.preprocessing import Preprocessing
from keras_fmm.models.resnet import ResNet
from keras_fmm.models.weights import load_weights_of

_BLOCKS = {
    "10": (1, 1, 1, 1),
    "14": (1, 1, 1, 1),
    "18": (2, 2, 2, 2),
    "26": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
    "200": (3, 24, 36, 3),
    "269": (3, 30, 48, 8),
    "light": (1, 1, 11, 3),
}
_BASIC = ("10", "18", "34")
_VARIANTS = {
    "": {"stem": "imagenet"},
    "c": {"stem": "deep"},
    "d": {"stem": "deep", "average_shortcut": True},
    "s": {"stem": (64, 64, 128)},
    "t": {"stem": "tiered", "average_shortcut": True},
}
_GATES = {
    "se": functools.partial(layers.SqueezeExcite, divisor=8),
    "eca": layers.EfficientChannelAttention,
}
_WITHOUT_TOP = {"include_top": False, "pooling": "avg"}
# As PyTorch computes.
_PYTORCH = {"symmetric_padding": True, "epsilon": 1e-5}

# What names of timm say that the backbones here lack.
_EXCLUDED = {
    r"pruned$": "is pruned: each of its layers has a width of its own",
    r"^legacy_": "is of timm's legacy class, whose names and order are others",
    r"resnext|senet|_\d+x\d+d": "has grouped convolutions, as ResNeXt",
    r"resnetaa|resnetblur": "has layers against aliasing",
    r"^resnetrs": "has a convolution in the place of the stem's max-pool",
    r"_gn$": "has group norm in the place of batch norm",
    r"^mobilenetv1_100h$": "has one more convolution before its classifier",
    r"^test_": "has widths that no ResNet has",
    r"^resnetv2": "is a ResNet of version 2",
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A set of weights of timm's, or, tagged "untrained", how timm would train a network.

    Args:
        network: str, timm's name of the network, as "seresnet50".
        tag: str, timm's name of the weights, as "ra2_in1k".
        classes: int, how many its classifier has; 0 where there is none.
        image_size: int, the side of the images that it was trained on.
        crop_pct: float, the part of the shorter side that such an image shows.
        test_image_size: int, the side with which its accuracy was measured.
        test_crop_pct: float, the part there.
        interpolation: str, how images were resized.
        mean: tuple of float, of the channels of images of 0 to 1.
        std: tuple of float, likewise.
        license: str, of the weights, as timm's package says; "" where it says none.
        data: str, what they were trained on.
        top1: float or None, the per cent of ImageNet's validation images, as timm published it.
        top5: float or None, likewise.
        former_name: str, what timm called them before, "" where that is the same.
    """

    network: str
    tag: str
    classes: int
    image_size: int
    crop_pct: float
    test_image_size: int
    test_crop_pct: float
    interpolation: str
    mean: tuple
    std: tuple
    license: str
    data: str
    top1: float | None
    top5: float | None
    former_name: str

    @property
    def name(self):
        return f"{self.network}.{self.tag}"


@functools.cache
def pretrained():
    """Returns a tuple of all `Pretrained`; of each network timm's default is the first."""
    table = importlib.resources.files("keras_fmm.models").joinpath("timm.csv")
    numbers = {float: float, int: int, float | None: lambda text: float(text) if text else None}
    numbers[tuple] = lambda text: tuple(map(float, text.split()))
    kinds = {field.name: numbers.get(field.type, str) for field in dataclasses.fields(Pretrained)}
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return tuple(
        Pretrained(**{name: kinds[name](text) for name, text in row.items()}) for row in rows
    )


def names():
    """Returns a list of str, the names that `from_timm` takes, with and without their tags."""
    found = dict.fromkeys(weights.network for weights in pretrained())
    return sorted([*found, *(weights.name for weights in pretrained())])


def from_timm(name, weights=None, include_preprocessing=False, **backbone_arguments):
    """Returns the network that timm calls so, with the weights of timm or torchvision.

    It gives what timm's gives: logits, of normalized images. `include_preprocessing` puts the
    normalization into the model, which then takes images of 0 to 255; either way its first layer,
    "preprocessing", a `Preprocessing`, says what the weights expect. `list_presets("timm/*")` has
    the names, docs/timm.md their accuracy, training data and licences: some forbid commercial use.

    The networks are those of timm's class `ResNet` with ReLU and batch norm, neither grouped nor
    against aliasing, plain or with squeeze-and-excitation or ECA, and MobileNet v1. Those of
    torchvision's ResNets are called as there.

    Args:
        name: str. As timm has it, such as "resnet50" or, with the tag of a set of weights,
            "seresnet50.ra2_in1k". Without one it is timm's default.
        weights: None, "hub", path or dict, default None (random). "hub" is timm's own file, which
            huggingface_hub downloads and keeps; a path that of a `.safetensors` or `.pth` file,
            and a dict a state dict. See `load_weights`; what is no gate of yours must all be there.
        include_preprocessing: bool, default False. Whether the model normalizes its images.
        **backbone_arguments: of `ResNet` or `MobileNet`, such as `input_shape`, `include_top` or
            `attention`; they go before timm's.

    Returns:
        A functional `keras.Model`, as of `ResNet` or `MobileNet`.

    Raises:
        TypeError: the name is no str, or an argument is of another type.
        ValueError: the name is not known, or of another kind; or the weights are those of another
            network, which the message names.
        OSError: the weights cannot be read or downloaded.
        ImportError: what reads or downloads them is missing.

    Example:

    >>> model = from_timm("ecaresnet26t", input_shape=(64, 64, 3), classes=10)
    >>> model.get_layer("preprocessing").source
    'ecaresnet26t.ra2_in1k'
    >>> model.output_shape
    (None, 10)
    """
    return built(name, weights, include_preprocessing, backbone_arguments)


def built(name, weights, include_preprocessing, backbone_arguments):
    """Returns what `from_timm` returns; `name` may be among the backbone's arguments, the model's.

    Args:
        backbone_arguments: dict.
    """
    normalize = checks.flag("include_preprocessing", include_preprocessing)
    known = find(name)
    function, arguments = _architecture(known.network)
    own_gate = arguments.get("attention")
    arguments |= {"classifier_activation": None, "name": known.network}
    arguments |= {"classes": known.classes} if known.classes else _WITHOUT_TOP
    arguments |= backbone_arguments
    x = _images(known, arguments)
    arguments["input_tensor"] = _preprocessing(known, normalize)(x)
    model = function(**arguments)
    if weights is not None:
        report = load_weights_of(model, weights, "weights")
        if own_gate is not None and arguments["attention"] is own_gate:
            _check_complete(known, report)
    return model


def find(name):
    """Returns the `Pretrained` of a name with or without its tag, as `from_timm` takes it."""
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a str. Received: name={name!r}")
    bare = name.removeprefix("timm/")
    for weights in pretrained():
        if bare and bare in (weights.name, weights.network, weights.former_name):
            return weights
    network, _, tag = bare.partition(".")
    tags = [weights.tag for weights in pretrained() if weights.network == network]
    if tags:
        near = nearest(tag, tags)
        raise ValueError(
            f"`name` must end in a tag that timm has of {network}. Received: name={name!r}. "
            f"Nearest first: {near}."
        )
    for pattern, reason in _EXCLUDED.items():
        if re.search(pattern, network):
            raise ValueError(
                "`name` must be of a network of timm's that the backbones here compute. "
                f"Received: name={name!r}, which {reason}. "
                f"Nearest first: {nearest(network, names())}."
            )
    raise ValueError(
        "`name` must be of a network of timm's that the backbones here compute. "
        f"Received: name={name!r}. Nearest first: {nearest(bare, names())}. "
        '`models.list_presets("timm/*")` has all.'
    )


def nearest(name, known, count=5):
    """Returns, for people, the known names that are most like one, the nearest first."""

    def likeness(other):
        ratio = difflib.SequenceMatcher(None, name.lower(), other).ratio()
        return ratio, other.startswith(name.lower()), -len(other)

    return ", ".join(map(repr, sorted(known, key=likeness, reverse=True)[:count]))


def is_computed(network):
    """Says whether a name of a network is of a kind that the backbones here compute."""
    excluded = any(re.search(pattern, network) for pattern in _EXCLUDED)
    return not excluded and _architecture(network) is not None


def _architecture(network):
    """Returns the function that builds a network, and its arguments; None for another kind."""
    if match := re.fullmatch(r"mobilenetv1_(\d+)", network):
        return MobileNet, {"alpha": int(match[1]) / 100, "dropout": 0.0, **_PYTORCH}
    match = re.fullmatch(r"(se|eca|wide_)?resnet(\d+|light)(|c|d|s|t|_2)", network)
    if match is None:
        return None
    gate, depth, variant = match.groups("")
    arguments = {
        "blocks_per_stage": _BLOCKS[depth],
        "bottleneck": depth not in _BASIC,
        "stride_in_3x3": True,
        "bottleneck_width": 128 if gate == "wide_" else 64,
        "average_shortcut": depth == "light",
        **_VARIANTS[variant.removesuffix("_2")],
        **_PYTORCH,
    }
    if gate in _GATES:
        arguments["attention"] = _GATES[gate]
    return ResNet, arguments


def _images(known, arguments):
    """Returns the tensor that a network begins with; takes what says so from its arguments."""
    shape, tensor = (arguments.pop(f"input_{kind}", None) for kind in ("shape", "tensor"))
    if shape is None:
        include_top = checks.flag("include_top", arguments.get("include_top", True))
        shape = backbone.default_shape(include_top, known.image_size)
    return backbone.images(arguments["name"], tensor, shape, minimum=32)


def _preprocessing(known, normalize):
    return Preprocessing(
        known.mean,
        known.std,
        normalize,
        known.image_size,
        known.crop_pct,
        known.test_image_size,
        known.test_crop_pct,
        known.interpolation,
        known.name,
        backbone.channel_axis(),
        name="preprocessing",
    )


def _check_complete(known, report):
    """Raises ValueError where the gates that make a network found no weights."""
    missing = [path for path in report.initialised if "attention" in path]
    if missing:
        raise ValueError(
            f"`weights` must be of {known.network}. Received: weights without "
            f"{missing[0]} and {len(missing) - 1} more. Without its gates it is another network: "
            f"give the weights of {known.network}, or the name of theirs and `attention`."
        )
