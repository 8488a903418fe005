"""What can be learned beside a table of scores: costs by shape, costs in stored runs, what a trained weight holds."""
