"""The one reader of functional models, and the one grammar of the paths that name their layers.

A path says through which models the way to a layer leads, `"backbone/stage1_attention"`:

- `/` stands between names, as in the paths of Keras' variables. A name may hold dots.
- Inside a layer that is no model the path goes on: `"backbone/stage1_attention/excite"`. Where such
  a layer holds several layers of one name, `_2` and so on follow it.
- `:2` and so on mean a later call: `"shared:2"`, of a model called again `"inner:2/conv"`, and
  of what is inside a layer `"gate/excite:2"`. Without a number it is the first.
- A bare name, `"conv1"`, holds at any depth where it means one layer; inside layers that are no
  models it is looked for where no model has it.
- A `/` in front makes a path from the top of it: `"/conv1"`.
- Dots may stand for slashes, `"backbone.stage1_attention"`, where that means one layer.

A layer that stands in two models has two paths and is one layer. What has a name is a layer, a bare
operation (`x + 3`) or a nested model.

>>> import keras
>>> inside = keras.Input((4,))
>>> inner = keras.Model(inside, keras.layers.Dense(2, name="top")(inside), name="inner")
>>> outer = keras.Sequential([keras.Input((4,)), inner, keras.layers.ReLU(name="last")])
>>> [place.path for place in places(outer)]
['inner', 'inner/top', 'last']
>>> [find_call(outer, "layer", name).path for name in ("top", "inner/top", "inner.top", "/last")]
['inner/top', 'inner/top', 'inner/top', 'last']
"""

import collections
import dataclasses
import difflib
import re
import typing
import warnings

import keras

# Calling the model itself would make one layer of it, into which nothing looks.
OPENED = (
    "Of a subclassed model that was called once give "
    "`keras.Model(inputs, model.call(inputs))`, with `inputs = keras.Input(...)`."
)
# Layers that have weights and learn no features of their own: what they give has one scale.
NORMALIZERS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


class Place(typing.NamedTuple):
    """Where a layer, a bare operation or a nested model stands.

    `path` is as the module says, without the number of a call; `model` is the path of the innermost
    `keras.Model` that it is in, "" for the whole.
    """

    path: str
    operation: keras.Operation
    model: str


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer, a bare operation or a nested model.

    Attributes:
        path: str, as the module says.
        operation: `keras.Operation`.
        number: int, how many calls the operation had before.
        args, kwargs: its arguments, with symbolic tensors where the model has its own.
        outputs: tuple of symbolic tensors.
        node: Keras' own record, whose `arguments` and `outputs` hold the tensors of the model that
            the call stands in.
        data_format: str, the operation's own, or else that of what gives its first tensor, up to
            the inputs, which have Keras' setting.
        is_entered: bool, whether it is a nested model whose own calls stand before it.
    """

    path: str
    operation: keras.Operation
    number: int
    args: tuple
    kwargs: dict
    outputs: tuple
    node: object
    data_format: str
    is_entered: bool = False

    @property
    def output(self):
        """The output, or a list of several."""
        return self.outputs[0] if len(self.outputs) == 1 else list(self.outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The calls of a model and of those nested in it, as if they were one.

    Attributes:
        inputs: list of symbolic tensors, as `model.inputs`.
        calls: list of `Call` in the order in which they run, a nested model's own after those in
            it.
        outputs: list of symbolic tensors, as `model.outputs`.
    """

    inputs: list
    calls: list
    outputs: list

    def replay(self, inputs, function):
        """Returns the graph that comes of calling anew.

        Args:
            inputs: list of tensors, as `self.inputs`.
            function: of a call with its new arguments, not of an entered model, to the outputs.
        """
        values = dict(zip(map(id, self.inputs), inputs, strict=True))
        calls = []
        for call in self.calls:
            args, kwargs = filled((call.args, call.kwargs), values)
            new = dataclasses.replace(call, args=args, kwargs=kwargs)
            if call.is_entered:
                outputs = filled(call.outputs, values)
            else:
                outputs = tuple(keras.tree.flatten(function(new)))
                values.update(zip(map(id, call.outputs), outputs, strict=True))
            calls.append(dataclasses.replace(new, outputs=outputs))
        return Graph(list(inputs), calls, filled(self.outputs, values))


def filled(structure, values):
    """Returns a structure with the values that a dict has by the ids of what is in it."""
    return keras.tree.map_structure(lambda x: values.get(id(x), x), structure)


def check_model(model, may_write_call=True):
    """Raises ValueError unless `model` is a functional or Sequential `keras.Model`, built.

    Args:
        model: anything.
        may_write_call: bool, default True. Whether a subclass of those may have a `call` of its
            own, of which its graph does not tell.
    """
    if not (_has_inputs(model) if may_write_call else is_graph(model)):
        cure = f" {OPENED}" if isinstance(model, keras.Model) else ""
        if isinstance(model, keras.Sequential):
            cure = " Call it once on a batch of images, or begin it with a `keras.Input`."
        rule = "" if may_write_call else ", whose `call` is Keras' own"
        raise ValueError(
            "`model` must be a functional `keras.Model`, or a Sequential with a `keras.Input`"
            f"{rule}. Received: model={model!r}.{cure}"
        )


def said_of_closed(model):
    """Says, as the end of an error, which models in one nothing looks into; "" where there is none.

    They are those of a class with a `call` of its own.
    """
    calls = read(model).calls
    paths = {
        call.path: None
        for call in calls
        if isinstance(call.operation, keras.Model) and not is_graph(call.operation)
    }
    if not paths:
        return ""
    return f" Nothing looks into {', '.join(map(repr, paths))}, a subclassed model. {OPENED}"


def _has_inputs(model):
    return isinstance(model, keras.Model) and bool(getattr(model, "inputs", None))


def is_graph(operation):
    """Says whether this is a functional model or a built Sequential, whose call Keras writes."""
    if not _has_inputs(operation):
        return False
    writer = next(kind for kind in type(operation).__mro__ if "call" in vars(kind))
    is_kind = isinstance(operation, (keras.Function, keras.Sequential))
    return is_kind and writer.__module__.split(".")[0] == "keras"


def functional(model):
    """Returns a functional model, or the one by which a Sequential computes, with its layers."""
    return model._functional if isinstance(model, keras.Sequential) else model


def input_layers(model):
    """Returns the layers that give a model's inputs, in the order of `model.inputs`."""
    return [tensor._keras_history.operation for tensor in model.inputs]


def _nodes(model):
    """Yields the calls of one level as Keras' nodes, in the order in which Keras runs them."""
    by_depth = functional(model)._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if not node.is_input:
                yield node


def read(model, is_entered=lambda operation, args, kwargs: is_graph(operation)):
    """Returns the `Graph` of a functional or Sequential model; nothing is called or noted.

    The tensors are symbolic, of the shapes that each layer's own model knows.

    Args:
        model: functional or Sequential `keras.Model`, built.
        is_entered: function of an operation and its arguments that says whether it is a nested
            model whose calls are wanted too; by default all for which `is_graph` says so.
    """
    inputs = [_like(x) for x in model.inputs]
    calls, by_path, by_operation = [], collections.Counter(), collections.Counter()
    # By the ids of the tensors.
    formats = {id(x): keras.config.image_data_format() for x in inputs}

    def enter(model, given, prefix):
        values = dict(zip(map(id, functional(model).inputs), given, strict=True))
        for node in _nodes(model):
            operation = node.operation
            args, kwargs = filled((node.arguments.args, node.arguments.kwargs), values)
            path = prefix + operation.name
            by_path[path] += 1
            if by_path[path] > 1:
                path += f":{by_path[path]}"
            enters = is_entered(operation, args, kwargs)
            if enters:
                given = _flat_inputs(operation, args[0] if args else kwargs["inputs"])
                outputs = tuple(enter(operation, given, path + "/"))
            else:
                outputs = tuple(map(_like, node.outputs))
            values.update(zip(map(id, node.outputs), outputs, strict=True))
            before = outputs if enters else (args, kwargs)
            data_format = _data_format(operation, before, formats)
            formats.update((id(x), data_format) for x in outputs)
            number = by_operation[id(operation)]
            by_operation[id(operation)] += 1
            calls.append(
                Call(path, operation, number, args, kwargs, outputs, node, data_format, enters)
            )
        return filled(functional(model).outputs, values)

    outputs = enter(model, inputs, "")
    return Graph(inputs, calls, outputs)


def level(model):
    """Returns the `Graph` of a model without what is in those nested in it; see `read`."""
    return read(model, is_entered=lambda operation, args, kwargs: False)


def _data_format(operation, tensors, formats):
    own = getattr(operation, "data_format", None)
    before = (formats[id(x)] for x in keras.tree.flatten(tensors) if id(x) in formats)
    return own or next(before, None) or keras.config.image_data_format()


def _like(tensor):
    return keras.KerasTensor(tensor.shape, dtype=tensor.dtype, record_history=False)


def _flat_inputs(model, given):
    """Returns what a nested model is given, in the order of its inputs."""
    if isinstance(given, dict) and not isinstance(functional(model).input, dict):
        return [given[x.name] for x in model.inputs]
    return keras.tree.flatten(given)


def flat_graph(model):
    """Returns a graph that computes what a model does, with every inner output within reach.

    Keras has no tensors of inside a nested model that belong to the whole. Here each layer is
    called anew through an operation that stands for it, so that the weights are the model's and
    neither the model nor its layers learn of it: their `output` stays what it was. A nested
    model that is called in training mode is called as a whole.

    Args:
        model: functional or Sequential `keras.Model`, built.

    Returns:
        `Graph` between fresh `keras.Input`.
    """
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in model.inputs]

    def call_anew(call):
        return _StandIn(call.operation, call.path)(*call.args, **call.kwargs)

    return read(model, _is_no_more_than_its_graph).replay(inputs, call_anew)


class _StandIn(keras.Operation):
    """Calls a layer. Called symbolically itself, it keeps the layer from noting the call.

    Attributes:
        watch: function of what the layer gives, called each time, or None.
    """

    watch = None

    def __init__(self, layer, path):
        # Keras takes slashes in names for scopes.
        super().__init__(name=path.replace("/", "|"))
        self.layer = layer

    def call(self, *args, **kwargs):
        outputs = self.layer(*args, **kwargs)
        if self.watch is not None:
            self.watch(outputs)
        return outputs

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)


def attention_map(gate, **asked):
    """Returns the symbolic map of a gate, a `Call` in what `flat_graph` returned.

    The gate is a layer with a method `attention_map`; it does not learn of it.

    Args:
        gate: `Call`.
        **asked: what its method is given beside the arguments of the call.
    """
    return _Map(gate, asked)(*gate.args, **gate.kwargs)


class _Map(keras.Operation):
    """Gives a gate's map; called symbolically, it keeps the gate from noting the call."""

    def __init__(self, gate, asked):
        super().__init__()
        self.gate = gate
        self.asked = asked

    def compute_output_spec(self, *args, **kwargs):
        # Of a shape that nobody asks for. Were it found by tracing, JAX would keep each trace.
        return keras.KerasTensor((None,), self.gate.operation.compute_dtype)

    def call(self, *args, **kwargs):
        kwargs.pop("return_attention_map", None)
        gate = self.gate.operation
        output = gate.attention_map(*args, **kwargs, **self.asked)
        if not keras.ops.is_tensor(output) or not len(output.shape):
            raise ValueError(
                "`attention_map` of a layer must return one tensor, the batch first. Received: "
                f"{output!r}, of the layer {self.gate.path!r} of class {type(gate).__name__}."
            )
        return output


def unnoted(operation, *args, **kwargs):
    """Calls an operation symbolically, and lets those that made its inputs forget it.

    What a layer's output goes into is kept with the layer, as long as the layer lives: the user's
    would gather a graph with each analysis. No model that is built from outputs needs it.
    """
    tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
    makers = [tensor._keras_history.operation for tensor in tensors]
    noted = [list(maker._outbound_nodes) for maker in makers]
    outputs = operation(*args, **kwargs)
    for maker, before in zip(makers, noted, strict=True):
        maker._outbound_nodes[:] = before
    return outputs


def _is_no_more_than_its_graph(operation, args, kwargs):
    """Says whether this call is that of a graph of others, which would not see a training mode."""
    is_training = args[1] if len(args) > 1 else kwargs.get("training")
    return is_graph(operation) and not is_training


def places(model):
    """Returns a list of `Place`, of all that is in a model at any depth, without inputs.

    It is in the order in which all runs, each model or layer before what is in it. What is found by
    several ways has a place for each; what a layer holds twice has one.
    """
    found = []

    def visit(parent, prefix, model):
        names = collections.Counter()
        for child in _children(parent):
            if isinstance(child, keras.layers.InputLayer):
                continue
            names[child.name] += 1
            number = f"_{names[child.name]}" if names[child.name] > 1 else ""
            path = f"{prefix}{child.name}{number}"
            found.append(Place(path, child, model))
            if isinstance(child, keras.layers.Layer):
                inner = path if isinstance(child, keras.Model) else model
                visit(child, path + "/", inner)

    visit(model, "", "")
    return found


def _children(parent):
    """Returns what stands in a model or a layer, each once."""
    parent = functional(parent) if getattr(parent, "inputs", None) else parent
    children = parent._flatten_layers(include_self=False, recursive=False)
    if isinstance(parent, keras.Function):
        # In the order in which they run, and the bare operations, as `x + 3`, too.
        children = [*(node.operation for node in _nodes(parent)), *children]
    return list({id(child): child for child in children}.values())


def layers(model):
    """Returns a dict from its first path to each layer that stands in a model, nested ones entered.

    It is in the order in which they run; without inputs, and without what is in other layers.
    """
    calls = [call for call in read(model).calls if not call.is_entered]
    return {
        call.path: call.operation
        for call in calls
        if call.number == 0 and isinstance(call.operation, keras.layers.Layer)
    }


class Found(typing.NamedTuple):
    """What a path names: the path as it is printed, what stands there, and which of its calls."""

    path: str
    operation: keras.Operation
    number: int


def find_layer(model, argument, path):
    """Returns what a path names, as `Found`, the first call of it.

    Args:
        model: functional or Sequential `keras.Model`.
        argument: str, the name of the argument that holds the path, quoted in errors.
        path: str, as the module says.

    Raises:
        TypeError: `path` is no str.
        ValueError: it names nothing, several layers, or one of a layer's later calls.
    """
    standing = {id(call.operation) for call in read(model).calls}
    rows = [Found(place.path, place.operation, 0) for place in places(model)]
    return _find(model, rows, standing, argument, path)


def find_call(model, argument, path):
    """Returns which call in a model a path names, as `Found`; as `find_layer`, later calls too."""
    calls = read(model, _is_no_more_than_its_graph).calls
    standing = {id(call.operation) for call in calls}
    rows = [Found(call.path, call.operation, call.number) for call in calls]
    rows += [
        Found(place.path, place.operation, 0)
        for place in places(model)
        if id(place.operation) not in standing
    ]
    return _find(model, rows, standing, argument, path, takes_later_calls=True)


def _find(model, rows, standing, argument, path, takes_later_calls=False):
    inputs = input_layers(model)
    rows = [Found(x.name, x, 0) for x in inputs] + rows
    standing = standing | set(map(id, inputs))
    if not isinstance(path, str):
        raise TypeError(
            f"`{argument}` must be a layer's name or path, a str. Received: {argument}={path!r}"
        )
    found = _matches(rows, standing, path)
    base, _, number = path.rpartition(":")
    if not found and takes_later_calls and number.isdecimal() and int(number) > 1:
        # Inside a layer that is no model, of which the graph knows no calls.
        found = [
            Found(f"{row.path}:{number}", row.operation, int(number) - 1)
            for row in _matches(rows, standing, base)
            if id(row.operation) not in standing
        ]
    if len({id(row.operation) for row in found}) > 1:
        raise ValueError(
            f"`{argument}` must name one layer. Received: {argument}={path!r}, which stands for "
            f"several of the model {model.name!r}. Give one of the paths {_listed(found)}."
        )
    if found:
        return found[0]
    called = _matches(rows, standing, re.sub(r":\d+(?=[./]|$)", "", path))
    if called:
        known = [row for row in rows if any(row.operation is other.operation for other in called)]
        inside = (
            "" if id(called[0].operation) in standing else ", and with ':2' and so on behind it"
        )
        raise ValueError(
            f"`{argument}` must name a layer{' or a later call of it' * takes_later_calls}. "
            f"Received: {argument}={path!r}. Of this layer it takes {_listed(known)}"
            f"{inside * takes_later_calls}."
        )
    raise ValueError(
        f"`{argument}` must name a layer of the model. Received: {argument}={path!r}, which is "
        f"none of the model {model.name!r}. {_near(rows, standing, path)}.{said_of_closed(model)}"
    )


def _matches(rows, standing, path):
    """Returns the rows that a path, as the module says, may mean."""
    names = path.removeprefix("/")
    dotted = re.compile(re.escape(names).replace(r"\.", "[./]"))
    from_top = [row for row in rows if dotted.fullmatch(row.path)]
    if "/" in path:
        return [row for row in rows if row.path == names] or from_top
    deep = [row for row in rows if row.path.rpartition("/")[2] == path]
    return from_top + [row for row in deep if id(row.operation) in standing] or deep


def _near(rows, standing, path):
    """Says which paths are near one, up to five; the last ones of models where none is."""
    names = collections.defaultdict(list)
    for row in rows:
        for name in {row.path, row.path.rpartition("/")[2]}:
            names[name.lower()].append(row)
    close = difflib.get_close_matches(path.lower().replace(".", "/"), names, n=5, cutoff=0.5)
    near = _listed([row for name in close for row in names[name]][:5])
    last = [row for row in rows if id(row.operation) in standing][-5:]
    return f"Near it: {near}" if near else f"Its last layers are {_listed(last)}"


def _listed(rows):
    paths = [row.path if "/" in row.path else f"/{row.path}" for row in rows]
    return ", ".join(repr(path) for path in dict.fromkeys(paths))


class ByPath(dict):
    """A dict by paths, which for this release still takes them with dots, as it had them."""

    def __missing__(self, key):
        path = self._with_slashes(key)
        if path is None:
            raise KeyError(key)
        warnings.warn(
            f"Results are named by paths with slashes. Received: {key!r}. Take {path!r}; the form "
            "with dots goes with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self[path]

    def __contains__(self, key):
        return super().__contains__(key) or self._with_slashes(key) is not None

    def get(self, key, default=None):
        # A dict's own does not ask `__missing__`.
        try:
            return self[key]
        except KeyError:
            return default

    def _with_slashes(self, key):
        found = [path for path in self if path.replace("/", ".") == key]
        return found[0] if len(found) == 1 else None
