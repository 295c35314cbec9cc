"""How a model changes along curves and around images."""
