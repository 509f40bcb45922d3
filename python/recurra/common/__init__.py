"""What every room uses: checks of arguments, messages, seeds, types."""
