"""Reads and writes ONNX models without onnx or onnxruntime."""
