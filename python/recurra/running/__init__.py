"""Running graphs: programs, tapes, streams, states."""
