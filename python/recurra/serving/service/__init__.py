"""A pool behind HTTP and WebSocket: an ASGI application, and the command line that runs it."""
