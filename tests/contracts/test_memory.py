"""What is made, trained, exported and explained is freed: nothing of TensorFlow's is left."""

import gc
import inspect
import itertools
import re
import warnings

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("graphs of TensorFlow", allow_module_level=True)

from tensorflow.python.eager import context
from tensorflow.python.framework import func_graph
from tensorflow.python.framework.ops import gradient_registry

from keras_fmm import analysis
from recipes.benchmarks import memory as recipe

# The training step of Keras is kept by a gradient of its own, with or without layers of ours.
OF_KERAS = {"fit", "Run", "GradCAMCallback"}
# One of each kind; the others are slow for what they tell.
QUICK = {
    "attention_maps",
    "grad_cam",
    "TFLite float32",
}

OF_CONTROL_FLOW = "(while|cond)(_[0-9]+)?_(cond|body|true|false)_[0-9]+$"


def alive():
    """Returns how many models and graphs live, and what TensorFlow has registered.

    The bodies of a graph's loops live as long as the graph, and are not counted.
    """
    gc.collect()
    kinds = {"models": keras.Model, "graphs": func_graph.FuncGraph}
    found = {
        name: sum(isinstance(x, kind) and not is_body(x) for x in gc.get_objects())
        for name, kind in kinds.items()
    }
    names = context.context().list_function_names()
    found["functions"] = sum(not re.search(OF_CONTROL_FLOW, name) for name in names)
    found["gradients"] = len(gradient_registry.list())
    return found


def is_body(x):
    return isinstance(getattr(x, "outer_graph", None), func_graph.FuncGraph)


def names():
    for name in recipe.jobs(None):
        if name not in OF_KERAS:
            marks = [] if name in QUICK else [pytest.mark.slow]
            yield pytest.param(name, marks=marks)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("name", names())
def test_a_call_leaves_nothing(name, tmp_path):
    job, _ = recipe.jobs(tmp_path)[name]
    job(recipe.network())
    before = alive()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job(recipe.network())
    assert alive() == before


@pytest.mark.slow
def test_a_process_that_goes_on_keeps_no_more_than_with_a_plain_model(tmp_path):
    """Models are made, trained, saved, exported, explained and dropped, in one process."""
    found = recipe.jobs(tmp_path)
    day = [found[name][0] for name in ("Run", "keras file", "SavedModel", "grad_cam", "full_grad")]

    def kept(make):
        counts = []
        for _ in range(4):
            model = make()
            for job in day:
                job(model)
            del model
            counts.append(alive())
        # The first has what is made once a process.
        return [
            {name: after[name] - before[name] for name in after}
            for before, after in itertools.pairwise(counts[1:])
        ]

    by_plain = kept(recipe.plain_network)
    assert all(counts["models"] == 0 for counts in by_plain)
    assert kept(recipe.network) == by_plain


def test_every_measurement_of_a_model_is_among_them():
    functions = {name for name in analysis.__all__ if inspect.isfunction(getattr(analysis, name))}
    of_models = {
        name
        for name in functions
        if "model" in inspect.signature(getattr(analysis, name)).parameters
    }
    assert of_models <= set(recipe.jobs(None))
