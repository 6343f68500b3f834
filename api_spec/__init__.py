"""The vocabulary: what a job is, where it can be, why, and how that is said on the wire.

Imports nothing of the other folders.  ``jobs`` holds the specification as frozen dataclasses, ``states``
and ``reasons`` the tables, ``views`` what is read back, ``decisions`` the record of a placement,
``errors`` one class a stable code, ``quantities`` units as people write them, and ``schemas`` the
marshmallow passports between all of these and JSON.
"""
