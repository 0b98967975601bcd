"""Mechanisms without any knowledge of SQL or HTTP."""
