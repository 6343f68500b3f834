"""The command line.  ``main`` holds the table of commands; each group is a module that is loaded when used.

Exit codes: 0 well; 1 a job failed (or a backend does not answer, for ``backends check``); 2 the command, a
file or the configuration is wrong; 3 the broker refused; 4 no broker (or no Redis) answers; 5 the time to
wait is over; 130 Ctrl-C.
"""
