"""RetinaNet: its size beside torchvision's, what it is trained on by loops, and its detections."""

import math

import keras
import numpy as np
import pytest

from keras_fmm import analysis, detection, layers, models


def arrays(outputs):
    return {key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}


def backbone(**arguments):
    arguments = {"input_shape": (None, None, 3), "filters": 8, **arguments}
    blocks = (1, 1, 1, 1)
    return models.ResNet(blocks, bottleneck=False, include_top=False, stem="imagenet", **arguments)


def small(**arguments):
    return detection.RetinaNet(backbone(), 3, filters=16, head_depth=1, **arguments)


IMAGES = np.random.default_rng(0).uniform(size=(3, 70, 90, 3)).astype("float32")
ANNOTATIONS = [
    {"boxes": [[3, 3, 40, 40], [20, 10, 60, 66]], "labels": [0, 2]},
    {"boxes": [], "labels": []},
    # One of no area, which must not make every anchor one of an object.
    {"boxes": [[5, 5, 5, 60], [0, 0, 70, 60]], "labels": [1, 1]},
]


@pytest.mark.slow_on_tensorflow
def test_is_as_large_as_that_of_torchvision():
    resnet = models.ResNet50(include_top=False, input_shape=(None, None, 3))
    model = detection.RetinaNet(resnet, classes=91)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    counted = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    counted -= sum(math.prod(weight.shape) for x in norms for weight in x.trainable_variables)
    assert counted == 34_014_999
    assert model.output.shape == (None, None, 99)


# What the AW paper's places in ResNet-101-FPN add: all weights, and those trained without the
# scale and offset of batch norms.
@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    ("attention", "convolution", "added"),
    [
        (None, "aw", 451_776),
        ("squeeze_excite", None, 734_256),
        ("squeeze_excite", "aw", 1_186_032),
        ("cbam", None, 735_072),
    ],
)
def test_attention_in_the_pyramid(attention, convolution, added):
    stages = ["stage1", "stage2", "stage3", "stage4"]
    resnet = models.ResNet((1, 1, 1, 1), include_top=False, input_shape=(None, None, 3))
    plain, other = (
        detection.FeaturePyramid(resnet, stages, extra="pool", extra_levels=1, **arguments)
        for arguments in ({}, {"attention": attention, "convolution": convolution})
    )
    assert other.count_params() - plain.count_params() == added
    assert list(other.output) == ["P2", "P3", "P4", "P5", "P6"]
    if convolution == "aw":
        for place in ("p2_lateral", "p5_output"):
            assert isinstance(other.get_layer(f"pyramid_{place}"), layers.AWConv2D)
    if attention:
        gate = other.get_layer("pyramid_p5_lateral_attention")
        assert other.get_layer("pyramid_p5_lateral").input is gate.output


def test_pyramid_by_hand():
    """Kernels of ones in one channel: what a position of the finest map has seen."""
    inputs = keras.Input((4, 6, 1))
    coarse = keras.layers.MaxPooling2D(2, name="coarse")(inputs)
    model = keras.Model(inputs, keras.layers.Activation("linear", name="end")(coarse))
    pyramid = detection.FeaturePyramid(
        model, [model.layers[0].name, "coarse"], filters=1, extra_levels=0
    )
    for layer in pyramid.layers:
        if layer.weights:
            kernel = np.zeros(layer.kernel.shape)
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
            layer.set_weights([kernel, np.array([0.5])])
    x = np.arange(24.0).reshape(1, 4, 6, 1)
    found = arrays(pyramid(x))
    largest = np.array([[7, 9, 11], [19, 21, 23.0]])
    np.testing.assert_allclose(found["P1"][0, :, :, 0], largest + 1)
    twice = largest.repeat(2, axis=0).repeat(2, axis=1) + 0.5
    np.testing.assert_allclose(found["P0"][0, :, :, 0], x[0, :, :, 0] + 0.5 + twice + 0.5)


def test_odd_maps_are_cut():
    small_map = np.arange(4.0).reshape(1, 2, 2, 1)
    large = detection.UpsampleLike()([small_map, np.zeros((1, 3, 4, 2))])
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(large)[0, :, :, 0], expected)
    # Convolutions without padding, and poolings, round down.
    layer, like = detection.UpsampleLike(), np.zeros((1, 5, 3, 2))
    first = detection.UpsampleLike("channels_first")
    turned = first([np.moveaxis(small_map, 3, 1), np.zeros((1, 2, 3, 5))])
    turned = keras.ops.convert_to_numpy(turned)[0, 0]
    np.testing.assert_array_equal(turned, [[0, 0, 1, 1, 1]] * 2 + [[2, 2, 3, 3, 3]])
    expected = [[0, 0, 1], [0, 0, 1], *[[2, 2, 3]] * 3]
    unknown = keras.Input((None, None, 1)), keras.Input((None, None, 2))
    model = keras.Model(unknown, layer(list(unknown)))
    for found in (layer([small_map, like]), model([small_map, like])):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found)[0, :, :, 0], expected)


# Pooling lacks one row, convolutions without padding two and more.
@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("side", [104, None])
def test_a_backbone_that_rounds_sides_down(side, size):
    inputs = keras.Input((side, side, 3))
    fine = keras.layers.MaxPooling2D(4, name="fine")(inputs)
    outputs = keras.layers.Conv2D(4, size, 2, name="coarse")(fine)
    levels = ["fine", "coarse"]
    pyramid = detection.FeaturePyramid(keras.Model(inputs, outputs), levels, 4, extra_levels=0)
    images = np.random.default_rng(0).normal(size=(1, 104, 104, 3))
    found = pyramid.predict(images, verbose=0)
    coarse = (26 - size) // 2 + 1
    assert {name: x.shape[1] for name, x in found.items()} == {"P2": 26, "P3": coarse}
    lateral = keras.Model(pyramid.input, pyramid.get_layer("pyramid_p3_lateral").output)
    raised = keras.Model(pyramid.input, pyramid.get_layer("pyramid_p2_upsample").output)
    small, large = (x.predict(images, verbose=0)[0] for x in (lateral, raised))
    nearest = np.minimum(np.arange(26) // 2, coarse - 1)
    np.testing.assert_array_equal(large, small[nearest][:, nearest])


def strided(shape, *strides):
    x = inputs = keras.Input(shape)
    for index, stride in enumerate(strides):
        x = keras.layers.Conv2D(4, 3, stride, padding="same", name=f"map{index}")(x)
    return keras.Model(inputs, x)


# Of small and odd sides, and of two, too.
@pytest.mark.parametrize("shape", [(33, 320, 3), (33, 33, 3), (45, 40, 3), (64, 64, 3)])
def test_strides_are_those_of_the_layers(shape):
    nested = strided((None, None, 4), 2, 2)
    inputs = keras.Input(shape)
    outside = keras.layers.Conv2D(4, 3, 8, padding="same", name="first")(inputs)
    model = keras.Model(inputs, nested(outside))
    name = f"{nested.name}/map0"
    found = detection.FeaturePyramid(model, [name, f"{nested.name}/map1"], 4, extra_levels=0)
    assert list(found.output) == ["P4", "P5"]


def test_a_backbone_of_one_size():
    inputs = keras.Input((225, 225, 3))
    x = keras.layers.Conv2D(4, 3, 16, padding="same")(inputs)
    x = keras.layers.Reshape((225, 4))(x)
    x = keras.layers.Reshape((15, 15, 4), name="map")(x)
    pyramid = detection.FeaturePyramid(keras.Model(inputs, x), ["map"], 4, extra_levels=0)
    assert list(pyramid.output) == ["P4"]


def test_a_backbone_that_resizes():
    inputs = keras.Input((128, 128, 3))
    outputs = strided((64, 64, 3), 2, 2)(keras.layers.Resizing(64, 64)(inputs))
    model = keras.Model(inputs, outputs)
    pyramid = detection.FeaturePyramid(model, ["map0", "map1"], 4, extra_levels=0)
    assert list(pyramid.output) == ["P2", "P3"]
    # Of images of any size the stride would be the image's; a pooled map has none.
    inputs = keras.Input((None, None, 3))
    resized = keras.layers.Resizing(64, 64)(inputs)
    model = keras.Model(inputs, strided((64, 64, 3), 2, 2)(resized))
    with pytest.raises(ValueError, match=r"maps of the strides \[inf, inf\]"):
        detection.FeaturePyramid(model, ["map0", "map1"], 4)
    model = strided((128, 128, 3), 64)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pooled")(model.output)
    with pytest.raises(ValueError, match=r"maps of the strides \[64, inf\]"):
        detection.FeaturePyramid(keras.Model(model.input, pooled), ["map0", "pooled"], 4)


@pytest.mark.parametrize(
    ("shape", "strides", "told"),
    [
        ((300, 300, 3), (3, 2, 2), r"\[3.0, "),
        ((300, 300, 3), (5, 2, 2), r"\[5.0, "),
        ((224, 224, 3), (14,), r"\[1[34]"),
        ((64, 64, 3), ((4, 2), (2, 1)), r"\[\(4, 2\), \(8, 2\)\]"),
    ],
)
def test_strides_that_are_no_powers_of_2_are_refused(shape, strides, told):
    model = strided(shape, *strides)
    names = [f"map{index}" for index in range(len(strides))]
    with pytest.raises(ValueError, match=f"powers of 2, .* Received: maps of the strides {told}"):
        detection.FeaturePyramid(model, names, filters=4)


def test_anchors_by_loops():
    strides, sizes, ratios = [8, 16], [[20, 30], [40, 50]], [0.5, 2]
    layer = detection.Anchors(strides, sizes, ratios, offset=0.25)
    found = layer([np.zeros((1, 2, 3, 1)), np.zeros((1, 1, 2, 1))])
    expected = []
    for stride, sides, (rows, columns) in zip(strides, sizes, [(2, 3), (1, 2)], strict=True):
        for i in range(rows):
            for j in range(columns):
                for ratio in ratios:
                    for side in sides:
                        width, height = side / ratio**0.5, side * ratio**0.5
                        x, y = (j + 0.25) * stride, (i + 0.25) * stride
                        expected.append(
                            [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                        )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-6)


def overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0


def centred(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


def loss_of_image(objects, outputs, box_loss):
    """The loss of an image, anchor by anchor, as torchvision matches."""
    objects = [row for row in objects.tolist() if row[4] >= 0]
    table = [[overlap(row[:4], anchor[:4]) for row in objects] for anchor in outputs.tolist()]
    best_of_object = [max(column) for column in zip(*table, strict=True)]
    total, positive = 0.0, 0
    for anchor, row in zip(outputs.astype(float), table, strict=True):
        best = max(row, default=0.0)
        is_best = any(x > 0 and x == most for x, most in zip(row, best_of_object, strict=True))
        has_object = best >= 0.5 or is_best
        if not has_object and best >= 0.4:
            continue
        found = objects[row.index(best)] if has_object else None
        for label, logit in enumerate(anchor[8:]):
            p = 1 / (1 + math.exp(-logit))
            if found is not None and label == found[4]:
                total -= 0.25 * (1 - p) ** 2 * math.log(p)
            else:
                total -= 0.75 * p**2 * math.log(1 - p)
        if found is not None:
            positive += 1
            x, y, width, height = centred(anchor[:4])
            to_x, to_y, to_width, to_height = centred(found[:4])
            wanted = [(to_x - x) / width, (to_y - y) / height]
            wanted += [math.log(to_width / width), math.log(to_height / height)]
            if box_loss == "l1":
                total += sum(abs(a - b) for a, b in zip(anchor[4:8], wanted, strict=True))
            else:
                x, y = x + anchor[4] * width, y + anchor[5] * height
                width, height = width * math.exp(anchor[6]), height * math.exp(anchor[7])
                box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                around = max(box[2], found[2]) - min(box[0], found[0])
                around *= max(box[3], found[3]) - min(box[1], found[1])
                areas = width * height + to_width * to_height
                iou = overlap(box, found)
                whole = areas / (1 + iou)  # shared = iou * whole, areas = whole + shared
                total += 1 - (iou - (around - whole) / around)
    return total / max(positive, 1)


@pytest.mark.parametrize("box_loss", ["l1", "giou"])
def test_loss_by_loops(box_loss):
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 40, (3, 60, 2))
    anchors = np.concatenate([corner, corner + rng.uniform(5, 30, (3, 60, 2))], axis=2)
    outputs = np.concatenate([anchors, rng.normal(0, 0.5, (3, 60, 4 + 3))], axis=2)
    annotations = [
        {"boxes": anchors[0, :4] + rng.uniform(0, 2, 4), "labels": [0, 2, 1, 1]},
        {"boxes": [], "labels": []},
        {"boxes": [[0, 0, 5, 5], [9, 9, 9, 12], [0, 0, 45, 45]], "labels": [2, 1, 0]},
    ]
    wanted = detection.targets(annotations, classes=3, max_boxes=5)
    loss = detection.RetinaNetLoss(box_loss, reduction="none")
    found = keras.ops.convert_to_numpy(loss(wanted, outputs.astype("float32")))
    expected = [loss_of_image(*image, box_loss) for image in zip(wanted, outputs, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("logit", [-30.0, -17.0, 0.3, 17.0, 30.0])
@pytest.mark.parametrize(("is_object", "gamma"), [(True, 2), (False, 2), (False, 0.5)])
def test_what_is_wrong_with_certainty_is_unlearned(is_object, gamma, logit):
    label = 0 if is_object else -1
    wanted = np.array([[[0, 0, 10, 10, label]]], "float32")

    def function(watch, logits):
        watch([logits])
        corners = keras.ops.convert_to_tensor([[[0, 0, 10, 10, 0, 0, 0, 0.0]]])
        outputs = keras.ops.concatenate([corners, logits], axis=2)
        return detection.RetinaNetLoss(gamma=gamma)(wanted, outputs), [logits], ()

    logits = keras.ops.convert_to_tensor([[[logit]]], "float32")
    loss, _, _, pullback = analysis.gradients.vjp(function, logits)
    (slope,) = pullback(keras.ops.ones(()))

    def expected(logit):
        p = 1 / (1 + math.exp(-logit if is_object else logit))
        return -(0.25 if is_object else 0.75) * (1 - p) ** gamma * math.log(p)

    # As exact as doubles have 1 - p.
    assert float(loss) == pytest.approx(expected(logit), rel=1e-4, abs=1e-12)
    difference = (expected(logit + 1e-4) - expected(logit - 1e-4)) / 2e-4
    assert float(keras.ops.squeeze(slope)) == pytest.approx(difference, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("loss", [detection.RetinaNetLoss, detection.SSDLoss])
def test_a_batch_without_a_row_is_one_without_objects(loss):
    outputs = np.random.default_rng(0).normal(size=(2, 4, 11)).astype("float32")
    none = np.zeros((2, 0, 5), "float32")
    padding = detection.targets([{"boxes": [], "labels": []}] * 2, 3)
    assert float(loss()(none, outputs)) == float(loss()(padding, outputs))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("loss", [detection.RetinaNetLoss, detection.SSDLoss])
def test_a_label_that_is_no_class_makes_the_loss_nan(loss, classes):
    outputs = np.zeros((2, 4, 8 + classes), "float32")
    outputs[..., 2:4] = 9
    wanted = np.array([[[0, 0, 9, 9, 0]], [[0, 0, 9, 9, classes]]], "float32")
    of_each = keras.ops.convert_to_numpy(loss(reduction=None)(wanted, outputs))
    assert np.isfinite(of_each).tolist() == [True, False]


@pytest.mark.slow
def test_learns_saves_and_loads(tmp_path):
    model = small(attention="cbam", convolution="aw")
    wanted = detection.targets(ANNOTATIONS, classes=3)
    assert wanted.shape == (3, 2, 5)
    model.compile(keras.optimizers.Adam(0.01), detection.RetinaNetLoss())
    history = model.fit(IMAGES, wanted, batch_size=3, epochs=6, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    detector = keras.Model(model.input, detection.Detections(5)(model.output, model.input))
    detector.save(tmp_path / "detector.keras")
    loaded = keras.models.load_model(tmp_path / "detector.keras")
    expected, found = (x.predict(IMAGES, verbose=0) for x in (detector, loaded))
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def test_detections_by_loops():
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 50, (2, 60, 2))
    raw = np.concatenate([corner, corner + rng.uniform(5, 30, (2, 60, 2))], axis=2)
    raw = np.concatenate([raw, rng.normal(0, 0.2, (2, 60, 4)), rng.normal(0, 2, (2, 60, 3))], 2)
    layer = detection.Detections(20, score_threshold=0.3, candidates=90)
    found = arrays(layer(raw.astype("float32"), np.zeros((2, 64, 70, 3))))
    for image, outputs in enumerate(raw):
        candidates = []
        for anchor in outputs:
            x, y, width, height = centred(anchor[:4])
            x, y = x + anchor[4] * width, y + anchor[5] * height
            width, height = width * math.exp(anchor[6]), height * math.exp(anchor[7])
            box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
            box = box.clip(0, [70, 64, 70, 64])
            for label, logit in enumerate(anchor[8:]):
                candidates.append((1 / (1 + math.exp(-logit)), label, box))
        candidates = sorted(candidates, key=lambda found: -found[0])[:90]
        kept = []
        for score, label, box in candidates:
            near = any(label == one and overlap(box, other) > 0.5 for _, one, other in kept)
            if score >= 0.3 and not near:
                kept.append((score, label, box))
        kept = kept[:20]
        count = found["count"][image]
        assert count == len(kept)
        scores, labels, boxes = zip(*kept, strict=True)
        np.testing.assert_allclose(found["scores"][image, :count], scores, rtol=1e-5)
        np.testing.assert_array_equal(found["labels"][image, :count], labels)
        np.testing.assert_allclose(found["boxes"][image, :count], boxes, atol=1e-3)
        assert (found["labels"][image, count:] == -1).all()
        assert not found["scores"][image, count:].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(attention="no"), "`attention` must be None, one of"),
        (lambda: small(prior=1), "`prior` must be between 0 and 1"),
        (lambda: small(ratios=[]), "`ratios` must hold numbers above 0"),
        (lambda: small(levels=["stage2", "stage4"]), "each half as large"),
        (
            lambda: small(levels=["no"]),
            "`levels` must name a layer of the model. Received: levels='no'",
        ),
        (lambda: detection.Detections(iou_threshold=2), "`iou_threshold` must be from 0 to 1"),
        (
            lambda: detection.RetinaNetLoss(background=0.6),
            "`background` must be at most `foreground`",
        ),
        (lambda: detection.RetinaNetLoss()(np.zeros((1, 2, 4)), np.zeros((1, 3, 9))), "y_true"),
        (lambda: detection.Anchors([8], [[8], [16]]), "as many sizes"),
        (lambda: detection.targets(ANNOTATIONS, classes=2), "must be below `classes`"),
        (lambda: detection.targets(ANNOTATIONS, 3, max_boxes=1), "at least the boxes"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
