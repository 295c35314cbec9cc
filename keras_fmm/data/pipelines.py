"""tf.data pipelines whose order in epoch e follows from the seed and e alone."""


def examples(items, read, image_size=None):
    """Returns the `tf.data.Dataset` of what `read` makes of each of `items`, in order.

    Args:
        items: `tf.data.Dataset`.
        read: callable, makes (image, label) of an item, or (images, labels) of a batch of items.
        image_size: None, or (height, width), to which images are resized.
    """
    import tensorflow as tf

    def example(*item):
        image, label = read(*item)
        if image_size is not None:
            image = tf.image.resize(image, image_size, antialias=True)
        return image, label

    return items.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def one_pass(items, batches, steps):
    """Returns the batches of one pass over `items`, in stored order.

    Args:
        items: `tf.data.Dataset`.
        batches: callable, makes a dataset of batches of a dataset of items.
        steps: int, how many batches that gives.
    """
    return _finish(batches(items), steps)


def shuffled_epochs(items, batches, steps, buffer, seed, initial_epoch, epochs):
    """Returns the batches of the epochs from `initial_epoch` on, laid one after another.

    Args:
        items: as of `one_pass`.
        batches: as of `one_pass`.
        steps: as of `one_pass`: the batches of one epoch.
        buffer: int, how many items the shuffle holds at once.
        seed: int.
        initial_epoch: int, the first epoch given.
        epochs: int, one more than the last epoch given, or None for no end.
    """
    import tensorflow as tf

    def epoch(number):
        # In a traced function this sets the seed of its graph only. The shuffle takes the pair
        # (graph's seed, its own seed); without this line the first would be the process's seed.
        # TensorFlow takes it modulo 2**31 - 1, and fails on 0 beside a seed that is a tensor.
        tf.random.set_seed(1 + seed % (2**31 - 2))
        return batches(items.shuffle(buffer, seed=number, reshuffle_each_iteration=False))

    numbers = tf.data.Dataset.range(initial_epoch, tf.int64.max if epochs is None else epochs)
    total = tf.data.INFINITE_CARDINALITY if epochs is None else (epochs - initial_epoch) * steps
    return _finish(numbers.flat_map(epoch), total)


def _finish(batches, steps):
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    # While a model is not trained, as in validation, AUTOTUNE would fill the memory.
    return batches.with_options(options).prefetch(2)
