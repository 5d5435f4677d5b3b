"""Measuring a running node: latency, losses, memory."""
