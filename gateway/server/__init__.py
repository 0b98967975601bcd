"""Layer 3: HTTP and JSON-RPC."""

from gateway.server.sdk import spare

spare()
