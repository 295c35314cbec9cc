"""What a functional model is made of, its nested models entered: a list of calls in order."""

import dataclasses

import keras

from keras_fmm import graph

# What counts as a convolution on the way from the input.
_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or bare operation.

    `sources` are the places, in the list of all calls, of those that gave its input tensors;
    `data_format` is that of `graph.Call`, `dtype_policy` its own or that of what stands before it
    and has its dtype.
    """

    operation: keras.Operation
    path: str
    sources: tuple
    outputs: tuple
    data_format: str
    dtype_policy: keras.DTypePolicy


class Structure:
    """The calls of a model and of the models nested in it, as if they were one.

    Attributes:
        model: the model.
        calls: list of `Call`, each after its sources, the inputs first; those of a nested model
            once for each time that it is called.
        ancestors: for each call, the set of all calls before it, as the bits of an int.
        places: dict from each path to the layer, operation or nested model, as `graph` says.
        last: dict from the id of each layer, operation and nested model to the place of the call
            that gives its output.
        outputs: dict from the id of each of those to a tuple of its output tensors.
    """

    def __init__(self, model):
        self.model = model
        self.calls = []
        self.ancestors = []
        self._convolutions = 0
        self.places = {}
        self.last = {}
        self.outputs = {}
        read = graph.read(model)
        # The call that gave a tensor.
        givers = {}
        data_format = keras.config.image_data_format()
        for tensor, layer in zip(read.inputs, graph.input_layers(model), strict=True):
            self.places[layer.name] = layer
            givers[id(tensor)] = self._add(layer, layer.name, (), (tensor,), data_format)
        self.places.update((place.path, place.operation) for place in graph.places(model))
        for call in read.calls:
            if call.is_entered:
                self.outputs[id(call.operation)] = call.outputs
                self.last[id(call.operation)] = givers[id(call.outputs[0])]
                continue
            tensors = keras.tree.flatten((call.args, call.kwargs))
            sources = [givers[id(x)] for x in tensors if id(x) in givers]
            place = self._add(call.operation, call.path, sources, call.outputs, call.data_format)
            givers.update((id(x), place) for x in call.outputs)

    def _add(self, operation, path, sources, outputs, data_format):
        dtype_policy = getattr(operation, "dtype_policy", None)
        if sources:
            dtype_policy = dtype_policy or self._policy_behind(sources, outputs)
        elif isinstance(operation, keras.layers.InputLayer):
            # Its policy is its tensor's type, such as uint8.
            dtype_policy = keras.config.dtype_policy()
        call = Call(
            operation,
            path,
            tuple(sources),
            tuple(outputs),
            data_format,
            dtype_policy,
        )
        place = len(self.calls)
        self.calls.append(call)
        before = 0
        for source in sources:
            before |= self.ancestors[source] | 1 << source
        self.ancestors.append(before)
        self._convolutions |= is_convolution(operation) << place
        self.last[id(operation)] = place
        self.outputs[id(operation)] = tuple(outputs)
        return place

    def _policy_behind(self, sources, outputs):
        """Returns the policy of what stands before a bare operation and has its outputs' dtype."""
        policies = [self.calls[source].dtype_policy for source in sources]
        dtype = outputs[0].dtype if outputs else None
        fitting = [policy for policy in policies if policy.compute_dtype == dtype]
        if not fitting and keras.backend.is_float_dtype(dtype):
            fitting = [keras.DTypePolicy(dtype)]
        return (fitting or policies)[0]

    def reach(self, place):
        """Returns a call and all before it, as bits."""
        return self.ancestors[place] | 1 << place

    def between(self, first, last):
        """Returns the places of the calls that need `first`, up to and with `last`."""
        reach = self.reach(last)
        return [
            place
            for place in range(first + 1, last + 1)
            if reach >> place & 1 and self.ancestors[place] >> first & 1
        ]

    def layers(self):
        """Returns the layers in the order of their first calls, each once, without inputs."""
        found = {id(call.operation): call.operation for call in self.calls}
        return [
            operation
            for operation in found.values()
            if isinstance(operation, keras.layers.Layer)
            and not isinstance(operation, keras.layers.InputLayer)
        ]

    def paths(self, operation):
        """Returns the paths of a layer, operation or nested model."""
        return [path for path, other in self.places.items() if other is operation]

    def several_channels(self, operation):
        """Says of an operation that is called on maps of several channels how many; or None.

        The weights of one new layer fit one of them.
        """
        found = {
            call.outputs[0].shape[-1 if call.data_format == "channels_last" else 1]
            for call in self.calls
            if call.operation is operation and is_feature_map(call.outputs)
        }
        found -= {None}
        counts = " and ".join(map(str, sorted(found)))
        return f"gives maps of {counts} channels in turn" if len(found) > 1 else None

    def has_convolution_before(self, place):
        """Says whether a convolution stands before a call on any way from the input."""
        return bool(self.ancestors[place] & self._convolutions)


def is_convolution(operation):
    return isinstance(operation, _CONVOLUTIONS)


def is_feature_map(tensors):
    """Says whether the outputs of a call are one float tensor of rank 4."""
    return (
        len(tensors) == 1
        and len(tensors[0].shape) == 4
        and keras.backend.is_float_dtype(tensors[0].dtype)
    )


def sides(call):
    """Returns the height and width of a call's feature map."""
    shape = call.outputs[0].shape
    return shape[1:3] if call.data_format == "channels_last" else shape[2:4]
