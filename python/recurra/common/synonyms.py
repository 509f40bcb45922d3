"""Arguments of PyTorch and Keras, by class or function: the name used here, or what to do instead."""

from __future__ import annotations

from typing import Final

_RECURRENT: Final = {
    "units": "hidden_size",
    "use_bias": "bias",
    "return_state": "leave it out, as states are always returned",
    "input_shape": "write input_size=, the features of a step",
}
_SEARCH: Final = {"max_length": "max_steps", "max_len": "max_steps", "max_new_tokens": "max_steps"}
_UNPADDED: Final = "leave it out, as padding does not enter the mean"
_PADDING: Final = "leave it out, and mark padding with lengths or a mask"

SYNONYMS: Final[dict[str, dict[str, str]]] = {
    "BackupAndRestore": {"backup_dir": "directory"},
    "BinaryCrossEntropy": {"weight": "write sample_weight= in fit, or weights= in a call"},
    "AvgPool2d": {"pool_size": "kernel_size", "strides": "stride", "count_include_pad": _UNPADDED},
    "BatchNorm": {"num_features": "features", "epsilon": "eps"},
    "BatchNorm2d": {"num_features": "channels", "epsilon": "eps"},
    "ConvTranspose1d": {"filters": "out_channels", "strides": "stride", "use_bias": "bias"},
    "Conv2d": {"filters": "out_channels", "strides": "stride", "dilation_rate": "dilation", "use_bias": "bias"},
    "Conv1d": {
        "filters": "out_channels",
        "strides": "stride",
        "dilation_rate": "dilation",
        "use_bias": "bias",
    },
    "CosineDecay": {
        "T_max": "steps",
        "decay_steps": "steps",
        "eta_min": "floor",
        "initial_learning_rate": "lr",
    },
    "CrossEntropy": {
        "weight": "class_weights",
        "reduction": "leave it out, as a loss returns the sum and the mean",
    },
    "Dropout": {"rate": "p"},
    "Embedding": {
        "input_dim": "num_embeddings",
        "output_dim": "embedding_dim",
        "padding_idx": _PADDING,
        "mask_zero": _PADDING,
    },
    "ExponentialDecay": {"decay_steps": "steps", "decay_rate": "gamma", "initial_learning_rate": "lr"},
    "GRU": _RECURRENT,
    "generate": {
        "max_new_tokens": "steps",
        "max_steps": "steps",
        "max_length": "write steps= for the number of steps after the prompt",
        "eos_token_id": "stop",
        "end": "stop",
        "suppress_tokens": "suppress",
        "streamer": "callback",
        "do_sample": "write temperature=0 for the most probable tokens",
    },
    "Input": {"shape": "write features=, the size of a step, as rows and steps are free"},
    "LSTM": _RECURRENT,
    "GroupNorm": {"groups": "num_groups", "epsilon": "eps"},
    "InstanceNorm1d": {"num_features": "features", "epsilon": "eps"},
    "LayerNorm": {"normalized_shape": "features", "elementwise_affine": "affine", "epsilon": "eps"},
    "MaxPool2d": {"pool_size": "kernel_size", "strides": "stride"},
    "Linear": {
        "units": "out_features",
        "use_bias": "bias",
        "activation": "leave it out, and put an Activation behind the layer",
    },
    "ModelCheckpoint": {"save_weights_only": "leave it out, as a file holds the whole model"},
    "Optimizer": {
        "learning_rate": "lr",
        "clipnorm": "leave it out, and write fit(..., clip_norm=)",
        "global_clipnorm": "leave it out, and write fit(..., clip_norm=)",
        "clipvalue": "leave it out, and write fit(..., clip_value=)",
        "epsilon": "eps",
        "param_groups": "lr_multipliers",
        "params": "leave it out, as the model is given to fit or step",
    },
    "RNN": {**_RECURRENT, "activation": "nonlinearity"},
    "beam_search": {**_SEARCH, "num_beams": "beam_size"},
    "evaluate": {
        "class_weight": "write sample_weight=, the weight of each row or step",
        "return_dict": "leave it out, as the result is a dict where metrics are asked for",
    },
    "fit": {
        "validation_freq": "leave it out, as each epoch is validated",
        "initial_epoch": "leave it out, as callbacks.BackupAndRestore resumes where a run ended",
    },
    "greedy": _SEARCH,
}

#: What to write for arguments that have to be given.
EXAMPLES: Final = {"loss": "'mse'", "optimizer": "'adam'"}
#: The first arguments of layers that PyTorch's take and Keras' do not.
COMING_IN: Final = {"input_size", "in_features", "in_channels"}


def of_first(names: list[str]) -> str:
    """What to do about the first argument of a class or function with these names, which was given by name, too."""
    return "leave the parameters out, as the model is given to fit or step" if "Optimizer" in names else "leave one out"


def hint(names: list[str], wrong: str, known: list[str]) -> str | None:
    """What to write instead of the argument `wrong` of a class or function with these names; None if unknown."""
    for name in names:
        meant = SYNONYMS.get(name, {}).get(wrong)
        if meant is not None and (" " in meant or meant in known):
            return meant if " " in meant else f"write {meant}="
    return None
