"""Parameter files: read with line numbers, merged, validated, documented."""
