"""`vlmeval:NAME`: models of VLMEvalKit's zoo, in a process of their own."""
