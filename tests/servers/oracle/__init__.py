"""A stand-in for an Oracle server: speaks TNS and TTC to the unmodified driver, and answers from SQLite.

It shows what the client does, not what Oracle does. It runs in a process of its
own (`python -m tests.servers.oracle`), so that it can be stopped, frozen and killed.
"""
