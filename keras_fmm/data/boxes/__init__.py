"""Images with boxes: what they are, where they come from, and how a detector is fitted to them."""
