"""The one file of the layers' mathematics that is written for one backend, TensorFlow."""

import functools
import math

import keras

from keras_fmm.ops.devices import on_accelerator
from keras_fmm.ops.sums import at_least_float32

# Up to so many calls, a batch that is known when traced is written out call by call, which is a
# little faster than a loop; a larger one would make the graph too large.
_WITHOUT_LOOP = 32

# Up to so many positions, a sum over them is faster than a matrix product.
_SMALL = 48

# From so many numbers a sample on, a mean over one axis of space after the other is faster on CPUs.
_LARGE = 100_000


def compiled_by_xla():
    """Whether TensorFlow is tracing what XLA will compile (`jit_compile=True`).

    TensorFlow's own control flow asks the same question in the same way; there is no public name
    for it.
    """
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    return not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )


def is_native_tensorflow():
    """Whether TensorFlow runs its own operators, or traces them, and nothing compiles them."""
    return keras.backend.backend() == "tensorflow" and not compiled_by_xla()


def at_most(size, limit):
    """Returns a size that is known when a graph runs, and ends the run where it is above a limit.

    XLA checks nothing while it runs; it knows all sizes, and refuses the slice that is taken then.
    """
    import tensorflow as tf

    if compiled_by_xla():
        return size
    text = f"A map must not be larger than the layer's `position_size`, {limit} along this axis"
    message = f"{text}, with `interpolate_positions=False`. Received a size of:"
    with tf.control_dependencies([tf.debugging.Assert(size <= limit, [message, size])]):
        return tf.identity(size)


def reshape_at_run_time(x, shape):
    """Returns a tensor of a shape that it should have already, and may not have when a graph runs.

    Grappler takes a reshape away that seems to change nothing; it does not know this one's shape.
    """
    import tensorflow as tf

    if tf.executing_eagerly():
        return tf.reshape(x, shape)
    *sizes, last = shape
    if isinstance(shape[0], int):
        hidden = tf.compat.v1.placeholder_with_default(tf.stack(shape), (len(shape),))
    else:
        # ONNX has no such placeholder; and that no batch is negative, Grappler does not know.
        hidden = [*sizes, last + tf.minimum(shape[0], 0)]
    found = tf.reshape(x, hidden)
    found.set_shape(x.shape)
    return found


def spatial_mean(inputs, keepdims=False):
    """Returns the mean over the two axes of space; its gradient divides before it is spread."""

    def forward(x):
        return (_mean(x, keepdims),)

    (found,) = _differentiated("keras_fmm_spatial_mean", forward, _of_mean, [inputs])
    return found


def _mean(x, keepdims):
    """Returns the mean over space.

    Average-pooling is faster still, but has an int8 TFLite file keep the map's scale, which is
    coarse for means. With a batch of one, as `export.to_tflite` traces it, the file has one
    operator.
    """
    batch, *of_sample = x.shape
    is_large = None not in of_sample and math.prod(of_sample) >= _LARGE
    if batch == 1 or not is_large or on_accelerator():
        return keras.ops.mean(x, axis=(1, 2), keepdims=keepdims)
    rows = keras.ops.mean(at_least_float32(x), axis=2, keepdims=keepdims)
    return keras.ops.cast(keras.ops.mean(rows, axis=1, keepdims=keepdims), x.dtype)


def _of_mean(inputs, outputs, upstream):
    import tensorflow as tf

    (x,), (of_mean,) = inputs, upstream
    if of_mean.shape.rank == 2:
        of_mean = tf.reshape(of_mean, (-1, 1, 1, x.shape[3]))
    return (tf.broadcast_to(_share(x, of_mean), tf.shape(x)),)


def _share(x, of_mean):
    """Returns the part that each position has in the gradient of a mean, which kept its axes."""
    import tensorflow as tf

    # A large map has more positions than float16 has numbers.
    of_mean = at_least_float32(of_mean)
    return tf.cast(of_mean / _as_divisor(_positions(x), of_mean), x.dtype)


def spatial_mean_and_max(inputs):
    """Returns the means and the maxima over the axes of space, of each sample one behind the other.

    Height and width must be known.
    """
    import tensorflow as tf

    mean, largest = _mean(inputs, keepdims=True), _max_pool(inputs)
    if not _makes_a_file(inputs):
        # Pooling passes over NaN, and begins with the lowest finite number.
        is_pooled = tf.logical_and(tf.equal(mean, mean), largest > inputs.dtype.min)
        largest = tf.where(is_pooled, largest, mean)
    name, tensors = "keras_fmm_spatial_mean_and_max", [inputs, mean, largest]
    (found,) = _differentiated(name, _mean_and_max, _of_mean_and_max, tensors)
    return found


def _mean_and_max(x, mean, largest):
    import tensorflow as tf

    return (tf.reshape(tf.concat([mean, largest], 1), (-1, x.shape[3])),)


def _max_pool(x):
    import tensorflow as tf

    return tf.nn.max_pool2d(x, list(x.shape[1:3]), 1, "VALID")


def _makes_a_file(x):
    """Whether this may become a TFLite file, which is traced for a batch of one."""
    import tensorflow as tf

    return x.shape[0] == 1 and not tf.executing_eagerly()


def _of_mean_and_max(inputs, outputs, upstream):
    import tensorflow as tf

    (x, _, largest), (of_both,) = inputs, upstream
    of_mean, of_max = tf.unstack(tf.reshape(of_both, (-1, 2, 1, 1, x.shape[3])), axis=1)
    return _to_the_largest(x, largest, of_max) + _share(x, of_mean), None, None


def _to_the_largest(x, largest, of_max):
    """Returns the gradient of maxima over space, which kept its axes: ties share it equally.

    TensorFlow's gradient of max-pooling ends the process on a CPU where the batch is empty.
    """
    import tensorflow as tf

    (x,) = _after([of_max], x)
    is_largest = tf.cast(tf.equal(x, largest), x.dtype)
    ties = tf.reduce_sum(at_least_float32(is_largest), axis=(1, 2), keepdims=True)
    return is_largest * tf.cast(at_least_float32(of_max) / ties, x.dtype)


def spatial_max(inputs):
    """Returns the maximum over the two axes of space, whose sizes are known."""
    (found,) = _differentiated("keras_fmm_spatial_max", _largest, _of_largest, [inputs])
    return found


def _largest(x):
    import tensorflow as tf

    if _makes_a_file(x):
        return (tf.reshape(_max_pool(x), (-1, x.shape[3])),)
    return (tf.reduce_max(x, (1, 2)),)


def _of_largest(inputs, outputs, upstream):
    (x,), (largest,), (of_max,) = inputs, outputs, upstream
    return (_to_the_largest(x, largest[:, None, None], of_max[:, None, None]),)


def scale_channels(inputs, gate):
    """Returns `inputs * gate`, with a gradient that sums over large maps by a matrix product.

    The gate has a number for each channel or for each position.
    """
    import tensorflow as tf

    (found,) = _differentiated("keras_fmm_scale_channels", _scaled, _of_scaled, [inputs, gate])
    if not tf.executing_eagerly():
        found.op._is_scaled = True
    return found


def _scaled_again(x, upstream):
    """Returns a map for a gradient: a product of `scale_channels` is computed again.

    So the product is not held until then; its two factors are, which its own gradient needs anyway.
    """
    # Eager tensors have no operation, and meet this in a graph too: a tape may be asked there.
    operation = getattr(x, "op", None)
    if not getattr(operation, "_is_scaled", False):
        return x
    from tensorflow.python.eager import record

    _, *factors = operation.inputs
    with record.stop_recording():
        (found,) = _scaled(*_after(upstream, *factors))
    # A second derivative of it is that of the product, for tapes that watch that alone.
    record.record_operation("keras_fmm_scaled_again", [found], [x], lambda of_found: [of_found])
    return found


def _scaled(x, gate):
    return (x * gate,)


def _of_scaled(inputs, outputs, upstream):
    import tensorflow as tf

    (x, gate), (of_product,) = inputs, upstream
    x = _scaled_again(x, upstream)
    positions = _positions(x)
    products = at_least_float32(of_product * x)
    of_channels = gate.shape[1:] == (1, 1, x.shape[3])
    if not of_channels or (isinstance(positions, int) and positions < _SMALL):
        of_gate = tf.reduce_sum(products, (1, 2) if of_channels else 3, keepdims=True)
        return of_product * gate, tf.cast(of_gate, gate.dtype)
    products = tf.reshape(products, (-1, positions, x.shape[3]))
    of_gate = tf.matmul(tf.ones((1, positions), products.dtype), products)
    of_gate = tf.reshape(of_gate, (-1, 1, 1, x.shape[3]))
    return of_product * gate, tf.cast(of_gate, gate.dtype)


def _positions(x):
    """Returns height times width, an int where they are known: operators take time to trace."""
    import tensorflow as tf

    height, width = x.shape[1:3]
    if height is None or width is None:
        return tf.shape(x)[1] * tf.shape(x)[2]
    return height * width


def channel_max_and_mean(inputs):
    """Returns maximum and mean over the last axis, which stays; with a gradient of fewer passes.

    Entries that tie share the maximum's gradient equally, as in TensorFlow's own.
    """
    name, largest = "keras_fmm_channel_max_and_mean", _largest_channel(inputs)
    return tuple(_differentiated(name, _with_mean, _of_largest_and_mean, [inputs, largest]))


def channel_pool(inputs):
    """Returns what `channel_max_and_mean` does, side by side in the last axis."""
    import tensorflow as tf

    def forward(x, largest):
        return (tf.concat(_with_mean(x, largest), -1),)

    def gradient(inputs, outputs, upstream):
        return _of_largest_and_mean(inputs, outputs, tf.split(upstream[0], 2, -1))

    name, largest = "keras_fmm_channel_pool", _largest_channel(inputs)
    (found,) = _differentiated(name, forward, gradient, [inputs, largest])
    return found


def _largest_channel(x):
    import tensorflow as tf

    # Keras' own refuses a maximum of nothing, as of an empty batch.
    return tf.reduce_max(x, -1, keepdims=True)


def _with_mean(x, largest):
    return largest, keras.ops.mean(x, axis=-1, keepdims=True)


def _of_largest_and_mean(inputs, outputs, upstream):
    import tensorflow as tf

    (x, largest), (of_largest, of_mean) = inputs, upstream
    (x,) = _after([of_largest], _scaled_again(x, [of_largest]))
    is_largest = tf.cast(tf.equal(x, largest), x.dtype)
    ties = tf.reduce_sum(at_least_float32(is_largest), axis=-1, keepdims=True)
    # Of a map that was computed again none need be equal to the last bit.
    ties = tf.maximum(ties, 1)
    shares = at_least_float32(of_largest) / ties
    shift = at_least_float32(of_mean) / x.shape[-1]
    return is_largest * tf.cast(shares, x.dtype) + tf.cast(shift, x.dtype), None


def batch_norm(inputs, gamma, beta, epsilon):
    """Normalises over all axes but the last; returns the outputs, the means and the variances.

    Keras' own batch norm is made of twice as many operators, which take time to trace.

    Args:
        inputs: float32 or float64 tensor `(..., channels)`.
        gamma: tensor `(channels,)` of the same dtype. What the normalised inputs are multiplied by.
        beta: tensor `(channels,)` of the same dtype. What is added.
        epsilon: float, above 0. Is added to the variances.
    """
    import tensorflow as tf

    axes = _all_but_the_last(inputs)
    mean = tf.reduce_mean(inputs, axes)
    centred = inputs - mean
    variance = tf.reduce_mean(tf.square(centred), axes)
    inverse = tf.math.rsqrt(variance + epsilon)
    tensors = [inputs, gamma, beta, centred, inverse, gamma * inverse]
    (outputs,) = _differentiated("keras_fmm_batch_norm", _normed, _of_normed, tensors)
    return outputs, mean, variance


def _normed(x, gamma, beta, centred, inverse, scale):
    return (centred * scale + beta,)


def _of_normed(inputs, outputs, upstream):
    import tensorflow as tf

    (x, _, _, centred, inverse, scale), (of_outputs,) = inputs, upstream
    axes = _all_but_the_last(x)
    of_beta = tf.reduce_sum(of_outputs, axes)
    # Of an empty batch the variance is NaN and this sum 0.
    of_gamma = tf.math.multiply_no_nan(inverse, tf.reduce_sum(of_outputs * centred, axes))
    count = _as_divisor(_size(x) // x.shape[-1], x)
    of_x = (of_outputs - (centred * (of_gamma * inverse) + of_beta) / count) * scale
    # All that the outputs owe to what is computed from `x` is in its gradient.
    return of_x, of_gamma, of_beta, None, None, None


def _all_but_the_last(x):
    import tensorflow as tf

    # A tensor, so that all sums share one.
    return tf.constant(list(range(x.shape.rank - 1)))


def _size(x):
    """Returns how many numbers a tensor has, an int where that is known."""
    import tensorflow as tf

    return x.shape.num_elements() or tf.size(x)


def _as_divisor(count, x):
    """Returns a count, an int or a scalar tensor, as what `x` can be divided by."""
    import tensorflow as tf

    return count if isinstance(count, int) else tf.cast(count, x.dtype)


@functools.cache
def differentiates_grouped_convs():
    """Whether TensorFlow has gradients of a convolution with groups: on a CPU, only with oneDNN."""
    import tensorflow as tf

    with tf.init_scope(), tf.device("CPU"):
        ones, how = tf.ones((1, 1, 1, 2)), {"strides": [1] * 4, "padding": "SAME"}
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=(1, 1, 1, 2), filter=ones, out_backprop=ones, **how
            )
        except tf.errors.InvalidArgumentError:
            return False
    return True


def grouped_conv(inputs, kernel, strides, padding, dilation_rate):
    """Returns a convolution whose kernel has fewer channels than the inputs: a part for each group.

    Keras has XLA compile it, which is slower.
    """
    import tensorflow as tf

    return tf.nn.convolution(
        inputs, kernel, strides, padding.upper(), data_format="NHWC", dilations=dilation_rate
    )


def map_samples(function, samples, shared, output_shape, differentiate=None, together=1):
    """Returns `function(*sample, *shared)` for each sample, in one tensor, two calls at a time.

    As `tf.map_fn`, whose gradient would keep every sample's intermediate results; here each is
    computed again for its own gradient, and dropped. A second derivative is taken through the
    loop of the gradient, and keeps them; XLA refuses to compile that.

    Args:
        function: of tensors, each sample a batch of `together` or fewer, to one tensor
            `(samples, *output_shape)`. It holds no tensors, which would live as long as the graph.
        samples: list of float tensors `(batch, ...)`, equal in batch.
        shared: list of float tensors, the same for all samples.
        output_shape: tuple, of one sample's result; scalar tensors where it is not known.
        differentiate: function or None, default None. Of a sample, what is shared, the sample's
            result and its gradient, to the gradients of the sample and of what is shared; holds no
            tensors. None: TensorFlow differentiates `function`.
        together: int, default 1. How many samples a call takes; where they do not go into a batch
            that is not known when traced, the rest goes one by one. More than one need an
            `output_shape` that is known.

    Returns:
        Tensor `(batch, *output_shape)` of the first sample's dtype.
    """
    import tensorflow as tf

    count = len(samples)

    def forward(*tensors):
        samples, shared = tensors[:count], tensors[count:]
        return (_outputs(function, samples, shared, output_shape, together),)

    def gradient(inputs, outputs, upstream):
        how = differentiate or functools.partial(_differentiate, function)
        # Otherwise the first calls begin in the forward pass, and what they compute is held.
        *inputs, outputs = _after(upstream, *inputs, *outputs)
        return _gradient(how, inputs[:count], inputs[count:], outputs, upstream[0], together)

    tensors = [tf.convert_to_tensor(x) for x in (*samples, *shared)]
    (found,) = _differentiated("keras_fmm_map_samples", forward, gradient, tensors)
    return found


def sum_of_parts(function, gradients, places, tensors):
    """Returns `function(*tensors)`, a sum whose parts each have a gradient written by hand.

    The gradients are taken one after another, and none before it is asked for, so that nothing of
    what they compute is held. A second derivative holds it.

    Args:
        function: of the tensors, to the sum.
        gradients: list of functions, one for each part: of the tensors that the part takes and of
            the gradient of the sum, to the gradients of those tensors.
        places: list of tuples of int, which of the tensors each part takes.
        tensors: list of float tensors.
    """

    def of_sum(inputs, outputs, upstream):
        found, last = [None] * len(inputs), upstream
        for gradient, taken in zip(gradients, places, strict=True):
            last = gradient(*_after(last, *(inputs[place] for place in taken)), upstream[0])
            for place, x in zip(taken, last, strict=True):
                found[place] = x if found[place] is None else found[place] + x
        return found

    def forward(*tensors):
        return (function(*tensors),)

    (found,) = _differentiated("keras_fmm_sum_of_parts", forward, of_sum, tensors)
    return found


def _after(tensors, *inputs):
    """Returns copies of inputs that are not there before other tensors, as the upstream gradient.

    What a gradient computes from inputs alone is otherwise computed in the forward pass, by an
    executor that runs whatever it can, or by Grappler, which finds it there; and is then held.
    """
    import tensorflow as tf

    with tf.control_dependencies(tensors):
        return [tf.identity(x) for x in inputs]


def _differentiated(name, forward, gradient, inputs):
    """Returns the tensors `forward(*inputs)`, with a gradient written by hand.

    `tf.custom_gradient` does this where TensorFlow runs eagerly. In a graph it registers a function
    for each call that holds the call's tensors, and so the graph and the model's weights, for as
    long as the process lives; and it searches the graph for variables. Here the function goes with
    the graph.

    Args:
        name: str, what the operation is called on tapes.
        forward: function of the inputs to a tuple of tensors.
        gradient: function of inputs, outputs and the outputs' gradients, each a sequence, to the
            inputs' gradients; it holds no tensors.
        inputs: list of tensors, none of them a variable. One computed from the others, so that the
            gradient need not compute it again, has the gradient None: what the outputs owe to it
            is in those of the others.
    """
    import tensorflow as tf

    def of_outputs(inputs, outputs, upstream):
        # Of what picks some of the outputs, as `tf.gather`, it is not dense.
        dense = [
            tf.convert_to_tensor(x) if isinstance(x, tf.IndexedSlices) else x for x in upstream
        ]
        return gradient(inputs, outputs, dense)

    if tf.executing_eagerly():

        @tf.custom_gradient
        def eagerly(*inputs):
            outputs = forward(*inputs)
            return outputs, lambda *upstream: of_outputs(inputs, outputs, upstream)

        return eagerly(*inputs)

    # As tf.custom_gradient has it; there is no public name for noting an operation on the tapes.
    from tensorflow.python.eager import record

    inputs = [tf.convert_to_tensor(x) for x in inputs]
    with record.stop_recording():
        outputs = forward(*inputs)
        count = len(outputs)
        passed = tf.identity_n([*outputs, *inputs])

    def of_operation(operation, *upstream):
        inputs, outputs = operation.inputs[count:], operation.outputs[:count]
        return [*[None] * count, *of_outputs(inputs, outputs, upstream[:count])]

    # Not in TensorFlow's registry, which forgets nothing; nor in a SavedModel, where TensorFlow
    # differentiates the operators of `forward`, which are its own.
    passed[0].op._gradient_function = of_operation
    outputs = passed[:count]
    record.record_operation(
        name, outputs, inputs, lambda *upstream: of_outputs(inputs, outputs, upstream)
    )
    return outputs


def _outputs(function, samples, shared, output_shape, together):
    """Returns what `map_samples` does."""
    import tensorflow as tf

    def of_call(begin, count):
        return function(*_taken(samples, begin, count), *shared)

    known = samples[0].shape[0]
    if known and known <= _WITHOUT_LOOP * together and not compiled_by_xla():
        outputs = []
        for begin in range(0, known, together):
            # Two at a time here too.
            with tf.control_dependencies(outputs[-2:-1]):
                outputs.append(of_call(begin, min(together, known - begin)))
        return tf.concat(outputs, 0)

    has_sizes = all(isinstance(size, int) for size in output_shape)
    parts = []
    for begin, calls, count in _loops(samples[0], together):
        if has_sizes:
            stack = _array(samples[0].dtype, calls, (count, *output_shape))
            put = tf.TensorArray.write
        else:
            # TFLite has no array of tensors of unknown size. Slower: it copies the whole each time.
            stack = tf.zeros((calls, *output_shape), samples[0].dtype)
            put = _replace

        def step(i, stack, begin=begin, count=count, put=put):
            return i + 1, put(stack, i, of_call(begin + i * count, count))

        _, stack = _loop(calls, step, (0, stack))
        parts.append(_stacked(stack) if has_sizes else stack)
    return _joined(parts)


def _differentiate(function, *tensors_and_more):
    """Returns the gradients of a function's tensors; last come its outputs and their gradient."""
    import tensorflow as tf

    *tensors, _, upstream = tensors_and_more
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = function(*tensors)
    return tape.gradient(outputs, tensors, upstream)


def _gradient(differentiate, samples, shared, outputs, upstream, together):
    """Returns the gradients of the samples and of what they share, for `map_samples`."""
    import tensorflow as tf

    sums = [tf.zeros_like(x, tf.float64 if x.dtype == tf.float64 else tf.float32) for x in shared]
    parts = []
    for begin, calls, count in _loops(upstream, together):

        def step(i, stacks, sums, begin=begin, count=count):
            taken = _taken([*samples, outputs, upstream], begin + i * count, count)
            found = differentiate(*taken[: len(samples)], *shared, *taken[len(samples) :])
            of_samples, of_shared = found[: len(samples)], found[len(samples) :]
            stacks = [stack.write(i, x) for stack, x in zip(stacks, of_samples, strict=True)]
            # In float32 at least: a sum over many samples loses digits in half precision.
            sums = [
                total + tf.cast(x, total.dtype) for total, x in zip(sums, of_shared, strict=True)
            ]
            return i + 1, stacks, sums

        stacks = [_array(x.dtype, calls, (count, *x.shape[1:])) for x in samples]
        _, stacks, sums = _loop(calls, step, (0, stacks, sums))
        parts.append([_stacked(stack) for stack in stacks])
    sums = [tf.cast(total, x.dtype) for total, x in zip(sums, shared, strict=True)]
    return [*map(_joined, zip(*parts, strict=True)), *sums]


def _loops(x, together):
    """Returns the loops over a batch: the first sample, how many calls, samples a call."""
    import tensorflow as tf

    batch = tf.shape(x)[0]
    calls = batch // together
    loops = [(0, calls, together)]
    if together > 1:
        # Calls of one shape, which other runtimes understand that such a graph is converted for.
        loops.append((calls * together, batch % together, 1))
    return loops


def _taken(tensors, begin, count):
    import tensorflow as tf

    if count == 1:
        # XLA takes no slice to an end that it does not know.
        return [tf.expand_dims(x[begin], 0) for x in tensors]
    return [tf.reshape(x[begin : begin + count], (count, *x.shape[1:])) for x in tensors]


def _array(dtype, calls, shape):
    import tensorflow as tf

    return tf.TensorArray(dtype, calls, element_shape=shape)


def _stacked(array):
    """Returns the samples of all calls."""
    import tensorflow as tf

    found = array.stack()
    if found.shape[1] == 1:
        # Of sizes that may not be known.
        return tf.squeeze(found, 1)
    return tf.reshape(found, (-1, *found.shape[2:]))


def _joined(parts):
    """Returns the samples of both loops; where the second has none, without a copy."""
    import tensorflow as tf

    if len(parts) == 1:
        return parts[0]
    is_all = tf.shape(parts[1])[0] == 0
    return tf.cond(is_all, lambda: parts[0], lambda: tf.concat(parts, 0))


def _loop(calls, step, state):
    import tensorflow as tf

    # Two calls at once keep two cores busy; more would hold more kernels and gain nothing.
    return tf.while_loop(
        lambda i, *_: i < calls, step, state, parallel_iterations=2, maximum_iterations=calls
    )


def _replace(stack, i, sample):
    import tensorflow as tf

    return tf.tensor_scatter_nd_update(stack, [[i]], sample)
