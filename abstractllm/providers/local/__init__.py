"""What any provider that runs a model in this process shares: where models are, prompts, forms, what is read of tokens.

Knows neither MLX nor torch.
"""
