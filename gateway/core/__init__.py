"""The rules of Nadi: values in, values out; no input or output, no framework."""
