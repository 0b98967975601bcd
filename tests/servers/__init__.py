"""Real servers for tests: private copies on free ports in temporary folders, started and stopped by the tests.

Each is looked for in this order: a container engine (testcontainers), programs
on this machine, packages that root may install on Debian. Where none works the
run ends with what to install; `GATEWAY_TEST_SKIP` is the only way to leave one out.
"""
