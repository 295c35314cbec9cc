"""A layer's map as the second output of a TFLite file: that of the layers called by hand."""

import gc
import weakref

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from keras_fmm import export, layers
from keras_fmm.export.attention_map import with_map
from keras_fmm.export.tflite import litert, metadata

L = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(40, 8, 8, 3)).astype("float32")
NAMES = ["left", "middle", "right"]


def network():
    """A nested model with a gate called twice and a convolution that has a form for integers."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    gate = layers.SpatialAttention(kernel_size=3, name="gate")
    x = gate(layers.AWConv2D(6, 3, name="aw")(inputs))
    x = gate(L.ReLU(name="relu")(x))
    body = keras.Model(inputs, x, name="body")
    outer = keras.Input((8, 8, 3))
    x = L.GlobalAveragePooling2D()(L.Dropout(0.5)(body(outer)))
    return keras.Model(outer, L.Dense(3, activation="softmax", name="classes")(x))


def by_hand(model, images):
    """The scores, and the gate's map at its first and its second call."""
    body = model.get_layer("body")
    aw, gate, relu = (body.get_layer(name) for name in ("aw", "gate", "relu"))
    features = aw(images)
    second = relu(gate(features))
    maps = [np.asarray(gate.attention_map(x)) for x in (features, second)]
    pooled = np.asarray(gate(second)).mean(axis=(1, 2))
    return np.asarray(model.get_layer("classes")(pooled)), *maps


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    ("quantization", "bound"),
    [
        (None, 1e-5),
        pytest.param("float16", 2e-3, marks=pytest.mark.slow),
        pytest.param("dynamic", 0.02, marks=pytest.mark.slow),
        pytest.param("int8", 0.04, marks=pytest.mark.slow),
        pytest.param("int16x8", 0.02, marks=pytest.mark.slow),
    ],
)
def test_the_map_is_the_second_output(tmp_path, quantization, bound):
    model = network()
    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        quantization=quantization,
        representative_data=IMAGES,
        class_names=NAMES,
        attention_map="gate:2",
        verbose=0,
    )
    assert metadata.read_metadata(path)["attention_map"] == "body/gate:2"
    assert metadata.read_metadata(path)["class_names"] == NAMES
    expected, _, second = by_hand(model, IMAGES)
    scores, found = export.run_tflite(path, IMAGES)
    np.testing.assert_allclose(scores, expected, atol=bound)
    np.testing.assert_allclose(found, second, atol=bound)
    # Not the other call's, not one image's for all.
    assert np.abs(second - second[:1]).max() > 2 * bound
    # Also for who looks at numbers, not at names.
    interpreter = litert.library().Interpreter(str(path))
    shapes = [tuple(detail["shape"]) for detail in interpreter.get_output_details()]
    assert shapes == [(1, 3), (1, 6, 6, 1)]
    report = export.compare(model, IMAGES, tflite=path)
    assert [row.output for row in report] == ["classes", "attention_map"]
    assert report["tflite", "attention_map"].max_difference < bound
    assert report["tflite", "attention_map"].same_class is None


@pytest.mark.slow_on_tensorflow
def test_a_layer_itself_is_its_first_call_and_does_not_learn_of_it(tmp_path):
    model = network()
    gate = model.get_layer("body").get_layer("gate")
    before = len(gate._inbound_nodes), len(gate._outbound_nodes)
    path = export.to_tflite(model, tmp_path / "toy.tflite", batch_size=None, attention_map=gate)
    assert metadata.read_metadata(path)["attention_map"] == "body/gate"
    _, first, second = by_hand(model, IMAGES)
    np.testing.assert_allclose(export.run_tflite(path, IMAGES)[1], first, atol=1e-5)
    assert np.abs(first - second).max() > 0.01
    assert (len(gate._inbound_nodes), len(gate._outbound_nodes)) == before
    with pytest.raises(ValueError, match="`tflite` must be exported from the model"):
        export.compare(several(), IMAGES, tflite=path)


def test_nothing_of_it_stays():
    model = network()
    wider = weakref.ref(with_map(model, "gate"))
    assert [tuple(x.shape) for x in wider()(IMAGES[:2])] == [(2, 3), (2, 6, 6, 1)]
    gc.collect()
    assert wider() is None


@pytest.mark.slow
def test_mixed_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    path = export.to_tflite(model, tmp_path / "toy.tflite", attention_map="body/gate")
    report = export.compare(model, IMAGES, tflite=path)
    assert report["tflite", "attention_map"].max_difference < 5e-3


def several():
    inputs = keras.Input((8, 8, 3))
    x = layers.SpatialAttention(name="gate")(inputs)
    return keras.Model(inputs, [x, x + 1])


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (network, "relu", "must be a gate .* Received: .*'relu'.*'body/gate', 'body/gate:2'"),
        (network, "gat", "must name a layer of the model. .* Near it: 'body/gate'"),
        (network, "gate:3", "'body/gate:2'"),
        (network, L.ReLU(), "must be a gate"),
        (network, "body/gate/convolution", "must be a gate"),
        (several, "gate", "one input and one output. Received: 1 inputs and 2 outputs"),
        (Subclassed, "gate", "must be a functional"),
    ],
)
def test_what_is_no_gate_is_refused(tmp_path, make, layer, message):
    model = make()
    if make is Subclassed:
        model(IMAGES)
    with pytest.raises(ValueError, match=message):
        export.to_tflite(model, tmp_path / "toy.tflite", attention_map=layer)
    with pytest.raises(TypeError, match="must be a layer's name or path"):
        export.to_tflite(network(), tmp_path / "toy.tflite", attention_map=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["gate", 3, "two\nlines"])
def test_metadata_that_does_not_fit_is_damage(tmp_path, value):
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    path = export.to_tflite(model, tmp_path / "toy.tflite")
    content, _ = metadata.split(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(ValueError, match="`attention_map` must name the layer"):
        metadata.attach(path, attention_map=value)
