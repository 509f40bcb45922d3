"""Names that other libraries have, and what stands for them here: for the messages about names that are missing."""

from __future__ import annotations

from typing import Any

_OF_MODULES = {  # by their names inside the package
    "": {
        "Dense": "Linear(inputs, units)",
        "Flatten": "Pool, or Permute for images",
        "GlobalAveragePooling1D": 'Pool("mean")',
        "GlobalMaxPooling1D": 'Pool("max")',
        "LeakyReLU": 'Activation("leaky_relu")',
        "Masking": "lengths=, or Input(mask_value=)",
        "Module": "Sequential, Model or PythonLayer",
        "ReLU": 'Activation("relu")',
        "Sigmoid": 'Activation("sigmoid")',
        "SimpleRNN": "RNN",
        "Softmax": 'Activation("softmax")',
        "Tanh": 'Activation("tanh")',
        "TimeDistributed": "the layer itself: every layer is applied to each step",
        "load_model": "load, from_keras, from_onnx or from_torch",
        "nn": "recurra itself, which has the layers: recurra.LSTM",
        "no_grad": "a call, which records nothing; record does",
        "pack_padded_sequence": "lengths=, in any order",
        "pad_packed_sequence": "lengths=, in any order",
        "tensor": "numpy arrays",
    },
    "losses": {
        "BCELoss": "BinaryCrossEntropy(from_logits=False)",
        "BCEWithLogitsLoss": "BinaryCrossEntropy",
        "CTCLoss": "CTC",
        "CategoricalCrossentropy": "CrossEntropy",
        "BinaryCrossentropy": "BinaryCrossEntropy",
        "CrossEntropyLoss": "CrossEntropy",
        "GaussianNLLLoss": "GaussianNLL",
        "HuberLoss": "Huber",
        "L1Loss": "L1",
        "MSELoss": "MeanSquaredError",
        "MeanAbsoluteError": "L1",
        "NLLLoss": "CrossEntropy, of logits",
        "SmoothL1Loss": "Huber",
        "SparseCategoricalCrossentropy": "CrossEntropy",
    },
    "optim.schedules": {
        "CosineAnnealingLR": "CosineDecay",
        "ExponentialLR": "ExponentialDecay",
        "LambdaLR": "Function",
        "OneCycleLR": "OneCycle",
        "ReduceLROnPlateau": "callbacks.ReduceLROnPlateau",
        "SequentialLR": "Chain",
        "StepLR": "StepDecay",
    },
}
_OF_LAYERS = {
    "add": "the constructor's arguments: Sequential(first, second)",
    "build": "nothing: parameters are there from the start",
    "compile": "optimizer=, loss= and metrics= of fit",
    "cpu": "nothing: models are on the CPU",
    "cuda": "nothing: models are on the CPU",
    "double": 'dtype="float64" of the layers',
    "eval": "nothing: a call and predict evaluate, record and fit train",
    "forward": "a call: model(x)",
    "generate": "recurra.generate(model, prompt, steps)",
    "get_weights": "state_dict()",
    "load_weights": "load_state_dict(arrays), or recurra.load(path)",
    "named_parameters": "params, a dictionary of arrays",
    "parameters": "params, a dictionary of arrays; optimisers take the model itself",
    "requires_grad_": "trainable = False",
    "save_weights": "save(path)",
    "set_weights": "load_state_dict(arrays)",
    "to": "nothing: models are on the CPU",
    "train": "nothing: record and fit train, a call and predict evaluate",
    "train_on_batch": "record, a loss, backward and the optimizer's step",
}


def of_module(module: str, name: str) -> AttributeError:
    """The error about a name that a module does not have."""
    plain = f"module {module!r} has no attribute {name!r}"
    habit = _OF_MODULES.get(module.partition(".")[2], {}).get(name)
    return AttributeError(f"{plain}; use {habit}" if habit else plain)


def of_layer(layer: Any, name: str) -> AttributeError:
    """The error about a name that a layer or model does not have; where there is no habit, Python suggests others."""
    plain = f"{type(layer).__name__!r} object has no attribute {name!r}"
    habit = _OF_LAYERS.get(name)
    return AttributeError(f"{plain}; use {habit}") if habit else AttributeError(plain, name=name, obj=layer)
