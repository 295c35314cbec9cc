"""Models of several inputs and outputs, by name, in every form that is exported.

The weightless models' outputs are told by NumPy; what differs between inputs or outputs is such
that two that are mistaken for each other are seen.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_fmm import export

RNG = np.random.default_rng(0)
X, Y = (RNG.normal(size=(5, 3)).astype("float32") for _ in range(2))


def pair(first=None, second=None):
    return keras.Input((3,), name=first), keras.Input((3,), name=second)


def listed():
    # Neither inputs nor outputs in the order of their names.
    x, y = pair("zebra", "ant")
    boxes = layers.Subtract(name="boxes")([x, y])
    return keras.Model([x, y], [boxes, layers.Multiply(name="area")([x, y])]), [X - Y, X * Y]


def keyed():
    x, y = pair()
    outputs = {"score": layers.Add()([x, y]), "box": layers.Subtract()([x, y])}
    return keras.Model({"right": x, "left": y}, outputs), {"score": X + Y, "box": X - Y}


def unnamed():
    x, y = pair()
    model = keras.Model([x, y], [x - y, x, x - y, layers.ReLU()(y)])
    return model, [X - Y, X, X - Y, np.maximum(Y, 0)]


def odd_names():
    # TensorFlow takes the first two for one, and does not know the third.
    x, y, z = (keras.Input((3,), name=name) for name in ("b", "B", "a-b: c"))
    return keras.Model([x, y, z], x - 2 * y + 3 * z), X - 2 * Y + 3 * (X + Y)


def shared():
    # One layer gives both outputs, and an input is not used.
    (x, y), unused = pair("first", "second"), keras.Input((2,), name="unused")
    layer = layers.Rescaling(3.0)
    return keras.Model([unused, y, x], [layer(x), layer(y)]), [3 * X, 3 * Y]


def nested():
    x, y = pair()
    outputs = {"minus": x - y, "times": x * y}
    inner = keras.Model({"p": x, "q": y}, outputs, name="inner")
    x, y = pair("x", "y")
    found = inner({"p": y, "q": x})
    outputs = {"minus": found["minus"], "times": found["times"], "x": x}
    return keras.Model([x, y], outputs), {"minus": Y - X, "times": X * Y, "x": X}


def many():
    # More than ten, as "10" comes before "2".
    x, y = pair()
    return keras.Model([x, y], [x + number * y for number in range(12)]), [
        X + number * Y for number in range(12)
    ]


def made(make):
    try:
        return make()
    except ValueError as error:
        if "not connected" not in str(error):
            raise
        pytest.skip("Keras 3.13 makes no model with an input that is not used, or is an output")


MODELS = {
    "listed": (listed, {"zebra": X, "ant": Y}),
    "keyed": (keyed, {"left": Y, "right": X}),
    "unnamed": (unnamed, None),
    "odd names": (odd_names, {"b": X, "B": Y, "a-b: c": X + Y}),
    "shared": (shared, {"unused": np.ones((5, 2)), "second": Y, "first": X}),
    "nested": (nested, {"x": X, "y": Y}),
    "many": (many, None),
}


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    """A model, what it is fed by name and in order, what it must say, and its artefacts."""
    make, fed = MODELS[request.param]
    model, expected = made(make)
    if fed is None:
        called = [tensor._keras_history.operation.name for tensor in model.inputs]
        fed = dict(zip(called, (X, Y), strict=True))
    folder = tmp_path_factory.mktemp("several")
    return (
        model,
        fed,
        expected,
        export.to_saved_model(model, folder / "toy"),
        export.to_tflite(model, folder / "toy.tflite", batch_size=2),
    )


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
    flat = keras.tree.flatten(expected)
    for one, other in zip(keras.tree.flatten(found), flat, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_artefacts_are_fed_by_name_and_in_order_and_give_what_the_model_gives(case):
    _, fed, expected, saved_model, tflite = case
    backwards = dict(reversed(fed.items()))
    for images in (list(fed.values()), tuple(fed.values()), fed, backwards):
        assert_same(export.run_tflite(tflite, images), expected)
    assert_same(export.run_saved_model(saved_model, list(fed.values()), batch_size=2), expected)
    if list(fed) != ["b", "B", "a-b: c"]:
        assert_same(export.run_saved_model(saved_model, backwards), expected)


def test_the_report_has_a_row_for_each_artefact_and_output(case):
    model, fed, expected, *artefacts = case
    for images in (list(fed.values()), fed):
        report = export.compare(model, images, *artefacts)
        assert max(row.max_difference for row in report) < 1e-5
    count = 1 if isinstance(expected, np.ndarray) else len(expected)
    assert len(report) == 2 * count
    for row in report:
        assert report[row.name if count == 1 else (row.name, row.output)] is row
    assert len(str(report).splitlines()) == 1 + 2 * count


def test_rows_are_reached_by_the_output_s_name(tmp_path):
    model, _ = listed()
    path = export.to_tflite(model, tmp_path / "toy.tflite")
    # Of the other outputs: each must be compared with its own.
    other = keras.Model(model.inputs, [model.outputs[0] + 1, model.outputs[1] + 2])
    report = export.compare(other, [X, Y], tflite=path)
    assert [row.output for row in report] == other.output_names
    report = export.compare(model, [X, Y], tflite=path)
    assert report["tflite", "boxes"].max_difference == 0
    assert "tflite boxes" in str(report)
    assert "tflite area" in str(report)
    for name in ("tflite", ("tflite", "masks"), "boxes"):
        rows = r"report\['tflite', 'boxes'\], report\['tflite', 'area'\]"
        with pytest.raises(KeyError, match=rows):
            report[name]
    # One of a layer's two outputs has no name but its number.
    model, _ = made(shared)
    path = export.to_tflite(model, path)
    fed = [np.ones((5, 2)), Y, X]
    assert [row.output for row in export.compare(model, fed, tflite=path)] == [
        "output_0",
        "output_1",
    ]


def test_each_output_is_compared_with_its_own(tmp_path):
    x, y = pair()
    model = keras.Model([x, y], {"b": x, "a": x * y})
    path = export.to_tflite(model, tmp_path / "toy.tflite")
    other = keras.Model([x, y], {"b": x + 1, "a": x * y + 2})
    report = export.compare(other, [X, Y], tflite=path)
    assert report["tflite", "b"].max_difference == pytest.approx(1, abs=1e-5)
    assert report["tflite", "a"].max_difference == pytest.approx(2, abs=1e-5)
    third = keras.Model([x, y], {"b": x, "c": x * y})
    with pytest.raises(ValueError, match="must be those of the model: b, c. Received: a, b"):
        export.compare(third, [X, Y], tflite=path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    model, _ = listed()
    folder = tmp_path_factory.mktemp("several")
    saved_model = export.to_saved_model(model, folder / "toy")
    return model, saved_model, export.to_tflite(model, folder / "toy.tflite")


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        ({"zebra": X}, ValueError, "each input of .*: 'zebra', 'ant'. Received: a dict of 'zebra'"),
        ({"zebra": X, "bee": Y}, ValueError, "'zebra', 'ant'. Received: a dict of 'zebra', 'bee'"),
        ({"zebra": X, "ant": Y, "bee": Y}, ValueError, "'zebra', 'ant', 'bee'"),
        ({}, ValueError, "Received: a dict of nothing"),
        ([X], ValueError, "Received: a list of 1. Give a list in this order, or a dict"),
        ((X, Y, Y), ValueError, "Received: a tuple of 3"),
        (X, ValueError, "Received: one ndarray"),
        (None, ValueError, "Received: one NoneType"),
        ([X, Y[:3]], ValueError, "as many for each input of .*: 5 for 'zebra', 3 for 'ant'"),
        ([X, Y[:0]], ValueError, r"`images\['ant'\]` must hold at least one image"),
        ([X, Y[:, :2]], ValueError, r"`images\['ant'\]` must .* \(None, 3\).* \(5, 2\)"),
        (
            {"zebra": X, "ant": None},
            TypeError,
            r"`images\['ant'\]` must be an array of real numbers",
        ),
        ([X, [[1, 2, 3], [1]]], ValueError, r"`images\['ant'\]` must be one array of numbers"),
    ],
)
def test_images_that_do_not_fit_are_refused(written, images, kind, message):
    model, saved_model, tflite = written
    with pytest.raises(kind, match=message):
        export.run_tflite(tflite, images)
    with pytest.raises(kind, match=message):
        export.run_saved_model(saved_model, images)
    with pytest.raises(kind, match=message):
        export.compare(model, images, tflite=tflite)


def test_the_names_and_the_order_are_in_the_file(written):
    assert export.read_metadata(written[2])["inputs"] == ["zebra", "ant"]
    # By which other programs feed it.
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(written[2])).get_signature_runner()
    found = runner(zebra=X[:1], ant=Y[:1])
    np.testing.assert_allclose(found["output_0"], X[:1] - Y[:1], atol=1e-6)


def test_a_file_of_another_origin_is_fed_by_name(written, tmp_path):
    content = written[2].read_bytes()
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(content[: content.index(b"PK\x03\x04")])
    assert_same(export.run_tflite(foreign, {"zebra": X, "ant": Y}), [X - Y, X * Y])
    with pytest.raises(ValueError, match="Received: a list of 2. Give a dict of arrays by name"):
        export.run_tflite(foreign, [X, Y])
    assert export.compare(written[0], [X, Y], tflite=foreign)["tflite", "area"].max_difference == 0
    if keras.__version__ < "3.15":
        return
    # Keras' own exporter numbers them where they are given no names.
    signature = [[keras.InputSpec(shape=(None, 3), dtype="float32")] * 2]
    written[0].export(str(foreign), format="litert", input_signature=signature, verbose=False)
    assert_same(export.run_tflite(foreign, [X, Y]), [X - Y, X * Y])


def test_outputs_that_no_signature_holds_are_refused(tmp_path):
    x, y = pair()
    model = keras.Model([x, y], {"a": [x + y, {"b": x - y}], "c": x})
    for write, name in ((export.to_saved_model, "toy"), (export.to_tflite, "toy.tflite")):
        with pytest.raises(ValueError, match="must give one tensor, or a list or a dict of tensor"):
            write(model, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    with_scalar = keras.Model([x, y], {"sum": x + y, "mean": ops.mean(x)})
    path = export.to_tflite(with_scalar, tmp_path / "toy.tflite")
    with pytest.raises(ValueError, match="must have the batch first. Received: 'mean' of shape"):
        export.run_tflite(path, [X, Y])


IMAGES = RNG.normal(size=(40, 8, 8, 3)).astype("float32")


def two_heads(seed=0):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    boxes = layers.Dense(4, name="boxes")(x)
    return inputs, x, {"scores": layers.Dense(3, activation="softmax")(x), "boxes": 100 * boxes}


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("quantization", ["int8", "int16x8"])
def test_each_output_of_a_quantized_file_says_what_keras_says(tmp_path, quantization):
    inputs, _, heads = two_heads()
    model = keras.Model(inputs, heads)
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization=quantization, representative_data=IMAGES
    )
    found, expected = export.run_tflite(path, IMAGES), model(IMAGES)
    assert found.keys() == {"scores", "boxes"}
    for name, values in expected.items():
        values = np.asarray(values)
        np.testing.assert_allclose(found[name], values, atol=0.04 * np.ptp(values))


@pytest.mark.slow_on_tensorflow
def test_one_output_that_says_something_else_is_named(tmp_path):
    inputs, _, heads = two_heads()
    # A step of eight bits is twelve between the two, and the pixels are within three.
    far = layers.MaxPooling2D(8)(layers.Rescaling(1.0, 3000.0)(inputs))
    broken = layers.Flatten()(layers.Rescaling(1.0, -3000.0)(far))
    model = keras.Model(inputs, {**heads, "broken": broken})
    with pytest.raises(ValueError, match="whose int8 outputs 'broken' are .* on 40 of the images"):
        export.to_tflite(
            model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
        )
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_one_input_takes_the_models_own_name(tmp_path):
    pixels = keras.Input((3,), name="pixels")
    model = keras.Model(pixels, pixels * 2)
    path = export.to_tflite(model, tmp_path / "one.tflite")
    given = np.ones((2, 3))
    np.testing.assert_array_equal(export.run_tflite(path, {"pixels": given}), given * 2)
    assert export.compare(model, {"pixels": given}, tflite=path)["tflite"].max_difference == 0
    with pytest.raises(
        ValueError, match="one array for each input .* Received: a dict of 'pixels'"
    ):
        export.run_tflite(path, {"pixels": given, "more": given})


def test_a_file_of_other_names_is_not_fed_by_place(tmp_path):
    def difference(first, second):
        inputs = [keras.Input((3,), name=first), keras.Input((3,), name=second)]
        return keras.Model(inputs, inputs[0] - inputs[1])

    path = export.to_tflite(difference("l", "r"), tmp_path / "two.tflite")
    model = difference("right", "left")
    given = {"left": np.ones((2, 3)), "right": np.zeros((2, 3))}
    with pytest.raises(ValueError, match="one array for each input .*'l', 'r'.*Received: a dict"):
        export.compare(model, given, tflite=path)
