"""The one file of the layers' mathematics that is written for one backend, TensorFlow."""

import keras

from keras_fmm.ops.sums import at_least_float32

# Up to so many samples, a batch that is known when traced is written out sample by sample, which
# is a little faster than a loop; a larger one would make the graph too large.
_WITHOUT_LOOP = 32


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


def spatial_mean(inputs):
    """Returns the mean over the two axes of space; its gradient divides before it is spread."""
    import tensorflow as tf

    @tf.custom_gradient
    def mean(x):
        def gradient(upstream):
            # A large map has more positions than float16 has numbers.
            upstream = at_least_float32(upstream)[:, None, None]
            count = tf.cast(tf.shape(x)[1] * tf.shape(x)[2], upstream.dtype)
            return tf.broadcast_to(tf.cast(upstream / count, x.dtype), tf.shape(x))

        return keras.ops.mean(x, axis=(1, 2)), gradient

    return mean(inputs)


def scale_channels(inputs, gate):
    """Returns `inputs * gate`, with a gradient that sums over space by a matrix product."""
    import tensorflow as tf

    @tf.custom_gradient
    def scaled(x, gate):
        def gradient(upstream):
            batch, height, width, channels = (tf.shape(x)[axis] for axis in range(4))
            products = at_least_float32(upstream * x)
            products = tf.reshape(products, (batch, height * width, channels))
            of_gate = tf.matmul(tf.ones((1, height * width), products.dtype), products)
            return upstream * gate, tf.cast(of_gate[:, None], gate.dtype)

        return x * gate, gradient

    return scaled(inputs, gate)


def channel_max_and_mean(inputs):
    """Returns maximum and mean over the last axis, which stays; with a gradient of fewer passes.

    Entries that tie share the maximum's gradient equally, as in TensorFlow's own.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def largest_and_mean(x):
        largest = tf.reduce_max(x, axis=-1, keepdims=True)

        def gradient(of_largest, of_mean):
            is_largest = tf.cast(tf.equal(x, largest), x.dtype)
            ties = tf.reduce_sum(at_least_float32(is_largest), axis=-1, keepdims=True)
            shares = at_least_float32(of_largest) / ties
            shift = at_least_float32(of_mean) / tf.cast(tf.shape(x)[-1], ties.dtype)
            return is_largest * tf.cast(shares, x.dtype) + tf.cast(shift, x.dtype)

        return (largest, keras.ops.mean(x, axis=-1, keepdims=True)), gradient

    return largest_and_mean(inputs)


def map_samples(function, samples, shared, output_shape):
    """Returns `function(*sample, *shared)` for each sample, in one tensor, two at a time.

    As `tf.map_fn`, whose gradient would keep every sample's intermediate results; here each is
    computed again for its own gradient, and dropped. A second derivative is taken through the
    loop of the gradient, and keeps them; XLA refuses to compile that.

    Args:
        function: of tensors, each sample a batch of one, to one tensor `(1, *output_shape)`.
        samples: list of float tensors `(batch, ...)`, equal in batch.
        shared: list of float tensors, the same for all samples.
        output_shape: tuple, of one sample's result; scalar tensors where it is not known.

    Returns:
        Tensor `(batch, *output_shape)` of the first sample's dtype.
    """
    import tensorflow as tf

    count = len(samples)

    @tf.custom_gradient
    def mapped(*tensors):
        samples, shared = tensors[:count], tensors[count:]

        def gradient(upstream):
            return _gradient(function, samples, shared, upstream)

        return _outputs(function, samples, shared, output_shape), gradient

    # A variable must be read outside: custom_gradient asks for more where one is read within.
    return mapped(*(tf.convert_to_tensor(x) for x in (*samples, *shared)))


def _outputs(function, samples, shared, output_shape):
    """Returns what `map_samples` does."""
    import tensorflow as tf

    def of_sample(i):
        return tf.squeeze(function(*(tf.expand_dims(x[i], 0) for x in samples), *shared), 0)

    known = samples[0].shape[0]
    if known and known <= _WITHOUT_LOOP and not compiled_by_xla():
        outputs = []
        for i in range(known):
            # Two samples at a time here too.
            with tf.control_dependencies(outputs[i - 2 : i - 1]):
                outputs.append(of_sample(i))
        return tf.stack(outputs)

    batch = tf.shape(samples[0])[0]
    if all(isinstance(size, int) for size in output_shape):
        stack = tf.TensorArray(samples[0].dtype, batch, element_shape=output_shape)
        put, finish = tf.TensorArray.write, tf.TensorArray.stack
    else:
        # TFLite has no array of tensors of unknown size. Slower: it copies the whole each time.
        stack = tf.zeros((batch, *output_shape), samples[0].dtype)
        put, finish = _replace, tf.identity
    _, stack = _loop(batch, lambda i, stack: (i + 1, put(stack, i, of_sample(i))), (0, stack))
    return finish(stack)


def _gradient(function, samples, shared, upstream):
    """Returns the gradients of the samples and of what they share, for `map_samples`."""
    import tensorflow as tf

    batch = tf.shape(upstream)[0]

    def step(i, stacks, sums):
        sample = [tf.expand_dims(x[i], 0) for x in samples]
        with tf.GradientTape() as tape:
            tape.watch([*sample, *shared])
            outputs = function(*sample, *shared)
        found = tape.gradient(outputs, [*sample, *shared], tf.expand_dims(upstream[i], 0))
        of_sample, of_shared = found[: len(samples)], found[len(samples) :]
        stacks = [stack.write(i, x[0]) for stack, x in zip(stacks, of_sample, strict=True)]
        # In float32 at least: a sum over many samples loses digits in half precision.
        sums = [total + tf.cast(x, total.dtype) for total, x in zip(sums, of_shared, strict=True)]
        return i + 1, stacks, sums

    stacks = [tf.TensorArray(x.dtype, batch, element_shape=x.shape[1:]) for x in samples]
    sums = [tf.zeros_like(x, tf.float64 if x.dtype == tf.float64 else tf.float32) for x in shared]
    _, stacks, sums = _loop(batch, step, (0, stacks, sums))
    sums = [tf.cast(total, x.dtype) for total, x in zip(sums, shared, strict=True)]
    return [*(stack.stack() for stack in stacks), *sums]


def _loop(batch, step, state):
    import tensorflow as tf

    # Two samples at once keep two cores busy; more would hold more kernels and gain nothing.
    return tf.while_loop(
        lambda i, *_: i < batch, step, state, parallel_iterations=2, maximum_iterations=batch
    )


def _replace(stack, i, sample):
    import tensorflow as tf

    return tf.tensor_scatter_nd_update(stack, [[i]], [sample])
