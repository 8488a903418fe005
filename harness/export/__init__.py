"""Taking a run's trained model away: as a standard PEFT adapter or a plain transformers checkpoint."""
