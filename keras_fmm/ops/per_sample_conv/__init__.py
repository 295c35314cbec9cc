"""Convolutions whose kernel differs from sample to sample by a gain: `K[n] = gain[n] * K`.

Each function takes the same arguments and returns the same numbers, up to rounding:

    inputs: tensor `(batch, height, width, in_channels)`; batch, height and width may be unknown
        when traced.
    kernel: tensor `(kernel_height, kernel_width, in_channels, filters)`, shared by all samples.
    gain: tensor `(batch, kernel_height, kernel_width, groups, filters)`, where `groups` divides
        `in_channels`: entry g holds for the in_channels / groups consecutive channels from
        g * in_channels / groups on. Both sides of the kernel may be 1 instead: the same gain for
        all entries of the kernel.
    strides, dilation_rate: pairs of int. TensorFlow's own convolution takes no stride above 1
        beside a dilation above 1; of these functions `factored_conv` alone does, with a gain for
        each entry of the kernel.
    padding: "valid" or "same", as in `keras.layers.Conv2D`; with "valid" the dilated kernel must
        not be larger than the inputs.
    bias: tensor `(filters,)` that is added, or None.

    Returns: tensor `(batch, out_height, out_width, filters)`.
"""
