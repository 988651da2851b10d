"""Optimisation passes on onnxscript, onnx-ir, onnxslim and ONNX's version converter."""
