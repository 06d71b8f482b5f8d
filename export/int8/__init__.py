"""int8: fp32 graphs to graphs whose convolutions compute in 8 bits, calibrated on clips and judged by their masks."""
