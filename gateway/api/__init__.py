"""The HTTP edge: protocol in, call out."""
