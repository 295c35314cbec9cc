"""Attention for models that people already have."""

import functools

import keras

from keras_fmm import layers
from keras_fmm.graph import check_model, functional, input_layers, is_graph, level
from keras_fmm.models import backbone, blocks
from keras_fmm.models.upgrading import additions
from keras_fmm.models.upgrading.default_places import default_convolutions, default_gates
from keras_fmm.models.upgrading.places import cannot_be_gated, cannot_be_replaced, choose
from keras_fmm.models.upgrading.rebuilding import carry_flags, carry_state, rebuild
from keras_fmm.models.upgrading.residuals import branch_is_first, cannot_be_merged
from keras_fmm.models.upgrading.structure import Structure


def upgrade(
    model,
    attention=None,
    convolution=None,
    attention_where=None,
    convolution_where=None,
    residual=None,
    residual_where=None,
):
    """Returns a copy of a model with attention added, which at the start computes the same.

    The copy has the weights, the names and the trainable flags of the model, which stays as it
    was. New gates multiply by 1, new convolutions compute what the old ones did and new residuals
    add until they are trained, which is tried on an example: the outputs are those of the model, up
    to rounding, also in training mode as far as the model repeats itself there. Gradients reach the
    last weights of each new attention at the first step of training, and the others, which stand
    before a zero, from the second on.

    Args:
        model: keras.Model, functional, or a built `keras.Sequential`, such as one of
            keras.applications; models nested in it are entered.
        attention: None, str or callable, default None. The gate to add: a name among
            `layers.GATES`, or a callable without arguments that returns a fresh layer. Its
            `gate_activation` of sigmoid becomes `layers.twice_sigmoid`; its data format and dtype
            policy those of the layer that it follows. A gate of your own needs
            `start_as_identity`, see `layers.FeatureGate`, unless a fresh one returns its inputs.
        convolution: None, str or callable, default None. What to put in the place of convolutions:
            "aw" for `layers.AWConv2D`, or a callable as in `layers.get_convolution`, such as
            `functools.partial(layers.AWConv2D, reduction=4)`. A layer of your own needs
            `start_as_convolution(kernel, bias=None)`, which sets its weights so that it is that
            convolution. It gets all arguments of the old convolution that its config has; one that
            it has not must be at Keras' default, but for the initializers. The regularizers and
            constraints of AWConv2D see a kernel that is divided by what the attention multiplies
            it with, 1.5 by default. "attention_augmented" for `layers.AttentionAugmentedConv2D`
            changes the outputs: the channels of its attention start as the mean of the old
            convolution's over the map, see `start_near_convolution` there.
        attention_where: None, sequence of str or callable, default None (below). Which layers get
            a gate behind them, by names or by a predicate. Names take any layer, operation or
            nested model with one float output of rank 4; a name holds at any depth where it means
            one layer, a path (`"backbone/conv1"`, or `"/conv1"` on the top level) for one layer,
            see `keras_fmm.graph`. The predicate is called on each layer, not on nested models,
            with such an output.
        convolution_where: None, sequence of str or callable, default None. Which convolutions to
            replace, as above: layers of the very class `keras.layers.Conv2D` with `groups=1`,
            without quantization or LoRA. The predicate is called on each of these, the stem too.
        residual: None, str or callable, default None. What to put in the place of the sums that
            end residual branches: a name among `layers.RESIDUALS` or a callable that takes `name`
            and returns a fresh layer, which is called on `[branch, shortcut]`. It must start as
            the sum: by a method `start_as_sum()` that sets its weights, unless a fresh one is it.
        residual_where: None, sequence of str or callable, default None (all). Which of these sums,
            `keras.layers.Add` or `a + b`, to replace, as above; each of a branch with weights and
            a shortcut, as told apart below.

    By default the convolutions of 3x3 and larger are replaced, and where there are none (as in
    MobileNetV2), the 1x1 ones that see more than one position; never the stem: convolutions
    without another before them.

    By default a gate stands at the end of each residual branch: behind what goes into a sum
    (`keras.layers.Add`, `a + b`, a layer with `start_as_sum`) or a product
    (`layers.MultiplicativeResidual`, `keras.layers.Multiply` of a branch without a last activation)
    with a shortcut of the same shape. A layer of your own class that makes one map of two of its
    shape counts where the branch has no last activation. Both inputs come from one layer before
    them; the shortcut is the input with fewer layers since, often none. Where both have as many,
    there is no shortcut. A model without residual branches gets gates before each downsampling
    (pooling, strided convolution) behind the stem and before the head (global pooling, flattening),
    where anything is learned since the last. A transformer's patch embedding is its stem.

    Returns:
        A functional `keras.Model`, not compiled, of plain class. Methods of a class of your own,
        such as `train_step`, are not in it. A Sequential becomes functional. Layers called several
        times stay shared, and so is their gate. The gate behind layer `x` is `x_attention`, or
        `x_attention_2` where that is taken; a new convolution or residual keeps the old name.

        New gates are trainable behind frozen layers too, and the flags of models that hold
        something new are True. Where a frozen convolution is replaced, its attention trains and
        its `kernel` and `bias` stay frozen by `variable.trainable`, a flag that Keras' files do
        not keep: set it again after loading. (A replacement without a `kernel` trains whole.) A
        nested model that is called with `training=False`
        passes that on to what is new in it, whose batch norms then keep their first averages.

    Raises:
        ValueError: neither attention, convolution nor residual is given; the model is neither
            functional nor built; nothing is chosen, or something that cannot be; a layer cannot be
            made again from its config; what is new cannot start as said.
        TypeError: an argument is of another type.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.applications.MobileNetV2((32, 32, 3), weights=None, classes=4)
    >>> upgraded = upgrade(model, attention="squeeze_excite")
    >>> upgraded.get_layer("block_2_project_BN_attention").name
    'block_2_project_BN_attention'
    >>> x = np.random.rand(1, 32, 32, 3)
    >>> outputs, expected = map(keras.ops.convert_to_numpy, (upgraded(x), model(x)))
    >>> bool(np.allclose(outputs, expected, atol=1e-4))
    True
    """
    chosen = {
        "attention": (attention, attention_where),
        "convolution": (convolution, convolution_where),
        "residual": (residual, residual_where),
    }
    _check_arguments(model, chosen)
    structure = Structure(model)
    gated, replaced, merged = [], [], []
    if attention is not None:
        gated = choose(
            structure,
            "attention",
            attention_where,
            functools.partial(_gateable, structure),
            cannot_be_gated,
        )
    if convolution is not None:
        replaced = choose(
            structure,
            "convolution",
            convolution_where,
            functools.partial(default_convolutions, structure),
            cannot_be_replaced,
        )
    if residual is not None:
        merged = choose(
            structure,
            "residual",
            residual_where,
            lambda candidates: candidates,
            cannot_be_merged,
            among=list({id(call.operation): call.operation for call in structure.calls}.values()),
        )
    return _Copy(structure, attention, convolution, residual, gated, replaced, merged).model(model)


def _gateable(structure, candidates):
    return [x for x in default_gates(structure) if cannot_be_gated(structure, x) is None]


def _check_arguments(model, chosen):
    check_model(model, may_write_call=False)
    if all(value is None for value, _ in chosen.values()):
        raise ValueError(
            "At least one of `attention`, `convolution` and `residual` must be given. "
            'Received: None for all. Give e.g. `attention="squeeze_excite"`.'
        )
    for name, (value, where) in chosen.items():
        if value is None and where is not None:
            raise ValueError(
                f"`{name}_where` says where `{name}` goes, which must be given with it. "
                f"Received: {name}=None, {name}_where={where!r}"
            )
    # A callable is called where it is needed.
    (attention, _), (convolution, _), (residual, _) = chosen.values()
    layers.get_convolution(convolution)
    if not _is_callable(attention):
        layers.get_gate(attention)
    if residual is not None and not _is_callable(residual):
        layers.get_residual(residual)


def _is_callable(value):
    return callable(value) and not isinstance(value, keras.layers.Layer)


class _Copy:
    """Makes the copy: of each layer, operation and nested model one, however often it is called."""

    def __init__(self, structure, attention, convolution, residual, gated, replaced, merged):
        self.structure = structure
        self.attention = attention
        self.convolution = convolution
        self.residual = residual
        self.gated = {id(operation) for operation in gated}
        self.replaced = {id(operation) for operation in replaced}
        self.merged = {id(operation) for operation in merged}
        # The nested models that hold something new.
        self.renewed = set()
        self.copies = {}
        self.gates = {}

    def model(self, model):
        source = functional(model)
        inputs = [rebuild(layer, layer.name).output for layer in input_layers(source)]
        graph = level(model).replay(inputs, self._call)
        copy = backbone.network(
            keras.tree.pack_sequence_as(source.input, graph.inputs),
            keras.tree.pack_sequence_as(source.output, graph.outputs),
            model.name,
        )
        changed = self.gated | self.replaced | self.merged | self.renewed
        if any(id(call.operation) in changed for call in graph.calls):
            self.renewed.add(id(model))
        elif not model.trainable:
            self._carry_flags(model, copy)
        return copy

    def _carry_flags(self, model, copy):
        """Freezes a nested model as its original is, where that freezes nothing new."""
        copy.trainable = model.trainable
        for layer in model.layers:
            if is_graph(layer):
                self._carry_flags(layer, self.copies[id(layer)])
            elif id(layer) in self.copies:
                carry_flags(layer, self.copies[id(layer)])

    def _call(self, call):
        """Calls the copy of an operation, and behind it its gate."""
        operation, args, kwargs = call.operation, call.args, call.kwargs
        is_new = id(operation) not in self.copies
        if is_new:
            self.copies[id(operation)] = self._copy(operation)
        copy = self.copies[id(operation)]
        tensors = [
            x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)
        ]
        if id(operation) in self.replaced:
            shape = operation.compute_output_shape(tensors[0].shape)
            outputs = blocks.called(copy, tensors[0], shape, "convolution", self.convolution)
        elif id(operation) in self.merged:
            # [branch, shortcut], in whatever order they are summed.
            tensors = tensors if branch_is_first(self.structure, operation) else tensors[::-1]
            outputs = blocks.called(copy, tensors, tensors[0].shape, "residual", self.residual)
        else:
            outputs = copy(*args, **kwargs)
        if is_new:
            self._fill(operation, tensors)
        return self._gate(operation, outputs) if id(operation) in self.gated else outputs

    def _gate(self, operation, outputs):
        if id(operation) in self.gates:
            return self.gates[id(operation)](outputs)
        gate = additions.make_gate(self.structure, operation, self.attention)
        gated = blocks.called(gate, outputs, outputs.shape, "attention", self.attention)
        path = self.structure.paths(operation)[0]
        additions.start_as_identity(gate, path, outputs.shape)
        self.gates[id(operation)] = gate
        return gated

    def _copy(self, operation):
        if is_graph(operation):
            return self.model(operation)
        path = self.structure.paths(operation)[0]
        if id(operation) in self.replaced:
            return additions.make_convolution(operation, path, self.convolution)
        if id(operation) in self.merged:
            return additions.make_residual(self.structure, operation, self.residual)
        return rebuild(operation, path)

    def _fill(self, operation, tensors):
        """Gives the built copy of a layer its state."""
        copy = self.copies[id(operation)]
        path = self.structure.paths(operation)[0]
        if id(operation) in self.replaced:
            additions.start_as_convolution(copy, operation, path, tensors[0].shape)
        elif id(operation) in self.merged:
            additions.start_as_sum(copy, path, tensors[0].shape)
        elif isinstance(operation, keras.layers.Layer) and not is_graph(operation):
            carry_state(operation, copy, path)
