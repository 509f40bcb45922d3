"""The cells of the specification without options, with each option, and with as many as one can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import reference


@dataclass(frozen=True)
class Variant:
    """A cell of the specification, with the options of its layer."""

    cell: str
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def random(self) -> bool:
        """Whether training differs from inference."""
        return any("dropout" in name or "zoneout" in name for name in self.keywords)


REGULARISED = {"input_dropout": 0.2, "recurrent_dropout": 0.3, "zoneout": 0.15}
EXTENDED = {"peepholes": True, "cell_clip": 0.4, "zoneout_cell": 0.35}
HARD = ("hard_sigmoid", 0.2, 0.5)
#: Every cell without options, with each option alone and with several. Projections are limited to the hidden size.
VARIANTS = {cell: Variant(cell) for cell in reference.CELLS} | {
    "rnn_tanh+layer-norm": Variant("rnn_tanh", {"layer_norm": True}),
    "rnn_tanh+input-dropout": Variant("rnn_tanh", {"input_dropout": 0.3}),
    "rnn_tanh+recurrent-dropout": Variant("rnn_tanh", {"recurrent_dropout": 0.3}),
    "rnn_tanh+zoneout": Variant("rnn_tanh", {"zoneout": 0.25}),
    "rnn_tanh+all": Variant("rnn_tanh", {"layer_norm": True, **REGULARISED}),
    "rnn_relu+all": Variant("rnn_relu", {"layer_norm": True, **REGULARISED}),
    "rnn_sigmoid+all": Variant("rnn_sigmoid", {"layer_norm": True, **REGULARISED}),
    "lstm+layer-norm": Variant("lstm", {"layer_norm": True}),
    "lstm+input-dropout": Variant("lstm", {"input_dropout": 0.3}),
    "lstm+recurrent-dropout": Variant("lstm", {"recurrent_dropout": 0.3}),
    "lstm+zoneout": Variant("lstm", {"zoneout": 0.25}),
    "lstm+zoneout-of-c": Variant("lstm", {"zoneout_cell": 0.25}),
    "lstm+peepholes": Variant("lstm", {"peepholes": True}),
    "lstm+clip": Variant("lstm", {"cell_clip": 0.3}),
    "lstm+projection": Variant("lstm", {"proj_size": 16}),
    "lstm+projection-to-1": Variant("lstm", {"proj_size": 1}),
    "lstm+projection-to-3": Variant("lstm", {"proj_size": 3}),
    "lstm+projection-to-20": Variant("lstm", {"proj_size": 20}),
    "lstm+regularised": Variant("lstm", {"layer_norm": True, "zoneout_cell": 0.35, "dropout": 0.2, **REGULARISED}),
    "lstm+extended": Variant("lstm", {"proj_size": 20, **EXTENDED}),
    "lstm+projected-layer-norm": Variant("lstm", {"proj_size": 20, "layer_norm": True}),
    "lstm+projected-zoneout": Variant("lstm", {"proj_size": 3, "zoneout": 0.25}),
    "lstm+projected-dropouts": Variant("lstm", {"proj_size": 20, "input_dropout": 0.3, "recurrent_dropout": 0.3}),
    "lstm+all": Variant("lstm", {"proj_size": 20, "layer_norm": True, **EXTENDED, **REGULARISED}),
    "gru+layer-norm": Variant("gru", {"layer_norm": True}),
    "gru+input-dropout": Variant("gru", {"input_dropout": 0.3}),
    "gru+recurrent-dropout": Variant("gru", {"recurrent_dropout": 0.3}),
    "gru+zoneout": Variant("gru", {"zoneout": 0.25}),
    "gru+all": Variant("gru", {"layer_norm": True, "dropout": 0.2, **REGULARISED}),
    "gru_reset_before+input-dropout": Variant("gru_reset_before", {"input_dropout": 0.3}),
    "gru_reset_before+recurrent-dropout": Variant("gru_reset_before", {"recurrent_dropout": 0.3}),
    "gru_reset_before+zoneout": Variant("gru_reset_before", {"zoneout": 0.25}),
    "gru_reset_before+all": Variant("gru_reset_before", REGULARISED),
    "rnn_tanh+hard-sigmoid": Variant("rnn_tanh", {"nonlinearity": "hard_sigmoid"}),
    "rnn_tanh+softsign": Variant("rnn_tanh", {"nonlinearity": "softsign", "zoneout": 0.25}),
    "lstm+hard-sigmoid": Variant("lstm", {"recurrent_activation": "hard_sigmoid"}),
    "lstm+hard-sigmoid-of-keras-2": Variant("lstm", {"recurrent_activation": HARD}),
    "lstm+relu": Variant("lstm", {"activation": "relu", "cell_clip": 3.0}),
    "lstm+activations": Variant(
        "lstm",
        {"recurrent_activation": HARD, "activation": "softsign", "output_activation": "sigmoid", "peepholes": True},
    ),
    "lstm+activations-layer-norm": Variant(
        "lstm", {"activation": "softsign", "recurrent_activation": HARD, "layer_norm": True, "proj_size": 3}
    ),
    "gru+hard-sigmoid": Variant("gru", {"recurrent_activation": "hard_sigmoid"}),
    "gru+activations": Variant("gru", {"recurrent_activation": HARD, "activation": "relu", "layer_norm": True}),
    "gru_reset_before+hard-sigmoid": Variant("gru_reset_before", {"recurrent_activation": HARD}),
    "gru_reset_before+activations": Variant(
        "gru_reset_before", {"recurrent_activation": "softsign", "activation": "linear", "zoneout": 0.25}
    ),
}
#: The variants that every test of cells uses: without options, and with as many as one cell can have.
CELLS = [
    *reference.CELLS,
    *(
        "rnn_tanh+all",
        "lstm+projection",
        "lstm+extended",
        "lstm+all",
        "gru+all",
        "gru_reset_before+all",
        "lstm+activations",
    ),
]
NORMALISED = [name for name, variant in VARIANTS.items() if variant.keywords.get("layer_norm")]
