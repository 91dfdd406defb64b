"""Units and groups: channels, blocks, masks."""
