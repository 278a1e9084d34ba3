"""What a study does: launch, evaluate, intervene, compare variants, report and benchmark."""
