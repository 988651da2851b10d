"""The other direction: ONNX models become a prototxt and a caffemodel."""
