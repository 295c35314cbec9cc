"""What the layers of a model take and give while it computes, and the biases that they add."""

import contextlib
import dataclasses
import inspect

import keras

from keras_fmm import graph, protocols

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


def function_of_score(model, logits, shape, function, hold_gates=False):
    """Returns a compiled function of images and classes to what another makes of their scores.

    Args:
        model: as in `followed`.
        hold_gates: bool, default False. As in `followed`.
        logits: the model's logits, what is called.
        shape: tuple, of an image.
        function: called while this is traced, on the images, their scores, the `Followed` of
            computing them, and a function of tensors to the scores' gradients by them.
    """
    import tensorflow as tf

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, *shape), tf.float32),
            tf.TensorSpec((None,), tf.int32),
        ],
        autograph=False,
    )
    def traced(images, classes):
        with tf.GradientTape() as tape, followed(model, tape, hold_gates) as notes:
            tape.watch(images)
            scores = tf.gather(logits(images, training=False), classes, axis=1, batch_dims=1)

        def gradients(tensors):
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(scores, tensors, unconnected_gradients=zero)

        return function(images, scores, notes, gradients)

    # Traced now: TensorFlow warns where a function that is made often is traced by being called.
    concrete = traced.get_concrete_function()
    return lambda images, classes: concrete(tf.constant(images), tf.cast(classes, tf.int32))


@contextlib.contextmanager
def followed(model, tape, hold_gates=False):
    """Notes each call of the layers of `model`, at any depth, while the block runs.

    To be used while a `tf.function` is traced: the tensors noted are those of the computation, so
    the tape has their gradients. The layers are left as they were. What runs in a graph of its own,
    such as a recurrent layer's loop, is not noted.

    Args:
        model: functional or Sequential `keras.Model`. Another model of the same layers, such as
            its logits', may be what is called.
        tape: `tf.GradientTape`, recording.
        hold_gates: bool, default False. Whether the attention maps of layers that have
            `compute_attention_map` are held constant; nothing inside them is noted.

    Yields:
        `Followed`, which fills up.
    """
    import tensorflow as tf

    follower = _Follower(tf, tape)
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

    def __init__(self, tf, tape):
        self.tf = tf
        self.tape = tape
        self.graph = tf.compat.v1.get_default_graph()
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

        def call(*args, **kwargs):
            # A tensor of an inner graph, such as a loop's, has no meaning outside it.
            if self.paused or self.tf.compat.v1.get_default_graph() is not self.graph:
                return original(*args, **kwargs)
            if not args and first in kwargs:
                args = (kwargs.pop(first),)
            if args and self._is_noted(args[0]) and args[0].dtype.is_floating:
                # Gradients by features are there to be had where those by the input are not, as
                # behind an input of integers: TensorFlow records what it is told to watch.
                self.tape.watch(args[0])
            calls, biases = self.followed.calls, self.followed.biases
            start = len(biases)
            outputs = self._noting_biases(path, operation, original, args, kwargs)
            own = [bias for bias in biases[start:] if bias.path == path]
            calls.append(LayerCall(path, operation, args[0] if args else None, outputs, own))
            return outputs

        # Keras looks into what a layer's `call` takes.
        call.__signature__ = signature
        return call

    def _noting_biases(self, path, operation, original, args, kwargs):
        """Returns what the operation gives, and notes the constants that join in it."""
        if isinstance(operation, _AFFINE) or _adds_a_constant(operation, args, self._is_noted):
            return self._affine(path, operation, original, args, kwargs)
        if args and self._is_noted(args[0]) and _is_curved(operation):
            return self._curved(path, lambda x: original(x, *args[1:], **kwargs), args[0])
        return original(*args, **kwargs)

    def _affine(self, path, operation, original, args, kwargs):
        activation = vars(operation).get("activation")
        without = {} if activation is None else {"activation": keras.activations.linear}
        with _attributes(operation, without):
            outputs = original(*args, **kwargs)
            if _has_bias(operation):
                zeros = [self.tf.zeros_like(x[:1]) if self._is_noted(x) else x for x in args]
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
        with self.pause(), self.tf.autodiff.ForwardAccumulator(inputs, inputs) as accumulator:
            outputs = function(inputs)
        slope_times_input = accumulator.jvp(
            outputs, unconnected_gradients=self.tf.UnconnectedGradients.ZERO
        )
        self.followed.biases.append(BiasCall(path, outputs, outputs - slope_times_input))
        return outputs

    def held_map_of(self, path, gate):
        original = gate.compute_attention_map

        def compute_attention_map(*args, **kwargs):
            noting = not self.paused
            with self.pause():
                attention = self.tf.stop_gradient(original(*args, **kwargs))
            if noting and getattr(gate, "merge", "multiply") == "add":
                # Held, what is added is a constant: a bias. The tape ends before it.
                self.tape.watch(attention)
                self.followed.biases.append(BiasCall(path, attention, attention))
            return attention

        return compute_attention_map

    def _is_noted(self, x):
        return self.tf.is_tensor(x) and getattr(x, "graph", None) is self.graph


def _has_bias(operation):
    """Returns whether an affine layer adds a constant: a norm, or an operation, always may."""
    return getattr(operation, "use_bias", True) and getattr(operation, "bias", True) is not None


def _adds_a_constant(operation, args, is_tensor):
    """Returns whether this is a bare operation such as `features + 3` or `features - mean`."""
    if isinstance(operation, keras.layers.Layer):
        return False
    return type(operation).__name__ in ("Add", "Subtract") and sum(map(is_tensor, args)) == 1


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
