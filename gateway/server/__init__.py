"""Layer 3: HTTP and JSON-RPC."""
