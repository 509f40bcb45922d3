"""Recurrent layers: RNN, LSTM, GRU, MinGRU and MinLSTM."""
