"""Shipping: a compressed network as one file, and its library built from that where it will run."""
