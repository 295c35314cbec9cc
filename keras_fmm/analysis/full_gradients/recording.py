"""What the layers of a model take and give while it computes, and the biases that they add."""

import contextlib
import dataclasses
import inspect

import keras

from keras_fmm import graph, protocols
from keras_fmm.analysis import gradients
from keras_fmm.analysis.class_scores import chosen, images_and_classes

# Layers that are affine before their activation, if they have one: their bias is what they give
# for an input of zeros. (Of one that normalises each sample with its own statistics it is beta.)
_AFFINE = (
    keras.layers.BatchNormalization,
    keras.layers.Conv1D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3D,
    keras.layers.Conv3DTranspose,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.EinsumDense,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)

# Activations that go through zero and are linear on each side of it: they add no constant.
_WITHOUT_OFFSET = ("leaky_relu", "linear", "relu")

# The others as bare operations, by the names of their classes in keras.ops. Softsign is none of
# them: TensorFlow cannot differentiate it forwards.
_CURVED_OPERATIONS = (
    "Celu",
    "Elu",
    "Exp",
    "Gelu",
    "Glu",
    "HardShrink",
    "HardSigmoid",
    "HardSilu",
    "HardTanh",
    "LogSigmoid",
    "LogSoftmax",
    "Relu6",
    "Selu",
    "Sigmoid",
    "Silu",
    "SoftShrink",
    "Softmax",
    "Softplus",
    "SparsePlus",
    "SparseSigmoid",
    "Sparsemax",
    "Squareplus",
    "Tanh",
    "TanhShrink",
    "Threshold",
)


@dataclasses.dataclass(frozen=True, eq=False)
class BiasCall:
    """One place where a constant joins: `values = linear part + bias`.

    `values` is the tensor before the layer's activation, `bias` broadcasts against it.
    """

    path: str
    values: object
    bias: object


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer: its path, its first argument, its result, its own biases."""

    path: str
    operation: keras.Operation
    inputs: object
    outputs: object
    biases: list


@dataclasses.dataclass(frozen=True, eq=False)
class Followed:
    """What was noted: lists of `LayerCall` and `BiasCall`, each in the order in which they ended.

    So a layer's call stands before that of the layer it is in.
    """

    calls: list
    biases: list


def terms_of_score(model, logits, shape, wanted, combined, hold_gates=False):
    """Returns a compiled function of images and classes to what is made of the scores' terms.

    Args:
        model: as in `followed`.
        logits: the model's logits, what is called.
        shape: tuple, of an image.
        wanted: function of the images and the `Followed` of computing the scores to a list of
            `BiasCall`, whose terms are wanted: each is the bias times the gradient of the scores
            by the values.
        combined: function of the scores and a list of the terms, each `(path, term)`.
        hold_gates: bool, default False. As in `followed`.
    """

    def traced(images, classes):
        paths = []

        def scored(watch, images):
            watch(images)
            with followed(model, watch, hold_gates) as notes:
                scores = chosen(logits(images, training=False), classes)
            found = wanted(images, notes)
            # Not of the computation, which may be traced apart: only tensors are returned.
            paths[:] = [x.path for x in found]
            return scores, [x.values for x in found], [x.bias for x in found]

        scores, values, biases, pullback = gradients.vjp(scored, images)
        terms = [
            keras.ops.zeros_like(value) if gradient is None else bias * gradient
            for value, bias, gradient in zip(
                values, biases, pullback(keras.ops.ones_like(scores)), strict=True
            )
        ]
        return combined(scores, list(zip(paths, terms, strict=True)))

    return gradients.compiled(traced, logits, *images_and_classes(shape))


@contextlib.contextmanager
def followed(model, watch, hold_gates=False):
    """Notes each call of the layers of `model`, at any depth, while the block runs.

    To be used in the function that `gradients.vjp` is given: the tensors noted are those of the
    computation, and are watched. The layers are left as they were. What runs in a scope of its own,
    such as a recurrent layer's loop, is not noted.

    Args:
        model: functional or Sequential `keras.Model`. Another model of the same layers, such as
            its logits', may be what is called.
        watch: what `gradients.vjp` gives the function.
        hold_gates: bool, default False. Whether the attention maps of layers that have
            `compute_attention_map` are held constant; nothing inside them is noted.

    Yields:
        `Followed`, which fills up.
    """
    follower = _Follower(watch, model.variables)
    with contextlib.ExitStack() as stack:
        followed_ones = set()
        for place in graph.places(model):
            path, operation = place.path, place.operation
            if id(operation) in followed_ones:
                continue
            followed_ones.add(id(operation))
            replaced = {"call": follower.call_of(path, operation)}
            if hold_gates and isinstance(operation, protocols.HasHeldMap):
                replaced["compute_attention_map"] = follower.held_map_of(path, operation)
            stack.enter_context(_attributes(operation, replaced))
        yield follower.followed


@contextlib.contextmanager
def _attributes(owner, values):
    """Gives an object other attributes for a while, past `__setattr__`, in which Keras tracks."""
    attributes = vars(owner)
    before = {name: attributes[name] for name in values if name in attributes}
    attributes.update(values)
    try:
        yield
    finally:
        for name in values:
            del attributes[name]
        attributes.update(before)


class _Follower:
    """Makes the functions that stand for the layers' own, and keeps what they note."""

    def __init__(self, watch, variables):
        self.watch = watch
        self.variables = variables
        self.scope = gradients.scope()
        self.followed = Followed([], [])
        self.paused = False

    @contextlib.contextmanager
    def pause(self):
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def call_of(self, path, operation):
        original = operation.call
        signature = inspect.signature(original)
        first = next(iter(signature.parameters), None)
        # PyTorch goes round one without a scope of its own.
        is_loop = isinstance(operation, keras.layers.RNN) and not operation.unroll

        def call(*args, **kwargs):
            # A tensor of an inner scope, such as a loop's, has no meaning outside it.
            if self.paused or gradients.scope() != self.scope:
                return original(*args, **kwargs)
            if not args and first in kwargs:
                args = (kwargs.pop(first),)
            # What is computed of a weight alone is of no image.
            if args and any(args[0] is variable.value for variable in self.variables):
                return original(*args, **kwargs)
            # Gradients by features are there to be had where those by the input are not, as behind
            # an input of integers: so what a layer takes is watched, and what anything gives. A
            # bare operation may take a constant.
            if args and isinstance(operation, keras.layers.Layer):
                self.watch(args[0])
            calls, biases = self.followed.calls, self.followed.biases
            start = len(biases)
            with self.pause() if is_loop else contextlib.nullcontext():
                outputs = self._noting_biases(path, operation, original, args, kwargs)
            self.watch(outputs)
            own = [bias for bias in biases[start:] if bias.path == path]
            calls.append(LayerCall(path, operation, args[0] if args else None, outputs, own))
            return outputs

        # Keras looks into what a layer's `call` takes.
        call.__signature__ = signature
        return call

    def _noting_biases(self, path, operation, original, args, kwargs):
        """Returns what the operation gives, and notes the constants that join in it."""
        if isinstance(operation, _AFFINE) or _adds_a_constant(operation, args):
            return self._affine(path, operation, original, args, kwargs)
        if args and gradients.is_traced(args[0]) and _is_curved(operation):
            return self._curved(path, lambda x: original(x, *args[1:], **kwargs), args[0])
        return original(*args, **kwargs)

    def _affine(self, path, operation, original, args, kwargs):
        activation = getattr(operation, "activation", None)
        without = {} if activation is None else {"activation": keras.activations.linear}
        with _attributes(operation, without):
            outputs = original(*args, **kwargs)
            if _has_bias(operation):
                zeros = [keras.ops.zeros_like(x[:1]) if gradients.is_traced(x) else x for x in args]
                with self.pause():
                    bias = original(*zeros, **kwargs)
                self.followed.biases.append(BiasCall(path, outputs, bias))
        if activation is None:
            return outputs
        if getattr(activation, "__name__", "") in _WITHOUT_OFFSET:
            return activation(outputs)
        return self._curved(path, activation, outputs)

    def _curved(self, path, function, inputs):
        """Notes the implicit bias of a function: `phi(x) - phi'(x) x`."""
        with self.pause():
            outputs, slope_times_input = gradients.jvp(function, inputs)
        self.followed.biases.append(BiasCall(path, outputs, outputs - slope_times_input))
        return outputs

    def held_map_of(self, path, gate):
        original = gate.compute_attention_map

        def compute_attention_map(*args, **kwargs):
            noting = not self.paused
            with self.pause():
                attention = keras.ops.stop_gradient(original(*args, **kwargs))
            if noting and getattr(gate, "merge", "multiply") == "add":
                # Held, what is added is a constant: a bias. No gradient goes further.
                self.watch(attention)
                self.followed.biases.append(BiasCall(path, attention, attention))
            return attention

        return compute_attention_map


def is_of_floats(x):
    """Returns whether this is a tensor of floating-point numbers, and not of a sparse kind."""
    return keras.ops.is_tensor(x) and keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(x.dtype)
    )


def _has_bias(operation):
    """Returns whether an affine layer adds a constant: a norm, or an operation, always may."""
    return getattr(operation, "use_bias", True) and getattr(operation, "bias", True) is not None


def _adds_a_constant(operation, args):
    """Returns whether this is a bare operation such as `features + 3` or `features - mean`."""
    if isinstance(operation, keras.layers.Layer):
        return False
    return (
        type(operation).__name__ in ("Add", "Subtract") and sum(map(gradients.is_traced, args)) == 1
    )


def _is_curved(operation):
    """Returns whether this is an activation with an offset, or an unknown layer with a bias."""
    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__ in _CURVED_OPERATIONS
    if isinstance(operation, keras.layers.Activation):
        return getattr(operation.activation, "__name__", "") not in _WITHOUT_OFFSET
    if isinstance(operation, keras.layers.ReLU):
        return operation.max_value is not None or operation.threshold != 0
    if isinstance(operation, (keras.layers.ELU, keras.layers.Softmax)):
        return True
    has_bias = isinstance(getattr(operation, "bias", None), keras.Variable)
    return has_bias and not hasattr(operation, "state_size")
