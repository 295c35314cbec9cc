"""FullGrad: scores taken apart into what the input and each bias give."""
