"""From batches and losses to gradients."""
