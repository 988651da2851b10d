"""ONNX, the interchange format: loading, external data, checks, facts, and the weight split.

The only folder of the core that knows ONNX. `onnx` and `numpy` are imported inside functions, so that opening and
running a bundle loads neither.
"""
