"""MCP Database Gateway: named, typed, audited database tools for LLM agents."""

__version__ = "0.1.0"
