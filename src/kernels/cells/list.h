// Every cell, by the name that it has in Python and in its pair of files. Its place here is its CellKind.
#pragma once

#define RECURRA_CELLS(X) \
  X(rnn_tanh)            \
  X(rnn_relu)            \
  X(rnn_sigmoid)         \
  X(lstm)                \
  X(gru)                 \
  X(gru_reset_before)    \
  X(min_gru)             \
  X(min_gru_positive)    \
  X(min_lstm)            \
  X(min_lstm_positive)
