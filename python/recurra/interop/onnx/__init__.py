"""ONNX graphs, in and out: own reader and writer, so that neither onnx nor onnxruntime is needed."""
