"""Gradients on JAX; see the package."""

import jax
import keras
from jax.extend import core


def compiled(function, model, *inputs):
    variables = model.variables

    # The weights are arguments: XLA would take long over constants of their size.
    @jax.jit
    def stateless(values, *arrays):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arrays)

    def call(*arrays):
        given = (jax.numpy.asarray(array, x.dtype) for array, x in zip(arrays, inputs, strict=True))
        return stateless([variable.value for variable in variables], *given)

    return call


def vjp(function, *inputs):
    def called(*inputs):
        return function(lambda x: None, *inputs)

    closed, shapes = jax.make_jaxpr(called, return_shape=True)(*inputs)
    found = keras.tree.pack_sequence_as(shapes, closed.jaxpr.outvars)
    (outcome,), places = keras.tree.flatten(found[0]), found[1]
    zeros = [jax.numpy.zeros(place.aval.shape, place.aval.dtype) for place in places]

    def probed(probes):
        values = _evaluated(closed, inputs, dict(zip(places, probes, strict=True)))
        outputs, *others = keras.tree.pack_sequence_as(shapes, values)
        return outputs, others

    outputs, pullback, (tensors, others) = jax.vjp(probed, zeros, has_aux=True)
    is_reached = [_is_reached(closed.jaxpr, place, outcome) for place in places]

    def pulled_back(upstream):
        (gradients,) = pullback(upstream)
        return [
            gradient if reached else None
            for gradient, reached in zip(gradients, is_reached, strict=True)
        ]

    return outputs, tensors, others, pulled_back


def _evaluated(closed, inputs, probes):
    """Returns what a program computes where each of the probes is added to the variable it is of.

    JAX differentiates by what a function is given. Zeros that join where a tensor is made have the
    gradient by it, and whatever is computed from it takes the sum.
    """
    jaxpr = closed.jaxpr
    values = {}

    def write(variables, found):
        for variable, value in zip(variables, found, strict=True):
            values[variable] = value + probes[variable] if variable in probes else value

    write(jaxpr.constvars, closed.consts)
    write(jaxpr.invars, inputs)
    for equation in jaxpr.eqns:
        taken = _variables(equation.invars)
        single = jaxpr.replace(
            constvars=[], invars=taken, outvars=_variables(equation.outvars), eqns=[equation]
        )
        found = jax.core.eval_jaxpr(single, [], *(values[variable] for variable in taken))
        write(single.outvars, found)
    return [x.val if isinstance(x, core.Literal) else values[x] for x in jaxpr.outvars]


def _variables(atoms):
    return [x for x in atoms if not isinstance(x, (core.Literal, core.DropVar))]


def _is_reached(jaxpr, start, end):
    """Returns whether a gradient goes from one variable to another."""
    reached = {start}
    for equation in jaxpr.eqns:
        if equation.primitive.name != "stop_gradient" and reached & {*_variables(equation.invars)}:
            reached.update(equation.outvars)
    return end in reached


def jvp(function, x):
    return jax.jvp(function, (x,), (x,))


def scope():
    return core.get_opaque_trace_state()


def is_traced(x):
    return isinstance(x, jax.core.Tracer)
