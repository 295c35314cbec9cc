"""What keras.applications calls the layers of the backbones here, and the models themselves."""

import re

import keras

from keras_fmm.models import pytorch

# How many blocks stand before each of MobileNet's stages; keras.applications counts through.
_MOBILENET_OFFSETS = (0, 1, 3, 5, 11)


def name_in(arrays):
    """Returns the function from a name here to the name in the source."""
    if "conv1_conv" in arrays:
        return _in_resnet
    if "conv_dw_1" in arrays:
        return _in_mobilenet
    return same_name


def same_name(name):
    return name


def _in_resnet(name):
    stem = {"stem_conv": "conv1_conv", "stem_bn": "conv1_bn"}
    match = re.fullmatch(r"stage(\d+)_block(\d+)_(shortcut_)?(conv|bn)(\d?)", name)
    if match is None:
        return stem.get(name, name)
    stage, block, _, kind, index = match.groups()
    return f"conv{int(stage) + 1}_block{block}_{index or 0}_{kind}"


def _in_mobilenet(name):
    others = {"stem_conv": "conv1", "stem_bn": "conv1_bn", "predictions": "conv_preds"}
    match = re.fullmatch(r"stage(\d)_block(\d)_(depthwise|pointwise)_(conv|bn)", name)
    if match is None:
        return others.get(name, name)
    stage, block, half, kind = match.groups()
    index = _MOBILENET_OFFSETS[int(stage) - 1] + int(block)
    return f"conv_{half[0]}w_{index}{'_bn' if kind == 'bn' else ''}"


def imagenet_model(model, argument):
    """Returns the model of keras.applications with its weights, with a top as `model` has one."""
    names = [layer.name for layer in model.layers]
    if pytorch.is_arranged(model.layers):
        raise ValueError(
            f'`{argument}="imagenet"` is of keras.applications, whose strides and padding are '
            f"others than PyTorch's. Received: the model {model.name!r}, which has PyTorch's. Give "
            "a `.safetensors` or `.pth` file, or build the model without `symmetric_padding`."
        )
    arguments = {"weights": "imagenet", "include_top": "predictions" in names}
    if "stage1_block1_pointwise_conv" in names:
        alpha = model.get_layer("stage1_block1_pointwise_conv").filters / 64
        return keras.applications.MobileNet((224, 224, 3), alpha, **arguments)
    by_blocks = {
        (3, 4, 6, 3): keras.applications.ResNet50,
        (3, 4, 23, 3): keras.applications.ResNet101,
        (3, 8, 36, 3): keras.applications.ResNet152,
    }
    counts = [0, 0, 0, 0]
    for name in names:
        if match := re.fullmatch(r"stage(\d)_block\d+_conv3", name):
            counts[int(match.group(1)) - 1] += 1
    if tuple(counts) not in by_blocks:
        known = "ResNet50, ResNet101, ResNet152 and MobileNet"
        raise ValueError(
            f'`{argument}="imagenet"` is for {known}, whose weights keras.applications has. '
            f"Received: the model {model.name!r}. Give a file or a model."
        )
    return by_blocks[tuple(counts)](**arguments)
