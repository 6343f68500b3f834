"""The backend ``local``: real processes on this machine (Linux), kept by one agent for each data directory.

Kept free of imports: a supervisor starts for every task, and what is imported here would slow each start.
"""
