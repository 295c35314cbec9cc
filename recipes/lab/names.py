"""Names of the package that a command line offers, which `--help` shows without importing it.

A test holds them against the package's own.
"""

GATES = ("squeeze_excite", "eca", "channel_attention", "spatial_attention", "cbam")
CONVOLUTIONS = ("aw", "attention_augmented", "local_attention")
QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
# Of `layers.MultiplicativeResidual`, and those of them that are told how many blocks there are.
FORMS = ("product", "centered", "linear", "exponential", "scaled", "sum_product")
FORMS_OF_DEPTH = ("exponential", "scaled")
SCHEDULES = ("constant", "cosine", "step")
