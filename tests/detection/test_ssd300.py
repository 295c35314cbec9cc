"""SSD300: its size beside torchvision's, its boxes and loss by loops, and that it learns."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_fmm import detection, layers, models
from tests.detection.test_retinanet import arrays, centred, overlap
from tests.support import canvases


def small(**arguments):
    network = models.ResNet(
        (1, 1, 1, 1),
        bottleneck=False,
        include_top=False,
        stem="imagenet",
        input_shape=(90, 90, 3),
        filters=8,
    )
    arguments = {"backbone": network, "classes": 3, "extra_filters": (16, 16), **arguments}
    return detection.SSD300(**arguments)


@pytest.fixture(scope="module")
def on_vgg():
    return detection.SSD300(classes=91)


def test_is_as_large_as_that_of_torchvision(on_vgg):
    assert on_vgg.count_params() == 35_641_826
    assert on_vgg.output.shape == (None, 8732, 99)
    sides = [on_vgg.get_layer(f"ssd_map{n}_logits").input.shape[1] for n in range(1, 7)]
    assert sides == [38, 19, 10, 5, 3, 1]
    norm = on_vgg.get_layer("ssd_map1_norm")
    assert keras.ops.convert_to_numpy(norm.weight).tolist() == [20] * 512


def test_default_boxes_by_loops(on_vgg):
    layer = on_vgg.get_layer("default_boxes")
    sides = [38, 19, 10, 5, 3, 1]
    found = keras.ops.convert_to_numpy(layer([np.zeros((1, side, side, 1)) for side in sides]))
    scales = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
    expected = []
    for k, (side, step) in enumerate(zip(sides, (8, 16, 32, 64, 100, 300), strict=True)):
        for i in range(side):
            for j in range(side):
                shapes = [(scales[k], scales[k])]
                shapes.append((math.sqrt(scales[k] * scales[k + 1]),) * 2)
                for ratio in (2, 3) if k in (1, 2, 3) else (2,):
                    wide, low = scales[k] * math.sqrt(ratio), scales[k] / math.sqrt(ratio)
                    shapes += [(wide, low), (low, wide)]
                for width, height in shapes:
                    width, height = 300 * min(width, 1), 300 * min(height, 1)
                    x, y = (j + 0.5) * step, (i + 0.5) * step
                    expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def loss_of_batch(objects, outputs, negatives):
    """The loss, box by box, as torchvision matches and mines."""
    total, positive = 0.0, 0
    for of_image, rows in zip(objects, outputs.astype(float), strict=True):
        of_image = [row for row in of_image.tolist() if row[4] >= 0]
        table = [[overlap(row[:4], box[:4]) for row in of_image] for box in rows.tolist()]
        found = {}
        for place, row in enumerate(table):
            if row and max(row) >= 0.5:
                found[place] = row.index(max(row))
        for number in range(len(of_image)):
            column = [row[number] for row in table]
            if max(column) > 0:
                found[column.index(max(column))] = number
        others = []
        for place, row in enumerate(rows):
            z = [0, *row[8:]]
            label = int(of_image[found[place]][4]) + 1 if place in found else 0
            entropy = math.log(sum(map(math.exp, z))) - z[label]
            if place not in found:
                others.append(entropy)
                continue
            total += entropy
            x, y, width, height = centred(row[:4])
            to_x, to_y, to_width, to_height = centred(of_image[found[place]][:4])
            wanted = [(to_x - x) / width, (to_y - y) / height]
            wanted += [math.log(to_width / width), math.log(to_height / height)]
            for error in np.abs(row[4:8] - wanted) / [0.1, 0.1, 0.2, 0.2]:
                total += 0.5 * error**2 if error < 1 else error - 0.5
        total += sum(sorted(others, reverse=True)[: int(negatives * len(found))])
        positive += len(found)
    return total / max(positive, 1)


@pytest.mark.parametrize("negatives", [3, 50])
def test_loss_by_loops(negatives):
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 40, (3, 60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (3, 60, 2))], axis=2)
    outputs = np.concatenate([boxes, rng.normal(0, 0.5, (3, 60, 4 + 3))], axis=2)
    near = boxes[0, :4] + rng.uniform(0, 2, 4)
    annotations = [
        # Two of the same best box, of which the last has it.
        {"boxes": [*near, near[0] + 0.1], "labels": [0, 2, 1, 1, 2]},
        {"boxes": [], "labels": []},
        # One far away from all, and one of no area.
        {"boxes": [[900, 900, 950, 950], [9, 9, 9, 12], [0, 0, 45, 45]], "labels": [2, 1, 0]},
    ]
    wanted = detection.targets(annotations, classes=3, max_boxes=6)
    loss = detection.SSDLoss(negatives=negatives)
    found = float(loss(wanted, outputs.astype("float32")))
    np.testing.assert_allclose(found, loss_of_batch(wanted, outputs, negatives), rtol=1e-4)
    # No image with an object.
    assert float(loss(wanted[1:2], outputs[1:2].astype("float32"))) == 0


def test_attention_before_the_predictors():
    model = small(attention="cbam", convolution="aw")
    for number in range(1, 5):
        gate = model.get_layer(f"ssd_map{number}_attention")
        for kind in ("logits", "deltas"):
            predictor = model.get_layer(f"ssd_map{number}_{kind}")
            assert isinstance(predictor, layers.AWConv2D)
            assert predictor.input is gate.output


def test_norm_by_loops():
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 5)).astype("float32")
    x[0, 0, 0] = 0
    layer = detection.L2Normalization(7)
    found = keras.ops.convert_to_numpy(layer(x))
    for place in np.ndindex(2, 3, 2):
        length = math.sqrt(sum(float(value) ** 2 for value in x[place])) or 1
        np.testing.assert_allclose(found[place], 7 * x[place] / length, rtol=1e-5)


@pytest.mark.slow
def test_learns_two_images_saves_and_loads(tmp_path):
    keras.utils.set_random_seed(0)
    images, annotations = canvases.two()
    model = detection.SSD300(
        canvases.backbone(),
        10,
        levels=["stage1", "stage2"],
        extra_filters=[32],
        scales=[0.12, 0.2, 0.3, 0.5],
    )
    optimizer = keras.optimizers.Adam(0.003, global_clipnorm=10.0)
    # A network of few steps: XLA takes longer than these.
    model.compile(optimizer, detection.SSDLoss(), jit_compile=False)
    wanted = detection.targets(annotations, classes=10)
    history = model.fit(images, wanted, epochs=80, verbose=0).history["loss"]
    assert history[-1] < history[0] / 10
    detector = detection.detector(model, max_detections=20)
    assert canvases.ap50(detector, images, annotations) == 1
    detector.save(tmp_path / "detector.keras")
    loaded = keras.models.load_model(tmp_path / "detector.keras")
    expected = arrays(detector(images))
    for key, value in arrays(loaded(images)).items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(attention="no"), "`attention` must be None, one of"),
        (lambda: small(extra_filters=(8, 8, 8, 8)), "than there is room for"),
        (lambda: small(scales=[0.1, 0.2]), "`scales` must be numbers above 0, one more than"),
        (lambda: small(backbone=models.ResNet18(include_top=False)), "square images"),
        (lambda: detection.SSDLoss(foreground=0), "`foreground` must be above 0"),
        (lambda: detection.SSDLoss()(np.zeros((1, 2, 4)), np.zeros((1, 3, 9))), "y_true"),
        (lambda: detection.DefaultBoxes([8], [[[4]]]), "a list of pairs for each"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_begins_with_the_weights_of_a_vgg16(on_vgg):
    source = keras.applications.VGG16(include_top=False, weights=None)
    model = detection.SSD300(classes=3, weights=source)
    own = [layer for layer in source.layers if layer.weights]
    assert len(own) == 13
    for layer in own:
        for given, taken in zip(layer.weights, model.get_layer(layer.name).weights, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(given), ops.convert_to_numpy(taken))
    # What is no part of it has its own shapes.
    assert model.get_layer("fc6").kernel.shape == on_vgg.get_layer("fc6").kernel.shape
    with pytest.raises(ValueError, match=r"None with a `backbone`.*Received: weights='imagenet'"):
        detection.SSD300(source, weights="imagenet")
    with pytest.raises(ValueError, match=r"or a model. Received: weights='vgg.h5'"):
        detection.SSD300(weights="vgg.h5")
    for other in (5, np.zeros(3)):
        with pytest.raises(TypeError, match="`weights` must be None, "):
            detection.SSD300(weights=other)
    deeper = keras.applications.VGG19(include_top=False, weights=None)
    with pytest.raises(ValueError, match="must be a VGG16.*'vgg19' with a layer 'block3_conv4'"):
        detection.SSD300(weights=deeper)
    grey = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 1))
    with pytest.raises(ValueError, match=r"must be a VGG16.*block1_conv1' .*\(3, 3, 1, 64\)"):
        detection.SSD300(weights=grey)
