"""What is this machine, told from a name or an address alone."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address and without a port, is this machine itself.

    Of names only `localhost` is: that those below it are, too (RFC 6761 section
    6.3), is a wish that not every resolver grants, and what depends on this is
    whether a password travels in the clear.
    """
    is_bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if is_bracketed else host.removesuffix(".").lower()
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
