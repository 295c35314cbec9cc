"""Faster R-CNN: its size beside torchvision's, its stages by loops, and that it learns."""

import math

import keras
import numpy as np
import pytest

from keras_fmm import detection, export, models
from tests.detection.test_retinanet import arrays, backbone, centred, overlap
from tests.support import canvases


def small(**arguments):
    arguments = {"filters": 16, "units": 32, "candidates": 50, "proposals": 40, **arguments}
    return detection.FasterRCNN(backbone(), 3, **arguments)


@pytest.mark.slow_on_tensorflow
def test_is_as_large_as_that_of_torchvision():
    resnet = models.ResNet50(include_top=False, input_shape=(None, None, 3))
    model = detection.FasterRCNN(resnet, classes=91)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    counted = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    counted -= sum(math.prod(weight.shape) for x in norms for weight in x.trainable_variables)
    assert counted == 41_755_286
    assert model.output.shape == (None, 1000, 91, 9)


def boxes_of(rng, count):
    corner = rng.uniform(-5, 50, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 30, (count, 2))], axis=1)


def test_proposals_by_loops():
    rng = np.random.default_rng(0)
    levels = []
    for count in (30, 12, 1):
        deltas = rng.normal(0, 0.2, (2, count, 4))
        levels.append([boxes_of(rng, count), deltas, rng.normal(size=(2, count, 1))])
    levels = [[x.astype("float32") for x in level] for level in levels]
    layer = detection.RegionProposals(proposals=25, candidates=15, iou_threshold=0.4)
    found = keras.ops.convert_to_numpy(layer(levels, np.zeros((2, 64, 50, 3))))
    for image in range(2):
        kept = []
        for anchors, deltas, logits in levels:
            best = np.argsort(-logits[image, :, 0])[:15]
            of_level = []
            for place in best:
                x, y, width, height = centred(anchors[place])
                dx, dy, dw, dh = deltas[image, place]
                x, y = x + dx * width, y + dy * height
                width, height = width * math.exp(dw), height * math.exp(dh)
                box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
                box = box.clip(0, [50, 64, 50, 64])
                has_area = (box[2:] > box[:2]).all()
                if has_area and all(overlap(box, other) <= 0.4 for _, other in of_level):
                    of_level.append((logits[image, place, 0], box))
            kept += of_level
        kept = [box for _, box in sorted(kept, key=lambda one: -one[0])][:25]
        np.testing.assert_allclose(found[image, : len(kept)], kept, atol=1e-3)
        assert not found[image, len(kept) :].any()


def test_a_seed_of_numpy_is_one():
    rng = np.random.default_rng(0)
    objects, boxes = np.zeros((1, 1, 5), "float32"), boxes_of(rng, 50)
    chosen = [
        arrays(detection.Sampling(5, seed=seed)(boxes, objects))["index"]
        for seed in (3, np.int64(3))
    ]
    np.testing.assert_array_equal(*chosen)


def test_sampling_counts_and_changes():
    rng = np.random.default_rng(0)
    objects = detection.targets(
        [
            {"boxes": [[0, 0, 20, 20], [30, 30, 50, 50]], "labels": [0, 2]},
            {"boxes": [], "labels": []},
        ],
        classes=3,
    )
    near = objects[0, np.arange(60) % 2, :4] + rng.uniform(-1, 1, (60, 4))
    far = boxes_of(rng, 200) + 60
    boxes = np.concatenate([near, far, np.zeros((50, 4))]).astype("float32")
    layer = detection.Sampling(100, 0.25, 0.5, 0.5, seed=2**32 - 1, best_of_each=False)
    first, second = (arrays(layer(boxes, objects)) for _ in range(2))
    for image, (positive, negative) in enumerate([(25, 75), (0, 100)]):
        state, index = first["state"][image], first["index"][image]
        assert ((state == 1).sum(), (state == 0).sum()) == (positive, negative)
        assert len(set(index)) == 100
        assert (index < 260).all()
        if positive:
            assert ((index < 60) == (state == 1)).all()
            expected = objects[0, index[:25] % 2]
            np.testing.assert_array_equal(first["objects"][0, :25], expected)
        np.testing.assert_array_equal(first["boxes"][image], boxes[index])
    assert set(first["index"][0]) != set(second["index"][0])
    # A batch without a row of objects.
    found = arrays(layer(boxes, objects[:, :0]))
    assert (found["state"] == 0).sum(axis=1).tolist() == [100, 100]
    # Fewer than are asked for, among them the objects themselves.
    layer = detection.Sampling(9, 0.5, 0.5, 0.5, with_objects=True)
    found = arrays(layer(near[None, :1].repeat(2, 0).astype("float32"), objects))
    assert found["state"].tolist() == [[1, 1, 1] + [-1] * 6, [0] + [-1] * 8]


@pytest.mark.parametrize("per_class", [False, True])
def test_loss_by_loops(per_class):
    rng = np.random.default_rng(0)
    boxes, objects = boxes_of(rng, 12).reshape(2, 6, 4), boxes_of(rng, 12).reshape(2, 6, 4)
    labels = rng.integers(0, 3, (2, 6, 1))
    state = np.array([[1, 0, -1, 1, 0, 0], [0, 0, 1, -1, -1, -1]], "float32")
    samples = {"boxes": boxes, "objects": np.concatenate([objects, labels], 2), "state": state}
    deltas = rng.normal(size=(2, 6, 3, 4) if per_class else (2, 6, 4))
    logits = rng.normal(size=(2, 6, 3))
    layer = detection.SampledLoss((0.1, 0.1, 0.2, 0.2), beta=0.5)
    as_tensors = {key: value.astype("float32") for key, value in samples.items()}
    out = layer(
        np.ones((2, 1), "float32"), as_tensors, deltas.astype("float32"), logits.astype("float32")
    )
    assert out.shape == (2, 1)
    total = 0.0
    for i in range(2):
        for j in range(6):
            if state[i, j] < 0:
                continue
            z = [0, *logits[i, j]]
            label = labels[i, j, 0] + 1 if state[i, j] else 0
            total -= math.log(math.exp(z[label]) / sum(map(math.exp, z)))
            if state[i, j]:
                x, y, width, height = centred(boxes[i, j])
                to_x, to_y, to_width, to_height = centred(objects[i, j])
                wanted = [10 * (to_x - x) / width, 10 * (to_y - y) / height]
                wanted += [5 * math.log(to_width / width), 5 * math.log(to_height / height)]
                own = deltas[i, j, label - 1] if per_class else deltas[i, j]
                for error in map(abs, np.subtract(own, wanted)):
                    total += error**2 if error < 0.5 else error - 0.25
    np.testing.assert_allclose(float(layer.losses[0]), total / 8, rtol=1e-4)
    # A label that is no class.
    as_tensors["objects"][0, 0, 4] = 3
    layer(np.ones((2, 1)), as_tensors, deltas.astype("float32"), logits.astype("float32"))
    assert math.isnan(float(layer.losses[-1]))


@pytest.mark.parametrize(("one_for_all", "is_known"), [(True, True), (False, False)])
def test_one_class_is_that_of_all_objects_or_has_the_label_0(one_for_all, is_known):
    boxes = np.array([[[0, 0, 8, 8]]], "float32")
    objects = np.concatenate([boxes, [[[7.0]]]], axis=2).astype("float32")
    samples = {"boxes": boxes, "objects": objects, "state": np.ones((1, 1), "float32")}
    layer = detection.SampledLoss(one_for_all=one_for_all)
    layer(np.zeros(3), samples, np.zeros((1, 1, 4), "float32"), np.zeros((1, 1, 1), "float32"))
    assert math.isfinite(float(layer.losses[0])) == is_known
    again = detection.SampledLoss.from_config(layer.get_config())
    assert again.one_for_all is one_for_all
    model = detection.FasterRCNN(backbone(), 1, filters=16, units=32)
    assert not model.get_layer("box_loss").one_for_all
    assert model.get_layer("proposal_loss").one_for_all


@pytest.mark.slow
def test_learns_two_images_saves_and_loads(tmp_path):
    keras.utils.set_random_seed(0)
    images, annotations = canvases.two()
    model = detection.FasterRCNN(
        canvases.backbone(),
        10,
        levels=["stage1", "stage2"],
        filters=32,
        units=64,
        anchor_scale=5,
        candidates=50,
        proposals=40,
        seed=0,
    )
    model.compile(keras.optimizers.Adam(0.004, global_clipnorm=10.0))
    wanted = detection.targets(annotations, classes=10)
    history = model.fit([images, wanted], epochs=100, verbose=0).history["loss"]
    assert history[-1] < history[0] / 3
    detector = detection.detector(model, max_detections=20)
    assert canvases.ap50(detector, images, annotations) == 1
    detector.save(tmp_path / "detector.keras")
    model.save(tmp_path / "model.keras")
    again = detection.detector(keras.models.load_model(tmp_path / "model.keras"), max_detections=20)
    expected = arrays(detector(images))
    for loaded in (again, keras.models.load_model(tmp_path / "detector.keras")):
        for key, value in arrays(loaded(images)).items():
            np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(attention="no"), "`attention` must be None, one of"),
        (lambda: small(proposals=0), "`proposals` must be a positive integer"),
        (lambda: small(anchor_scale=0), "`anchor_scale` must be above 0"),
        (lambda: small(ratios=[0]), "`ratios` must hold numbers above 0"),
        (lambda: detection.Sampling(seed=2**32), r"`seed` must be .* 2\*\*32 - 1"),
        (lambda: detection.Sampling(foreground=0.2), "`background` must be at most `foreground`"),
        (lambda: detection.RegionProposals(iou_threshold=2), "`iou_threshold` must be from 0"),
        (lambda: detection.SampledLoss(variance=[1]), "`variance` must be 4 numbers"),
        (lambda: detection.detector(backbone()), "`model` must be what `RetinaNet`"),
        (
            lambda: detection.detector(small(), max_detections=0),
            "`max_detections` must be a positive integer",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the files are TensorFlow's")
@pytest.mark.parametrize("kind", ["faster_rcnn", "ssd300"])
def test_exports_give_the_same(kind, tmp_path):
    images, _ = canvases.two()
    if kind == "faster_rcnn":
        model = detection.FasterRCNN(
            canvases.backbone(), 3, levels=["stage2", "stage3"], filters=8, units=16, proposals=20
        )
    else:
        model = detection.SSD300(canvases.backbone(), 3, extra_filters=[8])
    detector = detection.detector(model, max_detections=4)
    expected = arrays(detector(images))
    assert expected["count"].min() > 0
    export.to_saved_model(detector, tmp_path / "saved_model")
    export.to_tflite(detector, tmp_path / "detector.tflite")
    for found in (
        export.run_saved_model(tmp_path / "saved_model", images, 2),
        export.run_tflite(tmp_path / "detector.tflite", images),
    ):
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, atol=1e-3)


@pytest.mark.slow
def test_half_precision_has_losses_in_float32():
    images, annotations = canvases.two()
    wanted = detection.targets(annotations, classes=10)
    losses = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(policy)
        try:
            model = detection.FasterRCNN(
                canvases.backbone(),
                10,
                levels=["stage1", "stage2"],
                filters=8,
                units=16,
                proposals=20,
                candidates=30,
                seed=0,
            )
        finally:
            keras.config.set_dtype_policy("float32")
        assert model.output.dtype == "float32"
        model([images, wanted])
        losses[policy] = [float(loss) for loss in model.losses]
    np.testing.assert_allclose(losses["mixed_bfloat16"], losses["float32"], rtol=0.02)
