"""How graphs run: programs, tapes, streams, states."""
