"""Gradients on JAX; see the package."""

import jax
import keras
from jax.extend import core


def compiled(function, model, *inputs):
    variables = model.variables
    structure = None

    # The weights are arguments: XLA would take long over constants of their size.
    @jax.jit
    def stateless(values, *arrays):
        nonlocal structure
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            found = function(*arrays)
        # JAX itself sorts the keys of what it returns.
        structure = keras.tree.map_structure(lambda x: 0, found)
        return keras.tree.flatten(found)

    def call(*arrays):
        given = (jax.numpy.asarray(array, x.dtype) for array, x in zip(arrays, inputs, strict=True))
        found = stateless([variable.value for variable in variables], *given)
        return keras.tree.pack_sequence_as(structure, found)

    return call


def vjp(function, *inputs):
    def called(*inputs):
        return function(lambda x: None, *inputs)

    closed, shapes = jax.make_jaxpr(called, return_shape=True)(*inputs)
    outcome, places, _ = keras.tree.pack_sequence_as(shapes, closed.jaxpr.outvars)
    # One tensor may stand at several places.
    unique = list(dict.fromkeys(places))

    def probed(probes):
        values = _evaluated(closed, inputs, dict(zip(unique, probes, strict=True)))
        outputs, *others = keras.tree.pack_sequence_as(shapes, values)
        return outputs, others

    zeros = [jax.numpy.zeros(place.aval.shape, place.aval.dtype) for place in unique]
    outputs, pullback, (tensors, others) = jax.vjp(probed, zeros, has_aux=True)
    is_reached = {place: _is_reached(closed.jaxpr, place, outcome) for place in unique}

    def pulled_back(upstream):
        (found,) = pullback(upstream)
        found = dict(zip(unique, found, strict=True))
        return [found[place] if is_reached[place] else None for place in places]

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
