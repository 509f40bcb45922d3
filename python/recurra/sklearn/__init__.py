"""Estimators for scikit-learn: classify, regress and tag sequences, forecast series.

    from recurra.sklearn import SequenceClassifier, SequenceScaler

    model = make_pipeline(SequenceScaler(), SequenceClassifier(cell="gru", hidden_size=32))
    model.fit(x, y).score(x_test, y_test)    # x: (N, T, F), or a list of arrays (T_n, F)

    model = make_pipeline(SequenceEncoder(), SequenceClassifier(embedding_dim=16))
    model.fit(texts, y)                      # a list of texts, or of lists of words

scikit-learn is optional: `pip install recurra[sklearn]`.
"""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401 - to say what is missing, and how to get it
except ImportError as error:
    raise ImportError(
        "recurra.sklearn: scikit-learn is missing, expected version 1.6 or newer; pip install recurra[sklearn]"
    ) from error

from recurra.common import keywords as _keywords
from recurra.sklearn.backtest import Backtest
from recurra.sklearn.classifier import SequenceClassifier
from recurra.sklearn.encoder import SequenceEncoder
from recurra.sklearn.forecaster import Forecaster
from recurra.sklearn.regressor import SequenceRegressor
from recurra.sklearn.scaler import SequenceScaler
from recurra.sklearn.tagger import SequenceTagger

__all__ = [
    "Backtest",
    "Forecaster",
    "SequenceClassifier",
    "SequenceEncoder",
    "SequenceRegressor",
    "SequenceScaler",
    "SequenceTagger",
]

_keywords.explain_all(globals(), __all__)
