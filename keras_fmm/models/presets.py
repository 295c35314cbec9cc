"""Backbones by name: the AW paper's, the FMM paper's, and timm's."""

import fnmatch
import functools
import types

from keras_fmm import checks
from keras_fmm.layers import CBAM, CONVOLUTIONS, GATES, SHORT_NAMES, AttentionAugmentedConv2D
from keras_fmm.models import timm
from keras_fmm.models.mobilenet import MobileNet
from keras_fmm.models.resnet import ResNet18, ResNet34, ResNet50, ResNet101, ResNet152
from keras_fmm.models.stand_alone_resnet import (
    StandAloneResNet26,
    StandAloneResNet38,
    StandAloneResNet50,
)
from keras_fmm.models.wide_resnet import WideResNet

# Where AW-convolutions stand in the AW paper's AW-AA-Wide-ResNet-1 to -3: beside the attention, in
# the place of its queries, keys and values, and of its output's.
_AW_IN_AUGMENTED = ("convolution", "qkv_convolution", "projection_convolution")


def _presets():
    gates, convolutions = (
        {SHORT_NAMES[name]: name for name in known if name in SHORT_NAMES}
        for known in (GATES, CONVOLUTIONS)
    )
    # As the AW paper calls them: without spatial attention, and without max-pooling.
    gates["cbam_maxpool"] = functools.partial(CBAM, use_spatial=False)
    gates["cbam_spatial"] = functools.partial(CBAM, use_max_pool=False)
    plain = {"": {}} | {name: {"convolution": kind} for name, kind in convolutions.items()}
    attentions = dict(plain)
    for name, gate in gates.items():
        for convolution, arguments in plain.items():
            both = f"{convolution}_{name}" if convolution else name
            attentions[both] = {"attention": gate, **arguments}
    backbones = {
        "resnet18": ResNet18,
        "resnet34": ResNet34,
        "resnet50": ResNet50,
        "resnet101": ResNet101,
        "resnet152": ResNet152,
        "mobilenet": MobileNet,
        "wide_resnet28_10": functools.partial(WideResNet, depth=28, width=10),
    }
    for backbone, function in backbones.items():
        for attention, arguments in attentions.items():
            name = f"{attention}_{backbone}" if attention else backbone
            yield name, functools.partial(function, name=name, **arguments)
    # Its authors name neither depth nor width; 6 blocks are below the 7 that they could train.
    # The deeper ones, of 12 to 102 blocks, have the form of the product that can be.
    for depth, width in ((16, 4), (28, 10), (58, 1), (112, 1), (208, 1)):
        name = f"fmmnet{depth}_{width}"
        residual = "multiply" if depth == 16 else "centered_multiply"
        arguments = {"depth": depth, "width": width, "residual": residual}
        yield name, functools.partial(WideResNet, name=name, **arguments)
    backbones = {
        "stand_alone_resnet26": StandAloneResNet26,
        "stand_alone_resnet38": StandAloneResNet38,
        "stand_alone_resnet50": StandAloneResNet50,
    }
    for name, function in backbones.items():
        yield name, functools.partial(function, name=name)
        attention_stem = f"{name}_attention_stem"
        yield attention_stem, functools.partial(function, name=attention_stem, stem="attention")
    both = {"*_conv1": "attention_augmented", "*_conv2": "aw"}
    inside = [
        {"*_conv1": functools.partial(AttentionAugmentedConv2D, **{place: "aw"})}
        for place in _AW_IN_AUGMENTED
    ]
    for number, convolution in enumerate((both, *inside)):
        name = f"aw_aa_wide_resnet28_10_{number}"
        arguments = {"depth": 28, "width": 10, "convolution": convolution}
        yield name, functools.partial(WideResNet, name=name, **arguments)


# The names that `from_preset` knows, each with the function that builds the model.
PRESETS = types.MappingProxyType(dict(_presets()))


def list_presets(pattern="*"):
    """Returns the names that `from_preset` knows.

    Args:
        pattern: str, default "*". What a name must be like; "*" stands for any letters, "?" for
            one, and capitals count as small ones.

    Returns:
        A list of str: the names of `PRESETS`, then timm's as `timm/NAME`, with and without the
        tags of their weights.

    Raises:
        TypeError: the pattern is no str.

    Example:

    >>> list_presets("*se*resnet50")
    ['se_resnet50', 'aw_se_resnet50', 'aa_se_resnet50', 'timm/seresnet50']
    """
    return like(pattern, [*PRESETS, *(f"timm/{name}" for name in timm.names())])


def like(pattern, known):
    """Returns the known names that are like a pattern; raises TypeError where it is no str."""
    checks.instance("pattern", pattern, str)
    return [name for name in known if fnmatch.fnmatchcase(name.lower(), pattern.lower())]


def from_preset(preset, **arguments):
    """Returns a backbone by its name.

    The names are made of an attention, if any, and a backbone: `aw_se_resnet50` is ResNet-50 with
    AW-convolutions and squeeze-and-excitation. "cbam_maxpool" is what the AW paper calls CBAM
    (MaxPool), channel attention alone; "cbam_spatial" its CBAM (Spatial), without max-pooling.
    "aa" are attention-augmented convolutions, where their paper has them in such a backbone.
    `fmmnet16_4` is a Wide ResNet of depth 16 and width 4 that multiplies branch and shortcut;
    `fmmnet28_10`, `fmmnet58_1`, `fmmnet112_1` and `fmmnet208_1` multiply by a gate that starts at
    1, `residual="centered_multiply"`.
    `stand_alone_resnet26` and its kin have self-attention in the place of their 3x3 convolutions,
    and, with "_attention_stem" behind it, of the stem's. `aw_aa_wide_resnet28_10_0` to `_3` are the
    AW paper's AW-AA-Wide-ResNet-0 to -3: attention-augmented convolutions in the first 3x3 place of
    each block, and AW-convolutions in the second, or in the first beside the attention (1), in the
    place of its queries, keys and values (2), or of its output's convolution (3). The paper's 8.43
    to 8.50 million parameters fit no usual depth and width; these have 28 and 10.
    `timm/NAME` is `from_timm(NAME)`. `list_presets` has all names.

    Args:
        preset: str. A name among `PRESETS`, or of timm.
        **arguments: of the backbone, such as `classes`, `input_shape` or `weights`; they go before
            the preset's.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: the name is no str.
        ValueError: the name is not known; the message has those near it.

    Example:

    >>> model = from_preset("aw_se_resnet18", classes=10, input_shape=(32, 32, 3))
    >>> model.name, model.get_layer("stage4_block2_attention").reduction
    ('aw_se_resnet18', 16)
    """
    if isinstance(preset, str) and preset.startswith("timm/"):
        asked = {"weights": None, "include_preprocessing": False}
        asked = {name: arguments.pop(name, default) for name, default in asked.items()}
        return timm.built(preset, **asked, backbone_arguments=arguments)
    return checked_name(preset, PRESETS, list_presets(), "models")(**arguments)


def checked_name(preset, presets, names, part):
    """Returns what stands under a preset's name.

    Args:
        preset: str. The name.
        presets: mapping. All of them.
        names: list of str. Those that users are told of; those near a wrong one are among these.
        part: str. The part of the package whose `list_presets` gives them.

    Raises:
        TypeError: the name is no str.
        ValueError: the name is not known; the message has those near it.
    """
    if not isinstance(preset, str):
        raise TypeError(f"`preset` must be a str. Received: preset={preset!r}")
    if preset not in presets:
        raise ValueError(
            f"`preset` must be a name of a preset. Received: preset={preset!r}. "
            f"Near it: {timm.nearest(preset, names, 3)}. "
            f"`{part}.list_presets()` has all names."
        )
    return presets[preset]
