"""The shape of what a job was given and has used, as ``views`` has the others."""

from __future__ import annotations

from functools import partial

from marshmallow import fields

from api_spec.schemas.fields import about
from api_spec.schemas.views import Count, Shape, Text, many

NumberOrNull = partial(fields.Float, required=True, allow_none=True)


class UsageSchema(Shape):
    attempt = Count()
    backend = Text()
    elapsed_s = NumberOrNull()
    cpu_s = NumberOrNull(metadata=about("CPUs that it was given, times seconds, whether used or not."))
    gpu_s = NumberOrNull(metadata=about("The same of GPUs."))
    memory_mib_s = NumberOrNull(metadata=about("The same of memory, in MiB."))
    peak_cpus = NumberOrNull(metadata=about("The most that was seen in use at one time."))
    peak_memory_mib = NumberOrNull(
        metadata=about("Kubernetes: of all pods together; Slurm: of the task that used most.")
    )
    energy_j = NumberOrNull(metadata=about("Of all its nodes, in joules."))


class UsageListSchema(Shape):
    items = many(UsageSchema)
