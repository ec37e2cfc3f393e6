"""What the last prompt token attends to, and what that has to do with forgetting (docs/spec/iit.md#attention-shift)."""
