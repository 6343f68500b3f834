"""slurmrestd: the transport that speaks HTTP, in two dialects."""
