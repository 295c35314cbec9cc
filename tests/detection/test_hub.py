"""keras-hub's RetinaNet on backbones of this package; keras-hub is none of CI's packages."""

import importlib.util

import keras
import numpy as np
import pytest

from keras_fmm import models

keras_hub = pytest.importorskip("keras_hub", reason="is no part of the extra `all`")
hub = pytest.importorskip("keras_fmm.detection.hub")

IMAGES = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype("float32")


def backbone(**arguments):
    arguments = {"include_top": False, "attention": "squeeze_excite", "filters": 8, **arguments}
    return models.ResNet((1, 1, 1, 1), input_shape=(64, 64, 3), **arguments)


def detector(model):
    pyramid = keras_hub.models.RetinaNetBackbone(
        image_encoder=hub.HubBackbone(model, ["stage2", "stage3", "stage4"]),
        min_level=3,
        max_level=6,
        use_p5=False,
        image_shape=(64, 64, 3),
    )
    return keras_hub.models.RetinaNetObjectDetector(
        pyramid, num_classes=2, bounding_box_format="xyxy", pre_logits_num_conv_layers=1
    )


def test_maps_are_those_of_the_stages():
    model = backbone(stem="imagenet")
    found = hub.HubBackbone(model)
    assert list(found.pyramid_outputs) == ["P2", "P3", "P4", "P5"]
    expected = models.feature_model(model).predict(IMAGES, verbose=0)
    for given, wanted in zip(found.predict(IMAGES, verbose=0).values(), expected, strict=True):
        np.testing.assert_array_equal(given, wanted)


@pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("tensorflow", "grain"))),
    reason="keras-hub's `fit` takes its data by TensorFlow or grain",
)
def test_a_detector_trains_is_saved_and_loaded(tmp_path):
    model = detector(backbone(stem="imagenet"))
    boxes = {
        "boxes": np.array([[[3, 3, 40, 50]], [[20, 10, 60, 60]]], "float32"),
        "labels": np.array([[0], [1]], "float32"),
    }
    model.compile(
        keras.optimizers.SGD(0.001),
        box_loss=keras.losses.Huber(reduction="sum"),
        classification_loss=keras.losses.BinaryFocalCrossentropy(from_logits=True, reduction="sum"),
    )
    gate = next(w for w in model.weights if "attention" in w.path)
    before = keras.ops.convert_to_numpy(gate)
    model.fit(IMAGES, boxes, batch_size=2, verbose=0)
    assert not np.array_equal(keras.ops.convert_to_numpy(gate), before)
    model.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    expected = model(IMAGES, training=False)
    for key, value in loaded(IMAGES, training=False).items():
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(value), keras.ops.convert_to_numpy(expected[key])
        )


def test_refuses_what_is_no_pyramid():
    with pytest.raises(ValueError, match="each half as large"):
        hub.HubBackbone(backbone(stem="imagenet"), ["stage1", "stage3"])
