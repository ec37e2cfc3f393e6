"""Own data: chats out of files, in mixtures; each record is checked before the first step (docs/how-to/train.md)."""
