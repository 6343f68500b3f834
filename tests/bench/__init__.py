"""The figures of docs/performance.md: ``python -m tests.bench`` (``script/bench``).

Each figure is a ratio within one run: both sides are measured in turn, or at the same time, on the same
machine.  Rates of one side alone say more about the machine's moment than about the broker.
"""
