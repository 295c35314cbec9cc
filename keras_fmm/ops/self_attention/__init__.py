"""Self-attention over the positions of a map: of all of them, or of a window around each.

Maps are channels last, and the channels of queries, keys and values hold one head after the other.
Softmax is taken in float32 at least.
"""
