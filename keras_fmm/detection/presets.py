"""Detectors by name: those of the AW paper, and of the papers on self-attention."""

import functools
import types

from keras_fmm import models
from keras_fmm.detection.faster_rcnn import FasterRCNN
from keras_fmm.detection.retinanet import RetinaNet
from keras_fmm.detection.ssd300 import SSD300
from keras_fmm.layers import SHORT_NAMES
from keras_fmm.models import presets as backbones


def _on(detector, backbone, name, shape, pyramid):
    """Returns the function that builds a detector on a backbone of this package."""

    def build(classes=91, input_shape=shape, weights=None, **arguments):
        network = backbone(
            include_top=False, input_shape=input_shape, weights=weights, stem="imagenet"
        )
        return detector(network, classes, **{"name": name, **pyramid, **arguments})

    return build


def _presets():
    # As the AW paper compares them.
    attentions = {"": {}, "aw": {"convolution": "aw"}}
    for gate in ("squeeze_excite", "cbam"):
        short = SHORT_NAMES[gate]
        attentions[short] = {"attention": gate}
        attentions[f"aw_{short}"] = {"attention": gate, "convolution": "aw"}
    detectors = {"retinanet": RetinaNet, "faster_rcnn": FasterRCNN}
    networks = {"resnet50": models.ResNet50, "resnet101": models.ResNet101}
    for attention, arguments in attentions.items():
        for detector, function in detectors.items():
            for backbone, network in networks.items():
                name = "_".join(filter(None, (attention, detector, backbone)))
                yield name, _on(function, network, name, None, arguments)
        name = "_".join(filter(None, (attention, "ssd300_vgg16")))
        yield name, functools.partial(SSD300, classes=91, name=name, **arguments)
    # The tables of attention-augmented convolutions are of one size of images.
    augmented = functools.partial(models.ResNet50, convolution="attention_augmented")
    name = "retinanet_aa_resnet50"
    yield name, _on(RetinaNet, augmented, name, (512, 512, 3), {})
    name = "retinanet_stand_alone_resnet50"
    yield name, _on(RetinaNet, models.StandAloneResNet50, name, None, {})


# The names that `from_preset` knows, each with the function that builds the model.
PRESETS = types.MappingProxyType(dict(_presets()))


def list_presets(pattern="*"):
    """Returns the names that `from_preset` knows.

    Args:
        pattern: str, default "*". What a name must be like; "*" stands for any letters, "?" for
            one, and capitals count as small ones.

    Returns:
        A list of str.

    Raises:
        TypeError: the pattern is no str.

    Example:

    >>> list_presets("*se_faster_rcnn*50")
    ['se_faster_rcnn_resnet50', 'aw_se_faster_rcnn_resnet50']
    """
    return backbones.like(pattern, PRESETS)


def from_preset(preset, **arguments):
    """Returns a detector for training by its name.

    The names are made of an attention, if any, a detector and a backbone:
    `aw_se_faster_rcnn_resnet101` is Faster R-CNN on ResNet-101 whose pyramid has AW-convolutions
    with squeeze-and-excitation before them, as in the AW paper. "se", "cbam" and "aw" stand there
    in `retinanet` too, and in `ssd300_vgg16` before and in the predictors. The backbone of
    `retinanet_aa_resnet50` has attention-augmented convolutions, for images of 512x512 unless
    `input_shape` says otherwise, and that of `retinanet_stand_alone_resnet50` self-attention in the
    place of its 3x3 convolutions.

    Args:
        preset: str. A name among `PRESETS`.
        **arguments: `classes`, default 91 (as torchvision counts those of COCO); the backbone's
            `weights`, default None, as of its function; for ResNets `input_shape`, default
            (None, None, 3); and those of the detector, `RetinaNet`, `FasterRCNN` or `SSD300`, which
            go before the preset's.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: the name is no str.
        ValueError: the name is not known; the message has those near it.

    Example:

    >>> model = from_preset("cbam_retinanet_resnet50", classes=3, filters=16, head_depth=0)
    >>> model.name, model.get_layer("pyramid_p3_output_attention").reduction
    ('cbam_retinanet_resnet50', 16)
    """
    return backbones.checked_name(preset, PRESETS, list_presets(), "detection")(**arguments)
