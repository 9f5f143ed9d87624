"""Training programs, one a model, on data laid out as docs/training.md says."""
