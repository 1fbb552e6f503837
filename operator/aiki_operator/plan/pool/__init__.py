"""What is to be done for an AikiWorkerPool: builds, roll-outs, drains, dead workers, and what people are told."""
