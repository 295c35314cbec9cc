"""Gradients on PyTorch; see the package."""

import keras
import torch
from torch.autograd.graph import get_gradient_edge


def compiled(function, model, *inputs):
    def call(*arrays):
        # A caller's inference mode would leave no gradients, silently.
        with torch.inference_mode(False), torch.no_grad():
            given = [
                keras.ops.convert_to_tensor(array, x.dtype)
                for array, x in zip(arrays, inputs, strict=True)
            ]
            return function(*given)

    return call


def vjp(function, *inputs):
    watched = []

    def watch(structure):
        for x in keras.tree.flatten(structure):
            if isinstance(x, torch.Tensor) and x.is_floating_point() and not x.requires_grad:
                watched.append(x.requires_grad_())

    try:
        with torch.enable_grad():
            outputs, tensors, others = function(watch, *inputs)
        # These say what to differentiate by once the tensors are no longer watched.
        edges = {i: get_gradient_edge(x) for i, x in enumerate(tensors) if x.requires_grad}
        is_reached = outputs.requires_grad
        found = keras.tree.map_structure(lambda x: x.detach(), (outputs, tensors, others))
    finally:
        # Some may be the model's own weights.
        for x in watched:
            x.requires_grad_(False)

    def pullback(upstream):
        gradients = dict.fromkeys(range(len(tensors)))
        if is_reached and edges:
            options = {"retain_graph": True, "allow_unused": True}
            found = torch.autograd.grad(outputs, [*edges.values()], upstream, **options)
            gradients.update(zip(edges, found, strict=True))
        return [*gradients.values()]

    # The graph behind them goes when the pullback does.
    return *found, pullback


def jvp(function, x):
    return torch.func.jvp(function, (x,), (x,))


def scope():
    # How deep inside `vmap` and the like, whose tensors stand for many.
    return torch._C._functorch.maybe_current_level()


def is_traced(x):
    # What is computed from watched tensors; integers have no gradients, and are the model's input.
    return isinstance(x, torch.Tensor) and (x.requires_grad or not x.is_floating_point())
