"""The workload broker: one REST API in front of Slurm and Kubernetes."""

__version__ = "0.1.0"
