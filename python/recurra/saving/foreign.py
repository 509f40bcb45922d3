"""Files of other frameworks, told by how they begin or what they are called, and which call reads them."""

from __future__ import annotations

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_KERAS = "rc.from_keras(path)"
_TORCH = "rc.from_torch(torch.load(path, map_location='cpu', weights_only=True))"


def owner(name: str) -> str | None:
    """Whose files are called so; None: that is not known."""
    lower = name.lower()
    if lower.endswith((".keras", ".h5", ".hdf5")):
        return "Keras"
    if lower.endswith(".onnx"):
        return "ONNX"
    return "PyTorch" if lower.endswith((".pt", ".pth")) else None


def hint(name: str, head: bytes) -> str | None:
    """What a file of this name and these first bytes is, and how to read it; None: that is not known."""
    lower = name.lower()
    if head[8:9] == b"{":  # a safetensors file that is damaged further on, whatever it is called
        return None
    if head.startswith(HDF5) or lower.endswith((".h5", ".hdf5")):
        return f"an HDF5 file, as Keras writes them; read it by {_KERAS}"
    if lower.endswith(".keras"):
        return f"a file of Keras; read it by {_KERAS}"
    if lower.endswith(".onnx"):
        return "an ONNX file; read it by rc.from_onnx(path)"
    if lower.endswith(PICKLES):
        return f"a file of pickled Python, as PyTorch writes them; read it by {_TORCH}"
    if head.startswith(ZIP):
        return f"a zip archive; read one of Keras by {_KERAS}, one of PyTorch by {_TORCH}"
    return None
