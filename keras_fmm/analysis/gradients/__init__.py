"""Gradients on the backend that Keras runs on: the same five functions, a file for each backend.

- `compiled(function, model, *inputs)` returns a function of arrays that computes what `function`
  does of tensors. `inputs` are `keras.KerasTensor`, the first axis of any length. Nothing is kept
  of it once it is let go.
- `vjp(function, *inputs)` returns `(outputs, tensors, others, pullback)`: what
  `function(watch, *inputs)` returns, and a function of outputs' cotangent to the list of its
  gradients by `tensors`, None where the outputs do not depend on one. It is to be called in what
  is compiled. Gradients are total derivatives: by an inner tensor they go by way of all that is
  computed from it. `tensors`, a list, are to be watched, by `watch(structure)`, before anything is
  computed of them.
- `jvp(function, x)` returns `function(x)` and its derivative along `x`.
- `scope()` tells computations apart: a tensor made in another scope, as in a loop's body, has no
  meaning in this one.
- `is_traced(x)` says whether `x` is a tensor that is computed here and not a constant.
"""

import keras

BACKENDS = ("jax", "tensorflow", "torch")

if keras.backend.backend() == "tensorflow":
    from keras_fmm.analysis.gradients.tensorflow import compiled, is_traced, jvp, scope, vjp
elif keras.backend.backend() == "jax":
    from keras_fmm.analysis.gradients.jax import compiled, is_traced, jvp, scope, vjp
elif keras.backend.backend() == "torch":
    from keras_fmm.analysis.gradients.torch import compiled, is_traced, jvp, scope, vjp
else:

    def compiled(function, model, *inputs):
        """Returns the function itself: other backends compile nothing, and have no gradients."""
        return function


__all__ = ["BACKENDS", "compiled", "is_traced", "jvp", "scope", "vjp"]
