"""Proves or refutes findings by running the code. The only home of torch; user code runs in worker processes alone."""
