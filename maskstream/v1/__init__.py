"""Generated from protos/maskstream/v1 by `make protos`; never edited by hand."""
