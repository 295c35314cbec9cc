"""The small networks of the FMM paper, which several of its questions are asked of."""

from keras_fmm import layers, models

# What each candidate's gates are: none, the paper's, without their ReLU, added.
ATTENTIONS = {
    "CNN": None,
    "AM": layers.SqueezeExcite,
    "AMnoRL": lambda: layers.SqueezeExcite(activation=None),
    "AMnoMTP": lambda: layers.SqueezeExcite(merge="add"),
}


def builder(candidate):
    """Returns the function that builds a candidate's network."""

    def build(**arguments):
        return models.ToyCNN(attention=ATTENTIONS[candidate], **arguments)

    return build
