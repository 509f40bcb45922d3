"""Recurrent neural networks on CPUs: RNN, LSTM and GRU, forward and back-propagation through time.

    import recurra as rc

    model = rc.Sequential(rc.Embedding(256, 64), rc.LSTM(64, 256), rc.Linear(256, 256))
    model.fit(x, y, loss=rc.losses.CrossEntropy(), optimizer=rc.optim.Adam(3e-3), epochs=5, clip_norm=1.0)
    model.save("model.safetensors")
    stream = rc.load("model.safetensors").stream()
    logits = stream.step(token)

Shapes: N rows (a batch), T steps; arrays are (N, T, features), a state is (num_layers * directions, N, H).
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from recurra import _core
from recurra.common import beyond as _beyond
from recurra.common import keywords as _keywords
from recurra.common import later as _later
from recurra.common.errors import ModelFormatError, NonFiniteError, ResumeWarning
from recurra.common.runtime import build_info, get_num_threads, isa, set_num_threads
from recurra.graph.symbolic import Input, Symbol
from recurra.layers.activation import Activation, PReLU
from recurra.layers.attention import AdditiveAttention, AttentionDecoder, Hopfield, MultiplicativeAttention
from recurra.layers.basic import Dropout, Embedding, Linear
from recurra.layers.convolution import Conv1d, ConvTranspose1d
from recurra.layers.convolution2d import Conv2d
from recurra.layers.crf import CRF
from recurra.layers.group_norm import GroupNorm, InstanceNorm1d
from recurra.layers.image_pooling import AvgPool2d, MaxPool2d
from recurra.layers.layer import Layer
from recurra.layers.merge import Add, Average, Concatenate, Dot, Maximum, Minimum, Multiply, Reverse, Subtract
from recurra.layers.normalisation import BatchNorm, BatchNorm2d, LayerNorm
from recurra.layers.pooling import AttentionPool, Pool
from recurra.layers.python_layer import PythonLayer
from recurra.layers.recurrent.gru import GRU
from recurra.layers.recurrent.lstm import LSTM
from recurra.layers.recurrent.min_rnn import MinGRU, MinLSTM
from recurra.layers.recurrent.rnn import RNN
from recurra.layers.repeat import LearntVector, RepeatVector
from recurra.layers.slicing import Permute, Slice
from recurra.layers.window_pooling import AvgPool1d, MaxPool1d
from recurra.models.compose import Bidirectional, Residual
from recurra.models.model import Model
from recurra.models.sequential import Sequential
from recurra.running.gradients import FlatGradients, Gradients
from recurra.running.stream import Stream
from recurra.running.tape import Tape

if _TYPE_CHECKING:
    from recurra import callbacks, data, diagnose, interop, losses, metrics, optim, serving
    from recurra.decoding import ctc, search
    from recurra.decoding.generation import Generated, generate
    from recurra.diagnose.gradient_check import check_gradient
    from recurra.interop.keras.read import from_keras
    from recurra.interop.onnx.read import from_onnx
    from recurra.interop.torch.read import from_torch
    from recurra.layers.recurrent.own_cell import OwnCell, cell
    from recurra.models.hopfield_network import HopfieldNetwork
    from recurra.saving.files import load
    from recurra.training.history import History
    from recurra.training.truncation import TruncatedBPTT

__version__ = _core.__version__

__getattr__, __dir__ = _later.attributes(
    globals(),
    {
        "Generated": "recurra.decoding.generation",
        "History": "recurra.training.history",
        "HopfieldNetwork": "recurra.models.hopfield_network",
        "OwnCell": "recurra.layers.recurrent.own_cell",
        "TruncatedBPTT": "recurra.training.truncation",
        "callbacks": "recurra.callbacks",
        "cell": "recurra.layers.recurrent.own_cell",
        "check_gradient": "recurra.diagnose.gradient_check",
        "ctc": "recurra.decoding.ctc",
        "data": "recurra.data",
        "diagnose": "recurra.diagnose",
        "from_keras": "recurra.interop.keras.read",
        "from_onnx": "recurra.interop.onnx.read",
        "from_torch": "recurra.interop.torch.read",
        "generate": "recurra.decoding.generation",
        "interop": "recurra.interop",
        "load": "recurra.saving.files",
        "losses": "recurra.losses",
        "metrics": "recurra.metrics",
        "optim": "recurra.optim",
        "search": "recurra.decoding.search",
        "serving": "recurra.serving",
    },
)

_beyond.offer({"to_onnx": "recurra.interop.onnx.write", "to_torch": "recurra.interop.torch.write"})

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Add",
    "AdditiveAttention",
    "AttentionDecoder",
    "AttentionPool",
    "Average",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm2d",
    "Bidirectional",
    "Concatenate",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "Dot",
    "Dropout",
    "Embedding",
    "FlatGradients",
    "Generated",
    "Gradients",
    "GroupNorm",
    "History",
    "Hopfield",
    "HopfieldNetwork",
    "Input",
    "InstanceNorm1d",
    "Layer",
    "LayerNorm",
    "LearntVector",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "Maximum",
    "MinGRU",
    "MinLSTM",
    "Minimum",
    "Model",
    "ModelFormatError",
    "MultiplicativeAttention",
    "Multiply",
    "NonFiniteError",
    "OwnCell",
    "PReLU",
    "Permute",
    "Pool",
    "PythonLayer",
    "RepeatVector",
    "Residual",
    "ResumeWarning",
    "Reverse",
    "Sequential",
    "Slice",
    "Stream",
    "Subtract",
    "Symbol",
    "Tape",
    "TruncatedBPTT",
    "__version__",
    "build_info",
    "callbacks",
    "cell",
    "check_gradient",
    "ctc",
    "data",
    "diagnose",
    "from_keras",
    "from_onnx",
    "from_torch",
    "generate",
    "get_num_threads",
    "interop",
    "isa",
    "load",
    "losses",
    "metrics",
    "optim",
    "search",
    "serving",
    "set_num_threads",
]

_keywords.explain_all(globals(), __all__)
