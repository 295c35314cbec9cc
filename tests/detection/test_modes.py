"""Detectors by XLA, in half precision, on two devices, on any backbone, and written to files."""

import keras
import numpy as np
import pytest

from keras_fmm import detection, export, training

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(4, 32, 48, 3)).astype("float32")
TARGETS = detection.targets(
    [
        {"boxes": [[3, 3, 28, 30], [20, 10, 40, 31]], "labels": [0, 2]},
        {"boxes": [], "labels": []},
        {"boxes": [[0, 0, 10, 10]], "labels": [1]},
        {"boxes": [[8, 8, 30, 20]], "labels": [1]},
    ],
    classes=3,
)
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
# On JAX CI runs no slow tests, and has no other ones of these.
SLOW = pytest.mark.slow if ON_TENSORFLOW else ()
needs_tensorflow = pytest.mark.skipif(
    not ON_TENSORFLOW, reason="files and strategies are TensorFlow's"
)


def foreign(shape=(32, 48, 3)):
    """A backbone that is none of this package, with the strides 2, 4 and 8."""
    x = inputs = keras.Input(shape)
    for n in range(3):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu", name=f"map{n}")(x)
    return keras.Model(inputs, x)


def small(shape=(32, 48, 3), **arguments):
    """A RetinaNet."""
    keras.utils.set_random_seed(0)
    arguments = {"filters": 8, "extra_levels": 1, "head_depth": 1, "prior": 0.3, **arguments}
    return detection.RetinaNet(foreign(shape), 3, levels=["map1", "map2"], **arguments)


def faster_rcnn(**arguments):
    """A Faster R-CNN that has fewer anchors and proposals than are sampled: it takes them all."""
    keras.utils.set_random_seed(0)
    return detection.FasterRCNN(
        foreign((24, 32, 3)),
        3,
        levels=["map1", "map2"],
        filters=8,
        anchor_scale=3,
        candidates=20,
        proposals=10,
        units=8,
        **arguments,
    )


def ssd300(**arguments):
    keras.utils.set_random_seed(0)
    maps = {"levels": ["map1", "map2"], "extra_filters": (8,)}
    return detection.SSD300(foreign((32, 32, 3)), 3, **maps, **arguments)


# Each half of these has the same images: what is divided by a batch's boxes is so by a half's.
TWICE = [0, 1, 0, 1]
LOSSES = {
    "retinanet": lambda: detection.RetinaNetLoss("giou"),
    "faster_rcnn": lambda: None,  # its losses are inside
    "ssd300": detection.SSDLoss,
}


def losses(model, **arguments):
    height, width = model.inputs[0].shape[1:3]
    at = [0, 1, 2, 3] if model.name == "retinanet" else TWICE
    images, targets = IMAGES[at, :height, :width], TARGETS[at]
    model.compile(keras.optimizers.SGD(0.01), LOSSES[model.name](), **arguments)
    given = [[images, targets]] if model.name == "faster_rcnn" else [images, targets]
    fitted = model.fit(*given, batch_size=4, epochs=3, shuffle=False, verbose=0)
    return fitted.history["loss"]


def detector_of(model):
    """Ends a model whose logits differ so much that no two scores are nearly the same."""
    kernel = model.get_layer("class_head_logits").kernel
    kernel.assign(np.random.default_rng(1).normal(0, 2, kernel.shape))
    found = detection.Detections(20, iou_threshold=0.3)(model.output, model.input)
    return keras.Model(model.input, found)


def test_one_detector_takes_images_of_several_sizes():
    model = small((None, None, 3))
    found = detection.detector(model, max_detections=5, score_threshold=0)
    images = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype("float32")
    # The batch is known where Keras makes a graph for the second size.
    for height, width in ((64, 64), (37, 51), (64, 40)):
        part = images[:, :height, :width]
        given = found.predict(part, verbose=0)
        expected = keras.tree.map_structure(keras.ops.convert_to_numpy, found(part))
        for key in expected:
            np.testing.assert_allclose(given[key], expected[key], rtol=1e-4, atol=1e-4)


def test_a_detector_has_the_data_format_of_its_model(tmp_path):
    if ON_TENSORFLOW:
        pytest.skip("TensorFlow has no convolution of channels first on a CPU")
    keras.config.set_image_data_format("channels_first")
    try:
        model = small((3, 32, 48))
    finally:
        keras.config.set_image_data_format("channels_last")
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"data format, 'channels_last'. Received: 'map1' of 'ch"):
        detection.RetinaNet(model, 3, levels=["map1", "map2"])
    found = detection.detector(model, max_detections=50, score_threshold=0)
    boxes = found.predict(IMAGES.transpose(0, 3, 1, 2), verbose=0)["boxes"]
    assert boxes[..., 2].max() > 40
    assert boxes[..., 3].max() > 24
    assert boxes[..., 3].max() <= 32


def same(found, expected, atol=1e-3):
    assert expected["count"].min() > 3
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], atol=atol)


@pytest.mark.parametrize(
    ("make", "attention"),
    [
        pytest.param(small, "squeeze_excite", marks=SLOW),
        pytest.param(faster_rcnn, None, marks=pytest.mark.slow),
        pytest.param(ssd300, None, marks=pytest.mark.slow),
    ],
)
def test_xla_trains_as_without(make, attention):
    if keras.backend.backend() == "torch":
        pytest.skip("Keras' own is torch.compile")
    compiled, plain = (losses(make(attention=attention), jit_compile=jit) for jit in (True, False))
    np.testing.assert_allclose(compiled, plain, rtol=1e-3)
    assert plain[-1] < plain[0]


# bfloat16 rounds eight times as coarsely, and three steps add up.
@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    ("make", "policy", "rtol"),
    [
        (small, "mixed_float16", 0.02),
        pytest.param(small, "mixed_bfloat16", 0.05, marks=SLOW),
        pytest.param(faster_rcnn, "mixed_float16", 0.02, marks=SLOW),
        pytest.param(ssd300, "mixed_float16", 0.02, marks=SLOW),
    ],
)
def test_mixed_precision_trains_as_float32(make, policy, rtol):
    expected = losses(make())
    keras.config.set_dtype_policy(policy)
    try:
        model = make()
        found = losses(model)
        assert model.get_layer("map1").compute_dtype == policy.removeprefix("mixed_")
        assert model.output.dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(found, expected, rtol=rtol)
    assert found != expected


@pytest.mark.slow
@needs_tensorflow
@pytest.mark.parametrize(
    ("make", "inside"),
    [
        (small, {"convolution": "aw"}),
        (faster_rcnn, {"attention": "squeeze_excite"}),
        (ssd300, {"attention": "squeeze_excite"}),
    ],
)
def test_mirrored_strategy_trains_as_one_device(make, inside):
    with training.strategy("mirrored").scope():
        found = losses(make(**inside))
    np.testing.assert_allclose(found, losses(make(**inside)), rtol=1e-3)
    assert found[-1] < found[0]


@pytest.mark.slow_on_tensorflow
def test_a_foreign_backbone_is_saved_and_loaded(tmp_path):
    detector = detector_of(small(attention="cbam"))
    detector.save(tmp_path / "detector.keras")
    loaded = keras.models.load_model(tmp_path / "detector.keras")
    expected = detector.predict(IMAGES, verbose=0)
    same(loaded.predict(IMAGES, verbose=0), expected, atol=0)


@pytest.mark.slow
@needs_tensorflow
def test_a_saved_model_takes_images_of_any_size(tmp_path):
    detector = detector_of(small((None, None, 3)))
    path = export.to_saved_model(detector, tmp_path / "saved")
    for shape in ((1, 33, 47, 3), (2, 64, 32, 3)):
        images = RNG.uniform(size=shape).astype("float32")
        expected = {key: np.array(value) for key, value in detector(images).items()}
        same(export.run_saved_model(path, images), expected)


@pytest.mark.slow
@needs_tensorflow
def test_tflite_has_the_suppression_and_int8_the_network(tmp_path):
    pytest.importorskip("ai_edge_litert")
    detector = detector_of(small())
    expected = detector.predict(IMAGES, verbose=0)
    path = export.to_tflite(detector, tmp_path / "detector.tflite")
    same(export.run_tflite(path, IMAGES), expected)
    with pytest.raises(ValueError, match="detection.split"):
        export.to_tflite(detector, path, quantization="int8", representative_data=IMAGES)

    network, ending = detection.split(detector)
    given = network.predict(IMAGES, verbose=0)
    same(ending.predict(given, verbose=0), expected)
    path = export.to_tflite(
        network, tmp_path / "int8.tflite", quantization="int8", representative_data=IMAGES
    )
    found = export.run_tflite(path, IMAGES)
    for key, value in given.items():
        assert np.abs(found[key] - value).mean() < 0.1 * value.std()
    with pytest.raises(ValueError, match="ends in `Detections`"):
        detection.split(network)
    with pytest.raises(ValueError, match="known size"):
        detection.split(detector_of(small((None, None, 3))))
