"""Where a job runs, and why: facts, rules and the engine.  Pure: no clock, no network, no store.

``facts`` holds what is known when it is decided, ``variables`` how the rules call it, ``expressions`` the
one door to CEL, ``rules`` and ``sentences`` what a policy file says, ``loader`` turns a parsed file into a
``Policy``, ``engine`` decides, ``records`` packs a decision for the store.
"""
