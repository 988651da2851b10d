"""TensorFlow's formats for sdkpack. Nothing here imports TensorFlow before a conversion begins."""
