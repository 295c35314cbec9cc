"""Gradients on PyTorch; see the package."""

import keras
import torch


def compiled(function, model, *inputs):
    def call(*arrays):
        given = (
            keras.ops.convert_to_tensor(array, x.dtype)
            for array, x in zip(arrays, inputs, strict=True)
        )
        with torch.no_grad():
            return function(*given)

    return call


def vjp(function, *inputs):
    with torch.enable_grad():
        outputs, tensors, others = function(_watch, *inputs)

    def pullback(upstream):
        if not outputs.requires_grad:
            return [None] * len(tensors)
        return torch.autograd.grad(outputs, tensors, upstream, retain_graph=True, allow_unused=True)

    # The graph behind them goes when the pullback does.
    found = keras.tree.map_structure(lambda x: x.detach(), (outputs, tensors, others))
    return *found, pullback


def _watch(structure):
    for x in keras.tree.flatten(structure):
        if isinstance(x, torch.Tensor) and x.is_floating_point() and not x.requires_grad:
            x.requires_grad_()


def jvp(function, x):
    return torch.func.jvp(function, (x,), (x,))


def scope():
    # How deep inside `vmap` and the like, whose tensors stand for many.
    return torch._C._functorch.maybe_current_level()


def is_traced(x):
    # What is computed from watched tensors; integers have no gradients, and are the model's input.
    return isinstance(x, torch.Tensor) and (x.requires_grad or not x.is_floating_point())
