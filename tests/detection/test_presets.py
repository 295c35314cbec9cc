"""Detectors by name: what each is made of, and how large those of the papers are."""

import math

import keras
import pytest

from keras_fmm import detection
from tests.support.weightless import weightless

if keras.backend.backend() != "tensorflow":
    pytest.skip("takes long to build, and no backend makes a difference", allow_module_level=True)

# torchvision's RetinaNet, Faster R-CNN and SSD300 of 91 classes; a ResNet-101 has 18,939,904 more
# weights in its convolutions than a ResNet-50. Attention in the pyramid adds what the AW paper's
# places make of it: 4 lateral and 4 output convolutions, of RetinaNet 3 and 3.
SIZES = {
    "retinanet_resnet50": 34_014_999,
    "faster_rcnn_resnet50": 41_755_286,
    "faster_rcnn_resnet101": 41_755_286 + 18_939_904,
    "aw_faster_rcnn_resnet101": 41_755_286 + 18_939_904 + 442_368,
    "se_faster_rcnn_resnet101": 41_755_286 + 18_939_904 + 734_256,
    "aw_se_faster_rcnn_resnet101": 41_755_286 + 18_939_904 + 1_176_624,
    "cbam_faster_rcnn_resnet101": 41_755_286 + 18_939_904 + 735_040,
    "ssd300_vgg16": 35_641_826,
}


def trained(model):
    """The weights trained, without batch norms', those inside of layers too."""
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    of_norms = {id(weight) for norm in norms for weight in norm.trainable_weights}
    weights = [weight for weight in model.trainable_weights if id(weight) not in of_norms]
    return sum(math.prod(weight.shape) for weight in weights)


@pytest.mark.parametrize("preset", SIZES)
def test_sizes(preset):
    with weightless():
        assert trained(detection.from_preset(preset)) == SIZES[preset]


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(set(detection.PRESETS) - set(SIZES)))
def test_all_can_be_built(preset):
    with weightless():
        model = detection.from_preset(preset, classes=7)
        assert model.name == preset
        assert detection.detector(model).output["boxes"].shape == (None, 100, 4)


def test_names():
    expected = {
        "_".join(filter(None, parts))
        for attention in ("", "aw", "se", "aw_se", "cbam", "aw_cbam")
        for detector in ("retinanet", "faster_rcnn")
        for backbone in ("resnet50", "resnet101")
        for parts in [(attention, detector, backbone)]
    }
    assert expected < set(detection.list_presets())
    assert detection.list_presets("AW_ssd*") == ["aw_ssd300_vgg16"]


def test_a_wrong_name_is_answered_with_those_near_it():
    with pytest.raises(ValueError, match=r"Near it: 'aw_se_faster_rcnn_resnet101', .*detection"):
        detection.from_preset("aw_se_fasterrcnn_resnet101")
    with pytest.raises(TypeError, match="must be a str"):
        detection.from_preset(3)
