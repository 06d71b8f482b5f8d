"""Follows objects in live video over gRPC. See serve.service for the shape of it, docs/serving.md for how to run it."""
