"""The per-sample convolutions as TensorFlow traces them: unknown sizes, XLA, what they hold."""

import functools
from unittest import mock

import hypothesis
import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("is about TensorFlow's graphs", allow_module_level=True)

import tensorflow as tf

from keras_fmm import ops
from keras_fmm.ops import tensorflow_gradients
from keras_fmm.ops.per_sample_conv import factored
from tests.ops.per_sample_conv.test_implementations import plain
from tests.support import aw_cases

OURS = (ops.factored_conv, ops.loop_conv)

# A graph has a node or more for each tap of the kernel and each group of channels, and takes as
# long to trace and to compile. Every way of taking them is there with three taps and four groups;
# larger ones are computed eagerly in test_implementations.py.
FEW_TAPS = aw_cases.cases(largest_side=3, channels=(1, 2, 4))


@functools.cache
def eager(case):
    """Returns a case's inputs, a cotangent, and the plain outputs and gradients with them.

    Of the formula sample by sample: `vectorized_map_conv` traces each case.
    """
    arrays = [tf.constant(array) for array in case.conv_inputs()]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        outputs = plain(*arrays[:3], *case.conv, arrays[3])
    cotangent = tf.constant(np.random.default_rng(case.seed).normal(size=outputs.shape), "float32")
    gradients = tape.gradient(outputs, arrays, cotangent)
    return arrays, cotangent, [outputs, *map(tf.convert_to_tensor, gradients)]


def same_as_eager(conv, case, signature, **arguments):
    arrays, cotangent, expected = eager(case)

    def run(*arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            outputs = conv(*arrays[:3], *case.conv, arrays[3])
        gradients = tape.gradient(outputs, arrays, cotangent)
        return outputs, *map(tf.convert_to_tensor, gradients)

    traced = tf.function(run, autograph=False, input_signature=signature(arrays), **arguments)
    for one, other in zip(traced(*arrays), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * max(1, np.abs(other).max()))


def batch_unknown(arrays):
    inputs, kernel, gain, bias = (tf.TensorSpec.from_tensor(array) for array in arrays)
    free = [tf.TensorSpec((None, *spec.shape[1:]), spec.dtype) for spec in (inputs, gain)]
    return free[0], kernel, free[1], bias


def sizes_unknown(arrays):
    inputs, kernel, gain, bias = batch_unknown(arrays)
    return tf.TensorSpec((None, None, None, inputs.shape[3])), kernel, gain, bias


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("conv", OURS)
@hypothesis.given(case=FEW_TAPS)
@hypothesis.settings(max_examples=10)
def test_with_the_batch_unknown(conv, case):
    same_as_eager(conv, case, batch_unknown)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("conv", OURS)
@hypothesis.given(case=FEW_TAPS)
@hypothesis.settings(max_examples=6)
def test_with_all_sizes_unknown(conv, case):
    same_as_eager(conv, case, sizes_unknown)


@pytest.mark.parametrize("conv", OURS)
@hypothesis.given(case=FEW_TAPS)
@hypothesis.settings(max_examples=5)
@pytest.mark.slow
def test_compiled_by_xla_with_the_batch_unknown(conv, case):
    same_as_eager(conv, case, batch_unknown, jit_compile=True)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("conv", OURS)
@hypothesis.given(case=FEW_TAPS)
@hypothesis.settings(max_examples=3)
def test_compiled_by_xla_with_all_sizes_unknown(conv, case):
    same_as_eager(conv, case, sizes_unknown, jit_compile=True)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("known", [1, 3, 33, None])
def test_many_samples_and_few_known_or_not(known):
    batch = known or 5
    rng = np.random.default_rng(0)
    shapes = (batch, 3, 4, 2), (2, 2, 2, 3), (batch, 2, 2, 1, 3)
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    expected = ops.vectorized_map_conv(*arrays, (1, 1), "same", (1, 1))
    specs = [tf.TensorSpec(shape) for shape in shapes]
    for place in (0, 2):
        specs[place] = tf.TensorSpec((known, *shapes[place][1:]))

    @tf.function(input_signature=specs)
    def run(x, kernel, gain):
        return ops.loop_conv(x, kernel, gain, (1, 1), "same", (1, 1))

    np.testing.assert_allclose(run(*arrays), expected, rtol=1e-4, atol=1e-5)


def test_asks_whether_xla_compiles():
    answers = {}

    def ask(name):
        answers[name] = tensorflow_gradients.compiled_by_xla()
        return tf.constant(0)

    ask("eager")
    tf.function(lambda: ask("graph"))()
    tf.function(lambda: ask("xla"), jit_compile=True)()
    tf.function(lambda: tf.function(lambda: ask("graph in xla"))(), jit_compile=True)()
    tf.function(lambda: tf.function(lambda: ask("xla in graph"), jit_compile=True)())()
    assert answers == {
        "eager": False,
        "graph": False,
        "xla": True,
        "graph in xla": True,
        "xla in graph": True,
    }


def all_at_once(x, kernel, gain, strides, padding, dilation_rate, bias):
    kernels = tf.reshape(kernel * gain, (x.shape[0], -1, kernel.shape[3]))
    return tf.reshape(tf.matmul(tf.reshape(x, (x.shape[0], 1, -1)), kernels), (-1, 1, 1, 32)) + bias


@pytest.mark.parametrize(("conv", "holds_all"), [*((c, False) for c in OURS), (all_at_once, True)])
def test_holds_no_kernel_for_each_sample_at_once(conv, holds_all):
    # More than go side by side.
    batch, kernel = 40, (3, 3, 32, 32)
    shapes = (batch, 3, 3, 32), kernel, (batch, 3, 3, 1, 32), (32,)

    @tf.function(autograph=False)
    def run(*arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            outputs = conv(*arrays[:3], (1, 1), "valid", (1, 1), arrays[3])
        return outputs, tape.gradient(outputs, arrays)

    graph = run.get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes)).graph
    sizes = [out.shape.num_elements() or 0 for op in graph.get_operations() for out in op.outputs]
    assert (max(sizes) >= batch * np.prod(kernel)) == holds_all


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("by_samples", [False, True])
@hypothesis.given(case=FEW_TAPS)
@hypothesis.settings(max_examples=10)
def test_the_factored_form_has_the_same_gradient_either_way(by_samples, case):
    with mock.patch.object(factored, "_gradient_by_samples", return_value=by_samples):
        same_as_eager(ops.factored_conv, case, batch_unknown)


def maps_held(size, channels, padding, dtype="float32"):
    """Returns how many tensors of a map's size the gradient takes from the forward pass.

    And how many of what it takes wait for it, without which Grappler merges what is computed again.
    """
    found, waiting = [], []

    @tf.function(autograph=False)
    def run(x, *arrays):
        with tf.GradientTape() as tape:
            x = tf.identity(x)
            tape.watch((x, *arrays))
            outputs = ops.factored_conv(x, *arrays, (1, 1), padding, (1, 1))
        forward = x.graph.get_operations()
        gradient = tape.gradient(outputs, (x, *arrays))
        later = x.graph.get_operations()[len(forward) :]
        taken = {tensor.ref() for op in later for tensor in op.inputs}
        found.extend(out for op in forward for out in op.outputs if out.ref() in taken)
        waiting.extend(op for op in later if op.type == "Identity" and op.control_inputs)
        return gradient

    shapes = (4, size, size, channels), (3, 3, channels, channels), (4, 3, 3, 1, channels)
    run.get_concrete_function(*(tf.TensorSpec(shape, dtype) for shape in shapes))
    smallest = 4 * (size - 2) ** 2 * channels
    maps = sum((out.shape.num_elements() or 0) >= smallest for out in found)
    return maps, len(waiting)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_of_large_maps_the_factored_form_holds_its_inputs_alone(padding):
    # Many positions of few channels, and many of both. Each of nine taps waits with what it takes.
    assert maps_held(40, 8, padding) == (1, 27)
    assert maps_held(16, 256, padding) == (1, 27)
    # Of small maps the windows and the products are held, and in half precision, which overflows.
    for size, channels, dtype in ((7, 64, "float32"), (40, 8, "float16")):
        maps, waiting = maps_held(size, channels, padding, dtype)
        assert maps >= 17
        assert not waiting


@pytest.mark.parametrize("batch", [4, None])
def test_the_loop_s_gradient_begins_when_it_is_asked_for(batch):
    begun = []

    @tf.function(autograph=False)
    def run(x, *arrays):
        with tf.GradientTape() as tape:
            tape.watch((x, *arrays))
            outputs = ops.loop_conv(x, *arrays, (1, 1), "same", (1, 1))
        forward = set(x.graph.get_operations())
        upstream = tf.reduce_sum(outputs, axis=(1, 2, 3), keepdims=True) * outputs
        gradient = tape.gradient(outputs, (x, *arrays), upstream)
        loops = [op for op in x.graph.get_operations() if "While" in op.type and op not in forward]
        assert loops
        taken = (tensor.op for loop in loops for tensor in loop.inputs)
        begun.extend(op.type for op in taken if op in forward)
        return gradient

    shapes = (batch, 40, 40, 8), (3, 3, 8, 8), (batch, 3, 3, 1, 8)
    run.get_concrete_function(*map(tf.TensorSpec, shapes))
    # Nothing but numbers of calls.
    assert set(begun) <= {"Const"}


def test_gradients_of_inputs_of_another_dtype():
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 8, 8, 2), "kernel": (3, 3, 2, 2), "gain": (2, 3, 3, 1, 2)}
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    found = {}
    for double in ({"x", "kernel", "gain"}, {"x", "gain"}, {"kernel", "gain"}):
        given = [
            tf.constant(array, "float64" if name in double else "float32")
            for name, array in arrays.items()
        ]
        with tf.GradientTape() as tape:
            tape.watch(given)
            outputs = ops.factored_conv(*given, (1, 1), "same", (1, 1))
        gradients = tape.gradient(outputs, given)
        assert [x.dtype for x in gradients] == [x.dtype for x in given]
        found[frozenset(double)] = gradients
    expected, *others = found.values()
    for gradients in others:
        for one, other in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def operations(conv, batch, dtype="float32", **arguments):
    """Returns the operations of a training step by type, of all its loops too."""
    shapes = (batch, 3, 3, 4), (3, 3, 4, 2), (batch, 3, 3, 1, 2)

    @tf.function(autograph=False, **arguments)
    def run(*arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            outputs = conv(*arrays, (1, 1), "same", (1, 1))
        return outputs, tape.gradient(outputs, arrays)

    specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
    graph = run.get_concrete_function(*specs).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    found = {}
    for node in nodes:
        found.setdefault(node.op, []).append(node)
    return found


def test_the_loop_convolves_natively_and_keeps_nothing_for_its_gradient():
    found = operations(ops.loop_conv, None, dtype="float64")
    assert {"Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"} <= set(found)
    assert "TensorListPushBack" not in found
    loops = found.get("While", []) + found.get("StatelessWhile", [])
    assert [loop.attr["parallel_iterations"].i for loop in loops] == [2, 2]


def test_a_known_batch_is_written_out_and_its_gradient_is_a_loop():
    found = operations(ops.loop_conv, 4, dtype="float64")
    assert len(found["Conv2DBackpropFilter"]) == 1
    assert len(found["Conv2D"]) >= 4
    assert "TensorListPushBack" not in found


IN_GROUPS = tensorflow_gradients.differentiates_grouped_convs()


@pytest.mark.skipif(not IN_GROUPS, reason="TensorFlow has no gradient of groups on this CPU")
def test_small_samples_go_sixteen_to_a_convolution_and_the_rest_alone():
    found = operations(ops.loop_conv, 40)
    # Three written out, and those of the gradient's loops, which are not run.
    assert len(found["Conv2D"]) == 3 + 2
    loops = operations(ops.loop_conv, None)
    for name in ("Conv2DBackpropInput", "Conv2DBackpropFilter"):
        assert len(loops[name]) == 2


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("known", [None, 35])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_samples_side_by_side_are_as_alone(dtype, groups, known):
    """Two calls of sixteen and a rest of three, against the formula; strides and zeros too."""
    batch, tolerance = 35, 1e-4 if dtype == "float32" else 0.1
    rng = np.random.default_rng(0)
    shapes = (batch, 6, 5, 4), (3, 2, 4, 6), (batch, 3, 2, groups, 6), (6,)
    arrays = [tf.constant(rng.normal(size=shape), dtype) for shape in shapes]
    how = ((2, 1), "same", (1, 1))

    def outputs_and_gradients(conv, *arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            outputs = conv(*arrays[:3], *how, arrays[3])
            loss = tf.reduce_sum(tf.cast(outputs, "float32") ** 2)
        return outputs, *tape.gradient(loss, arrays)

    specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
    for place in (0, 2):
        specs[place] = tf.TensorSpec((known, *shapes[place][1:]), dtype)
    run = tf.function(
        functools.partial(outputs_and_gradients, ops.loop_conv), input_signature=specs
    )
    for size in [batch] if known else [batch, 16, 2]:
        taken = [x[:size] if i in (0, 2) else x for i, x in enumerate(arrays)]
        exact = [tf.cast(x, "float64") for x in taken]
        expected = outputs_and_gradients(plain, *exact)
        for one, other in zip(run(*taken), expected, strict=True):
            atol = tolerance * np.abs(other).max()
            np.testing.assert_allclose(tf.cast(one, "float64"), other, atol=atol)


@pytest.mark.parametrize(("batch", "arguments"), [(None, {"jit_compile": True}), (1, {})])
def test_under_xla_and_for_one_image_the_loop_multiplies_matrices(batch, arguments):
    found = operations(ops.loop_conv, batch, **arguments)
    assert not [name for name in found if "Conv2D" in name]
    assert [name for name in found if "MatMul" in name]


def test_without_sizes_factored_pads_once():
    found = operations(ops.factored_conv, None)
    assert "Pad" in found  # known sizes: the products, not the inputs

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None, None, None, 4))])
    def run(x):
        gain = tf.ones((tf.shape(x)[0], 3, 3, 1, 2))
        return ops.factored_conv(x, tf.ones((3, 3, 4, 2)), gain, (1, 1), "same", (1, 1))

    names = [op.type for op in run.get_concrete_function().graph.get_operations()]
    assert names.count("Pad") == 1


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    ("batch", "jit_compile"),
    [(None, False), pytest.param(3, False, marks=pytest.mark.slow), (3, True)],
    ids=str,
)
@pytest.mark.parametrize("conv", OURS)
def test_second_derivatives_in_a_graph(conv, jit_compile, batch):
    rng = np.random.default_rng(0)
    shapes = (3, 4, 5, 2), (2, 1, 2, 3), (3, 2, 1, 1, 3)
    arrays = [tf.constant(rng.normal(size=shape), "float32") for shape in shapes]

    def run(conv, *arrays):
        with tf.GradientTape() as outer:
            outer.watch(arrays)
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                loss = tf.reduce_sum(conv(*arrays, (1, 1), "same", (1, 1)) ** 2)
            found = tape.gradient(loss, arrays)
            norm = sum(tf.reduce_sum(tf.convert_to_tensor(g) ** 2) for g in found)
        return [tf.convert_to_tensor(g) for g in outer.gradient(norm, arrays)]

    specs = [tf.TensorSpec(shape) for shape in shapes]
    for place in (0, 2):
        specs[place] = tf.TensorSpec((batch, *shapes[place][1:]))
    traced = tf.function(
        lambda *arrays: run(conv, *arrays),
        autograph=False,
        input_signature=specs,
        jit_compile=jit_compile,
    )
    if jit_compile and conv is ops.loop_conv:
        with pytest.raises(tf.errors.InvalidArgumentError, match="compile-time constant"):
            traced(*arrays)
        return
    expected = run(lambda *given: plain(*given, bias=0.0), *arrays)
    for one, other in zip(traced(*arrays), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


def test_the_loop_sums_its_gradient_over_samples_in_float32():
    # 512 times 1, where bfloat16 stays at 256.
    kernel, gain = tf.ones((1, 1, 1, 1), "bfloat16"), tf.ones((512, 1, 1, 1, 1), "bfloat16")

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            outputs = ops.loop_conv(x, kernel, gain, (1, 1), "same", (1, 1))
        return tape.gradient(outputs, kernel)

    assert float(tf.squeeze(gradient(tf.ones((512, 1, 1, 1), "bfloat16")))) == 512


def test_no_samples_give_no_outputs():
    arrays = np.zeros((0, 4, 4, 2)), np.ones((3, 3, 2, 5)), np.ones((0, 3, 3, 1, 5))
    arrays = [array.astype("float32") for array in arrays]
    for conv in OURS:
        assert conv(*arrays, (1, 1), "same", (1, 1)).shape == (0, 4, 4, 5)
