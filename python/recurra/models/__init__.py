"""Models: graphs of layers that are called, trained, saved and streamed as one."""
