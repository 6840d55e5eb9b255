"""Does a plugin keep the benchmark's rules? And the skeleton of a new one."""
