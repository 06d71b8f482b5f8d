"""Export: a checkpoint becomes an artifact, and is compared with torch before it is written."""
