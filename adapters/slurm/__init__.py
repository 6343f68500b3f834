"""Slurm: jobs of a real controller, over slurmrestd or pyslurm."""
