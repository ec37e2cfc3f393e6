"""`--suite vqa`: VQA data sets through VLMEvalKit's own loop and scoring."""
