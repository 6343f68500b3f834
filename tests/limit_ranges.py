"""What becomes of a pod with 4 CPUs, and with 1 GiB or no word of memory, under rows of a LimitRange.

Told before, and by the API server.
"""

from __future__ import annotations

CPUS, MEMORY = "/resources/cpus_per_task", "/resources/memory_per_node"

REFUSED = {
    "more than a container may": (
        [{"type": "Container", "max": {"cpu": "2"}}],
        (CPUS, "asks for 4 of cpu a container; the limit small of ml-vision allows 2"),
    ),
    "more than a pod may": (
        [{"type": "Pod", "max": {"memory": "1000Mi"}}],
        (MEMORY, "asks for 1024Mi of memory a pod; the limit small of ml-vision allows 1000Mi"),
    ),
    "more than a default gives": (
        [{"type": "Container", "default": {"cpu": "500m", "memory": "100Mi"}}],
        (
            CPUS,
            "asks for 4 of cpu a container; the limit small of ml-vision makes 0.5 the most of a container",
        ),
    ),
    "no limit where one is wanted": (
        [{"type": "Pod", "max": {"cpu": "8"}}],
        (CPUS, "has no limit of cpu; the limit small of ml-vision wants one of at most 8"),
    ),
    "less than is wanted": (
        [{"type": "Container", "min": {"memory": "2Gi"}}],
        (MEMORY, "asks for 1024Mi of memory a container; the limit small of ml-vision wants at least 2048Mi"),
    ),
    "much less than it may use": (
        [{"type": "Container", "default": {"cpu": "16"}, "maxLimitRequestRatio": {"cpu": "2"}}],
        (CPUS, "asks for 4 of cpu a container and may use 16; the limit small of ml-vision allows 2 times"),
    ),
    "a ratio and no limit": (
        [{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}],
        (CPUS, "has no limit of cpu; the limit small of ml-vision wants one of at most 2 times the request"),
    ),
    "a default above what a pod may": (
        [{"type": "Pod", "max": {"cpu": "8"}}, {"type": "Container", "default": {"cpu": "16"}}],
        (CPUS, "may use 16 of cpu by default; the limit small of ml-vision allows 8"),
    ),
}

ALLOWED = {
    "as much": [{"type": "Container", "max": {"cpu": "4", "memory": "1Gi"}}],
    "a default that is enough": [{"type": "Container", "default": {"cpu": "4"}, "min": {"cpu": "1"}}],
    "of what is not asked for": [{"type": "Container", "max": {"nvidia.com/gpu": "1"}}],
    "of claims": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}],
    "a default that a pod may have": [
        {"type": "Pod", "max": {"cpu": "8"}},
        {"type": "Container", "default": {"cpu": "8"}},
    ],
}

WITHOUT_MEMORY = {
    "some is wanted": (
        [{"type": "Pod", "min": {"memory": "1Gi"}}],
        "asks for no memory; the limit small of ml-vision wants at least 1024Mi",
    ),
    "a limit is wanted": (
        [{"type": "Pod", "max": {"memory": "8Gi"}}],
        "has no limit of memory; the limit small of ml-vision wants one of at most 8192Mi",
    ),
    "a ratio is wanted": (
        [{"type": "Container", "maxLimitRequestRatio": {"memory": "2"}}],
        "asks for no memory; the limit small of ml-vision wants some",
    ),
    "it is given some": (
        [
            {"type": "Pod", "min": {"memory": "1Gi"}, "max": {"memory": "4Gi"}},
            {"type": "Container", "default": {"memory": "2Gi"}},
        ],
        None,
    ),
    "it is given the least": ([{"type": "Container", "min": {"memory": "1Gi"}}], None),
    "it is given the most": ([{"type": "Container", "max": {"memory": "1Gi"}}], None),
}
