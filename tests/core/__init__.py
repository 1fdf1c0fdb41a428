"""The promises of the pure core: values in, values out, no adapter anywhere."""
