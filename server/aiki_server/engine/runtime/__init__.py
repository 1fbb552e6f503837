"""What the engine's parts run on: background loops, the database's clock, retries, batches, histograms."""
