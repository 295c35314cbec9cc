"""Loading weights into a backbone: of its like, with and without attention, Keras' or timm's."""

import collections
import dataclasses
import re

import keras

from keras_fmm import checks
from keras_fmm.models import keras_applications, pytorch, weights_files
from keras_fmm.models.preprocessing import Preprocessing
from keras_fmm.protocols import ReplacesConvolution

# What a backbone cannot do without, of Keras' own class or standing for it as AWConv2D does; gates,
# a classifier, preprocessing and what is of a user's own kind may be new.
_NEEDED = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.BatchNormalization)

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did, by the paths of layers: `backbone/stage1_conv`, `gate/squeeze`.

    Args:
        loaded: tuple of str, the model's layers that have the source's weights now.
        skipped: tuple of str, the source's layers that have no place: the classifier of a source
            whose model has none, and convolutions where the model has a layer of another kind.
        initialised: tuple of str, the model's layers that keep their initial weights.
    """

    loaded: tuple
    skipped: tuple
    initialised: tuple


def load_weights(model, source):
    """Loads a backbone's weights by the names of its layers; attention that is new stays as it is.

    The convolutions, batch norms and depthwise convolutions of the model must all be in the
    source, and all that is in the source must have its place. Gates, the attention inside an
    AWConv2D and a classifier keep their initial weights where the source has none. An AWConv2D
    takes the kernel of a Conv2D as it is; `upgrade` also keeps the outputs.

    A layer of your own where the source has a convolution takes its kernel and bias where its own
    weights have their shapes and, if the source is a model, are called `kernel` and `bias`; else it
    keeps its initial ones, and the source's are skipped. A file does not say which of its layers
    are convolutions: of a file the shapes decide.

    The weights of keras.applications' ResNet and MobileNet fit where they fit in size: the biases
    of convolutions, which the models here do not have, are subtracted from the mean in the batch
    norm that follows, so that the predictions stay the same. Those of timm and torchvision fit
    into what `from_timm` builds, with other attention too.

    Args:
        model: `keras.Model` of this package, with any attention; its weights are changed.
        source: "imagenet", the weights of keras.applications, which are downloaded; "hub", those
            that timm has of a model of `from_timm`, downloaded by huggingface_hub; or the path
            of a `.keras`, `.weights.h5` or legacy `.h5` file; or a model. They are of
            keras.applications, of a model of this package, or of any whose layers have the same
            names. Or the path of a `.safetensors` or `.pth` file of PyTorch's, or a state dict:
            arrays or tensors by their names. Of a `.pth` file nothing but arrays is unpickled.

    Returns:
        `LoadReport`.

    Raises:
        OSError: the file is absent or cannot be read.
        TypeError: `source` is none of these, or `model` no model.
        ValueError: the source does not fit; nothing is loaded then, and the first mismatches are
            named.
        ImportError: for a file of PyTorch's, safetensors or torch is missing.

    Example:

    >>> from keras_fmm import models
    >>> shape = {"input_shape": (32, 32, 3), "alpha": 0.25, "classes": 10}
    >>> model = models.MobileNet(**shape, attention="squeeze_excite")
    >>> report = load_weights(model, models.MobileNet(**shape))
    >>> report.initialised[0]
    'stage1_block1_depthwise_attention/squeeze'
    """
    checks.instance("model", model, keras.Model)
    return load_weights_of(model, source, "source")


def load_weights_of(model, source, argument):
    """Loads as `load_weights` does; the errors call the source by the name of the argument."""
    if isinstance(source, str) and source == "imagenet":
        source = keras_applications.imagenet_model(model, argument)
    elif isinstance(source, str) and source == "hub":
        source = pytorch.downloaded(_source_of(model, argument), argument)
    with weights_files.opened(source, argument) as arrays:
        plan = _Plan(model, arrays, _convolutions(source))
    plan.mismatches += pytorch.told_by_name(source)
    if plan.mismatches:
        left = len(plan.mismatches) - _SHOWN
        named = checks.printable("; ".join(plan.mismatches[:_SHOWN]))
        named += f"; {left} more" if left > 0 else ""
        raise ValueError(
            f"`{argument}` must fit the model. Received: {_named(source)} for the model "
            f"{model.name!r}: {named}. Nothing was loaded. Build the model as the source was, in "
            "depth, width, stem and classes; without a top it takes a source with any. Sub-layers "
            "of layers of your own need names."
        )
    _load(model, plan)
    loaded = [plan.paths[name] for name in plan.values]
    new = [plan.paths[name] for name in plan.layers if name not in plan.values]
    return LoadReport(tuple(loaded), tuple(plan.skipped), tuple(new))


def _source_of(model, argument):
    """Returns what timm calls the network and weights that a model was built after."""
    for *_, layer in weights_files.parts(model):
        if isinstance(layer, Preprocessing) and layer.source:
            return layer.source
    raise ValueError(
        f'`{argument}="hub"` is for models of `from_timm`. Received: the model {model.name!r}. '
        "Give a file or a model."
    )


def _load(model, plan):
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    for name, values in plan.values.items():
        try:
            plan.layers[name].load_own_variables({str(i): value for i, value in enumerate(values)})
        # A class of the user's may raise anything; nothing may stay half loaded.
        except Exception as error:
            for variable, value in zip(model.variables, before, strict=True):
                variable.assign(value)
            kind = type(plan.layers[name]).__name__
            raise ValueError(
                "A layer must take the weights that it saves. Received: "
                f"{plan.paths[name]!r} of class {kind}, which refused them ({error}). Nothing was "
                "loaded. Give the class `save_own_variables` and `load_own_variables` for all "
                "weights of its own."
            ) from error


def with_weights(model, weights):
    """Returns `model`, which has the weights of `weights`, see `load_weights`, if not None."""
    if weights is not None:
        load_weights_of(model, weights, "weights")
    return model


class _Plan:
    """What goes where: `values` by the model's layers, what is `skipped`, and the `mismatches`."""

    def __init__(self, model, arrays, convolutions):
        found = weights_files.parts(model)
        parts = {name: layer for name, _, layer in found}
        self.paths = {name: path for name, path, _ in found}
        self.layers = {
            name: layer for name, layer in parts.items() if weights_files.own_weights(layer)
        }
        self.values = {}
        self.skipped = []
        self.mismatches = []
        # The names of the source's layers that are known to be Keras' own convolutions.
        self.convolutions = convolutions
        translate = keras_applications.name_in(arrays)
        self._compare([layer for *_, layer in found], arrays, translate)
        # By the batch norm that takes it over.
        biases = {}
        left = self._by_paths(arrays)
        for name, layer in parts.items():
            values = left.get(translate(name))
            if values is None:
                if "/" not in name and _is_needed(layer):
                    self.mismatches.append(f"{self.paths[name]} is not in the source")
            elif name in self.layers or _replaces_convolution(layer, values):
                del left[translate(name)]
                self._place(name, layer, list(values), translate, biases)
        for name, bias in biases.items():
            if name in self.values:
                self.values[name][2] = self.values[name][2] - bias
        top = translate("predictions")
        self.skipped += [name for name in left if name == top]
        self.mismatches += [self._not_placed(name) for name in left if name != top]

    def _compare(self, layers, arrays, translate):
        """Notes what weights do not show: strides, padding and pooling of their network."""
        if isinstance(arrays, pytorch.Layers):
            self.mismatches += arrays.differences(layers)
        elif translate is not keras_applications.same_name and pytorch.is_arranged(layers):
            self.mismatches.append("the model has PyTorch's strides and padding")

    def _by_paths(self, arrays):
        """Returns the arrays by the names here where the source has paths, as legacy files may."""
        renamed = {}
        for name, values in arrays.items():
            ends = [
                own
                for own, path in self.paths.items()
                if "/" in name and f"/{path}".endswith(f"/{name}")
            ]
            is_path = name not in self.paths and len(ends) == 1 and ends[0] not in arrays
            renamed[ends[0] if is_path else name] = values
        return renamed

    def _not_placed(self, name):
        several = [path for path in self.paths.values() if path.endswith(f"/{name}")]
        if len(several) > 1:
            return f"{name} could be {' or '.join(several)}"
        return f"{name} is not in the model"

    def _place(self, name, layer, values, translate, biases):
        own = weights_files.own_weights(layer)
        shapes = [value.shape for value in own]
        # Only what may fit is read: a file can claim any size.
        most = max((value.size for value in own), default=0)
        may_fit = all(value.size <= most for value in values)
        may_fit = may_fit or _fits(layer, [value.shape for value in values], shapes)
        if len(values) <= len(own) + 1 and may_fit:
            values = [weights_files.array(value) for value in values]
            if isinstance(layer, keras.layers.Dense) and values[0].shape[:-2] == (1, 1):
                # MobileNet's classifier is a 1x1 convolution in keras.applications.
                values[0] = values[0].reshape(values[0].shape[2:])
        follower = re.sub(r"conv(\d*)$", r"bn\1", name)
        has_bias = len(values) == 2 and [values[0].shape] == shapes and follower != name
        if translate is not keras_applications.same_name and has_bias and follower in self.layers:
            biases[follower] = values.pop()
        received = [value.shape for value in values]
        is_known = translate(name) in self.convolutions
        if _fits(layer, received, shapes) and not (is_known and _has_other_names(layer)):
            self.values[name] = values
        elif _replaces_convolution(layer, values):
            self.skipped.append(translate(name))
        else:
            self.mismatches.append(
                f"{self.paths[name]} has the shapes {shapes}, in the source {received}"
            )


def _fits(layer, received, shapes):
    """Says whether a layer takes weights of these shapes, which its own may differ from."""
    if received == shapes:
        return True
    takes = getattr(layer, "takes_shapes", None)
    return takes is not None and len(received) == len(shapes) and takes(received)


def _is_needed(layer):
    return isinstance(layer, _NEEDED) and (
        _is_of_keras(layer) or isinstance(layer, ReplacesConvolution)
    )


def _replaces_convolution(layer, values):
    """Says whether a layer of another kind stands where the source has a convolution.

    A subclass of Conv2D that has a convolution's weights is of the same kind, as AWConv2D.
    """
    own = [value.ndim for value in weights_files.own_weights(layer)]
    is_one = isinstance(layer, keras.layers.Conv2D) and own == [4, 1][: 1 + layer.use_bias]
    has_one = [value.ndim for value in values] in ([4], [4, 1])
    return has_one and not is_one and not _is_of_keras(layer)


def _has_other_names(layer):
    """Says whether the weights of a layer of a user's own are no kernel and bias."""
    own = [variable.name for variable in layer._trainable_variables]
    return not isinstance(layer, keras.layers.Conv2D) and own != ["kernel", "bias"][: len(own)]


def _convolutions(source):
    """Returns the names of a model's layers that are Keras' own convolutions; of a file, none."""
    if not isinstance(source, keras.Model):
        return set()
    parts = weights_files.parts(source)
    return {name for name, _, layer in parts if type(layer) is keras.layers.Conv2D}


def _is_of_keras(layer):
    return type(layer).__module__.split(".")[0] == "keras"


def _named(source):
    if isinstance(source, keras.Model):
        return f"the model {source.name!r}"
    is_state = isinstance(source, collections.abc.Mapping)
    return f"a state dict of {len(source)} entries" if is_state else str(source)
