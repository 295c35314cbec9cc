"""A model's logits: what its last layer gives before a softmax."""

import keras

from keras_fmm.graph import check_model, level, unnoted

# Functions from logits to what they predict, each with the names that Keras' classes have for it.
_PREDICTIONS = ("softmax", "log_softmax", "sigmoid", "log_sigmoid")
_OPERATIONS = ("Softmax", "LogSoftmax", "Sigmoid", "LogSigmoid")

# Layers that may follow a softmax and only pass its numbers on.
_PASSING_ON = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Reshape,
)
_PASSING_ON_OPERATIONS = ("Cast",)


def logits_model(model: keras.Model) -> keras.Model:
    """Returns a model that gives the logits of another, whose layers it shares.

    The logits are what stands before the softmax (or sigmoid, or the logarithm of one) at the
    model's end, be that an activation of the last layer, a layer or an operation of its own; in a
    nested model as well. A model that ends without any activation gives its logits already. The
    weights are the model's own, so that training it changes these logits too; it is left as it is.

    What computes a softmax without saying so, as a `Lambda` or a layer of a class of its own, is
    not known as one, and its outputs are taken for logits. The measurements of this package refuse
    scores that sum to 1 for each image.

    Args:
        model: functional or Sequential `keras.Model` of one output.

    Returns:
        Functional `keras.Model` with the inputs of `model`.

    Raises:
        ValueError: the model is subclassed or not built, has several outputs, or ends in another
            activation, so that what its logits are cannot be told.

    Example:

    >>> import keras, numpy as np
    >>> inputs = keras.Input((2,))
    >>> layer = keras.layers.Dense(3, activation="softmax")
    >>> logits = logits_model(keras.Model(inputs, layer(inputs)))
    >>> layer.set_weights([np.eye(2, 3), np.array([0, 1, 2])])
    >>> logits.predict(np.array([[5.0, 7.0]]), verbose=0).tolist()
    [[5.0, 8.0, 2.0]]
    """
    check_model(model)
    if len(model.outputs) != 1:
        raise ValueError(
            "A model must have one output to have logits. "
            f"Received: {len(model.outputs)} outputs of the model {model.name!r}. "
            "Give `keras.Model(model.inputs, model.outputs[i])`."
        )
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
    # Keras' records of the calls, by the ids of the tensors that they gave.
    nodes = {id(x): call.node for call in level(model).calls for x in call.node.outputs}
    return keras.Model(inputs, _logits(model.outputs[0], nodes), name=f"{model.name}_logits")


def _logits(tensor, nodes):
    """Returns the tensor of logits from which this one, a model's output, is computed."""
    if id(tensor) not in nodes:
        return tensor  # The model's input.
    node = nodes[id(tensor)]
    operation = node.operation
    inputs = node.arguments.args[0] if node.arguments.args else None
    if isinstance(operation, keras.Model):
        flat = keras.tree.flatten(inputs)
        return unnoted(logits_model(operation), flat[0] if len(flat) == 1 else inputs)
    if type(operation).__name__ in _OPERATIONS:
        return inputs
    activation = getattr(operation, "activation", None)
    name = "linear" if activation is None else getattr(activation, "__name__", "")
    if name in _PREDICTIONS or type(activation).__name__ in _OPERATIONS:
        if isinstance(operation, keras.layers.Activation):
            return inputs
        return unnoted(_WithoutActivation(operation), inputs)
    if name != "linear" or isinstance(operation, keras.layers.ReLU):
        raise ValueError(
            "A model must end in logits, or in a softmax or sigmoid of them. "
            f"Received: the model's last layer {operation.name!r}, whose activation is "
            f"{name or activation!r}. Give a model that ends before it: "
            "`keras.Model(model.inputs, layer.output)`."
        )
    is_passed_on = isinstance(operation, (*_PASSING_ON, keras.layers.Activation))
    if is_passed_on or type(operation).__name__ in _PASSING_ON_OPERATIONS:
        before = _logits(inputs, nodes)
        if before is inputs:
            return tensor
        # A copy: calling the layer once more would make its `output` ambiguous to its owner.
        return unnoted(type(operation).from_config(operation.get_config()), before)
    return tensor


class _WithoutActivation(keras.layers.Layer):
    """Calls another layer, whose weights it shares, without that layer's activation."""

    def __init__(self, layer):
        super().__init__(name=f"{layer.name}_logits", dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True

    def call(self, inputs):
        attributes = vars(self.layer)
        activation = attributes["activation"]
        # Not by setattr: Keras refuses to put back an activation that is a layer.
        attributes["activation"] = None
        try:
            return self.layer(inputs)
        finally:
            attributes["activation"] = activation
