"""The models: manifest, runtime, quantization and the reference models; imports nothing of ours."""
