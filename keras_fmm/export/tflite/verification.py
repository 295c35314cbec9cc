"""Whether a TFLite file counts as written: it runs, and says about what the model says."""

import bisect
import dataclasses
import warnings

import numpy as np

from keras_fmm.export import keras_model, names
from keras_fmm.export.tflite import flatbuffers, litert, running

# Of the images that are given.
MOST_IMAGES = 100
_BATCH = 32
# How far outputs may be from those of Keras, in parts of their spread: from the first on a file is
# worse than expected; from the second on, the mean of Keras' outputs would say more.
_EXPECTED_ERROR = 0.3
_GREATEST_ERROR = 1.0
# Of probabilities: how often the class is to be the same where the first is this far before the
# second, to be as expected; and, of all images, how much of the way from chance (0) to Keras (1) a
# file must be. That is Cohen's kappa.
_CLEAR_MARGIN = 4 / 256
_EXPECTED_AGREEMENT = 0.85
_LEAST_KAPPA = 0.25
# Fewer images, and outputs that differ by fewer steps, say nothing.
_FEWEST_IMAGES = 5
_FEWEST_STEPS = 4
# Of outputs: an untrained network of many layers gives 1e-17, where integers give 0.
_NOTHING = 1e-6


def trial_run(path, model, is_apart):
    """Returns a `litert.Session` of the file at `path`, which ran once, on zeros.

    Args:
        path: `pathlib.Path`.
        model: the `keras.Model` that it was made from.
        is_apart: bool, whether it is tried in a process of its own before, see `litert.try_apart`.

    Raises:
        ValueError: LiteRT does not run it; the operator that it refuses is named.
    """
    content = path.read_bytes()
    try:
        if is_apart:
            litert.try_apart(content)
        session = litert.Session(content)
        session.run_on_zeros()
    except litert.RefusedError as error:
        raise ValueError(
            "A TFLite file must run in LiteRT to count as written. "
            f"Received: model={model!r}, whose file does not{_refused(content, is_apart)} "
            f"({error}). "
            "Write that layer with other operations, or leave it out of the exported model."
        ) from error
    return session


def _refused(content, is_apart):
    """Returns which operator LiteRT refuses, with its output's name, which tells the layer.

    LiteRT's fast kernels fail as a whole. So the file is cut: the operator is the last one of the
    shortest beginning that does not run. Empty where no beginning fails.
    """
    model = flatbuffers.parsed(content)
    graph = model.subgraphs[0]
    operators = graph.operators
    # They name the outputs, which are now others.
    model.signatureDefs = None

    def fails(number):
        graph.operators = operators[: number + 1]
        graph.outputs = operators[number].outputs
        try:
            if is_apart:
                litert.try_apart(flatbuffers.packed(model))
            else:
                litert.Session(flatbuffers.packed(model)).run_on_zeros()
        except litert.RefusedError:
            return True
        return False

    # A beginning must give something that is computed: a float16 file begins with its weights.
    ends = [
        number
        for number, op in enumerate(operators)
        if len(op.outputs) and flatbuffers.operator_name(op, model) != "DEQUANTIZE"
    ]
    found = bisect.bisect_left(ends, True, key=fails)
    if found == len(ends):
        return ""
    op = operators[ends[found]]
    place = graph.tensors[op.outputs[0]].name.decode()
    return f": {flatbuffers.operator_name(op, model)} at {place}"


@dataclasses.dataclass(frozen=True)
class _Finding:
    """What was measured of one output: what is said of it, and what it means.

    Attributes:
        text: str, begins with a verb.
        is_broken: bool, nothing is left of what the model says.
        is_expected: bool, there is nothing to say.
    """

    text: str
    is_broken: bool = False
    is_expected: bool = False


def check_outputs(session, model, images, quantization, min_agreement=None, has_map=False):
    """Refuses a file that says something else than Keras; of a coarse one it warns.

    Each output is looked at by itself: scores of classes by the class, all by their error.

    Args:
        session: `litert.Session` of the file.
        model: the `keras.Model` of one input that it was made from.
        images: float32 array, of which the first ones are taken.
        quantization: str, said in the error.
        min_agreement: float or None, default None. See `to_tflite`.
        has_map: bool, default False. Whether the last output is an attention map.

    Raises:
        ValueError: an output of the file is broken, or agrees less than is wanted; it is named if
            there are several.
    """
    size = model.inputs[0].shape[0] or _BATCH
    seen = images[: max(size, MOST_IMAGES)]
    if model.inputs[0].shape[0] is not None:
        # A model of one batch size takes no smaller last batch.
        seen = seen[: len(seen) // size * size]
    if not len(seen):
        return
    expected = keras_model.outputs(model, [seen], size)
    steps = {name: _step(session, detail) for name, detail in session.outputs.items()}
    found = running.outputs_of(session, seen, repr(model))
    titles = names.of_outputs(model, expected)
    answers = list(expected)[: len(expected) - has_map]
    scores = [name for name in answers if _are_scores(expected[name], len(answers))]
    if min_agreement is not None and not scores:
        raise ValueError(
            "`min_agreement` asks for an output of scores of classes: probabilities, or the one "
            f"output of rank 2. Received: min_agreement={min_agreement:g}, model={model!r}, whose "
            f"outputs {', '.join(map(repr, titles))} are none. Leave it out."
        )
    for (name, values), title in zip(expected.items(), titles, strict=True):
        wish = min_agreement if name in scores else None
        finding = _finding(values.astype("float64"), found[name], steps[name], wish)
        which = f" {title!r}" if len(expected) > 1 else ""
        said = (
            f"Received: model={model!r}, whose {quantization} outputs{which} {finding.text}, on "
            f"{len(seen)} of the images given. {_cure(quantization, len(images))}"
        )
        if finding.is_broken:
            raise ValueError(f"A quantized file must say about what the model says. {said}")
        if not finding.is_expected:
            # Of the caller of `to_tflite`.
            warnings.warn(
                f"A quantized file is expected to say what the model says. {said} With "
                "`min_agreement` such a file is refused.",
                stacklevel=3,
            )


def _cure(quantization, images):
    """Says what would make a file agree more."""
    more = "Give a hundred images or more. " if images < MOST_IMAGES else ""
    others = {
        "int8": '"int16x8", "dynamic" and "float16" lose less',
        "int16x8": '"dynamic" and "float16" lose less',
    }.get(quantization, '"float16" loses less')
    return (
        f"{more}The images must be fed as in training. Of the other quantizations {others}; "
        "`inspect` tells what was quantized."
    )


def _finding(expected, found, step, min_agreement):
    """Returns the `_Finding` of one output of the file, beside what Keras says."""
    if np.isnan(expected).any():
        return _Finding("cannot be judged, as Keras gives NaN", is_broken=True)
    if not np.isfinite(found).all():
        return _Finding("are not all finite", is_broken=bool(np.isfinite(expected).all()))
    if not np.isfinite(expected).all():
        return _Finding("are finite where those of Keras are not")
    error, spread = np.sqrt(np.mean((found - expected) ** 2)), expected.std()
    # Scores of an untrained network spread less than a step of its outputs, or, where these are
    # floats, of the eight bits they are computed from.
    step = max(step, np.abs(expected).max(initial=0) / 127, _NOTHING)
    text = f"are off by {error:.3g} where those of Keras spread by {spread:.3g}"
    is_broken = error > max(_GREATEST_ERROR * spread, 2 * step)
    is_expected = error <= max(_EXPECTED_ERROR * spread, 2 * step)
    if np.ptp(found, axis=0).max(initial=0) == 0 and np.ptp(expected, axis=0).max(initial=0) > (
        _FEWEST_STEPS * step
    ):
        return _Finding("are the same for all images", is_broken=True)
    if min_agreement is not None or _are_probabilities(expected):
        classes = _of_classes(expected, found, min_agreement)
        if is_expected or not classes.is_expected:
            return classes
    return _Finding(text, is_broken, is_expected)


def _are_scores(values, outputs):
    """Returns whether a model's output, one of so many, says of classes how likely they are."""
    is_alone = outputs == 1 and values.ndim == 2 and values.shape[-1] > 1
    return is_alone or _are_probabilities(values)


def _are_probabilities(values):
    return (
        values.ndim > 1
        and values.shape[-1] > 1
        and values.min(initial=0) >= 0
        and np.allclose(values.sum(axis=-1), 1, atol=1e-3)
    )


def _of_classes(expected, found, min_agreement):
    """Returns the `_Finding` of scores of classes by how often the class is the same."""
    wanted, named = expected.argmax(axis=-1), found.argmax(axis=-1)
    second, first = np.moveaxis(np.sort(expected, axis=-1)[..., -2:], -1, 0)
    clear = first - second > _CLEAR_MARGIN
    same = wanted == named
    text = f"name the class of Keras for {same.mean():.0%}"
    if min_agreement is not None and same.mean() < min_agreement:
        wish = f"{text}, less than min_agreement={min_agreement:g}"
        return _Finding(wish, is_broken=True)
    if clear.sum() < _FEWEST_IMAGES or not _are_probabilities(expected):
        return _Finding(text, is_expected=True)
    text = f"{text}, and for {same[clear].mean():.0%} of the {clear.sum()} where it is clear"
    is_broken = _kappa(wanted[clear], named[clear], expected.shape[-1]) < _LEAST_KAPPA
    if is_broken:
        text += ", which is little better than chance"
    enough = _EXPECTED_AGREEMENT if min_agreement is None else 0
    return _Finding(text, is_broken, is_expected=same[clear].mean() >= enough)


def _kappa(wanted, named, classes):
    """Returns Cohen's kappa of two arrays of classes: 0 is chance, 1 is the same everywhere."""
    shares = [np.bincount(each, minlength=classes) / len(each) for each in (wanted, named)]
    chance = float(shares[0] @ shares[1])
    same = np.mean(wanted == named)
    return 1.0 if chance == 1 else (same - chance) / (1 - chance)


def _step(session, output):
    """Returns the step of an output, of the integers that floats are made from."""
    index = output["index"]
    for node in session.operators():
        if node["op_name"] == "DEQUANTIZE" and index in node["outputs"]:
            index = int(node["inputs"][0])
    return float(session.tensors()[index]["quantization"][0])
