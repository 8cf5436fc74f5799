"""The PEFT trainer: LoRA fine-tuning with PyTorch, transformers and peft behind Freehold's trainer contract."""
