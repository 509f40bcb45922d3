"""Diagnosis of models that do not learn: gradients through time, NaN and infinity, saturated gates."""

from __future__ import annotations

from recurra.common import keywords as _keywords
from recurra.diagnose.attention import plot_attention
from recurra.diagnose.gradient_flow import GradientFlow, LayerFlow, gradient_flow
from recurra.diagnose.gradient_report import ArrayCheck, GradientCheck
from recurra.diagnose.hidden_states import HiddenStates, LayerStates, hidden_states
from recurra.diagnose.nonfinite import nonfinite
from recurra.diagnose.saturation import GateShare, LayerSaturation, Saturation, saturation
from recurra.inspection.nonfinite import NonFinite

__all__ = [
    "ArrayCheck",
    "GateShare",
    "GradientCheck",
    "GradientFlow",
    "HiddenStates",
    "LayerFlow",
    "LayerSaturation",
    "LayerStates",
    "NonFinite",
    "Saturation",
    "gradient_flow",
    "hidden_states",
    "nonfinite",
    "plot_attention",
    "saturation",
]

_keywords.explain_all(globals(), __all__)
