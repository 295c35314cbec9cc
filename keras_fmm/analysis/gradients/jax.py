"""Gradients on JAX; see the package."""

import jax
import keras
from jax.extend import core

try:
    from jax.extend.core import DropVar, get_opaque_trace_state

    OF_A_PART = {}
except ImportError:
    # Where JAX before 0.10 has them, and later ones no longer.
    from jax.core import DropVar, get_opaque_trace_state

    # JAX 0.5 wants a name for each argument of a program, and has those of the whole.
    OF_A_PART = {"debug_info": None}


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
    _, places, _ = keras.tree.pack_sequence_as(shapes, closed.jaxpr.outvars)
    # One tensor may stand at several places.
    unique = list(dict.fromkeys(places))

    def probed(probes):
        values = _evaluated(closed, inputs, dict(zip(unique, probes, strict=True)))
        outputs, *others = keras.tree.pack_sequence_as(shapes, values)
        return outputs, others

    zeros = [jax.numpy.zeros(place.aval.shape, place.aval.dtype) for place in unique]
    outputs, pullback, (tensors, others) = jax.vjp(probed, zeros, has_aux=True)
    # JAX gives zeros where no gradient goes; they are constants.
    depends = _depend_on_inputs(jax.make_jaxpr(pullback)(outputs).jaxpr)
    is_reached = dict(zip(unique, depends, strict=True))

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
        given = _variables(equation.outvars)
        single = jaxpr.replace(
            constvars=[], invars=taken, outvars=given, eqns=[equation], **OF_A_PART
        )
        found = jax.core.eval_jaxpr(single, [], *(values[variable] for variable in taken))
        write(given, found)
    return [x.val if isinstance(x, core.Literal) else values[x] for x in jaxpr.outvars]


def _variables(atoms):
    return [x for x in atoms if not isinstance(x, (core.Literal, DropVar))]


def _depend_on_inputs(jaxpr):
    """Returns of each output of a program whether it is computed from an input."""
    reached = {*jaxpr.invars}
    for equation in jaxpr.eqns:
        if reached & {*_variables(equation.invars)}:
            reached.update(equation.outvars)
    return [not isinstance(x, core.Literal) and x in reached for x in jaxpr.outvars]


def jvp(function, x):
    return jax.jvp(function, (x,), (x,))


def scope():
    # JAX 0.5 asks for an argument, which it does not use.
    return get_opaque_trace_state(None)


def is_traced(x):
    return isinstance(x, jax.core.Tracer)
