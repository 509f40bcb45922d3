"""RNN, LSTM, GRU and their relatives."""
